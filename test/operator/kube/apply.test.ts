import { describe, expect, it, onTestFinished } from 'vitest'
import { Applier, INTENT_ANNOTATION, NameTakenError } from '../../../operator/kube/apply.ts'
import type { KubeObject, Resource } from '../../../operator/kube/object.ts'
import { project } from '../../../operator/kube/projection.ts'
import { AGENTS, refuse, reply, ScriptedApiServer } from './api-server.ts'

const DEPLOYMENTS: Resource = { apiVersion: 'apps/v1', kind: 'Deployment', plural: 'deployments', namespaced: true }
const PLACE = { namespace: 'default', name: 'agent-a' }

const deployment = (spec: object, metadata: object = {}): KubeObject => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { ...PLACE, ...metadata },
  spec,
})
const pod = (container: object) => ({ template: { spec: { containers: [{ name: 'agent', ...container }] } } })

async function start() {
  const server = await ScriptedApiServer.start()
  onTestFinished(() => server[Symbol.asyncDispose]())
  const client = server.client()
  const writes = () => server.asked.filter(({ method }) => method !== 'GET').length
  const live = async () => await client.get(DEPLOYMENTS, PLACE)
  return { server, client, applier: new Applier(client), writes, live }
}

describe('apply', () => {
  it('creates once, and writes nothing the second time', async () => {
    const { applier, writes, live } = await start()

    const first = await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), undefined)
    const second = await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), await live())

    expect([first.isCreated, first.object?.spec]).toEqual([true, { replicas: 1 }])
    expect([second.isCreated, second.object]).toEqual([false, undefined])
    expect(writes()).toBe(1)
  })

  it('writes nothing for an object that an operator before it has applied', async () => {
    const { client, applier, writes, live } = await start()
    await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), undefined)

    await new Applier(client).apply(DEPLOYMENTS, deployment({ replicas: 1 }), await live())

    expect(writes()).toBe(1)
  })

  it('undoes what somebody else changed of ours, and leaves what is theirs', async () => {
    const { client, applier, writes, live } = await start()
    await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), undefined)

    await client.patch(DEPLOYMENTS, PLACE, { spec: { paused: true } })
    await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), await live())
    const afterTheirs = writes()
    await client.patch(DEPLOYMENTS, PLACE, { spec: { replicas: 9 } })
    await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), await live())

    expect(afterTheirs).toBe(2)
    expect((await live())?.spec).toEqual({ replicas: 1, paused: true })
  })

  it('writes when a field is no longer wanted, which no comparison of values shows', async () => {
    const { applier, writes, live } = await start()
    await applier.apply(DEPLOYMENTS, deployment({ replicas: 1, paused: true }), undefined)

    await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), await live())

    expect(writes()).toBe(2)
  })

  it('writes when its annotation was taken away', async () => {
    const { client, applier, live } = await start()
    await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), undefined)
    await client.patch(DEPLOYMENTS, PLACE, { metadata: { annotations: { [INTENT_ANNOTATION]: '' } } })

    const { object } = await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), await live())

    expect(object?.metadata.annotations?.[INTENT_ANNOTATION]).toMatch(/^[0-9a-f]{32}$/)
  })

  it('writes once where the server stores a value in another form', async () => {
    const { server, applier, writes } = await start()
    const intent = deployment(pod({ resources: { limits: { cpu: '1000m' } } }))
    server.once(
      ({ method }) => method === 'PATCH',
      (response, { body }) => {
        const { metadata } = body as KubeObject
        reply(
          response,
          201,
          deployment(pod({ resources: { limits: { cpu: '1' } } }), { ...metadata, uid: 'u', resourceVersion: '7' }),
        )
      },
    )

    const { object } = await applier.apply(DEPLOYMENTS, intent, undefined)
    const same = await applier.apply(DEPLOYMENTS, intent, object)
    const changed = deployment(pod({ resources: { limits: { cpu: '2' } } }), { ...object!.metadata, resourceVersion: '8' })
    const repaired = await applier.apply(DEPLOYMENTS, intent, changed)

    expect(same.object).toBeUndefined()
    expect(repaired.object).toBeDefined()
    expect(writes()).toBe(2)
  })

  it('does not write again what has not come back yet', async () => {
    const { applier, writes, live } = await start()
    await applier.apply(DEPLOYMENTS, deployment({ replicas: 1 }), undefined)
    const before = await live()

    await applier.apply(DEPLOYMENTS, deployment({ replicas: 2 }), before)
    await applier.apply(DEPLOYMENTS, deployment({ replicas: 2 }), before)

    expect(writes()).toBe(2)
  })

  const SERVICES: Resource = { apiVersion: 'v1', kind: 'Service', plural: 'services', namespaced: true }
  const controlledBy = (uid: string, name = 'a') => ({
    ownerReferences: [{ apiVersion: AGENTS.apiVersion, kind: 'Agent', name, uid, controller: true }],
  })
  const service = (metadata: object): KubeObject => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { ...PLACE, ...metadata },
    spec: { selector: { agent: 'a' } },
  })

  it.each([
    ['of nobody', {}],
    ['of another owner', controlledBy('b', 'b')],
  ])('changes nothing in an object %s that has the name', async (_whose, metadata) => {
    const { server, applier, writes } = await start()
    server.put(SERVICES, { metadata: { ...PLACE, ...metadata }, spec: { selector: { theirs: 'x' } } })

    const applied = applier.apply(SERVICES, service(controlledBy('u')), undefined)

    await expect(applied).rejects.toBeInstanceOf(NameTakenError)
    expect(writes()).toBe(0)
  })

  it('removes nothing of an owner of the same kind and name in another API group', async () => {
    const { server, client, applier } = await start()
    const [owner] = controlledBy('theirs').ownerReferences
    const theirs = { ...PLACE, ownerReferences: [{ ...owner!, apiVersion: 'other.example/v1alpha1' }] }
    const found = server.put(SERVICES, { metadata: theirs, spec: {} })

    for (const seen of [found, undefined]) {
      await expect(applier.apply(SERVICES, service(controlledBy('u')), seen)).rejects.toBeInstanceOf(NameTakenError)
    }

    expect(await client.get(SERVICES, PLACE)).toMatchObject({ metadata: { uid: found.metadata.uid } })
  })

  it('removes what an owner of the same name has left, to begin anew', async () => {
    const { server, client, applier } = await start()
    const intent = service(controlledBy('u'))

    for (const isSeen of [true, false]) {
      const left = server.put(SERVICES, service(controlledBy('before')))
      const applied = applier.apply(SERVICES, intent, isSeen ? left : undefined)
      await expect(applied).rejects.toMatchObject({ code: 'cluster_busy' })
      expect(await client.get(SERVICES, PLACE)).toBeUndefined()
    }
    const { isCreated } = await applier.apply(SERVICES, intent, undefined)

    expect(isCreated).toBe(true)
  })

  it('takes what its owner controls, whoever has made it, by force, and nothing else', async () => {
    const { server, applier } = await start()
    const forced = () => server.asked.filter(({ method }) => method === 'PATCH').map(({ query }) => query.get('force'))

    await applier.apply(SERVICES, service(controlledBy('u')), undefined)
    server.put(SERVICES, service({ ...controlledBy('u'), name: 'theirs' }))
    await applier.apply(SERVICES, service({ ...controlledBy('u'), name: 'theirs' }), undefined)

    expect(forced()).toEqual([null, 'true'])
  })

  it('takes a Deployment by force only after a conflict, when it is of its owner', async () => {
    const { server, applier } = await start()
    const conflict = () =>
      server.once(
        ({ method }) => method === 'PATCH',
        (response) => refuse(response, 409, 'Conflict'),
      )
    const intent = deployment({ replicas: 1 }, controlledBy('u'))

    conflict()
    await expect(applier.apply(DEPLOYMENTS, intent, undefined)).rejects.toMatchObject({ status: 409 })
    server.put(DEPLOYMENTS, { metadata: PLACE, spec: { replicas: 7 } })
    conflict()
    await expect(applier.apply(DEPLOYMENTS, intent, undefined)).rejects.toBeInstanceOf(NameTakenError)
    server.put(DEPLOYMENTS, { metadata: { ...PLACE, ...controlledBy('u') }, spec: { replicas: 7 } })
    conflict()
    const { object } = await applier.apply(DEPLOYMENTS, intent, undefined)

    expect(object?.spec).toEqual({ replicas: 1 })
  })

  it('refuses an intent without a name', async () => {
    const { applier } = await start()

    const applied = applier.apply(DEPLOYMENTS, { ...deployment({}), metadata: { name: '' } }, undefined)

    await expect(applied).rejects.toThrow('field "metadata.name" is missing')
  })

  it('writes a status once, and not when it is as it should be', async () => {
    const { server, client, applier, writes } = await start()
    const agent = server.put(AGENTS, { metadata: PLACE })

    await applier.applyStatus(AGENTS, agent, { phase: 'Ready' })
    await applier.applyStatus(AGENTS, agent, { phase: 'Ready' })
    const now = (await client.get(AGENTS, PLACE))!
    await new Applier(client).applyStatus(AGENTS, now, { phase: 'Ready' })

    expect(writes()).toBe(1)
    expect(now.status).toEqual({ phase: 'Ready' })
    expect(server.asked[0]!.path).toMatch(/\/agents\/agent-a\/status$/)
    expect(server.asked[0]!.query.get('fieldManager')).toBe('kaos-operator-status')
  })

  it('leaves the status of an object that is gone, or was made anew, alone', async () => {
    const { server, client, applier } = await start()
    const agent = server.put(AGENTS, { metadata: PLACE })

    server.put(AGENTS, { metadata: { ...PLACE, uid: 'another' } })
    const other = await applier.applyStatus(AGENTS, agent, { phase: 'Ready' })
    const untouched = await client.get(AGENTS, PLACE)
    server.remove(AGENTS, { metadata: PLACE })
    const gone = await applier.applyStatus(AGENTS, agent, { phase: 'Ready' })

    expect([other.object, gone.object]).toEqual([undefined, undefined])
    expect(untouched).not.toHaveProperty('status')
  })

  it('prunes what the owner controls and does not want, and nothing else', async () => {
    const { server, applier } = await start()
    const owner = server.put(AGENTS, { metadata: { namespace: 'default', name: 'a' } })
    const child = (name: string, metadata: object) =>
      server.put(DEPLOYMENTS, { metadata: { namespace: 'default', name, ...metadata } })
    const controlled = (uid: string | undefined, controller = true) => ({
      ownerReferences: [{ apiVersion: AGENTS.apiVersion, kind: 'Agent', name: 'a', uid: uid!, controller }],
    })
    const found = [
      child('wanted', controlled(owner.metadata.uid)),
      child('unwanted', controlled(owner.metadata.uid)),
      child('of-another', controlled('another')),
      child('not-controlled', controlled(owner.metadata.uid, false)),
      child('of-nobody', {}),
      child('going', { ...controlled(owner.metadata.uid), deletionTimestamp: '2026-11-23T00:00:00Z' }),
    ]

    const deleted = await applier.prune(DEPLOYMENTS, owner, found, new Set(['default/wanted']))

    expect(deleted.map(({ metadata }) => metadata.name)).toEqual(['unwanted'])
    expect(server.asked).toHaveLength(1)
    expect(server.asked[0]!.body).toMatchObject({ preconditions: { uid: found[1]!.metadata.uid } })
  })
})

