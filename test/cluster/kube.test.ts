/** The operator's Kubernetes parts against a real API server: what it stores otherwise than it was sent, and what it does when it is hurt. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { Controller, ownerKeys } from '../../operator/controller.ts'
import { ClusterAccess, kubeconfigCluster } from '../../operator/kube/access.ts'
import { Applier } from '../../operator/kube/apply.ts'
import { KubeClient } from '../../operator/kube/client.ts'
import { EVENTS, EventRecorder } from '../../operator/kube/events.ts'
import { acquireLease, LEASES } from '../../operator/kube/lease.ts'
import { type KubeObject, keyOf, type Resource } from '../../operator/kube/object.ts'
import { Reflector, type ReflectorOptions, type Restart } from '../../operator/kube/reflector.ts'
import type { Change } from '../../operator/kube/store.ts'
import type { Answered } from '../../operator/kube/transport.ts'
import { silentLog } from '../../telemetry/log.ts'
import { sharedPlane } from '../testplane/shared.ts'

const plane = sharedPlane()

const CONFIG_MAPS: Resource = { apiVersion: 'v1', kind: 'ConfigMap', plural: 'configmaps', namespaced: true }
const SECRETS: Resource = { apiVersion: 'v1', kind: 'Secret', plural: 'secrets', namespaced: true }
const DEPLOYMENTS: Resource = { apiVersion: 'apps/v1', kind: 'Deployment', plural: 'deployments', namespaced: true }
const SERVICES: Resource = { apiVersion: 'v1', kind: 'Service', plural: 'services', namespaced: true }
const ACCOUNTS: Resource = { apiVersion: 'v1', kind: 'ServiceAccount', plural: 'serviceaccounts', namespaced: true }
const POLICIES: Resource = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  namespaced: true,
}
const BUDGETS: Resource = {
  apiVersion: 'policy/v1',
  kind: 'PodDisruptionBudget',
  plural: 'poddisruptionbudgets',
  namespaced: true,
}

const LABELS = { app: 'agent', agent: 'a' }

/** What an agent needs, with values that the server fills in, stores in another form, or does not store at all. */
function children(namespace: string, ownerUid: string): readonly (readonly [Resource, KubeObject])[] {
  const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: ownerUid, controller: true, blockOwnerDeletion: true }
  const metadata = { namespace, name: 'agent-a', labels: LABELS, annotations: {}, ownerReferences: [owner] }
  const of = (resource: Resource, rest: object) =>
    [resource, { apiVersion: resource.apiVersion, kind: resource.kind, metadata, ...rest }] as const
  const container = {
    name: 'agent',
    image: 'kaos:1',
    args: ['host', '--only', 'a'],
    env: [
      { name: 'AGENT_NAME', value: 'a' },
      { name: 'EMPTY', value: '' },
      { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
    ],
    envFrom: [],
    ports: [{ name: 'http', containerPort: 8000 }],
    readinessProbe: { httpGet: { path: '/ready', port: 8000 } },
    resources: { requests: { cpu: '1000m', memory: '0.5Gi' } },
    volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }],
  }
  const pod = {
    containers: [container],
    volumes: [
      { name: 'tmp', emptyDir: {} },
      { name: 'conf', configMap: { name: 'agent-a' } },
    ],
  }
  const selector = { matchLabels: LABELS }
  return [
    of(CONFIG_MAPS, { data: { 'agent.yaml': 'kind: Agent\n' } }),
    of(ACCOUNTS, { automountServiceAccountToken: false }),
    of(SERVICES, { spec: { selector: LABELS, ports: [{ name: 'http', port: 8000, targetPort: 8000 }] } }),
    of(DEPLOYMENTS, { spec: { replicas: 0, selector, template: { metadata: { labels: LABELS }, spec: pod } } }),
    of(POLICIES, { spec: { podSelector: selector, policyTypes: ['Ingress'], ingress: [{ ports: [{ port: 8000 }] }] } }),
    of(BUDGETS, { spec: { minAvailable: 1, selector } }),
  ]
}

async function start(prefix: string) {
  const namespace = await plane.newNamespace(prefix)
  const access = new ClusterAccess(await kubeconfigCluster(plane.address.kubeconfig))
  const answers: Answered[] = []
  const client = KubeClient.over(access, { onAnswer: (answered) => answers.push(answered) })
  onTestFinished(() => client.close())
  const writes = () => answers.filter(({ verb }) => !['get', 'list', 'watch'].includes(verb)).length
  const configMap = (name: string, rest: object = {}): KubeObject => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace, name },
    ...rest,
  })
  return { namespace, client, answers, writes, configMap }
}

