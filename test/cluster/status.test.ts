/** What statuses say on a real API server, as kubectl, Helm and kstatus read them. */
import { expect, it, onTestFinished } from 'vitest'
import type { KubeObject } from '../../operator/kube/object.ts'
import type { AnyObject } from '../testplane/api.ts'
import { kubeTime } from '../testplane/kubelet/status.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { agentText, PROXY, startSettling, TOOL, untilSettled } from './stand/settling.ts'
import { conditionOf, OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const KINDS = ['Agent', 'MCPServer', 'ModelAPI'] as const
const NAMES = { Agent: 'a', MCPServer: 'tool', ModelAPI: 'models' } as const
const TEAM = `${PROXY}---${TOOL}---${agentText('a', 'mcpServers: [tool]')}`

const pausing = (value: string | null) => ({ metadata: { annotations: { 'kaos.tools/paused': value } } })
const withoutPause = ({ status }: AnyObject) => ({
  ...status,
  conditions: status.conditions.filter(({ type }: { type: string }) => type !== 'Paused'),
})

/** Of one resource, in order. */
async function events({ namespace }: OperatorStand, kind: string, reasons: readonly string[]): Promise<readonly string[]> {
  const found = (all: readonly AnyObject[]) => {
    const told = (all as readonly (AnyObject & { regarding: { kind: string }; reason: string; eventTime: string })[])
      .filter(({ regarding, reason }) => regarding.kind === kind && reasons.includes(reason))
      .toSorted((a, b) => a.eventTime.localeCompare(b.eventTime))
      .map(({ reason }) => reason)
    return told.length >= reasons.length && told
  }
  return api.waitFor(`/apis/events.k8s.io/v1/namespaces/${namespace}/events`, found, { what: `Events of ${kind}` })
}

it('say that a resource was not looked at yet, so that nobody who waits takes it for ready', async () => {
  const stand = await startSettling(plane, 'unseen')

  await stand.apply(TEAM)
  const statuses = await stand.statuses()

  expect(statuses).toEqual({
    'Agent a': { observedGeneration: -1 },
    'MCPServer tool': { observedGeneration: -1 },
    'ModelAPI models': { observedGeneration: -1 },
  })
})

it('say that a resource is paused, and of nothing else something new, until it is not paused any more', async () => {
  const stand = await startSettling(plane, 'paused')
  await stand.operator()
  await untilSettled(stand, await stand.apply(TEAM))
  const before = await stand.statuses()

  const changed = { podSpec: { terminationGracePeriodSeconds: 7 } }
  for (const kind of KINDS) await api.patch(stand.path(kind, NAMES[kind]), { ...pausing('true'), spec: changed })
  const paused = await Promise.all(
    KINDS.map((kind) => stand.until(kind, NAMES[kind], (object) => conditionOf(object, 'Paused')?.status === 'True')),
  )
  const graces = await Promise.all(KINDS.map((kind) => graceOf(stand, kind)))
  for (const kind of KINDS) await api.patch(stand.path(kind, NAMES[kind]), pausing(null))
  const resumed = await Promise.all(
    KINDS.map((kind) =>
      stand.until(kind, NAMES[kind], ({ status, metadata }) => status.observedGeneration === metadata.generation),
    ),
  )

  expect(Object.fromEntries(paused.map((object) => [`${object.kind} ${object.metadata.name}`, withoutPause(object)]))).toEqual(
    before,
  )
  expect(paused.map((object) => conditionOf(object, 'Paused')?.reason)).toEqual(['Paused', 'Paused', 'Paused'])
  expect(graces).not.toContain(7)
  expect(resumed.map((object) => conditionOf(object, 'Paused'))).toEqual([undefined, undefined, undefined])
  for (const kind of KINDS) expect(await events(stand, kind, ['Paused', 'Resumed'])).toEqual(['Paused', 'Resumed'])
})

async function graceOf(stand: OperatorStand, kind: (typeof KINDS)[number]): Promise<number> {
  const { spec } = await api.get(stand.path('Deployment', `${kind.toLowerCase()}-${NAMES[kind]}`))
  return spec.template.spec.terminationGracePeriodSeconds
}

it('have the backlog of a tool server, also what has come while no operator looked', async () => {
  const stand = await startSettling(plane, 'calls')
  const first = await stand.operator()
  await untilSettled(stand, await stand.apply(TEAM))
  await first.stop()

  await stand.connection.request(`kaos.${stand.namespace}.tool.tool.call.agent.a.a_t_0-0`, 'a call')
  const operator = await stand.operator()
  const { status } = await stand.until('MCPServer', 'tool', (server) => server.status.backlog === 1)

  expect(status.backlog).toBe(1)
  expect(operator.health.metricsText()).toContain(`kaos_tool_backlog{namespace="${stand.namespace}",tool="tool"} 1`)
})

it('say that a name is taken by an object of somebody else, change nothing in it, and go on when it is gone', async () => {
  const stand = await startSettling(plane, 'taken')
  await stand.operator({ childrenLimits: { refusedAgainMs: 200 } })
  const theirs: readonly KubeObject[] = [
    { apiVersion: 'v1', kind: 'Service', metadata: { name: 'agent-a' }, spec: { ports: [{ port: 80 }] } },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'mcpserver-tool' }, data: { theirs: 'yes' } },
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'modelapi-models-master-key' },
      stringData: { 'master-key': 'theirs' },
    },
  ]
  const before: AnyObject[] = []
  for (const object of theirs) before.push(await api.apply(stand.placed(object), 'somebody'))

  await stand.apply(TEAM)
  const isTaken = (object: AnyObject) => conditionOf(object, 'Ready')?.reason === 'NameTaken'
  const taken = await Promise.all((['MCPServer', 'ModelAPI'] as const).map((kind) => stand.until(kind, NAMES[kind], isTaken)))
  const untouched = await Promise.all(theirs.map(({ kind, metadata }) => api.get(stand.path(kind, metadata.name))))
  for (const { kind, metadata } of theirs.slice(1)) await api.delete(stand.path(kind, metadata.name))
  const agent = await stand.until('Agent', 'a', isTaken)
  await api.delete(stand.path('Service', 'agent-a'))
  await stand.untilReady('Agent', 'a')

  expect(untouched).toEqual(before)
  expect(taken.map((object) => conditionOf(object, 'Stalled')?.status)).toEqual(['True', 'True'])
  expect(agent.status.message).toContain(`Service "${stand.namespace}/agent-a": an object of that name is there that is not ours`)
})

