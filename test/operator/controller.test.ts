import { describe, expect, it, onTestFinished } from 'vitest'
import { Controller, type ControllerOptions, ownerKeys } from '../../operator/controller.ts'
import { type KubeObject, keyOf, type Resource } from '../../operator/kube/object.ts'
import { Reflector } from '../../operator/kube/reflector.ts'
import { silentLog } from '../../telemetry/log.ts'
import { AGENTS, refuse, ScriptedApiServer } from './kube/api-server.ts'

const DEPLOYMENTS: Resource = { apiVersion: 'apps/v1', kind: 'Deployment', plural: 'deployments', namespaced: true }
const MODELS: Resource = { apiVersion: 'kaos.tools/v1alpha1', kind: 'ModelAPI', plural: 'modelapis', namespaced: true }

const named = (name: string, rest: Partial<KubeObject['metadata']> = {}) => ({
  metadata: { namespace: 'default', name, ...rest },
})
const agent = (name: string, modelAPI: string, rest: Partial<KubeObject['metadata']> = {}) => ({
  ...named(name, rest),
  spec: { modelAPI },
})
const ownedBy = (name: string) => ({
  ownerReferences: [{ apiVersion: AGENTS.apiVersion, kind: 'Agent', name, uid: `uid of ${name}`, controller: true }],
})

interface Seen {
  readonly key: string
  readonly object: KubeObject | undefined
}

async function start(options: Partial<ControllerOptions> = {}, prepare?: (server: ScriptedApiServer) => void) {
  const server = await ScriptedApiServer.start()
  prepare?.(server)
  const client = server.client()
  const log = silentLog()
  const byModel = (object: KubeObject) => [`${object.metadata.namespace}/${(object.spec as { modelAPI: string }).modelAPI}`]
  const agents = new Reflector({ client, resource: AGENTS, indexers: { model: byModel }, log, limits: { backOffMs: 1 } })
  const deployments = new Reflector({ client, resource: DEPLOYMENTS, log })
  const models = new Reflector({ client, resource: MODELS, log })
  const reflectors = [agents, deployments, models]
  const seen: Seen[] = []
  const waiting = new Set<() => void>()
  const controller = new Controller({
    name: 'agents',
    primary: agents,
    watches: [
      { reflector: deployments, keysOf: ownerKeys('Agent') },
      { reflector: models, keysOf: (model) => agents.store.find('model', keyOf(model)).map(keyOf) },
    ],
    log,
    ...options,
    reconcile: async (key, object, signal) => {
      seen.push({ key, object })
      for (const resolve of waiting) resolve()
      waiting.clear()
      return options.reconcile?.(key, object, signal)
    },
  })
  onTestFinished(async () => {
    await controller.stop()
    for (const reflector of reflectors) await reflector.stop()
    await server[Symbol.asyncDispose]()
  })
  for (const reflector of reflectors) reflector.start()
  const until = async (is: () => boolean) => {
    while (!is()) await new Promise<void>((resolve) => waiting.add(resolve))
  }
  /** The keys of the next so many reconciles. */
  const next = async (count: number) => {
    await until(() => seen.length >= count)
    return seen.splice(0).map(({ key }) => key)
  }
  const startController = async () => {
    await controller.start()
    await server.whenWatched(3)
  }
  return { server, controller, seen, next, until, startController }
}