/** A reflector that runs, and what it told. */
async function reflect(options: Omit<ReflectorOptions, 'log'>) {
  const changes: Change[] = []
  const restarts: Restart[] = []
  const waiting = new Set<() => void>()
  const wake = () => {
    for (const resolve of waiting) resolve()
    waiting.clear()
  }
  const onRestart = (why: Restart) => {
    restarts.push(why)
    wake()
  }
  const reflector = new Reflector({ log: silentLog(), onRestart, ...options })
  reflector.subscribe((change) => {
    changes.push(change)
    wake()
  })
  reflector.start()
  onTestFinished(() => reflector.stop())
  await reflector.whenSynced(20_000)
  const until = async (is: () => boolean) => {
    while (!is()) await new Promise<void>((resolve) => waiting.add(resolve))
  }
  return { reflector, changes, restarts, until }
}

describe('apply on a real API server', () => {
  it('creates every kind of child, then writes nothing, also after a restart of the operator', async () => {
    const { namespace, client, writes, configMap } = await start('apply')
    const owner = (await client.create(CONFIG_MAPS, configMap('owner'))).object
    const wanted = children(namespace, owner.metadata.uid!)
    const applyAll = async (applier: Applier) => {
      for (const [resource, intent] of wanted) {
        await applier.apply(resource, intent, await client.get(resource, intent.metadata))
      }
      return writes()
    }
    const applier = new Applier(client)

    const created = await applyAll(applier)
    const versions = async () =>
      await Promise.all(
        wanted.map(async ([resource, { metadata }]) => (await client.get(resource, metadata))?.metadata.resourceVersion),
      )
    await plane.api.waitFor(`/apis/apps/v1/namespaces/${namespace}/deployments`, ([d]) => d?.status?.observedGeneration === 1, {
      what: 'a status',
    })
    await plane.api.waitFor(
      `/apis/policy/v1/namespaces/${namespace}/poddisruptionbudgets`,
      ([b]) => b?.status?.observedGeneration === 1,
      { what: 'a status' },
    )
    const before = await versions()
    const again = await applyAll(applier)
    const restarted = new Applier(client)
    const afterRestart = await applyAll(restarted)
    const afterwards = await applyAll(restarted)

    expect(created).toBe(1 + wanted.length)
    expect(again).toBe(created)
    // The Deployment and the NetworkPolicy hold values that the server stores in another form: one write each, which changes nothing.
    expect(afterRestart).toBe(created + 2)
    expect(afterwards).toBe(afterRestart)
    expect(await versions()).toEqual(before)
  })

  it('undoes what another manager forced, and leaves its own fields', async () => {
    const { namespace, client, configMap } = await start('rival')
    const owner = (await client.create(CONFIG_MAPS, configMap('owner'))).object
    const [resource, intent] = children(namespace, owner.metadata.uid!)[3]!
    const applier = new Applier(client)
    const { object: first } = await applier.apply(resource, intent, undefined)

    const rival = {
      ...intent,
      metadata: { namespace, name: 'agent-a', labels: { theirs: 'yes', app: 'other' } },
      spec: { replicas: 3 },
    }
    const { object: fought } = await client.apply(resource, rival, { fieldManager: 'rival', isForced: true })
    const { object: repaired } = await applier.apply(resource, intent, fought)
    const { object: nothing } = await applier.apply(resource, intent, repaired)

    expect(first?.metadata.labels).toEqual(LABELS)
    expect(repaired?.metadata.labels).toEqual({ ...LABELS, theirs: 'yes' })
    expect(repaired?.spec).toMatchObject({ replicas: 0 })
    expect(nothing).toBeUndefined()
  })

  it('deletes a field that is no longer wanted', async () => {
    const { client, configMap } = await start('remove')
    const applier = new Applier(client)
    const { object } = await applier.apply(CONFIG_MAPS, configMap('c', { data: { a: '1', b: '2' } }), undefined)

    const { object: less } = await applier.apply(CONFIG_MAPS, configMap('c', { data: { a: '1' } }), object)

    expect(less?.data).toEqual({ a: '1' })
  })

  it('leaves the status of another object of the same name alone', async () => {
    const { namespace, client, configMap } = await start('status')
    const owner = (await client.create(CONFIG_MAPS, configMap('owner'))).object
    const [, intent] = children(namespace, owner.metadata.uid!)[2]!
    const applier = new Applier(client)
    const { object: first } = await applier.apply(SERVICES, intent, undefined)
    const conditions = [
      { type: 'Ready', status: 'True', reason: 'Test', message: '', lastTransitionTime: '2026-11-23T00:00:00Z' },
    ]

    const own = await applier.applyStatus(SERVICES, first!, { conditions })
    const live = (await client.get(SERVICES, intent.metadata))!
    const same = await new Applier(client).applyStatus(SERVICES, live, live.status as object)
    await client.delete(SERVICES, intent.metadata)
    const gone = await applier.applyStatus(SERVICES, live, { conditions: [] })
    await applier.apply(SERVICES, intent, undefined)
    const other = await applier.applyStatus(SERVICES, live, { conditions })

    expect(own.object?.status).toMatchObject({ conditions })
    expect([same.object, gone.object, other.object]).toEqual([undefined, undefined, undefined])
    expect((await client.get(SERVICES, intent.metadata))?.status).toEqual({ loadBalancer: {} })
  })

  it('prunes by owner and deletes by uid', async () => {
    const { namespace, client, configMap } = await start('prune')
    const owner = (await client.create(CONFIG_MAPS, configMap('owner'))).object
    const [[, intent]] = children(namespace, owner.metadata.uid!) as [readonly [Resource, KubeObject]]
    const applier = new Applier(client)
    const { object } = await applier.apply(CONFIG_MAPS, intent, undefined)

    const other = await client.delete(CONFIG_MAPS, intent.metadata, { uid: '00000000-0000-0000-0000-000000000000' })
    const kept = await applier.prune(CONFIG_MAPS, owner, [object!], new Set([keyOf(object!)]))
    const gone = await applier.prune(CONFIG_MAPS, owner, [object!, owner], new Set())

    expect(other).toBe(false)
    expect(kept).toEqual([])
    expect(gone.map(keyOf)).toEqual([`${namespace}/agent-a`])
  })

  it('is told by the server what is wrong with an intent', async () => {
    const { namespace, client, configMap } = await start('invalid')
    const owner = (await client.create(CONFIG_MAPS, configMap('owner'))).object
    const [, intent] = children(namespace, owner.metadata.uid!)[3]!
    const spec = { ...(intent.spec as object), selector: { matchLabels: { app: 'other' } } }

    const refused = new Applier(client).apply(DEPLOYMENTS, { ...intent, spec }, undefined, { isDryRun: true })

    await expect(refused).rejects.toMatchObject({
      code: 'cluster_refused',
      status: 422,
      causes: [expect.objectContaining({ field: 'spec.template.metadata.labels' })],
    })
  })
})

