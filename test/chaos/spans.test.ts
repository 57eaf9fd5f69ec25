/** Processes die and freeze, and a backend gets each span once all the same: no orphan, no double, the tree as without. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { CRASH_POINTS } from '../../actors/turn/crash.ts'
import type { TOOL_CRASH_POINTS } from '../../tools/server.ts'
import { checkBroker } from '../support/check-broker.ts'
import type { HostProcess } from '../support/host-process.ts'
import { eventually } from '../support/mcp-calls.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'
import { ProcessSystem, type Rig, startRig, TEAM_WORK, TEST_MS, teamScript } from '../support/process-system.ts'

/** What was recorded before a death has long left: a span that dies in its queue is lost. */
const MODEL_MS = 250
const TOOL_MS = 150

/** Both notes of the coordinator are one line: which of them is the first is the machine's. */
const TREE = `
coordinator: agent.process_message [CONSUMER] OK
  coordinator: model.inference [CLIENT] OK
  coordinator: tool.note [CLIENT] OK
    desk: tool.execute [SERVER] OK
  coordinator: tool.note [CLIENT] OK
    desk: tool.execute [SERVER] OK
  coordinator: model.inference [CLIENT] OK
  coordinator: delegate.worker1 [CLIENT] OK
    worker1: agent.process_message [CONSUMER] OK
      worker1: model.inference [CLIENT] OK
      worker1: tool.note [CLIENT] OK
        desk: tool.execute [SERVER] OK
      worker1: model.inference [CLIENT] OK
  coordinator: delegate.worker2 [CLIENT] OK
    worker2: agent.process_message [CONSUMER] OK
      worker2: model.inference [CLIENT] OK
      worker2: tool.note [CLIENT] OK
        desk: tool.execute [SERVER] OK
      worker2: model.inference [CLIENT] OK
  coordinator: model.inference [CLIENT] OK`.trim()

let rig: Rig
beforeAll(async () => {
  rig = await startRig(teamScript({ modelMs: MODEL_MS, toolMs: TOOL_MS }))
})
afterAll(() => rig[Symbol.asyncDispose]())

function observed(namespace: string, { url }: OtlpReceiver): Promise<ProcessSystem> {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_BSP_SCHEDULE_DELAY: '10', OTEL_METRIC_EXPORT_INTERVAL: '50' }
  return ProcessSystem.create(rig, namespace, { env })
}

/** Waits for the end of the first task and of all processes. */
async function settle(system: ProcessSystem): Promise<{ readonly trace: string; readonly takeovers: number }> {
  const { trace } = await system.waitForResult(system.sent[0]!)
  const { takeovers } = await checkBroker(system)
  await Promise.all(system.processes.filter(({ isRunning }) => isRunning).map((each) => each.stop()))
  return { trace, takeovers }
}

/** The last value of a counter of each process and service, together. */
function counted(backend: OtlpReceiver, name: string): number {
  const last = new Map<string, number>()
  for (const metric of backend.metrics()) {
    if (metric.name !== name) continue
    const sum = metric.points.reduce((all, { value }) => all + Number(value ?? 0), 0)
    last.set(`${metric.service} ${metric.resource['service.instance.id']}`, sum)
  }
  return [...last.values()].reduce((all, value) => all + value, 0)
}

const HOST_DEATHS: readonly `${(typeof CRASH_POINTS)[number]}:${number}`[] = [
  'before-append:2',
  'after-append:1',
  'after-effect:2',
  'before-conclude:1',
  'after-conclude:1',
  'before-ack:1',
]
const TOOL_DEATHS: readonly (typeof TOOL_CRASH_POINTS)[number][] = [
  'before-run',
  'after-begun',
  'after-run',
  'after-done',
  'after-reply',
]

describe.concurrent('a trace is the same', { timeout: TEST_MS }, () => {
  for (const [kind, deaths] of [
    ['host', HOST_DEATHS],
    ['tools', TOOL_DEATHS.map((at) => `${at}:1`)],
  ] as const) {
    for (const crashAt of deaths) {
      it(`when the process of the ${kind} dies ${crashAt}, and each action counts at most once`, async () => {
        await using backend = await startOtlpReceiver()
        await using system = await observed(`${kind}-${crashAt.replace(':', '-')}`, backend)
        const [first, second] = [
          () => system.startTools({ ...(kind === 'tools' && { crashAt }) }),
          () => system.startHost({ ...(kind === 'host' && { crashAt }) }),
        ]
        const [tools, host] = await Promise.all([first(), second()])
        await system.send('coordinator', 'order')
        await (kind === 'host' ? host : tools).untilExit()
        await (kind === 'host' ? system.startHost() : system.startTools())

        const { trace, takeovers } = await settle(system)

        expect(backend.treeOf(trace)).toBe(TREE)
        // What a process counted in the last moments before its death is lost with it.
        expect(counted(backend, 'kaos.requests')).toBeLessThanOrEqual(3)
        expect(counted(backend, 'kaos.model.calls')).toBeLessThanOrEqual(TEAM_WORK.modelCalls)
        expect(counted(backend, 'kaos.tool.calls')).toBeLessThanOrEqual(TEAM_WORK.toolCalls)
        expect(counted(backend, 'kaos.takeovers')).toBe(takeovers)
      })
    }
  }

  it('when a tool server sleeps through its call, and wakes to a successor that did it and is gone', async () => {
    await using backend = await startOtlpReceiver()
    await using system = await observed('woken', backend)
    await system.startHost()
    const sleeper: HostProcess = await system.startTools()
    await system.send('worker1', 'order')
    await eventually(() => system.toolRuns().length === 1)
    sleeper.freeze()
    const successor = await system.startTools()
    await system.waitForResult(system.sent[0]!)
    await backend.waitFor(() => backend.spans().some(({ service }) => service === 'desk'), 'the span of the successor')
    await successor.kill()

    sleeper.wake()
    const { trace } = await settle(system)

    expect(backend.treeOf(trace)).toBe(
      `
worker1: agent.process_message [CONSUMER] OK
  worker1: model.inference [CLIENT] OK
  worker1: tool.note [CLIENT] OK
    desk: tool.execute [SERVER] OK
  worker1: model.inference [CLIENT] OK`.trim(),
    )
    expect(counted(backend, 'kaos.tool.calls')).toBe(1)
  })
})
