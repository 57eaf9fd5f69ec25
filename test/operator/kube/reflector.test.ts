import { pino } from 'pino'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type KubeObject, keyOf } from '../../../operator/kube/object.ts'
import { Reflector, type ReflectorOptions, type Restart } from '../../../operator/kube/reflector.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { AGENTS, type Asked, refuse, reply, ScriptedApiServer } from './api-server.ts'

const LIMITS = { backOffMs: 1, backOffMaxMs: 5, watchShortMs: 0 }
const agent = (name: string, metadata: Partial<KubeObject['metadata']> = {}, namespace = 'default') => ({
  metadata: { namespace, name, ...metadata },
})
const isList = ({ isWatch, method }: Asked) => method === 'GET' && !isWatch
const isWatch = (asked: Asked) => asked.isWatch

/** A reflector, what it told, and a way to wait for it. */
async function start(options: Partial<ReflectorOptions> = {}, prepare?: (server: ScriptedApiServer) => void) {
  const server = await ScriptedApiServer.start()
  prepare?.(server)
  const told: string[] = []
  const restarts: Restart[] = []
  const waiting = new Set<() => void>()
  const wake = () => {
    for (const resolve of waiting) resolve()
    waiting.clear()
  }
  const reflector = new Reflector({
    client: server.client(),
    resource: AGENTS,
    log: silentLog(),
    onRestart: (why) => {
      restarts.push(why)
      wake()
    },
    ...options,
    limits: { ...LIMITS, ...options.limits },
  })
  reflector.subscribe(({ type, object }) => {
    told.push(`${type} ${object.metadata.name}`)
    wake()
  })
  onTestFinished(async () => {
    await reflector.stop()
    await server[Symbol.asyncDispose]()
  })
  const until = async (is: () => boolean) => {
    while (!is()) await new Promise<void>((resolve) => waiting.add(resolve))
  }
  reflector.start()
  return { server, reflector, told, restarts, until }
}

/** As `start`, and the first watch stands. */
async function startWatching(options: Partial<ReflectorOptions> = {}, prepare?: (server: ScriptedApiServer) => void) {
  const started = await start(options, prepare)
  await started.reflector.whenSynced(5_000)
  await started.server.whenWatched(options.namespaces?.length)
  return { ...started, watch: [...started.server.watches][0]! }
}