it("take over children of KAOS's own operator, which carry no label of ours", async () => {
  const stand = await startSettling(plane, 'kaos')
  const [, , agent] = await stand.apply(TEAM)
  const owner = { apiVersion: 'kaos.tools/v1alpha1', kind: 'Agent', name: 'a', uid: agent!.metadata.uid!, controller: true }
  const service: KubeObject = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'agent-a', ownerReferences: [owner] },
    spec: { selector: { agent: 'a' }, ports: [{ name: 'http', port: 8000, targetPort: 9 }] },
  }
  await api.apply(stand.placed(service), 'kaos')

  await stand.operator()
  const { spec } = await stand.until('Service', 'agent-a', ({ metadata }) => metadata.labels?.agent === 'a')
  await stand.untilReady('Agent', 'a')

  expect(spec.ports).toMatchObject([{ port: 8000, targetPort: 8000 }])
})

it('do not say of a new version that it is there while it does not come up beside the one of before', async () => {
  const broken = 'registry.test/broken:1'
  const stand = await startSettling(plane, 'rollout', {
    fate: ({ spec }) => (spec.containers[0].image === broken ? 'crash-loop' : 'ready'),
  })
  await stand.operator()
  await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a', 'scaling: { minReplicas: 1 }')}`))

  await api.patch(stand.path('Agent', 'a'), { spec: { container: { image: broken } } })
  const status = await stand.until('Agent', 'a', (agent) => conditionOf(agent, 'Degraded')?.reason === 'CrashLooping')

  expect(conditionOf(status, 'Ready')).toMatchObject({ status: 'True', reason: 'Available' })
  expect(conditionOf(status, 'Reconciling')).toMatchObject({ status: 'True', reason: 'RollingOut' })
})

it('name the Secret that pods wait for, though no event tells when they have waited too long', async () => {
  const stand = await OperatorStand.create(plane, 'unprepared')
  onTestFinished(() => stand[Symbol.asyncDispose]())
  await stand.operator({ settings: { broker: { url: stand.broker.url, credentials: { secretName: 'nats-creds' } } } })
  await stand.apply(TOOL)
  const isPlaced = (pods: readonly AnyObject[]) =>
    pods.find(({ status }) => status.conditions?.some(({ type }: { type: string }) => type === 'PodScheduled'))
  const pod = await api.waitFor(stand.path('Pod'), isPlaced, { what: 'a pod on a node' })

  // As a kubelet writes it that cannot mount a volume; the minute is over in two seconds.
  const lastTransitionTime = kubeTime(new Date(Date.now() - 58_000))
  const unprepared = { type: 'PodReadyToStartContainers', status: 'False', lastTransitionTime }
  const status = { phase: 'Pending', conditions: [...pod.status.conditions, unprepared] }
  await api.patch(`${stand.path('Pod', pod.metadata.name)}/status`, { status })
  const server = await stand.until('MCPServer', 'tool', (found) => conditionOf(found, 'Ready')?.reason === 'ContainerNotCreated')

  expect(conditionOf(server, 'Ready')?.message).toBe(
    `its pods mount Secret "nats-creds", which is not in namespace "${stand.namespace}": create it`,
  )
})

it('are right again after somebody has removed the streams of a tool server', async () => {
  const stand = await startSettling(plane, 'removed')
  await stand.operator()
  await untilSettled(stand, await stand.apply(TEAM))
  const mail = `kaos_${stand.namespace}_tool_tool_mail`

  await stand.connection.request(`$JS.API.STREAM.DELETE.${mail}`, '')
  const { status } = await stand.until('MCPServer', 'tool', (server) => server.status.backlog === undefined)
  await stand.until('MCPServer', 'tool', (server) => server.status.backlog === 0)

  expect(conditionOf({ status } as AnyObject, 'Ready')?.status).toBe('True')
  expect(await stand.streams()).toContain(mail)
})
