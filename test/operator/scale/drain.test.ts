/** Pods that are told to go, as processes: they finish or hand back what they have, and the work goes on where it stood when pods come again. */
import { jetstreamManager } from '@nats-io/jetstream'
import { createInbox, type Msg } from '@nats-io/transport-node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { streamNames } from '../../../bus/wire/subjects.ts'
import { checkBroker, repeated } from '../../support/check-broker.ts'
import { eventually } from '../../support/mcp-calls.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../../support/otlp-receiver.ts'
import {
  AGENTS,
  ProcessSystem,
  type Rig,
  startRig,
  TEAM_WORK,
  TEST_MS,
  TOOL_SERVER,
  teamAnswer,
  teamScript,
} from '../../support/process-system.ts'

const TASKS = 40
const HOSTS = 3
/** So many model calls are asked for when the pods are told to go, of seven for each task. */
const MIDDLE = TASKS * 3
/** More than a pod has that has a second to end. */
const SLOW_MS = 3_000
/** Less than ack_wait by far; what was handed back comes at once. */
const MOMENT_MS = 1_500
const SHORT = { KAOS_GRACE_SECONDS: '1' }

let rig: Rig
let backend: OtlpReceiver
beforeAll(async () => {
  backend = await startOtlpReceiver()
  rig = await startRig({
    rules: [
      { when: { text: 'slow model' }, reply: { text: 'done', delayMs: SLOW_MS } },
      { when: { text: 'slow tool', turn: 0 }, reply: { calls: [{ name: 'note', arguments: { text: 'it', ms: SLOW_MS } }] } },
      ...teamScript({ modelMs: 200, toolMs: 20 }).rules,
    ],
  })
})
afterAll(async () => {
  await rig[Symbol.asyncDispose]()
  await backend[Symbol.asyncDispose]()
})

interface Waiting {
  /** Messages that are not done. */
  readonly left: number
  /** How many of them the broker hands out when it is asked for a moment. What a process still had would come after ack_wait only. */
  readonly free: number
}

/** Of all mail of a system; what was handed out is handed back. */
async function waitingMail(system: ProcessSystem): Promise<Waiting> {
  const { bus, namespace } = system
  const manager = await jetstreamManager(bus.connection)
  const streams = [
    ...AGENTS.map((agent) => streamNames.agentMail(namespace, agent)),
    streamNames.toolMail(namespace, TOOL_SERVER),
  ]
  const waiting = { left: 0, free: 0 }
  for (const stream of streams) {
    for (const { name, num_pending, num_ack_pending } of await manager.consumers.list(stream).next()) {
      waiting.left += num_pending + num_ack_pending
      waiting.free += await handOut(system, `$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`, num_pending + num_ack_pending)
    }
  }
  return waiting
}

/** How many messages come, of so many. */
async function handOut({ bus: { connection } }: ProcessSystem, api: string, batch: number): Promise<number> {
  if (batch === 0) return 0
  const inbox = createInbox()
  const subscription = connection.subscribe(inbox)
  connection.publish(api, JSON.stringify({ batch, expires: MOMENT_MS * 1e6 }), { reply: inbox })
  const taken: Msg[] = []
  for await (const message of subscription) {
    if (message.headers?.code) break
    if (taken.push(message) === batch) break
  }
  for (const message of taken) message.respond('-NAK')
  await connection.flush()
  return taken.length
}

function untilAskedTimes(
  { rig: { onRequest }, modelRequests }: { rig: Rig; modelRequests: () => number },
  times: number,
): Promise<void> {
  return new Promise((resolve) => {
    const ignore = onRequest(() => {
      if (modelRequests() < times) return
      ignore()
      resolve()
    })
  })
}

describe('pods that are told to go', { timeout: TEST_MS }, () => {
  it('three to none and back in the middle of forty tasks: nothing is lost, nothing is done twice, every span is told once', async () => {
    await using system = await ProcessSystem.create(rig, 'drain', { env: { OTEL_EXPORTER_OTLP_ENDPOINT: backend.url } })
    const start = () => Promise.all([system.startTools(), ...Array.from({ length: HOSTS }, () => system.startHost())])
    const pods = await start()
    const middle = untilAskedTimes({ rig, modelRequests: () => system.modelRequests().length }, MIDDLE)
    const names = Array.from({ length: TASKS }, (_, i) => `t${i}`)
    const sent = await Promise.all(names.map((name) => system.send('coordinator', name)))
    await middle

    const codes = await Promise.all(pods.map((pod) => pod.stop()))

    expect(codes).toEqual(pods.map(() => 0))
    const { left, free } = await waitingMail(system)
    expect(left).toBeGreaterThan(0)
    expect(free).toBe(left)
    const again = await start()
    const results = await Promise.all(sent.map((task) => system.waitForResult(task)))
    expect(results.map((result) => result.state === 'completed' && result.output)).toEqual(names.map(teamAnswer))
    const findings = await checkBroker(system)
    expect(findings).toMatchObject({ tasks: TASKS * 3, entries: TASKS * TEAM_WORK.entries, takeovers: 0, late: [] })
    expect([...repeated(findings.modelRequests), ...repeated(findings.toolRuns)]).toEqual([])
    expect(await Promise.all(again.map((pod) => pod.stop()))).toEqual(again.map(() => 0))
    const spans = backend.spans().filter(({ attributes }) => attributes['gen_ai.operation.name'] === 'chat')
    expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(TASKS * TEAM_WORK.modelCalls)
    expect(spans).toHaveLength(TASKS * TEAM_WORK.modelCalls)
  })
  it('a model that takes longer than the grace period: its mail is handed back, and the next pod asks again at once', async () => {
    await using system = await ProcessSystem.create(rig, 'slow-model', { env: SHORT })
    await system.startTools()
    const pod = await system.startHost({ only: ['worker1'] })
    const asked = system.untilAsked('worker1_k_0-0')
    const task = await system.send('worker1', 'slow model', 'k')
    await asked

    expect(await pod.stop()).toBe(0)

    expect(await waitingMail(system)).toEqual({ left: 1, free: 1 })
    const next = await system.startHost({ only: ['worker1'] })
    expect(await system.waitForResult(task)).toMatchObject({ state: 'completed', output: 'done' })
    const findings = await checkBroker(system)
    expect(findings).toMatchObject({ tasks: 1, entries: 3, takeovers: 1, late: [] })
    expect(findings.modelRequests.map(({ effect, host }) => [effect, host])).toEqual(
      [pod, next].map((host) => ['worker1_k_0-0', host]),
    )
  })

  it('a tool that takes longer: the call is handed back, and run again where the tool allows it', async () => {
    await using system = await ProcessSystem.create(rig, 'slow-tool', { env: SHORT })
    await system.startHost({ only: ['worker1'] })
    const pod = await system.startTools()
    const task = await system.send('worker1', 'slow tool', 'k')
    await eventually(() => system.toolRuns().length === 1)

    expect(await pod.stop()).toBe(0)

    expect(await waitingMail(system)).toEqual({ left: 1, free: 1 })
    await system.startTools()
    expect(await system.waitForResult(task)).toMatchObject({ state: 'completed', output: 'slow tool:R(it)' })
    const findings = await checkBroker(system)
    expect([...repeated(findings.toolRuns)]).toEqual([['worker1_k_1-0', 2]])
  })
})
