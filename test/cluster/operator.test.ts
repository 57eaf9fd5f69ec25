/** The operator on a real API server and a real broker, with pods that pretend: what it makes of resources, and what it does when it is hurt. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { REGISTRY_CONFIG_MAP, REGISTRY_KEY } from '../../operator/desired/runtimes.ts'
import type { KubeObject } from '../../operator/kube/object.ts'
import { registryText } from '../operator/desired/cluster.ts'
import type { AnyObject } from '../testplane/api.ts'
import { startFakePods } from '../testplane/fake-kubelet.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { conditionOf, OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const CHILDREN = ['Deployment', 'Service', 'ConfigMap', 'ServiceAccount', 'Secret'] as const
const WRITES = ['create', 'update', 'patch', 'delete']

const sample = (file: string) => readFileSync(join(import.meta.dirname, '..', 'manifests', 'kaos', file), 'utf8')

const PROXY = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
`
const agentText = (name: string, spec = '') => `
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: ${name} }
spec: { modelAPI: models, model: m, ${spec} }
`

/** A namespace with a registry of runtimes, and pods that become ready. */
async function start(prefix: string): Promise<OperatorStand> {
  const stand = await OperatorStand.create(plane, prefix)
  onTestFinished(() => stand[Symbol.asyncDispose]())
  const pods = startFakePods(plane, { namespace: stand.namespace })
  stand.add(() => pods.stop())
  await api.apply(
    stand.placed({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: REGISTRY_CONFIG_MAP },
      data: { [REGISTRY_KEY]: registryText },
    }),
  )
  return stand
}

function isManaged({ metadata }: AnyObject): boolean {
  return metadata.labels?.['app.kubernetes.io/managed-by'] === 'kaos-operator'
}

/** Names of all that the operator has made. */
async function children(stand: OperatorStand): Promise<readonly string[]> {
  const lists = await Promise.all(CHILDREN.map((kind) => api.list(stand.path(kind))))
  return lists.flatMap((list, i) => list.filter(isManaged).map(({ metadata }) => `${CHILDREN[i]} ${metadata.name}`)).toSorted()
}

/** Resolves with the resources once each is ready and nothing is under way. */
async function untilSettled(stand: OperatorStand, resources: readonly AnyObject[]): Promise<readonly AnyObject[]> {
  return Promise.all(resources.map(({ kind, metadata }) => stand.until(kind, metadata.name, isSettled)))
}

function isSettled(object: AnyObject): boolean {
  const isReady = conditionOf(object, 'Ready')?.status === 'True' && !conditionOf(object, 'Reconciling')
  const isScaled =
    object.kind === 'ModelAPI' ||
    (object.status.backlog === 0 && (object.kind !== 'Agent' || conditionOf(object, 'ScalingActive')?.status === 'True'))
  return isReady && isScaled && isRolledOut(object.status.deployment)
}

function isRolledOut({ conditions = [], replicas, availableReplicas }: AnyObject['status']): boolean {
  return (
    replicas === availableReplicas && conditions.some(({ reason }: { reason: string }) => reason === 'NewReplicaSetAvailable')
  )
}

const isOfOurs = ({ kind }: KubeObject) => ['Agent', 'MCPServer', 'ModelAPI'].includes(kind)