describe('a reflector on a real API server', () => {
  it('converges after a restart of the server and a compaction of its history', async () => {
    const { namespace, client, configMap } = await start('restart')
    const { reflector, restarts, until } = await reflect({ client, resource: CONFIG_MAPS, namespaces: [namespace] })
    await client.create(CONFIG_MAPS, configMap('kept'))
    const doomed = (await client.create(CONFIG_MAPS, configMap('made-anew'))).object
    await until(() => reflector.store.get(`${namespace}/made-anew`) !== undefined)

    await plane.restart('kube-apiserver')
    await client.delete(CONFIG_MAPS, doomed.metadata)
    const anew = (await client.create(CONFIG_MAPS, configMap('made-anew'))).object
    await until(() => reflector.store.get(`${namespace}/made-anew`)?.metadata.uid === anew.metadata.uid)
    // Its position stays behind what happens elsewhere, and what lies between is forgotten.
    const elsewhere = await plane.newNamespace('elsewhere')
    await client.create(CONFIG_MAPS, { ...configMap('c'), metadata: { namespace: elsewhere, name: 'c' } })
    await plane.kill('kube-apiserver')
    await plane.compact()
    await plane.start('kube-apiserver')
    await client.create(CONFIG_MAPS, configMap('new'))
    await until(() => reflector.store.get(`${namespace}/new`) !== undefined)

    expect(reflector.store.keys()).toContain(`${namespace}/kept`)
    expect(restarts).toContain('expired')
  })

  it('goes on after a server that froze in the middle of a watch', async () => {
    const { namespace, client, configMap } = await start('frozen')
    const limits = { idleMs: 500 }
    const { reflector, restarts, until } = await reflect({ client, resource: CONFIG_MAPS, namespaces: [namespace], limits })

    await client.create(CONFIG_MAPS, configMap('before'))
    await until(() => reflector.store.get(`${namespace}/before`) !== undefined)
    const restartsBefore = restarts.length
    await plane.freeze('kube-apiserver')
    await until(() => restarts.length > restartsBefore)
    await plane.thaw('kube-apiserver')
    await client.create(CONFIG_MAPS, configMap('c'))
    await until(() => reflector.store.get(`${namespace}/c`) !== undefined)

    expect(restarts).toContain('failed')
  })

  it('sees no content where metadata is all that is asked for', async () => {
    const { namespace, client, configMap } = await start('metadata')
    const selection = { isMetadataOnly: true, fieldSelector: 'metadata.name=s' }
    const secret = { ...configMap('s'), kind: 'Secret', stringData: { key: 'secret' } }
    await client.create(SECRETS, secret)

    const { reflector, changes, until } = await reflect({ client, resource: SECRETS, namespaces: [namespace], selection })
    await client.patch(SECRETS, { namespace, name: 's' }, { stringData: { key: 'new' } })
    await until(() => changes.length === 2)

    expect(changes.map(({ type }) => type)).toEqual(['added', 'updated'])
    expect(Object.keys(reflector.store.get(`${namespace}/s`)!).toSorted()).toEqual(['apiVersion', 'kind', 'metadata'])
  })

  it('follows 1000 objects that come and go at once', async () => {
    const { namespace, client, configMap } = await start('thousand')
    const early = await reflect({ client, resource: CONFIG_MAPS, namespaces: [namespace], selection: { labelSelector: 'n' } })
    const lanes = async (work: (i: number) => Promise<unknown>) => {
      let next = 0
      const lane = async () => {
        for (let i = next++; i < 1_000; i = next++) await work(i)
      }
      await Promise.all(Array.from({ length: 16 }, lane))
    }

    await lanes((i) =>
      client.create(CONFIG_MAPS, { ...configMap(`c-${i}`), metadata: { namespace, name: `c-${i}`, labels: { n: `${i}` } } }),
    )
    await early.until(() => early.reflector.store.size === 1_000)
    const late = await reflect({ client, resource: CONFIG_MAPS, namespaces: [namespace], selection: { labelSelector: 'n' } })
    const listed = late.reflector.store.size
    await lanes((i) => client.delete(CONFIG_MAPS, { namespace, name: `c-${i}` }))
    await Promise.all([early, late].map(({ reflector, until }) => until(() => reflector.store.size === 0)))

    expect(listed).toBe(1_000)
    expect(early.changes.filter(({ type }) => type === 'added')).toHaveLength(1_000)
    expect(late.changes.filter(({ type }) => type === 'deleted')).toHaveLength(1_000)
  })
})