describe('a projection', () => {
  it.each([
    ['a default that the server added', { a: 1, b: { c: 2 } }, { b: { c: 2 } }, { b: { c: 2 } }],
    [
      'a field that somebody else added',
      { labels: { ours: 'x', theirs: 'y' } },
      { labels: { ours: 'x' } },
      { labels: { ours: 'x' } },
    ],
    ['a value that somebody else changed', { a: 2 }, { a: 1 }, { a: 2 }],
    ['a field that is not there', {}, { a: 1 }, {}],
    [
      'an element of somebody else in a list that is merged',
      { containers: [{ name: 'theirs' }, { name: 'ours', image: 'i', tty: false }] },
      { containers: [{ name: 'ours', image: 'i' }] },
      { containers: [{ name: 'ours', image: 'i' }] },
    ],
    [
      'a port whose protocol was left out',
      {
        ports: [
          { containerPort: 1, protocol: 'UDP' },
          { containerPort: 1, protocol: 'TCP', name: 'x' },
        ],
      },
      { ports: [{ containerPort: 1, name: 'x' }] },
      { ports: [{ containerPort: 1, name: 'x' }] },
    ],
    ['an element more in a list that is one value', { args: ['a', 'b'] }, { args: ['a'] }, { args: ['a', 'b'] }],
    [
      'a field more in an element of a list that is one value',
      { ingress: [{ from: [], ports: [{ port: 1 }, { port: 2 }] }] },
      { ingress: [{ from: [], ports: [{ port: 1 }] }] },
      { ingress: [{ from: [], ports: [{ port: 1 }, { port: 2 }] }] },
    ],
    ['an empty list that the server does not store', {}, { env: [], labels: {}, x: null }, { env: [], labels: {}, x: null }],
    ['an empty map that says something', { emptyDir: {} }, { emptyDir: {} }, { emptyDir: {} }],
    ['another type than was meant', { a: 'text' }, { a: { b: 1 } }, { a: 'text' }],
  ])('shows %s', (_what, live, intent, expected) => {
    expect(project(live, intent)).toEqual(expected)
  })
})
