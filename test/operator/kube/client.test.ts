import { describe, expect, it, onTestFinished } from 'vitest'
import { ACCESS_LIMITS, ClusterAccess } from '../../../operator/kube/access.ts'
import { ApiError } from '../../../operator/kube/api-error.ts'
import { KubeClient } from '../../../operator/kube/client.ts'
import type { Resource } from '../../../operator/kube/object.ts'
import type { Answered } from '../../../operator/kube/transport.ts'
import { AGENTS, refuse, reply, ScriptedApiServer } from './api-server.ts'

const SECRETS: Resource = { apiVersion: 'v1', kind: 'Secret', plural: 'secrets', namespaced: true }
const anything = () => true
const agent = (name: string) => ({ metadata: { namespace: 'default', name } })
const whole = (name: string) => ({ apiVersion: AGENTS.apiVersion, kind: AGENTS.kind, ...agent(name) })

async function startServer() {
  const server = await ScriptedApiServer.start()
  onTestFinished(() => server[Symbol.asyncDispose]())
  return server
}

describe('a client of the API server', () => {
  it('reads an object, and says that there is none', async () => {
    const server = await startServer()
    server.put(AGENTS, { ...agent('a'), spec: { newerThanUs: 1 } })
    const client = server.client()

    const found = await client.get(AGENTS, { namespace: 'default', name: 'a' })
    const missing = await client.get(AGENTS, { namespace: 'default', name: 'b' })

    expect(found).toMatchObject({ kind: 'Agent', spec: { newerThanUs: 1 } })
    expect(missing).toBeUndefined()
    expect(server.asked[0]!.headers.authorization).toBe('Bearer t')
  })

  it('reads a list page by page and gives each item its kind', async () => {
    const server = await startServer()
    server.pageObjects = 2
    for (const name of ['a', 'b', 'c', 'd', 'e']) server.put(AGENTS, agent(name))

    const { items, resourceVersion } = await server.client().list(AGENTS, { namespace: 'default', labelSelector: 'x=y' })

    expect(items.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual(
      ['a', 'b', 'c', 'd', 'e'].map((name) => `Agent ${name}`),
    )
    expect(resourceVersion).toBe('105')
    expect(server.asked.map(({ query }) => query.get('continue'))).toEqual([null, '2', '4'])
    expect(server.asked.every(({ query }) => query.get('labelSelector') === 'x=y' && query.get('limit') === '50')).toBe(true)
  })

  it('reads a list from its beginning when its first pages have expired', async () => {
    const server = await startServer()
    server.pageObjects = 1
    for (const name of ['a', 'b']) server.put(AGENTS, agent(name))
    server.once(
      ({ query }) => query.has('continue'),
      (response) => refuse(response, 410, 'Expired'),
    )

    const { items } = await server.client().list(AGENTS)

    expect(items).toHaveLength(2)
    expect(server.asked).toHaveLength(4)
  })

  it('asks for metadata alone, without a way back to the whole object', async () => {
    const server = await startServer()
    server.put(SECRETS, agent('s'))

    await server.client().list(SECRETS, { isMetadataOnly: true })

    expect(server.asked[0]!.headers.accept).toBe('application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1')
  })

  it('applies raw JSON under one manager and returns what the server warns of', async () => {
    const server = await startServer()
    server.once(anything, (response) =>
      reply(response, 201, whole('a'), { warning: '299 - "would violate \\"restricted\\"", 299 - "and more"' }),
    )

    const { object, warnings } = await server.client().apply(AGENTS, whole('a'), { fieldManager: 'm', isForced: true })

    expect(object.metadata.name).toBe('a')
    expect(warnings).toEqual(['would violate "restricted"', 'and more'])
    expect(server.asked[0]).toMatchObject({ method: 'PATCH', body: whole('a') })
    expect(String(server.asked[0]!.query)).toBe('fieldManager=m&force=true')
    expect(server.asked[0]!.headers['content-type']).toBe('application/apply-patch+yaml')
  })

  it('tells why the server refused, with each field', async () => {
    const server = await startServer()
    const causes = [{ field: 'spec.model', message: 'Required value', reason: 'FieldValueRequired' }]
    server.once(anything, (response) =>
      reply(response, 422, { code: 422, reason: 'Invalid', message: 'Agent "a" is invalid', details: { causes } }),
    )

    const refused = server.client().apply(AGENTS, whole('a'), { fieldManager: 'm' })

    const error = (await refused.catch((thrown: unknown) => thrown)) as ApiError
    expect(error).toBeInstanceOf(ApiError)
    expect(error).toMatchObject({ code: 'cluster_refused', status: 422, reason: 'Invalid', causes, family: 'terminal' })
    expect(error.message).toBe('could not apply Agent "default/a": Agent "a" is invalid')
  })

  it.each([
    [401, 'cluster_denied'],
    [403, 'cluster_denied'],
    [409, 'cluster_busy'],
    [500, 'cluster_busy'],
  ])('calls the answer %i %s', async (code, expected) => {
    const server = await startServer()
    for (let i = 0; i < 2; i++) server.once(anything, (response) => refuse(response, code, 'Reason'))

    const refused = server.client().create(AGENTS, whole('a'))

    await expect(refused).rejects.toMatchObject({ code: expected, status: code })
  })

  it('asks again when the server says too many requests, and gives up after five', async () => {
    const server = await startServer()
    const busy = (times: number) => {
      for (let i = 0; i < times; i++) server.once(anything, (response) => reply(response, 429, {}, { 'retry-after': '0' }))
    }

    busy(4)
    await server.client().create(AGENTS, whole('a'))
    busy(5)
    const refused = server.client().create(AGENTS, whole('b'))

    await expect(refused).rejects.toMatchObject({ status: 429, code: 'cluster_busy', retryAfterMs: 0 })
    expect(server.asked).toHaveLength(10)
  })

  it('does not wait for longer than its deadline, whatever the server asks for', async () => {
    const server = await startServer()
    server.once(anything, (response) => reply(response, 503, {}, { 'retry-after': '3600' }))

    const refused = server.client().create(AGENTS, whole('a'))

    await expect(refused).rejects.toMatchObject({ status: 503, retryAfterMs: 60_000 })
    expect(server.asked).toHaveLength(1)
  })

  it('gives up in time a request that waits for a connection, and does not send it later', async () => {
    const server = await startServer()
    const client = server.client()
    const held: (() => void)[] = []
    const places = Array.from({ length: ACCESS_LIMITS.connectionsMax }, (_, i) => ({ namespace: 'default', name: `held-${i}` }))
    for (const _ of places) server.once(anything, (response) => held.push(() => refuse(response, 404, 'NotFound')))
    const holding = places.map((place) => client.get(AGENTS, place))
    await server.whenAsked(anything, places.length)

    const late = client.create(AGENTS, whole('late'), { deadlineMs: 50 })
    await expect(late).rejects.toMatchObject({
      code: 'cluster_unreachable',
      message: 'could not create Agent "default/late": no answer within 50 ms',
    })
    for (const answer of held) answer()
    await Promise.all(holding)
    await client.get(AGENTS, { namespace: 'default', name: 'after' })

    expect(server.asked.map(({ method }) => method)).not.toContain('POST')
  })

  it('gives up a request in time also where its credentials do not come', async () => {
    const access = new ClusterAccess({ source: 'the test', namespace: 'default', load: () => new Promise(() => {}) })
    onTestFinished(() => access.close())

    const late = KubeClient.over(access).get(AGENTS, { namespace: 'default', name: 'a' }, { deadlineMs: 20 })

    await expect(late).rejects.toMatchObject({ code: 'cluster_unreachable' })
  })

  it('answers requests however many watches stand', async () => {
    const server = await startServer()
    const client = server.client()
    const ending = new AbortController()
    const options = { resourceVersion: '1', seconds: 300, signal: ending.signal }
    const watches = ACCESS_LIMITS.connectionsMax + 10

    for (let i = 0; i < watches; i++) await client.openWatch(AGENTS, { namespace: `team-${i}` }, options)
    const found = await client.get(AGENTS, { namespace: 'default', name: 'a' })
    const standing = server.watches.size
    ending.abort()

    expect(found).toBeUndefined()
    expect(standing).toBe(watches)
  })

  it('gives up a request that is never answered', async () => {
    const server = await startServer()
    server.once(anything, () => {})

    const late = server.client().get(AGENTS, { namespace: 'default', name: 'a' }, { deadlineMs: 20 })

    await expect(late).rejects.toMatchObject({
      code: 'cluster_unreachable',
      message: 'could not read Agent "default/a": no answer within 20 ms',
    })
  })

  it('gives up an answer that never ends', async () => {
    const server = await startServer()
    server.once(anything, (response) => response.writeHead(200).write('{"kind":'))

    const late = server.client().get(AGENTS, { namespace: 'default', name: 'a' }, { deadlineMs: 50 })

    await expect(late).rejects.toMatchObject({ code: 'cluster_unreachable' })
  })

  it('stops when its caller does', async () => {
    const server = await startServer()
    const stopping = new AbortController()
    server.once(anything, () => stopping.abort())

    const stopped = server.client().get(AGENTS, { namespace: 'default', name: 'a' }, { signal: stopping.signal })

    await expect(stopped).rejects.toMatchObject({ code: 'aborted', family: 'canceled' })
  })

  it('sends a read again whose connection broke, and a write not', async () => {
    const server = await startServer()
    server.put(AGENTS, agent('a'))
    const client = server.client()
    for (const verb of ['GET', 'POST']) {
      server.once(
        ({ method }) => method === verb,
        (response) => response.destroy(),
      )
    }

    const read = await client.get(AGENTS, { namespace: 'default', name: 'a' })
    const written = client.create(AGENTS, whole('b'))

    expect(read?.metadata.name).toBe('a')
    await expect(written).rejects.toMatchObject({ code: 'cluster_unreachable' })
    expect(server.asked.map(({ method }) => method)).toEqual(['GET', 'GET', 'POST'])
  })

  it('reads its credentials again when the server does not know them', async () => {
    const server = await startServer()
    server.put(AGENTS, agent('a'))
    server.once(anything, (response) => refuse(response, 401, 'Unauthorized'))

    const found = await server.client().get(AGENTS, { namespace: 'default', name: 'a' })

    expect(found).toBeDefined()
  })

  it('deletes the object that was meant, and no other of its name', async () => {
    const server = await startServer()
    server.put(AGENTS, agent('a'))
    const client = server.client()

    const deleted = await client.delete(AGENTS, { namespace: 'default', name: 'a' }, { uid: 'u' })
    const gone = await client.delete(AGENTS, { namespace: 'default', name: 'a' })
    server.once(anything, (response) => refuse(response, 409, 'Conflict', 'the UID in the precondition (u) does not match'))
    const other = await client.delete(AGENTS, { namespace: 'default', name: 'a' }, { uid: 'u' })

    expect([deleted, gone, other]).toEqual([true, false, false])
    expect(server.asked[0]!.body).toMatchObject({ preconditions: { uid: 'u' }, propagationPolicy: 'Background' })
  })

  it('asks its guard before each write and never before a read', async () => {
    const server = await startServer()
    const answers: Answered[] = []
    const lost = new Error('lost')
    const client = server.client({ onAnswer: (answered) => answers.push(answered) }).withGuard(() => {
      throw lost
    })

    await client.list(AGENTS)
    const writes = [
      client.create(AGENTS, whole('a')),
      client.apply(AGENTS, whole('a'), { fieldManager: 'm' }),
      client.patch(AGENTS, { namespace: 'default', name: 'a' }, {}),
      client.delete(AGENTS, { namespace: 'default', name: 'a' }),
    ]

    for (const write of writes) await expect(write).rejects.toBe(lost)
    expect(server.asked).toHaveLength(1)
    expect(answers).toMatchObject([{ verb: 'list', kind: 'Agent', status: 200 }])
  })

  it('asks its guard again when a write goes out, after it has waited for a connection', async () => {
    const server = await startServer()
    const lost = new Error('lost')
    let asked = 0
    const client = server.client().withGuard(() => {
      if (asked++ > 0) throw lost
    })

    const write = client.create(AGENTS, whole('a'))

    await expect(write).rejects.toMatchObject({ cause: lost })
    expect(server.asked).toEqual([])
  })

  it('understands an answer in plain text', async () => {
    const server = await startServer()
    server.once(anything, (response) => response.writeHead(502).end('bad gateway\n'))

    const refused = server.client().create(AGENTS, whole('a'))

    await expect(refused).rejects.toMatchObject({ status: 502, message: 'could not create Agent "default/a": bad gateway' })
  })
})