describe('a controller on a real API server', () => {
  it('repairs what others do to its children, at the next event and without any write of its own', async () => {
    const { namespace, client, writes, configMap } = await start('controller')
    const selection = { labelSelector: 'role' }
    const primary = new Reflector({
      client,
      resource: CONFIG_MAPS,
      namespaces: [namespace],
      selection: { labelSelector: 'role=owner' },
      log: silentLog(),
    })
    const owned = new Reflector({ client, resource: CONFIG_MAPS, namespaces: [namespace], selection, log: silentLog() })
    const applier = new Applier(client)
    let onSettled = () => {}
    const controller = new Controller({
      name: 'owners',
      primary,
      watches: [{ reflector: owned, keysOf: ownerKeys('ConfigMap') }],
      reconcile: async (_key, owner, signal) => {
        if (!owner) return
        const name = `child-of-${owner.metadata.name}`
        const ownerReferences = [
          { apiVersion: 'v1', kind: 'ConfigMap', name: owner.metadata.name, uid: owner.metadata.uid!, controller: true },
        ]
        const intent = {
          ...configMap(name),
          metadata: { namespace, name, labels: { role: 'child' }, ownerReferences },
          data: { a: '1' },
        }
        const { object } = await applier.apply(CONFIG_MAPS, intent, owned.store.get(`${namespace}/${name}`), { signal })
        if (!object) onSettled()
      },
      log: silentLog(),
    })
    onTestFinished(async () => {
      await controller.stop()
      await Promise.all([primary.stop(), owned.stop()])
    })
    for (const reflector of [primary, owned]) reflector.start()
    await controller.start()
    const path = `/api/v1/namespaces/${namespace}/configmaps/child-of-o`
    const untilChild = (a: string | undefined, what: string) =>
      plane.api.waitFor(path, ([child]) => (child?.data?.a === a && child) || undefined, { what })

    await client.create(CONFIG_MAPS, { ...configMap('o'), metadata: { namespace, name: 'o', labels: { role: 'owner' } } })
    const created = await untilChild('1', 'the child')
    await plane.api.patch(path, { data: { a: '2', theirs: 'x' } })
    const repaired = await untilChild('1', 'the repair')
    await plane.api.delete(path)
    const anew = await plane.api.waitFor(path, ([child]) => child && child.metadata.uid !== created.metadata.uid && child, {
      what: 'a new child',
    })
    const untilSettled = () =>
      new Promise<void>((resolve) => {
        onSettled = resolve
        controller.add(`${namespace}/o`)
      })
    await untilSettled()
    const before = writes()
    await plane.api.patch(path, { data: { theirs: 'y' } })
    await plane.api.waitFor(path, ([child]) => child?.data?.theirs === 'y', { what: 'their field' })
    await untilSettled()

    expect(repaired.data).toEqual({ a: '1', theirs: 'x' })
    expect(anew.data).toEqual({ a: '1' })
    expect(writes()).toBe(before)
  })
})