describe('a reflector', () => {
  it('lists, then follows every change', async () => {
    const { server, reflector, told, until } = await startWatching({}, (server) => server.put(AGENTS, agent('a')))

    server.put(AGENTS, agent('b'))
    server.put(AGENTS, agent('a', { labels: { x: 'y' } }))
    server.remove(AGENTS, agent('b'))
    await until(() => told.length === 4)

    expect(told).toEqual(['added a', 'added b', 'updated a', 'deleted b'])
    expect(reflector.store.list().map(keyOf)).toEqual(['default/a'])
    expect(server.asked.find(isWatch)!.query.get('allowWatchBookmarks')).toBe('true')
    expect(Number(server.asked.find(isWatch)!.query.get('timeoutSeconds'))).toBeGreaterThanOrEqual(240)
  })

  it('resumes where it was after a clean end, without a list', async () => {
    const { server, told, restarts, watch, until } = await startWatching()
    server.put(AGENTS, agent('a'))
    await until(() => told.length === 1)

    watch.response.end()
    server.put(AGENTS, agent('b'))
    await until(() => told.length === 2)

    expect(told).toEqual(['added a', 'added b'])
    expect(restarts).toEqual(['ended'])
    expect(server.asked.filter(isList)).toHaveLength(1)
    expect(server.asked.filter(isWatch).map(({ query }) => query.get('resourceVersion'))).toEqual(['100', '101'])
  })

  it('goes on from a bookmark', async () => {
    const { server, watch } = await startWatching()

    watch.response.write(
      `${JSON.stringify({ type: 'BOOKMARK', object: { kind: 'Agent', metadata: { resourceVersion: '170' } } })}\n`,
    )
    watch.response.end()
    const second = await server.whenAsked(isWatch, 2)

    expect(second.query.get('resourceVersion')).toBe('170')
  })

  it('loses nothing when a line is cut off in the middle', async () => {
    const { server, told, watch, until } = await startWatching()

    watch.response.write('{"type":"ADDED","object":{"metadata":{"na')
    watch.response.destroy()
    server.put(AGENTS, agent('a'))
    await until(() => told.length === 1)

    expect(told).toEqual(['added a'])
    expect(server.asked.filter(isList)).toHaveLength(1)
  })

  it('loses nothing when a body ends cleanly in the middle of a line', async () => {
    const { server, told, watch, until } = await startWatching()

    watch.response.end('{"type":"ADDED","object":{"metadata":{"na')
    server.put(AGENTS, agent('a'))
    await until(() => told.length === 1)

    expect(told).toEqual(['added a'])
  })

  it('begins a watch again that says nothing any more', async () => {
    const { server, restarts, until } = await startWatching({ limits: { idleMs: 30 } })

    await until(() => restarts.length > 0)
    const second = await server.whenAsked(isWatch, 2)

    expect(restarts[0]).toBe('failed')
    expect(second.query.get('resourceVersion')).toBe('100')
  })

  it('lists again when its version has expired, and tells what it missed', async () => {
    const { server, reflector, told, restarts, watch, until } = await startWatching({}, (server) => {
      for (const name of ['gone', 'kept', 'made-anew']) server.put(AGENTS, agent(name))
    })
    await until(() => told.length === 3)
    told.length = 0
    server.once(isWatch, (response) => refuse(response, 500, 'InternalError'))

    // What happens while nobody watches, and is forgotten before the next watch.
    server.watches.clear()
    server.remove(AGENTS, agent('gone'))
    server.put(AGENTS, agent('made-anew', { uid: 'another' }))
    server.put(AGENTS, agent('new'))
    server.compact()
    watch.response.end()
    await until(() => reflector.store.get('default/new') !== undefined)

    expect(told).toEqual(['deleted gone', 'deleted made-anew', 'added made-anew', 'added new'])
    expect(restarts).toEqual(['ended', 'failed', 'expired'])
    expect(server.asked.filter(isList)).toHaveLength(2)
  })

  it('lists again when the watch is refused with 410 before it begins', async () => {
    const { server, watch } = await startWatching()
    server.once(isWatch, (response) => refuse(response, 410, 'Gone'))

    watch.response.end()
    await server.whenAsked(isList, 2)

    expect(server.asked.filter(isList)).toHaveLength(2)
  })

  it('lists again after three watches that failed one after the other', async () => {
    const { server, watch } = await startWatching()
    for (let i = 0; i < 3; i++) server.once(isWatch, (response) => refuse(response, 504, 'Timeout', 'Too large resource version'))

    watch.response.end()
    await server.whenAsked(isList, 2)
    await server.whenAsked(isWatch, 5)

    expect(server.asked.map((asked) => (asked.isWatch ? 'watch' : 'list'))).toEqual([
      'list',
      'watch',
      'watch',
      'watch',
      'watch',
      'list',
      'watch',
    ])
  })

  it('waits as long as a busy server asks for', async () => {
    const { server, restarts, watch, until } = await startWatching({ limits: { retryAfterMaxMs: 10 } })
    server.once(isWatch, (response) => reply(response, 429, { code: 429 }, { 'retry-after': '1000' }))

    watch.response.end()
    await until(() => restarts.includes('failed'))
    await server.whenAsked(isWatch, 3)

    expect(restarts).toEqual(['ended', 'failed'])
  })

  it('survives a restart of the API server', async () => {
    const { server, told, until } = await startWatching({}, (server) => server.put(AGENTS, agent('a')))

    await server.down()
    server.remove(AGENTS, agent('a'))
    server.put(AGENTS, agent('b'))
    await server.listen()
    await until(() => told.length === 3)

    expect(told).toEqual(['added a', 'deleted a', 'added b'])
  })

  it('counts no failures in a row where a proxy cuts each watch that is quiet', async () => {
    const limits = { watchSteadyMs: 0, watchFailuresMax: 2 }
    const { server, restarts, watch } = await startWatching({ limits })

    watch.response.destroy()
    for (let times = 2; times <= 6; times++) {
      await server.whenAsked(isWatch, times)
      await server.whenWatched()
      for (const { response } of server.watches) response.destroy()
    }

    expect(restarts.every((why) => why === 'failed')).toBe(true)
    expect(server.asked.filter(isList)).toHaveLength(1)
  })

  it('does not open a watch in a circle that ends at once', async () => {
    const { restarts, until } = await startWatching({ limits: { watchShortMs: 60_000 } }, (server) => {
      server.once(isWatch, (response) => response.writeHead(200).end())
    })

    await until(() => restarts.length === 1)

    expect(restarts).toEqual(['failed'])
  })

  it('is synced only after its first list', async () => {
    const refusals = (server: ScriptedApiServer) => {
      for (let i = 0; i < 3; i++) server.once(isList, (response) => refuse(response, 403, 'Forbidden', 'agents is forbidden'))
    }
    const { server, reflector } = await start({ limits: { backOffMs: 1_000_000, backOffMaxMs: 1_000_000 } }, refusals)
    await server.whenAsked(isList)

    const late = reflector.whenSynced(50)

    await expect(late).rejects.toMatchObject({
      code: 'cluster_unreachable',
      message: 'could not read agents within 50 ms: could not list agents: agents is forbidden',
    })
    expect(reflector.isSynced).toBe(false)
  })

  it('keeps a handler that throws from the others, and from itself', async () => {
    const { server, reflector, told, until } = await startWatching()
    reflector.subscribe(() => {
      throw new Error('a defect')
    })

    server.put(AGENTS, agent('a'))
    server.put(AGENTS, agent('b'))
    await until(() => told.length === 2)

    expect(told).toEqual(['added a', 'added b'])
  })

  it('tells a late subscriber what is there', async () => {
    const { reflector } = await startWatching({}, (server) => server.put(AGENTS, agent('a')))
    const late: string[] = []

    reflector.subscribe(({ type, object }) => late.push(`${type} ${object.metadata.name}`))

    expect(late).toEqual(['added a'])
  })

  it('keeps neither managed fields nor what kubectl leaves in an annotation', async () => {
    const { reflector } = await startWatching({}, (server) => {
      const annotations = { 'kubectl.kubernetes.io/last-applied-configuration': '{}', kept: 'yes' }
      server.put(AGENTS, agent('a', { annotations, managedFields: [] }))
    })

    const { metadata } = reflector.store.get('default/a')!

    expect(metadata.annotations).toEqual({ kept: 'yes' })
    expect(metadata).not.toHaveProperty('managedFields')
  })

  describe('that may be denied a namespace', () => {
    const of = (namespace: string) => `/apis/${AGENTS.apiVersion}/namespaces/${namespace}/agents`
    const forbid = (server: ScriptedApiServer, namespace: string, times: number) => {
      for (let i = 0; i < times; i++) {
        server.once(
          ({ path }) => path === of(namespace),
          (response) => refuse(response, 403, 'Forbidden', 'you may not'),
        )
      }
    }
    const namespaces = ['one', 'two']

    it('does not wait for it, says once that it may not, and reads it when it may', async () => {
      const lines: string[] = []
      const log = pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line).msg) })
      const { server, reflector, told, until } = await start({ namespaces, canBeDenied: true, log }, (server) => {
        for (const namespace of namespaces) server.put(AGENTS, agent(`of-${namespace}`, {}, namespace))
        forbid(server, 'two', 5)
      })

      await reflector.whenSynced(5_000)
      const deniedAtFirst = [...reflector.denied]
      await until(() => told.length === 2)
      await server.whenWatched(2)
      server.put(AGENTS, agent('late', {}, 'two'))
      await until(() => told.includes('added late'))

      expect(deniedAtFirst).toEqual(['two'])
      expect(told).toEqual(['added of-one', 'added of-two', 'added late'])
      expect([...reflector.denied]).toEqual([])
      expect(lines).toEqual(['may not read a namespace: nothing is done there until it may', 'may read a namespace'])
    })

    it('keeps what it has read of it before', async () => {
      const { server, reflector, restarts, until } = await startWatching({ namespaces, canBeDenied: true }, (server) =>
        server.put(AGENTS, agent('a', {}, 'two')),
      )
      const watch = [...server.watches].find(({ path }) => path === of('two'))!

      forbid(server, 'two', 20)
      watch.response.end()
      await until(() => restarts.filter((why) => why === 'failed').length === 10)

      expect([...reflector.denied]).toEqual(['two'])
      expect(reflector.store.keys()).toEqual(['two/a'])
    })

    it.each([
      ['where it has to read all', { namespaces }],
      ['where it is the whole cluster', { canBeDenied: true }],
    ])('waits for it %s', async (_where, options) => {
      const { reflector, restarts, until } = await start(options, (server) => {
        for (let i = 0; i < 100; i++) server.once(isList, (response) => refuse(response, 403, 'Forbidden', 'you may not'))
      })

      await until(() => restarts.length === 5)

      expect([reflector.isSynced, [...reflector.denied]]).toEqual([false, []])
      await expect(reflector.whenSynced(1)).rejects.toThrow('could not list agents')
    })
  })

  it('follows some namespaces, each by itself', async () => {
    const { server, reflector, told, until } = await startWatching({ namespaces: ['one', 'two'] }, (server) => {
      for (const namespace of ['one', 'two', 'three']) server.put(AGENTS, agent('a', {}, namespace))
    })

    for (const namespace of ['one', 'two', 'three']) server.put(AGENTS, agent('b', {}, namespace))
    await until(() => told.length === 4)

    expect(reflector.store.keys().toSorted()).toEqual(['one/a', 'one/b', 'two/a', 'two/b'])
  })

  it('finds objects by index, also after they changed', async () => {
    const indexers = { model: (object: KubeObject) => [(object.spec as { model: string }).model] }
    const { server, reflector, told, until } = await startWatching({ indexers }, (server) => {
      server.put(AGENTS, { ...agent('a'), spec: { model: 'm' } })
      server.put(AGENTS, { ...agent('b'), spec: { model: 'm' } })
    })

    server.put(AGENTS, { ...agent('b'), spec: { model: 'n' } })
    await until(() => told.length === 3)

    expect(reflector.store.find('model', 'm').map(keyOf)).toEqual(['default/a'])
    expect(reflector.store.find('model', 'n').map(keyOf)).toEqual(['default/b'])
    expect(() => reflector.store.find('modle', 'm')).toThrow('no index "modle"')
  })
})
