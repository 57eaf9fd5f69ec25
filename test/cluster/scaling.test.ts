/** Agents as pods that are real processes: they come with the work, go without it, and lose nothing when they or the operator are killed. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { headers } from '@nats-io/transport-node'
import { expect, it, onTestFinished } from 'vitest'
import { openBus } from '../../bus/open.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { replay } from '../../cli/replay.ts'
import { loadManifests } from '../../manifests/load.ts'
import type { KubeObject } from '../../operator/kube/object.ts'
import { silentLog } from '../../telemetry/log.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const file = join(import.meta.dirname, '..', '..', 'manifests', 'samples', 'research-team.yaml')
const team = readFileSync(file, 'utf8')
const MINUTES = 60_000

async function start(prefix: string): Promise<OperatorStand> {
  const stand = await OperatorStand.create(plane, prefix)
  onTestFinished(() => stand[Symbol.asyncDispose]())
  return stand
}

/** Agents go to sleep after a second; models take their time. */
const scaled =
  (scaling: Record<string, unknown>, delayMs = 0) =>
  (object: KubeObject): KubeObject => {
    const spec = object.spec as Record<string, unknown>
    if (object.kind === 'Agent') return { ...object, spec: { ...spec, scaling: { cooldownSeconds: 1, ...scaling } } }
    const env = [{ name: 'MODEL_DELAY_MS', value: String(delayMs) }]
    return object.kind === 'ModelAPI' ? { ...object, spec: { ...spec, container: { env } } } : object
  }

/** Results as they are stored, by subject. */
class Results {
  readonly texts = new Map<string, string>()
  private readonly waiting = new Set<() => void>()

  constructor(stand: OperatorStand) {
    stand.connection.subscribe(`kaos.${stand.namespace}.result.>`, {
      callback: (_error, message) => {
        this.texts.set(message.subject, message.string())
        for (const look of this.waiting) look()
      },
    })
  }

  async until(count: number): Promise<void> {
    while (this.texts.size < count) await new Promise<void>((resolve) => this.waiting.add(resolve))
  }
}

async function asleep(stand: OperatorStand, names: readonly string[]): Promise<void> {
  for (const name of names)
    await stand.until('Deployment', `agent-${name}`, ({ spec, status }) => spec.replicas === 0 && !status.replicas, 3 * MINUTES)
}

it('wakes a team for a task, answers it, and lets it sleep again', { timeout: 3 * MINUTES }, async () => {
  const stand = await start('team')
  await stand.processPods()
  await stand.operatorProcess()
  await stand.apply(team, scaled({}))
  const agents = ['coordinator', 'researcher', 'analyst']
  const before = await Promise.all(agents.map((name) => stand.untilReady('Agent', name, MINUTES)))
  const results = new Results(stand)

  await stand.connection.request(`kaos.${stand.namespace}.agent.coordinator.task`, 'Compare NATS and Kafka')
  await results.until(1)
  await asleep(stand, agents)
  const { status } = await stand.until('MCPServer', 'calculator', (server) => server.status.availableTools?.length > 0)

  expect(before.map((agent) => agent.status.phase)).toEqual(['Ready', 'Ready', 'Ready'])
  expect(JSON.parse([...results.texts.values()][0]!)).toMatchObject({ state: 'completed', agent: 'coordinator' })
  expect(status.availableTools).toEqual(['calculate'])
})

it('ends every one of 500 tasks once while pods and the operator are killed', { timeout: 8 * MINUTES }, async () => {
  const TASKS = 500
  const stand = await start('storm')
  const pods = await stand.processPods()
  const first = await stand.operatorProcess()
  await stand.apply(team, scaled({ maxReplicas: 3, targetBacklogPerReplica: 50 }, 100))
  await stand.untilReady('Agent', 'analyst', MINUTES)
  const results = new Results(stand)
  const door = `kaos.${stand.namespace}.agent.analyst.task`
  // Work is pulled before the kubelet calls a pod ready.
  const killOne = () => pods.list().some(({ name }) => name.startsWith('agent-analyst-') && pods.kill(name))

  const sent = Array.from({ length: TASKS }, (_, i) => {
    const id = headers()
    id.set('Nats-Msg-Id', `task-${i}`)
    return stand.connection.request(door, `What is ${i} + ${i}?`, { headers: id, timeout: 30_000 })
  })
  await Promise.all(sent)
  await results.until(50)
  const killed = [killOne()]
  first.kill()
  await stand.operatorProcess()
  await results.until(250)
  killed.push(killOne())
  await results.until(TASKS)
  await asleep(stand, ['analyst'])

  const bus = await openBus(stand.broker.settings, { namespace: stand.namespace, as: userParty('test'), log: silentLog() })
  onTestFinished(() => bus.close())
  const states = [...results.texts.values()].map((text) => (JSON.parse(text) as { state: string }).state)
  const traces = await bus.traces.latest(20)
  const verdicts = await Promise.all(traces.map(({ traceId }) => replay(bus, traceId, loadManifests([file]))))
  expect(killed).toEqual([true, true])
  expect(new Set(states)).toEqual(new Set(['completed']))
  expect(await stand.messagesIn('kaos_results')).toBe(TASKS)
  expect(await stand.messagesIn('kaos_dead')).toBe(0)
  expect(await stand.messagesIn(`kaos_${stand.namespace}_agent_analyst_mail`)).toBe(0)
  expect(new Set(verdicts.map(({ verdict }) => verdict))).toEqual(new Set(['identical']))
})