describe('the operator', () => {
  it.each([
    ['1-echo.yaml', 3],
    ['2-workers.yaml', 5],
    ['3-hierarchy.yaml', 9],
    ['4-proxy.yaml', 3],
  ])("makes KAOS's sample ready, writes nothing when it looks again, nor when it is started again: %s", async (file, count) => {
    const stand = await start('sample')
    const kubeconfig = await stand.ownIdentity('operator')
    const first = await stand.operator({ kubeconfig })

    const applied = (await stand.apply(sample(file))).filter((object) => isOfOurs(object as KubeObject))
    await untilSettled(stand, applied)
    await stand.untilLooked(first)
    const since = await plane.auditPosition()
    const before = await stand.statuses()
    await api.patch(stand.path('ConfigMap', REGISTRY_CONFIG_MAP), { metadata: { annotations: { looked: 'again' } } })
    await first.stop()
    const second = await stand.operator({ kubeconfig })
    await stand.untilLooked(second)
    const writes = (await plane.audit({ since, namespace: stand.namespace })).filter(
      // Events of before are written when there is time for them.
      ({ verb, user, objectRef }) =>
        WRITES.includes(verb) && user.username.endsWith(':operator') && objectRef?.resource !== 'events',
    )

    expect(applied).toHaveLength(count)
    expect(await stand.statuses()).toEqual(before)
    expect(writes.map(({ verb, requestURI }) => `${verb} ${requestURI}`)).toEqual([])
  })

  it('makes the same children in whatever order resources are declared', async () => {
    const [forwards, backwards] = [await start('forwards'), await start('backwards')]
    await Promise.all([forwards.operator(), backwards.operator()])
    const documents = sample('2-workers.yaml').split(/^---$/m)

    const one = await forwards.apply(documents.join('---\n'))
    await untilSettled(forwards, one)
    const other: AnyObject[] = []
    for (const document of documents.toReversed()) other.push(...(await backwards.apply(document)))
    await untilSettled(backwards, other)

    expect(await forwards.shapes(CHILDREN)).toEqual(await backwards.shapes(CHILDREN))
  })

  it('repairs what somebody else changes in its children, and leaves alone what is not its own', async () => {
    const stand = await start('drift')
    await stand.operator()
    await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a', 'scaling: { minReplicas: 1 }')}`))
    const path = stand.path('Deployment', 'agent-a')
    const { spec } = await api.get(path)

    await api.patch(path, {
      metadata: { labels: { mine: 'yes' } },
      spec: { replicas: 5, template: { spec: { terminationGracePeriodSeconds: 1 } } },
    })
    const { metadata } = await stand.until(
      'Deployment',
      'agent-a',
      (live) => live.spec.replicas === 1 && live.spec.template.spec.terminationGracePeriodSeconds !== 1,
    )
    await api.delete(stand.path('Service', 'agent-a'))
    await stand.until('Service', 'agent-a', () => true)

    expect(metadata.labels?.mine).toBe('yes')
    expect((await api.get(path)).spec).toEqual(spec)
  })

  it('removes a child that is not wanted any more', async () => {
    const stand = await start('toggled')
    await stand.operator()
    await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a')}`))
    await stand.until('Service', 'agent-a', () => true)

    await api.patch(stand.path('Agent', 'a'), { spec: { agentNetwork: { expose: false } } })
    await stand.untilGone('Service', 'agent-a')

    expect(await children(stand)).toContain('Deployment agent-a')
  })

  it('removes mail and children of an agent that is deleted, and keeps its journal', async () => {
    const stand = await start('deleted')
    await stand.operator()
    await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a')}---${agentText('b')}`))
    const before = await stand.streams()

    await api.delete(stand.path('Agent', 'a'))
    await stand.untilGone('Agent', 'a')
    await stand.untilGone('Deployment', 'agent-a')
    await stand.untilGone('ConfigMap', 'agent-a')

    const mail = `kaos_${stand.namespace}_agent_a_mail`
    expect(before).toContain(mail)
    expect(await stand.streams()).toEqual(before.filter((name) => name !== mail))
    expect(await children(stand)).toContain('Deployment agent-b')
  })

  it('lets a namespace go', async () => {
    const stand = await start('going')
    await stand.operator()
    await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a')}---${agentText('b')}`))

    await api.delete(`/api/v1/namespaces/${stand.namespace}`)
    await api.waitFor(`/api/v1/namespaces/${stand.namespace}`, (found) => found.length === 0, { what: 'the namespace to go' })

    expect((await stand.streams()).filter((name) => name.endsWith('_mail'))).toEqual([])
  })

  it('leaves alone what is paused, until it is not any more', async () => {
    const stand = await start('paused')
    const operator = await stand.operator()
    await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a')}`))
    const paused = (value: string | null) => ({ metadata: { annotations: { 'kaos.tools/paused': value } } })

    await api.patch(stand.path('Agent', 'a'), { ...paused('true'), spec: { agentNetwork: { expose: false } } })
    // Changes of one kind come in order: whoever has looked at the second agent knows of the pause.
    await stand.apply(agentText('later'))
    await stand.until('Agent', 'later', ({ status }) => status?.observedGeneration === 1)
    await stand.untilLooked(operator)
    await stand.connection.request(`kaos.${stand.namespace}.agent.a.task`, 'a task')
    const meanwhile = [await children(stand), (await api.get(stand.path('Deployment', 'agent-a'))).spec.replicas]
    await api.patch(stand.path('Agent', 'a'), paused(null))
    await stand.untilGone('Service', 'agent-a')
    await stand.until('Deployment', 'agent-a', ({ spec }) => spec.replicas === 1)

    expect(meanwhile).toEqual([expect.arrayContaining(['Service agent-a']), 0])
  })

  it('lets a deleted agent go with a warning when the broker is gone for good', async () => {
    const stand = await start('brokerless')
    await stand.operator({ streamLimits: { brokerGoneMs: 1 } })
    await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a')}`))

    await stand.broker.kill()
    await api.delete(stand.path('Agent', 'a'))
    await stand.untilGone('Agent', 'a')
    const events = `/apis/events.k8s.io/v1/namespaces/${stand.namespace}/events`
    const note = await api.waitFor(events, (all) => all.find(({ reason }) => reason === 'StreamsLeft')?.note, {
      what: 'an Event',
    })

    expect(note).toBe('its streams stay on the broker: the broker does not answer')
  })

  it('says so while there is no broker, and goes on when it comes', async () => {
    const stand = await start('late-broker')
    await stand.broker.kill()
    await stand.operator()
    await stand.apply(`${PROXY}---${agentText('a')}`)

    const waiting = await stand.until('Agent', 'a', (agent) => conditionOf(agent, 'Ready')?.reason === 'BrokerUnavailable')
    const made = await children(stand)
    await stand.broker.restart()
    await stand.untilReady('Agent', 'a')

    expect(conditionOf(waiting, 'StreamsReady')).toMatchObject({ status: 'False', reason: 'BrokerUnavailable' })
    expect(made).not.toContain('Deployment agent-a')
  })

  it('tells an agent of a peer that comes later, and of one that goes', async () => {
    const stand = await start('peers')
    await stand.operator()
    const manifest = (config: AnyObject) => String(config.data['kaos.yaml'])
    await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a', 'agentNetwork: { access: [late] }')}`))
    const alone = await stand.until('Agent', 'a', (agent) => conditionOf(agent, 'DependenciesReady')?.reason === 'PeerNotFound')

    await stand.apply(agentText('late', 'config: { description: Comes late }'))
    await stand.until('ConfigMap', 'agent-a', (config) => manifest(config).includes('Comes late'))
    const together = await stand.until('Agent', 'a', (agent) => conditionOf(agent, 'DependenciesReady')?.status === 'True')
    await api.delete(stand.path('Agent', 'late'))
    await stand.until('ConfigMap', 'agent-a', (config) => !manifest(config).includes('Comes late'))

    expect(conditionOf(alone, 'Ready')?.status).toBe('True')
    expect(conditionOf(together, 'DependenciesReady')?.reason).toBe('DependenciesMet')
  })

  it('makes a tool server whose runtime is registered later, and rolls its pods when the registry changes', async () => {
    const stand = await start('registry')
    await stand.operator()
    const registry = (image: string) => ({ data: { [REGISTRY_KEY]: `runtimes: { own: { image: "${image}" } }` } })
    await stand.apply(`
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: tool }
spec: { runtime: own }
`)
    const unknown = await stand.until('MCPServer', 'tool', ({ status }) => status?.phase === 'Failed')

    await api.patch(stand.path('ConfigMap', REGISTRY_CONFIG_MAP), registry('registry.test/own:1'))
    await stand.untilReady('MCPServer', 'tool')
    await api.patch(stand.path('ConfigMap', REGISTRY_CONFIG_MAP), registry('registry.test/own:2'))
    const isNew = ({ spec }: AnyObject) => spec.template.spec.containers[0].image === 'registry.test/own:2'
    const { status } = await stand.until(
      'Deployment',
      'mcpserver-tool',
      (live) => isNew(live) && live.status.updatedReplicas === 1,
    )

    expect(conditionOf(unknown, 'Stalled')).toMatchObject({ status: 'True', reason: 'UnknownRuntime' })
    expect(status.updatedReplicas).toBe(1)
  })

  it('lets agents wait for a ModelAPI that comes later', async () => {
    const stand = await start('gated')
    await stand.operator()
    await stand.apply(agentText('a', 'scaling: { minReplicas: 1 }'))
    const waiting = await stand.until('Agent', 'a', ({ status }) => status?.phase === 'Waiting')
    const made = await children(stand)

    await stand.apply(PROXY)
    await stand.untilReady('Agent', 'a')

    expect(conditionOf(waiting, 'Ready')).toMatchObject({ status: 'False', reason: 'ModelAPINotFound' })
    expect(made).toEqual([])
  })

  it('copies the count of who scales in its place, and begins it where there is none', async () => {
    const stand = await start('external')
    await stand.operator()
    await stand.apply(`${PROXY}---${agentText('a', 'scaling: { scaler: External }')}`)
    await stand.until('Agent', 'a', ({ spec }) => spec.replicas === 1)

    await api.patch(`${stand.path('Agent', 'a')}/scale`, { spec: { replicas: 3 } })
    await stand.until('Deployment', 'agent-a', ({ status }) => status?.readyReplicas === 3)
    const { status } = await stand.until('Agent', 'a', (agent) => agent.status?.replicas === 3)

    expect(conditionOf({ status } as AnyObject, 'ScalingActive')).toMatchObject({ status: 'False', reason: 'ScaledExternally' })
  })

  it('goes on after the API server was killed, whatever happened meanwhile', async () => {
    const stand = await start('restarted')
    await stand.operator()
    await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a')}`))

    await plane.kill('kube-apiserver')
    await plane.start('kube-apiserver')
    await api.delete(stand.path('ConfigMap', 'agent-a'))
    await stand.apply(agentText('b'))

    await stand.until('ConfigMap', 'agent-a', () => true, 10_000)
    await stand.untilReady('Agent', 'b', 10_000)
  })

  it('is taken over by another when the leader is killed, which ends at once when it is told to', async () => {
    const stand = await start('takeover')
    const leader = await stand.operatorProcess()
    const lease = '/apis/coordination.k8s.io/v1'
    const holder = ({ spec }: AnyObject) => spec.holderIdentity as string
    const first = holder(await stand.until('Lease', 'kaos-actors-operator', holder))
    const follower = await stand.operatorProcess()
    await untilSettled(stand, await stand.apply(`${PROXY}---${agentText('a')}`))

    leader.kill()
    const second = holder(
      await stand.until('Lease', 'kaos-actors-operator', (object) => ![first, ''].includes(holder(object)), 20_000),
    )
    await stand.apply(agentText('b'))
    await stand.untilReady('Agent', 'b')
    follower.kill('SIGTERM')
    const { code } = await follower.exited
    const last = await api.get(`${lease}/namespaces/${stand.namespace}/leases/kaos-actors-operator`)

    expect(second).not.toBe(first)
    expect(code).toBe(0)
    expect(holder(last)).toBe('')
  })

  it('ends when another holds its lease', async () => {
    const stand = await start('ousted')
    const operator = await stand.operatorProcess()
    const lease = await stand.until('Lease', 'kaos-actors-operator', ({ spec }) => spec.holderIdentity)

    await api.patch(stand.path('Lease', 'kaos-actors-operator'), { spec: { ...lease.spec, holderIdentity: 'somebody' } })
    const { code } = await operator.exited

    expect(code).toBe(1)
    expect(operator.log()).toContain('lease_lost')
  })
})
