/** All that travels while a real system works, held against the published schemas. */
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect, headers, type Msg, type NatsConnection } from '@nats-io/transport-node'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { kindOf } from '../../scripts/messages.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'
import { Folder } from '../support/cli.ts'

const schemas = join(import.meta.dirname, '..', '..', 'docs', 'messages')

const MANIFESTS = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: calculator }
spec: { runtime: calculator }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: notes }
spec: { runtime: echo }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: coordinator }
spec: { modelAPI: models, model: scripted, agentNetwork: { access: [worker] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: worker }
spec:
  modelAPI: models
  model: scripted
  mcpServers: [calculator, notes]
  config: { description: Works. }
`
/** What the test sends to be refused. */
const GARBAGE = ['{"input": ', '{"no":"call"}']
const LARGE = 'x'.repeat(100_000)
/** The worker fails when it is told to, else uses both tools; one argument and the answer are too large for a message. */
const SCRIPT = {
  rules: [
    {
      when: { agent: 'coordinator', turn: 0 },
      reply: { calls: ['succeed', 'fail'].map((task) => ({ name: 'delegate_to_worker', arguments: { task } })) },
    },
    { when: { agent: 'coordinator' }, reply: { text: 'done' } },
    { when: { agent: 'worker', text: 'fail' }, reply: { fault: { kind: 'status', status: 400 } } },
    {
      when: { agent: 'worker', turn: 0 },
      reply: {
        calls: [
          { name: 'calculate', arguments: { expression: '6*7' } },
          { name: 'calculate', arguments: { expression: '6*' } },
          { name: 'echo', arguments: { text: LARGE } },
        ],
      },
    },
    { when: { agent: 'worker' }, reply: { text: LARGE } },
  ],
}

describe('what travels', () => {
  let broker: TestBroker
  let folder: Folder
  let client: NatsConnection
  const seen: Msg[] = []
  const met = new Set<string>()
  const wrong: string[] = []
  const validators = new Map<string, ValidateFunction>()

  beforeAll(async () => {
    const ajv = new Ajv2020({ allErrors: true, strict: true, strictTypes: false, allowUnionTypes: true })
    for (const file of readdirSync(schemas, { recursive: true, encoding: 'utf8' })) {
      if (file.endsWith('.json')) validators.set(file, ajv.compile(JSON.parse(readFileSync(join(schemas, file), 'utf8'))))
    }
    broker = await startTestBroker()
    client = await connect({ servers: broker.url })
    // A core subscription sees what is published into streams as well.
    for (const subject of ['kaos.>', '$KV.kaos_catalog.>'])
      client.subscribe(subject, { callback: (_error, message) => void seen.push(message) })
    folder = await Folder.create()
    await writeFile(join(folder.path, 'team.yaml'), MANIFESTS)
    await writeFile(join(folder.path, 'team.script.yaml'), JSON.stringify(SCRIPT))
    await folder.start(['up', '-f', 'team.yaml'], 'Ctrl-C ends it', { NATS_URL: broker.url })
  })

  afterAll(async () => {
    await client?.close()
    await folder?.remove()
    await broker?.stop()
  })

  function validate(file: string, value: unknown, where: string): void {
    const check = validators.get(file)!
    met.add(file)
    if (!check(value))
      wrong.push(`${where}: ${file}: ${JSON.stringify(check.errors?.slice(0, 3))} in ${JSON.stringify(value).slice(0, 300)}`)
  }

  function validateMessage(message: Msg): void {
    const text = message.string()
    if (GARBAGE.includes(text) && !message.subject.includes('.dead.')) return
    const kind = kindOf(message.subject)
    if (!kind) return void wrong.push(`nobody should write to "${message.subject}"`)
    const head = Object.fromEntries((message.headers?.keys() ?? []).map((name) => [name, message.headers!.get(name)]))
    if (kind.headers !== 'none') validate(`headers/${kind.headers}.json`, head, message.subject)
    if (!kind.schema || (kind.or === 'text' && !text.startsWith('{'))) return
    const body: unknown = JSON.parse(text)
    const isBlob = kind.mayBeBlob && text.startsWith('{"$blob":')
    const isOther = kind.or && kind.or in { reply: 0 } && !text.startsWith('{"begun":')
    validate(`${isBlob ? 'blob' : isOther ? kind.or : kind.schema}.json`, body, message.subject)
  }

  it('is what the schemas say, and meets each of them', async () => {
    const env = { NATS_URL: broker.url }
    const refused = headers()
    refused.set('Nats-Msg-Id', 'garbage')
    client.publish('kaos.default.agent.coordinator.task', GARBAGE[0], { headers: refused })
    client.publish('kaos.default.tool.notes.call.agent.worker.no-effect', GARBAGE[1])
    const answer = await client.request('kaos.default.ask.coordinator', '{"input":"both","limits":{"seconds":60}}', {
      timeout: 20_000,
    })
    const failure = await client.request('kaos.default.ask.worker', 'fail', { timeout: 20_000 })
    const large = await folder.kaos(['task', 'send', 'worker', '-', '--wait', '--json'], { env, input: LARGE })
    const rejected = await folder.kaos(['task', 'watch', 'coordinator_garbage', '--json'], { env })
    await client.flush()

    for (const message of seen) validateMessage(message)
    for (const reply of [answer, failure]) {
      const head = Object.fromEntries(reply.headers!.keys().map((name) => [name, reply.headers!.get(name)]))
      validate('headers/ask-answer.json', head, 'the answer to a request')
    }
    validate('ask-failure.json', failure.json(), 'the answer to a request')

    expect(answer.string()).toBe('done')
    expect(JSON.parse(large.stdout)).toMatchObject({ state: 'completed', output: LARGE })
    expect(JSON.parse(rejected.stdout)).toMatchObject({ state: 'rejected' })
    expect(wrong.slice(0, 5)).toEqual([])
    expect([...validators.keys()].filter((file) => !met.has(file))).toEqual([])
  })
})
