/** A machine whose file is edited while its tasks are recorded or under way, as its author sees it. */
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Folder } from '../support/cli.ts'

const MACHINE = `
import { local } from 'kaos-actors'
import { assign, setup } from 'xstate'

const add = (target: string) => ({ target, actions: assign({ words: ({ context, event }: any) => [...context.words, event.output] }) })
const input = ({ context }: any) => context.words.at(-1)

export default setup({
  actors: {
    one: local(({ input }: any) => input + '1'),
    two: local(({ input }: any) => input + '2'),
    three: local(({ input }: any) => input + '3'),
  },
}).createMachine({
  context: ({ input }: any) => ({ words: [input] }),
  output: ({ context }: any) => context.words,
  initial: 'first',
  states: {
    first: { invoke: { src: 'one', input, onDone: add('second') } },
    second: { invoke: { src: 'two', input, onDone: add('third') } },
    third: { invoke: { src: 'three', input, onDone: add('done') } },
    done: { type: 'final' },
  },
} as any)
`
const MANIFEST = `
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: mine }
spec: { machineRef: { path: ./machine.ts } }
`
const WITH_A_MODEL = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: mine }
spec: { modelAPI: models, model: m }
`

let folder: Folder
const write = (name: string, text: string) => writeFile(join(folder.path, name), text)
const up = (env = {}) => folder.start(['up', '-f', 'mine.yaml', '--port', '0'], 'Ctrl-C ends it', env)

beforeEach(async () => {
  folder = await Folder.create()
  await mkdir(join(folder.path, 'node_modules'))
  for (const name of ['kaos-actors', 'xstate'])
    await symlink(join(import.meta.dirname, '..', '..', 'node_modules', name), join(folder.path, 'node_modules', name))
  await write('mine.yaml', MANIFEST)
})
afterEach(() => folder.remove())

describe('a replay with an edited machine', () => {
  it('is identical for what decides the same, and names the first entry that does not', { timeout: 40_000 }, async () => {
    await write('machine.ts', MACHINE)
    await up()
    await folder.kaos(['task', 'send', 'mine', 'a', '--id', 'k', '--wait'])
    const replay = async (...more: string[]) => JSON.parse((await folder.kaos(['replay', 'last', '--json', ...more])).stdout)
    const edited = async (from: string, to: string) => {
      expect(MACHINE).toContain(from)
      await write('machine.ts', MACHINE.replace(from, to))
      return replay()
    }

    expect(await edited('const input', '// a comment\nconst input')).toMatchObject({ verdict: 'identical', entries: 4, calls: 0 })
    expect(await edited(`input + '2'`, `input + 'two'`)).toMatchObject({ verdict: 'identical' })
    for (const [from, to, n] of [
      ['words: [input]', 'words: [input + input]', 0],
      [`src: 'two', input`, `src: 'two', input: 'other'`, 1],
      [`add('third')`, `add('done')`, 2],
      ['[...context.words, event.output]', '[...context.words, event.output, context.words.length > 2 ? 1 : 0]', 1],
      ['=> context.words,', '=> context.words.length,', 3],
    ] as const) {
      const found = await edited(from, to)
      expect([from, found.n], found.why).toEqual([from, n])
      expect(found).toMatchObject({ verdict: 'diverged', cause: 'machine' })
    }
    expect(await edited(`three: local(({ input }: any) => input + '3'),`, '')).toMatchObject({
      error: { code: 'machine_contract' },
    })
    await write('model.yaml', WITH_A_MODEL)
    expect(await replay('-f', 'model.yaml')).toMatchObject({ verdict: 'diverged', n: 0, cause: 'machine' })
  })
})

describe('a task under way whose machine does not decide as it did', () => {
  it('waits, and the log says at once which entry, why, and what to do', { timeout: 40_000 }, async () => {
    const impure = MACHINE.replace('words: [input]', 'words: [String(Date.now())]')
    await write('machine.ts', impure.replace(/first: .*/, `first: { on: { go: 'done' } },`))
    const first = await up({ LOG_LEVEL: 'DEBUG' })
    await folder.kaos(['task', 'send', 'mine', 'a', '--id', 'k'])
    await first.waitFor('a task began')
    await first.end()

    const second = await up()
    await folder.kaos(['task', 'signal', 'mine_k', 'go'])

    await second.waitFor('machine_changed')
    expect(second.output).toMatch(/entry 0 of task \\?"mine_k\\?" was written by .* decides otherwise: it is not a pure function/)
    expect(second.output).toContain('"cure":"Run the code that began the task')
  })
})
