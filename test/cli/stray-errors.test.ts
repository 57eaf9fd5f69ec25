/** What a host does when code of the user's throws where nobody can catch it. */
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Folder } from '../support/cli.ts'

const MACHINE = `
import { local } from 'kaos-actors'
import { assign, setup } from 'xstate'

const acts = {
  'leave a promise': () => { setImmediate(() => void Promise.reject(new Error('left alone'))) },
  'reject with anything': () => { setImmediate(() => void Promise.reject(Object.create(null))) },
  'throw in a timer': () => { setTimeout(() => { throw new Error('in a timer') }, 1) },
  'throw when it is late': ({ signal }) => {
    signal.addEventListener('abort', () => { throw new Error('in a listener') })
    return new Promise(() => {})
  },
  'throw the unspeakable': () => { throw { get message() { throw Object.create(null) }, get code() { throw 1 } } },
  exit: () => process.exit(0),
}
export default setup({
  actors: { act: local(async (context) => (await acts[context.input](context)) ?? 'done', { timeoutSeconds: 0.2 }) },
}).createMachine({
  context: ({ input }) => ({ input, output: '' }),
  output: ({ context }) => context.output,
  initial: 'acting',
  states: {
    acting: {
      invoke: {
        src: 'act',
        input: ({ context }) => context.input,
        onDone: { target: 'done', actions: assign({ output: ({ event }) => event.output }) },
      },
    },
    done: { type: 'final' },
  },
})
`
const MANIFEST = `
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: stray }
spec: { machineRef: { path: ./machine.mjs } }
`

let folder: Folder
beforeEach(async () => {
  folder = await Folder.create()
  await mkdir(join(folder.path, 'node_modules'))
  for (const name of ['kaos-actors', 'xstate'])
    await symlink(join(import.meta.dirname, '..', '..', 'node_modules', name), join(folder.path, 'node_modules', name))
  await writeFile(join(folder.path, 'machine.mjs'), MACHINE)
  await writeFile(join(folder.path, 'stray.yaml'), MANIFEST)
})
afterEach(() => folder.remove())

const send = (words: string) => folder.kaos(['task', 'send', 'stray', words, '--wait', '--json'])

describe('a host with code that throws into the void', () => {
  it('logs it under the name of its agent and goes on', async () => {
    const up = await folder.start(['up', '-f', 'stray.yaml', '--port', '0'], 'Ctrl-C ends it')

    for (const [words, logged] of [
      ['leave a promise', 'left alone'],
      ['reject with anything', 'rejected with {}'],
      ['throw in a timer', 'in a timer'],
    ] as const) {
      expect(JSON.parse((await send(words)).stdout)).toMatchObject({ state: 'completed', output: 'done' })
      await up.waitFor(logged)
    }
    expect(JSON.parse((await send('throw when it is late')).stdout)).toMatchObject({ failure: { code: 'effect_timeout' } })
    await up.waitFor('in a listener')
    expect(JSON.parse((await send('throw the unspeakable')).stdout)).toMatchObject({
      failure: { code: 'effect_failed', message: 'something was thrown that has no text' },
    })

    const lines = up.output.split('\n').filter((line) => line.includes('code of yours'))
    expect(lines).toHaveLength(4)
    for (const line of lines)
      expect(JSON.parse(line)).toMatchObject({ level: 'error', agent: 'stray', effect: expect.any(String) })
    expect(await up.end()).toBe(0)
  })

  it('says who called process.exit, and does not end as if that were meant', async () => {
    const up = await folder.start(['up', '-f', 'stray.yaml', '--port', '0'], 'Ctrl-C ends it')
    const closed = new Promise((resolve) => up.child.once('close', resolve))

    await folder.kaos(['task', 'send', 'stray', 'exit'])

    expect(await closed).toBe(1)
    expect(up.output).toMatch(/"agent":"stray".*code of yours called process\.exit/)
  })
})
