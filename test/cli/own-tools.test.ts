/** What a crash repeats of a tool of one's own: what its hints say, and nothing else. */
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Folder } from '../support/cli.ts'

const root = join(import.meta.dirname, '..', '..')

const MANIFESTS = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: till }
spec: { runtime: typescript, params: ./till.ts }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: clerk }
spec: { modelAPI: models, model: m, mcpServers: [till] }
`
const SCRIPT = `
rules:
  - when: { turn: 0, text: look }
    reply: { calls: [{ name: look, arguments: {} }] }
  - when: { turn: 0 }
    reply: { calls: [{ name: pay, arguments: { cents: 5 } }] }
  - reply: { text: "{{results}}" }
`
const TOOLS = `
import { appendFileSync } from 'node:fs'
import { tool, z } from 'kaos-actors'

const note = (name, { idempotencyKey }) => appendFileSync('runs', name + ' ' + idempotencyKey + '\\n')

export const pay = tool({ description: 'Pays.', input: z.object({ cents: z.int() }), run({ cents }, context) {
  note('pay', context)
  return 'paid ' + cents
} })
export const look = tool({ description: 'Looks.', input: z.object({}), readOnlyHint: true, run(_input, context) {
  note('look', context)
  return 'seen'
} })
`

let folder: Folder
beforeAll(async () => {
  folder = await Folder.create()
  const put = (name: string, text: string) => writeFileSync(join(folder.path, name), text)
  put('team.yaml', MANIFESTS)
  put('team.script.yaml', SCRIPT)
  put('till.ts', TOOLS)
  await mkdir(join(folder.path, 'node_modules'))
  symlinkSync(root, join(folder.path, 'node_modules', 'kaos-actors'))
})
afterAll(() => folder.remove())

describe('a tool of one’s own whose process dies between its run and its reply', () => {
  for (const [task, answer, runs] of [
    ['look', /^seen$/, 2],
    ['pay', /indeterminate/, 1],
  ] as const) {
    it(`${runs === 1 ? 'is not run again' : 'runs again with the same key'}: ${task}`, { timeout: 60_000 }, async () => {
      const dying = await folder.start(['up', '-f', 'team.yaml', '--port', '0'], 'Ctrl-C ends it', { KAOS_CRASH_AT: 'after-run' })
      await folder.kaos(['task', 'send', 'clerk', task, '--id', task])
      await dying.untilDead()

      const up = await folder.start(['up', '-f', 'team.yaml', '--port', '0'], 'Ctrl-C ends it')
      const watched = await folder.kaos(['task', 'watch', `clerk_${task}`, '--json', '--timeout', '40'], { deadlineMs: 45_000 })

      expect(JSON.parse(watched.stdout)).toMatchObject({ state: 'completed', output: expect.stringMatching(answer) })
      const lines = readFileSync(join(folder.path, 'runs'), 'utf8')
        .split('\n')
        .filter((line) => line.startsWith(task))
      expect(lines).toEqual(Array.from({ length: runs }, () => `${task} clerk_${task}_1-0`))
      await up.end()
    })
  }
})
