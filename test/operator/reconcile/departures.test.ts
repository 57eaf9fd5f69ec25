import { describe, expect, it } from 'vitest'
import { KaosError } from '../../../bus/wire/errors.ts'
import { ApiError } from '../../../operator/kube/api-error.ts'
import type { KubeObject } from '../../../operator/kube/object.ts'
import { Departures, type DeparturesOptions } from '../../../operator/reconcile/departures.ts'
import { AGENTS } from '../../../operator/reconcile/kinds.ts'
import type { Streams } from '../../../operator/reconcile/streams.ts'

const agent = (metadata: object = {}): KubeObject => ({
  apiVersion: AGENTS.apiVersion,
  kind: 'Agent',
  metadata: {
    namespace: 'default',
    name: 'a',
    uid: 'u',
    deletionTimestamp: '2026-01-01T00:00:00Z',
    finalizers: ['kaos.tools/streams'],
    ...metadata,
  },
})
const pod = (metadata: object = {}): KubeObject => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', ...metadata } })
const deployment = (replicas: number, there = replicas): KubeObject => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'agent-a' },
  spec: { replicas },
  status: { replicas: there },
})
const { signal } = new AbortController()

/** What is there; each may be changed in between. */
function start(more: Partial<DeparturesOptions> = {}) {
  const there = { pods: [] as KubeObject[], deployment: undefined as KubeObject | undefined, isLeftBehind: false, now: 0 }
  const done: string[] = []
  const streams = {
    holds: ({ metadata }: KubeObject) => metadata.finalizers?.includes('kaos.tools/streams') === true,
    release: async (_resource: unknown, _object: unknown, _owner: unknown, { isUrgent }: { isUrgent: boolean }) =>
      void done.push(isUrgent ? 'released at once' : 'released'),
    leave: async () => void done.push('left'),
  } as unknown as Streams
  const departures = new Departures({
    streams,
    children: {
      deploymentOf: () => there.deployment,
      endPods: async () => void done.push('ended'),
      isLeftBehind: () => there.isLeftBehind,
    },
    view: { podsOf: () => there.pods },
    onLeft: (_about, reason) => void done.push(reason),
    isTerminating: () => false,
    now: () => there.now,
    limits: { podsEndMs: 1_000 },
    ...more,
  })
  return { there, done, look: (object = agent()) => departures.carryOut(AGENTS, object, signal) }
}

describe('a departure', () => {
  it('begins with the pods and ends with the streams', async () => {
    const { there, done, look } = start()
    there.deployment = deployment(1)
    there.pods = [pod()]

    const first = await look()
    there.deployment = undefined
    there.pods = [pod({ deletionGracePeriodSeconds: 5 })]
    const second = await look()
    there.pods = []
    const third = await look()

    expect([first, second, third]).toEqual([{ afterMs: 36_000 }, { afterMs: 6_000 }, undefined])
    expect(done).toEqual(['ended', 'ended', 'released'])
  })

  it.each([
    ['that sleeps', deployment(0)],
    ['that has none', undefined],
  ])('waits for nothing of a resource %s', async (_what, found) => {
    const { there, done, look } = start()
    there.deployment = found

    await look()

    expect(done).toEqual(['released'])
  })

  it('waits for pods that no list shows yet', async () => {
    const { there, done, look } = start()
    there.deployment = deployment(0, 1)

    expect(await look()).toEqual({ afterMs: 1_000 })
    expect(done).toEqual(['ended'])
  })

  it('goes on with one warning when pods do not end, however often that takes', async () => {
    let failures = 1
    const { there, done, look } = start({
      streams: {
        holds: () => true,
        release: async () => {
          if (failures-- > 0) throw new KaosError('broker_unreachable', 'no')
          done.push('released')
        },
      } as unknown as Streams,
    })
    there.pods = [pod({ deletionGracePeriodSeconds: 5 })]
    await look()

    there.now = 6_000
    await expect(look()).rejects.toMatchObject({ code: 'broker_unreachable' })
    await look()

    expect(done.filter((step) => step !== 'ended')).toEqual(['PodsLeft', 'released'])
  })

  it('waits also for pods that it may not end, and tells them again', async () => {
    const { there, look } = start({
      children: {
        deploymentOf: () => deployment(1),
        endPods: async () => {
          throw new ApiError('patch Deployment "agent-a"', { code: 403 })
        },
        isLeftBehind: () => false,
      },
    })
    there.pods = [pod({ deletionGracePeriodSeconds: 5 })]

    expect(await look()).toEqual({ afterMs: 5_000 })
  })

  it('leaves everything to pods that are kept', async () => {
    const { there, done, look } = start()
    there.pods = [pod()]

    await look(agent({ finalizers: ['kaos.tools/streams', 'orphan'] }))

    expect(done).toEqual(['left'])
  })

  it('leaves everything to pods that were kept while nobody looked', async () => {
    const { there, done, look } = start()
    there.pods = [pod()]
    there.isLeftBehind = true

    await look()

    expect(done).toEqual(['left'])
  })

  it('waits for nothing in a namespace that is deleted', async () => {
    const { there, done, look } = start({ isTerminating: () => true })
    there.pods = [pod()]

    await look(agent({ deletionTimestamp: undefined }))

    expect(done).toEqual(['released at once'])
  })

  it('has nothing to do for a resource that was let go', async () => {
    const { there, done, look } = start()
    there.pods = [pod()]

    await look(agent({ finalizers: ['other'] }))

    expect(done).toEqual([])
  })
})
