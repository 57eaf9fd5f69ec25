/** Ids, repetitions and waiting, as the sender of a task sees them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cleanEnv, Folder, MAIN } from '../support/cli.ts'

const MANIFEST = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: nowhere }
spec: { runtime: stdio, params: no-such-command }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: writer }
spec: { modelAPI: models, model: scripted }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: stuck }
spec: { modelAPI: models, model: scripted, mcpServers: [nowhere] }
`
const SCRIPT = `
rules:
  - { when: { text: slow }, reply: { text: late, delayMs: 1500 } }
  - { when: { text: refused }, reply: { fault: { kind: status, status: 418, body: "I am a teapot" } } }
  - { when: {}, reply: { text: done } }
`

let folder: Folder
beforeAll(async () => {
  folder = await Folder.create()
  await writeFile(join(folder.path, 'team.yaml'), MANIFEST)
  await writeFile(join(folder.path, 'team.script.yaml'), SCRIPT)
  await folder.start(['up', '-f', 'team.yaml', '--port', '0'], 'Ctrl-C ends it')
})
afterAll(() => folder.remove())

const json = ({ stdout }: { readonly stdout: string }) => JSON.parse(stdout)

describe('an id that was used before', () => {
  it('is the first task again when the text is the same, with its trace', async () => {
    const first = json(await folder.kaos(['task', 'send', 'writer', 'hello', '--id', 'again', '--wait', '--json']))

    const second = json(await folder.kaos(['task', 'send', 'writer', 'hello', '--id', 'again', '--json']))

    expect(second).toMatchObject({ task: first.task, trace: first.trace })
  })

  it('is a conflict when the text differs, and never the answer to another question', async () => {
    await folder.kaos(['task', 'send', 'writer', 'hello', '--id', 'other', '--wait'])

    const { code, stdout } = await folder.kaos(['task', 'send', 'writer', 'goodbye', '--id', 'other', '--wait', '--json'])

    expect(code).toBe(1)
    expect(JSON.parse(stdout).error).toMatchObject({ code: 'key_conflict', message: expect.stringContaining('writer_other') })
  })

  it('is a conflict also while the first is still at work', async () => {
    await folder.kaos(['task', 'send', 'writer', 'a slow one', '--id', 'race'])

    const { code, stderr } = await folder.kaos(['task', 'send', 'writer', 'another', '--id', 'race', '--wait'])

    expect(code).toBe(1)
    expect(stderr).toContain('key_conflict')
  })
})

describe('what cannot be sent', () => {
  const cases = [
    ['an empty id', ['writer', 'x', '--id', ''], 'cannot be the id'],
    ['an id with a line break', ['writer', 'x', '--id', 'a\nb'], 'cannot be the id'],
    ['a name that no agent can have', ['Bad Agent', 'x'], 'bad_name'],
    ['JSON that cannot be read', ['writer', '{"input": '], 'bad_message'],
  ] as const
  for (const [what, words, told] of cases) {
    it(`is refused before it is sent: ${what}`, async () => {
      const { code, stderr } = await folder.kaos(['task', 'send', ...words])

      expect(code).toBe(2)
      expect(stderr).toContain(told)
    })
  }
})

describe('a task that no host has begun', () => {
  it('is told to wait at the door, and is not unknown', async () => {
    await folder.kaos(['task', 'send', 'stuck', 'hello', '--id', 'first'])

    const get = await folder.kaos(['task', 'get', 'stuck_first'])
    const watch = await folder.kaos(['task', 'watch', 'stuck_first', '--timeout', '1'])

    expect(get).toMatchObject({ code: 4, stdout: expect.stringContaining('waits at the door of agent "stuck"') })
    expect(watch).toMatchObject({ code: 4, stderr: expect.stringContaining('waits at the door') })
    expect(json(await folder.kaos(['task', 'get', 'stuck_first', '--json']))).toMatchObject({ state: 'submitted' })
  })

  it('is unknown at once when nobody sent it', async () => {
    const [known, unknown] = await Promise.all([
      folder.kaos(['task', 'watch', 'writer_nothing']),
      folder.kaos(['task', 'watch', 'nobody_nothing', '--json']),
    ])

    expect([known.code, unknown.code]).toEqual([5, 5])
    expect(json(unknown).error.code).toBe('unknown_task')
  })
})

describe('what is printed', () => {
  it('is one JSON document also while a task is watched', async () => {
    await folder.kaos(['task', 'send', 'writer', 'a slow one', '--id', 'watched'])

    const watched = await folder.kaos(['task', 'watch', 'writer_watched', '--json'])

    expect(json(watched)).toMatchObject({ state: 'completed', output: 'late' })
  })

  it('shows the progress of the task that was sent and of no other', async () => {
    await folder.kaos(['task', 'send', 'writer', 'a slow one', '--id', 'theirs'])

    const { stderr } = await folder.kaos(['task', 'send', 'writer', 'a slow one', '--id', 'mine', '--wait'])

    // Theirs ended while mine was watched.
    expect(json(await folder.kaos(['task', 'get', 'writer_theirs', '--json'])).state).toBe('completed')
    expect(stderr.match(/completed/g)).toHaveLength(1)
  })

  it('names the code of a failure in the list, and moves no cursor', async () => {
    await folder.kaos(['task', 'send', 'writer', 'refused \u001b[2J', '--wait'])

    const { stdout } = await folder.kaos(['task', 'list', '--limit', '1'])

    expect(stdout).toMatch(/^\d\d-\d\d \d\d:\d\d:\d\d {2}writer_\w+ +failed .*model_failed {2}refused/)
    expect(stdout).not.toContain('\u001b')
  })

  it('may have a reader that leaves', async () => {
    const child = spawn(process.execPath, [MAIN, 'trace', 'list'], { cwd: folder.path, env: cleanEnv() })
    child.stdout.destroy()
    let stderr = ''
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })

    expect(await once(child, 'close')).toEqual([0, null])
    expect(stderr).toBe('')
  })

  it('says that a command line is wrong in JSON too', async () => {
    const { code, stdout } = await folder.kaos(['task', 'list', '--limt', '3', '--json'])

    expect(code).toBe(2)
    expect(JSON.parse(stdout).error).toMatchObject({ code: 'usage', message: expect.stringContaining('--limit') })
  })
})
