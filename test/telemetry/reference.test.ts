/** What docs/telemetry.md says of spans is what is exported: bytes over gRPC of a system with a machine, tools, a model, a peer and a failure. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EVENTS, KEYS, type Operation } from '../../telemetry/names.ts'
import { EVENT_REFERENCE, type Key, SPANS } from '../../telemetry/reference.ts'
import { Folder } from '../support/cli.ts'
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from '../support/otlp-receiver.ts'

const root = join(import.meta.dirname, '..', '..')

const MANIFESTS = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: shop }
spec: { runtime: typescript, params: ./shop.ts }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: clerk }
spec:
  modelAPI: models
  model: gpt-4o-mini
  mcpServers: [shop]
  agentNetwork: { access: [approver] }
  config: { modelSettings: { temperature: 0, seed: 7, maxTokens: 100 } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: approver }
spec:
  machineRef: { path: ./approver.ts }
  telemetry: { traceBoundary: activation }
`
const SCRIPT = `
rules:
  - when: { turn: 0 }
    reply: { calls: [{ name: price, arguments: { item: bike } }, { name: order, arguments: {} }] }
  - when: { turn: 1 }
    reply: { calls: [{ name: delegate_to_approver, arguments: { task: a bike for 300 } }] }
  - reply: { text: "{{results}}" }
`
const SHOP = `
import { tool, z } from 'kaos-actors'

export const price = tool({ description: 'Tells a price.', input: z.object({ item: z.string() }), run: (_input, { span }) =>
  span('look it up', () => span('open the book', () => 300)) })
export const order = tool({ description: 'Orders.', input: z.object({}), run: (_input, { span }) =>
  span('pack it', () => { throw new Error('out of bikes') }) })
`
const APPROVER = `
import { local } from 'kaos-actors'
import { setup } from 'xstate'

export default setup({
  actors: { check: local(({ span }) => span('read the budget', () => 'enough')) },
}).createMachine({
  initial: 'checking',
  states: {
    checking: { invoke: { src: 'check', onDone: 'waiting' } },
    waiting: { on: { refuse: 'refused' } },
    refused: { type: 'final', tags: 'rejected' },
  },
})
`

let folder: Folder
let backend: OtlpReceiver
let spans: readonly ReceivedSpan[]
beforeAll(async () => {
  folder = await Folder.create()
  backend = await startOtlpReceiver()
  const files = { 'system.yaml': MANIFESTS, 'system.script.yaml': SCRIPT, 'shop.ts': SHOP, 'approver.ts': APPROVER }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder.path, name), text)
  mkdirSync(join(folder.path, 'node_modules'))
  symlinkSync(root, join(folder.path, 'node_modules', 'kaos-actors'))
  symlinkSync(join(root, 'node_modules', 'xstate'), join(folder.path, 'node_modules', 'xstate'))
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: backend.url, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: 'true' }
  const up = await folder.start(['up', '-f', 'system.yaml', '--offline', '--port', '0'], 'kaos is up', env)
  const sent = folder.kaos(['task', 'send', 'clerk', 'Buy a bike', '--id', 'bike', '--wait', '--json'], { env })
  const waiting = await backend.waitFor(
    () => backend.spans().find(({ name }) => name === 'local.check'),
    'the check of the approver',
  )
  const asked = await folder.kaos(['task', 'signal', String(waiting.attributes[KEYS.task]), 'refuse'])
  expect([asked.code, asked.stderr]).toEqual([0, ''])
  expect((await sent).code).toBe(0)
  const gone = new Promise((resolve) => up.child.once('close', resolve))
  up.child.kill('SIGTERM')
  await gone
  spans = backend.spans()
}, 60_000)
afterAll(async () => {
  await folder.remove()
  await backend[Symbol.asyncDispose]()
})

const operationOf = ({ attributes }: ReceivedSpan) => attributes[KEYS.op] as Operation

describe('the reference of spans', () => {
  it('has all that are exported', () => {
    const known = SPANS.map(({ operation }) => operation)

    expect([...new Set(spans.map(operationOf))].sort()).toEqual([...known].sort())
  })

  it.each(SPANS)('is right about $operation', ({ operation, kind, parents, always, sometimes }) => {
    const own = spans.filter((span) => operationOf(span) === operation)
    const names = (keys: readonly Key[]) => keys.map((key) => KEYS[key]) as readonly string[]

    for (const { name, kind: given, attributes, parentSpanId } of own) {
      const keys = Object.keys(attributes)
      expect(
        keys.filter((key) => !names([...always, ...sometimes]).includes(key)),
        `${name} has more than the reference`,
      ).toEqual([])
      expect(
        names(always).filter((key) => !keys.includes(key)),
        `${name} has less than the reference`,
      ).toEqual([])
      expect(given).toBe(kind)
      const parent = spans.find(({ spanId }) => spanId === parentSpanId)
      expect(parent === undefined ? [] : [operationOf(parent)].filter((above) => !parents.includes(above))).toEqual([])
    }
  })

  it('says which events there are, and where', () => {
    const told = Object.entries(EVENT_REFERENCE).map(([event, reference]) => ({
      ...reference,
      name: EVENTS[event as keyof typeof EVENTS],
    }))
    const found = spans.flatMap((span) => span.events.map((event) => ({ ...event, on: operationOf(span) })))

    expect(found.map(({ name }) => name)).toContain('exception')
    expect(found.flatMap(({ attributes }) => Object.keys(attributes))).toContain(KEYS.exceptionStack)
    for (const { name, on, attributes } of found) {
      const reference = told.find((event) => event.name === name)
      expect(reference, name).toBeDefined()
      expect(reference!.on === 'any' || reference!.on.includes(on)).toBe(true)
      const allowed = reference!.attributes.map((key) => KEYS[key]) as readonly string[]
      expect(Object.keys(attributes).filter((key) => !allowed.includes(key))).toEqual([])
    }
  })
})