describe('a lease on a real API server', () => {
  it('goes to the other candidate when its holder falls silent, and at once when it is released', async () => {
    const { namespace, client } = await start('lease')
    const stopping = new AbortController()
    onTestFinished(() => stopping.abort())
    const limits = { durationMs: 2_000, renewDeadlineMs: 1_500, renewEveryMs: 200, requestMs: 1_000 }
    const candidate = async (identity: string, over = client) => {
      const options = { client: over, namespace, name: 'operator', identity, log: silentLog(), limits }
      return await acquireLease(options, stopping.signal)
    }
    const silenced = KubeClient.over(new ClusterAccess(await kubeconfigCluster(plane.address.kubeconfig)))
    const holder = async () => (await client.get(LEASES, { namespace, name: 'operator' }))?.spec as Record<string, unknown>

    const first = await candidate('one', silenced)
    const waiting = candidate('two')
    const afterFirst = await holder()
    await silenced.close()
    const second = await waiting
    const afterSecond = await holder()
    const isFirstHeld = first.isHeld
    const third = candidate('three')
    await second.release()
    const last = await third
    await last.release()

    expect(afterFirst).toMatchObject({ holderIdentity: 'one', leaseTransitions: 0 })
    expect(isFirstHeld).toBe(false)
    expect(afterSecond).toMatchObject({ holderIdentity: 'two', leaseTransitions: 1 })
    expect(await holder()).toMatchObject({ holderIdentity: '', leaseTransitions: 2 })
  })

  it('outlives a restart of the server that is over in time', async () => {
    const { namespace, client } = await start('lease-restart')
    const options = {
      client,
      namespace,
      name: 'operator',
      identity: 'one',
      log: silentLog(),
      limits: { renewDeadlineMs: 60_000 },
    }
    const leadership = await acquireLease(options, new AbortController().signal)

    await plane.restart('kube-apiserver')
    const version = (await client.get(LEASES, options))?.metadata.resourceVersion
    await plane.api.waitFor(
      `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`,
      ([lease]) => lease?.metadata.resourceVersion !== version,
      { what: 'a renewal' },
    )

    expect(leadership.isHeld).toBe(true)
    await leadership.release()
  })
})

describe('Events on a real API server', () => {
  it('are stored, and counted when they repeat', async () => {
    const { namespace, client, configMap } = await start('events')
    const about = (await client.create(CONFIG_MAPS, configMap('c'))).object
    let dropped = 0
    const recorder = new EventRecorder({
      client,
      controller: 'kaos.tools/operator',
      instance: 'operator-1',
      log: silentLog(),
      onDropped: () => dropped++,
    })

    for (let i = 0; i < 3; i++) recorder.tell(about, { type: 'Warning', reason: 'Failed', action: 'Test', note: 'It failed.' })
    await recorder.flush()
    const { items } = await client.list(EVENTS, { namespace })

    expect(dropped).toBe(0)
    expect(items).toMatchObject([
      { reason: 'Failed', note: 'It failed.', series: { count: 3 }, regarding: { kind: 'ConfigMap', name: 'c', namespace } },
    ])
  })
})