describe('a controller', () => {
  it('reconciles what is there, and what comes, changes and goes', async () => {
    const { server, seen, next, until, startController } = await start({}, (server) => server.put(AGENTS, agent('a', 'm')))

    await startController()
    const first = await next(1)
    server.put(AGENTS, agent('b', 'm'))
    const second = await next(1)
    server.remove(AGENTS, agent('b', 'm'))
    await until(() => seen.length === 1)

    expect([first, second]).toEqual([['default/a'], ['default/b']])
    expect(seen).toEqual([{ key: 'default/b', object: undefined }])
  })

  it('reconciles the owner of a child that somebody changed or deleted', async () => {
    const { server, next, startController } = await start({}, (server) => {
      server.put(AGENTS, agent('a', 'm'))
      server.put(DEPLOYMENTS, named('agent-a', ownedBy('a')))
    })
    await startController()
    await next(1)

    server.put(DEPLOYMENTS, named('of-nobody'))
    server.remove(DEPLOYMENTS, named('agent-a'))
    const keys = await next(1)

    expect(keys).toEqual(['default/a'])
  })

  it('reconciles all that refer to something that comes late', async () => {
    const { server, next, startController } = await start({}, (server) => {
      for (const [name, model] of [
        ['a', 'm'],
        ['b', 'm'],
        ['c', 'n'],
      ] as const)
        server.put(AGENTS, agent(name, model))
    })
    await startController()
    await next(3)

    server.put(MODELS, named('m'))
    const keys = await next(2)

    expect(keys).toEqual(['default/a', 'default/b'])
  })

  it('reconciles also whom a child belonged to before', async () => {
    const { server, next, startController } = await start({}, (server) => {
      for (const name of ['a', 'b']) server.put(AGENTS, agent(name, 'm'))
      server.put(DEPLOYMENTS, named('d', ownedBy('a')))
    })
    await startController()
    await next(2)

    server.put(DEPLOYMENTS, named('d', ownedBy('b')))
    const keys = await next(2)

    expect(keys.toSorted()).toEqual(['default/a', 'default/b'])
  })

  it('waits for all lists before it begins', async () => {
    const { server, seen, startController } = await start({ limits: { syncMs: 50 } }, (server) => {
      server.put(AGENTS, agent('a', 'm'))
      for (let i = 0; i < 20; i++)
        server.once(
          ({ path }) => path.endsWith('/modelapis'),
          (response) => refuse(response, 403, 'Forbidden'),
        )
    })

    const starting = startController()

    await expect(starting).rejects.toMatchObject({ code: 'cluster_unreachable' })
    expect(seen).toEqual([])
    expect(server.asked.some(({ path }) => path.endsWith('/agents'))).toBe(true)
  })

  it('tries again what failed', async () => {
    let fails = 2
    const reconcile = async () => {
      if (fails-- > 0) throw new Error('not yet')
    }
    const { next, startController } = await start({ reconcile }, (server) => server.put(AGENTS, agent('a', 'm')))

    await startController()
    const keys = await next(3)

    expect(keys).toEqual(['default/a', 'default/a', 'default/a'])
  })

  it('looks at everything again from time to time', async () => {
    const { next, startController } = await start({ limits: { resyncMs: 20 } }, (server) => {
      for (const name of ['a', 'b']) server.put(AGENTS, agent(name, 'm'))
    })

    await startController()
    const first = await next(2)
    const second = await next(2)

    expect([first, second.toSorted()]).toEqual([
      ['default/a', 'default/b'],
      ['default/a', 'default/b'],
    ])
  })

  it('leaves a paused resource alone until it is to go', async () => {
    const annotations = { 'kaos.tools/paused': 'true' }
    const paused: string[] = []
    const { server, seen, next, startController } = await start(
      {
        whilePaused: async (key) => {
          paused.push(key)
        },
      },
      (server) => {
        server.put(AGENTS, agent('a', 'm', { annotations }))
        server.put(AGENTS, agent('b', 'm'))
      },
    )

    await startController()
    const first = await next(1)
    server.put(AGENTS, agent('a', 'm', { annotations, deletionTimestamp: '2026-11-23T00:00:00Z' }))
    const second = await next(1)

    expect(paused).toEqual(['default/a'])
    expect([first, second]).toEqual([['default/b'], ['default/a']])
    expect(seen).toEqual([])
  })

  it('reconciles when something outside the cluster has changed', async () => {
    const { controller, next, startController } = await start({}, (server) => server.put(AGENTS, agent('a', 'm')))
    await startController()
    await next(1)

    controller.add('default/a')
    const keys = await next(1)

    expect(keys).toEqual(['default/a'])
  })
})
