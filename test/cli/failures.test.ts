/** What goes wrong outside, as the sender of a task sees it: a code, the field and the value, never an apology. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseScript } from '../../actors/testing/model-script.ts'
import { type ModelServer, startModelServer } from '../../actors/testing/model-server.ts'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { loadManifests, type System } from '../../manifests/load.ts'
import { silentLog } from '../../telemetry/log.ts'
import { Folder } from '../support/cli.ts'
import { replayAll } from '../support/replay-all.ts'

const stdioServer = join(import.meta.dirname, '..', 'support', 'mcp-stdio-server.ts')
const everything = join(
  import.meta.dirname,
  '..',
  '..',
  'node_modules',
  '@modelcontextprotocol',
  'server-everything',
  'dist',
  'index.js',
)

const MANIFEST = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: shaky }
spec: { runtime: stdio, params: '{"command": "${process.execPath}", "args": ["${stdioServer}"]}' }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: everything }
spec: { runtime: stdio, params: '{"command": "${process.execPath}", "args": ["${everything}"]}' }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: worker }
spec:
  modelAPI: models
  model: scripted
  mcpServers: [shaky, everything]
  config: { modelSettings: { timeoutSeconds: 2 } }
`

/** The text of a task names the rule that answers it. */
const SCRIPT = `
rules:
  - { when: { text: garbage }, reply: { fault: { kind: garbage } } }
  - { when: { text: teapot }, reply: { fault: { kind: status, status: 418, body: "I am a teapot" } } }
  - { when: { text: hanging }, reply: { fault: { kind: hang } } }
  - { when: { text: endless }, reply: { fault: { kind: endless } } }
  - { when: { text: dying tool, turn: 0 }, reply: { calls: [{ name: die, arguments: {} }] } }
  - { when: { text: failing tool, turn: 0 }, reply: { calls: [{ name: fail, arguments: {} }] } }
  - { when: { text: unknown tool, turn: 0 }, reply: { calls: [{ name: nowhere, arguments: {} }] } }
  - { when: { text: broken call, turn: 0 }, reply: { calls: [{ name: count, arguments: "{not json" }] } }
  - { when: { text: everything, turn: 0 }, reply: { calls: [{ name: get-sum, arguments: { a: 19, b: 23 } }] } }
  - { when: { text: big result, turn: 0 }, reply: { calls: [{ name: big, arguments: { bytes: 3000000 } }] } }
  - { when: { text: big answer, turn: 0 }, reply: { calls: [{ name: big, arguments: { bytes: 3000000 } }] } }
  - { when: { text: big result, turn: 1 }, reply: { text: "got it" } }
  - { when: { turn: 1 }, reply: { text: "the tool said {{results}}" } }
`

let folder: Folder
let model: ModelServer
let bus: NatsBus
let system: System
beforeAll(async () => {
  folder = await Folder.create()
  await writeFile(join(folder.path, 'team.yaml'), MANIFEST)
  system = loadManifests([join(folder.path, 'team.yaml')])
  model = await startModelServer({ script: parseScript(SCRIPT, 'script') })
  const up = await folder.start(['up', '-f', 'team.yaml', '--port', '0'], 'Ctrl-C ends it', { MODEL_API_URL: model.url })
  const url = /NATS_URL=(\S+)/.exec(up.output)![1]!
  const settings = { servers: [url], source: 'NATS_URL', identity: { kind: 'none' } } as const
  bus = await openBus(settings, { namespace: 'default', as: userParty('test'), log: silentLog() })
})
afterAll(async () => {
  await bus?.close()
  await model?.stop()
  await folder.remove()
})

async function send(text: string) {
  const { code, stdout } = await folder.kaos(['task', 'send', 'worker', text, '--wait', '--json'])
  return { code, result: JSON.parse(stdout) }
}

describe('a model that misbehaves', () => {
  const cases = [
    ['garbage', 'model_bad_answer', ''],
    ['teapot', 'model_failed', '418'],
    ['hanging', 'model_timeout', '2'],
    ['endless', 'model_timeout', '2'],
  ] as const
  for (const [text, code, told] of cases) {
    it(`that answers ${text} is a failed task, ${code}`, async () => {
      const answer = await send(text)

      expect(answer.code).toBe(1)
      expect(answer.result).toMatchObject({ state: 'failed', failure: { code, message: expect.stringContaining(told) } })
    })
  }
})

describe('a tool that misbehaves', () => {
  const cases = [
    ['dying tool', 'tool_server_lost'],
    ['failing tool', 'the disk is full'],
    ['unknown tool', 'unknown_tool'],
    ['broken call', 'bad_arguments'],
  ] as const
  for (const [text, told] of cases) {
    it(`is told to the model: ${text}`, async () => {
      const { code, result } = await send(text)

      expect(code).toBe(0)
      expect(result.output).toContain(told)
    })
  }

  it('serves the next task after its server died', async () => {
    expect((await send('dying tool')).result.output).toContain('tool_server_lost')
    expect((await send('failing tool')).result.output).toContain('the disk is full')
  })
})

it('calls tools of a foreign MCP server', async () => {
  expect((await send('everything')).result.output).toContain('42')
})

it('keeps a result of megabytes beside the journal', async () => {
  const { result } = await send('big result')

  expect(result).toMatchObject({ state: 'completed', output: 'got it' })
  const told = model.requests.at(-1)!.body.messages as { role: string; content: string }[]
  expect(told.find(({ role }) => role === 'tool')!.content).toHaveLength(3_000_000)
})

it('says where an answer is that no reply can carry', async () => {
  const reply = await bus.connection.request('kaos.default.ask.worker', 'big answer', { timeout: 15_000 })

  const { error } = reply.json<{ error: { code: string; message: string } }>()
  const [, task] = /"kaos task get (\S+)"/.exec(error.message)!
  expect(error.code).toBe('payload_too_large')
  expect((await folder.kaos(['task', 'get', task!])).stdout.length).toBeGreaterThan(3_000_000)
})

it('replays every one of these tasks identically', async () => {
  const { traces, wrong } = await replayAll(bus, system)

  expect(wrong).toEqual([])
  expect(traces).toBeGreaterThan(10)
})
