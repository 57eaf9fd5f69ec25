/** Whole systems as users run them, and what a backend gets of them: bytes over gRPC. */
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'
import { Folder, type Started } from '../support/cli.ts'
import { NEWSROOM_TASK, NEWSROOM_TREE } from '../support/newsroom-tree.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'

const SAMPLES = join(import.meta.dirname, '..', '..', 'manifests', 'samples')
const DAY_OUT = join(SAMPLES, 'day-out.yaml')
const NEWSROOM = join(SAMPLES, 'newsroom.yaml')

let folder: Folder
let backend: OtlpReceiver
let env: Record<string, string>
beforeEach(async () => {
  folder = await Folder.create()
  backend = await startOtlpReceiver()
  env = { OTEL_EXPORTER_OTLP_ENDPOINT: backend.url }
})
afterEach(async () => {
  await folder.remove()
  await backend[Symbol.asyncDispose]()
})

async function end(started: Started): Promise<void> {
  const gone = new Promise((resolve) => started.child.once('close', resolve))
  started.child.kill('SIGTERM')
  await gone
}

/** Sends a task and waits for its end. Nothing of the command's own is exported. */
async function ask(agent: string, text: string, more: Record<string, string> = {}): Promise<string> {
  const { code, stdout, stderr } = await folder.kaos(['task', 'send', agent, text, '--wait', '--json'], { env: more })
  expect([code, stderr]).toEqual([0, expect.any(String)])
  return (JSON.parse(stdout) as { trace: string }).trace
}

describe('one process with all agents and tools', () => {
  it('gives one tree, each agent and tool server as a service of its own, all there when it ends', async () => {
    const up = await folder.start(['up', '-f', DAY_OUT, '--offline', '--port', '0'], 'kaos is up', env)
    const trace = await ask('concierge', 'Plan my Saturday in Lisbon')
    await end(up)

    expect(backend.treeOf(trace)).toBe(
      `
concierge: agent.process_message [CONSUMER] OK
  concierge: model.inference [CLIENT] OK
  concierge: tool.mcp_calendar [CLIENT] OK
    calendar: tool.execute [SERVER] OK
  concierge: tool.mcp_weather [CLIENT] OK
    weather: tool.execute [SERVER] OK
  concierge: model.inference [CLIENT] OK
  concierge: delegate.planner-agent [CLIENT] OK
    planner-agent: agent.process_message [CONSUMER] OK
      planner-agent: model.inference [CLIENT] OK
  concierge: model.inference [CLIENT] OK`.trim(),
    )
    const ended = backend.logs().filter(({ body }) => body === 'a task ended')
    expect(ended.map(({ service, traceId }) => [service, traceId]).toSorted()).toEqual([
      ['concierge', trace],
      ['planner-agent', trace],
    ])
    const spanIds = backend.spans().map(({ spanId }) => spanId)
    expect(ended.every(({ spanId }) => spanIds.includes(spanId!))).toBe(true)
    for (const [service, name, count] of [
      ['concierge', 'kaos.requests', 1],
      ['planner-agent', 'kaos.requests', 1],
      ['concierge', 'kaos.model.calls', 3],
      ['concierge', 'kaos.tool.calls', 2],
      ['concierge', 'kaos.delegations', 1],
    ] as const) {
      const points = backend.metric(service, name)?.points ?? []
      expect([service, name, points.reduce((sum, { value }) => sum + Number(value ?? 0), 0)]).toEqual([service, name, count])
    }
  })
})

describe('three processes', () => {
  let broker: TestBroker
  beforeEach(async () => {
    broker = await startTestBroker()
    const { url } = broker
    const bus = await openBus(broker.settings, { namespace: 'default', as: userParty('test'), log: silentLog() })
    await createStreams(bus.connection, { namespace: 'default', agents: ['planner', 'writer', 'reviewer'], tools: [] })
    await bus.close()
    env = { ...env, NATS_URL: url, OTEL_BSP_SCHEDULE_DELAY: '50' }
  })
  afterEach(() => broker[Symbol.asyncDispose]())

  const host = (name: string, more: Record<string, string> = {}) =>
    folder.start(['host', '-f', NEWSROOM, '--only', name, '--offline'], 'ready', { ...env, ...more })

  it('give one tree', async () => {
    const hosts = await Promise.all(['planner', 'writer', 'reviewer'].map((name) => host(name)))
    const trace = await ask('planner', NEWSROOM_TASK, { NATS_URL: broker.url })
    await Promise.all(hosts.map(end))

    expect(backend.treeOf(trace)).toBe(NEWSROOM_TREE)
    const instances = new Set(backend.spans().map(({ resource }) => resource['service.instance.id']))
    expect(instances.size).toBe(3)
  })

  it('give the same tree when one is killed and another takes over, but for the marks', async () => {
    const [planner, reviewer] = await Promise.all([host('planner'), host('reviewer')])
    // Killed when the model has answered the second time: what it told of before is long exported.
    const killed = await host('writer', { KAOS_CRASH_AT: 'after-effect:2' })
    const gone = new Promise((resolve) => killed.child.once('close', resolve))
    const asked = ask('planner', NEWSROOM_TASK, { NATS_URL: broker.url })
    await gone
    const successor = await host('writer')
    const trace = await asked
    await Promise.all([planner, reviewer, successor].map((started) => end(started!)))

    expect(backend.treeOf(trace)).toBe(NEWSROOM_TREE)
    const writer = backend.spans().find(({ service, name }) => service === 'writer' && name === 'agent.process_message')!
    expect(writer.events).toMatchObject([{ name: 'kaos.takeover', attributes: { 'kaos.attempts': 2 } }])
    expect(writer.links).toHaveLength(1)
  })
})
