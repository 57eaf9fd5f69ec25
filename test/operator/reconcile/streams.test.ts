import { describe, expect, it } from 'vitest'
import { KaosError } from '../../../bus/wire/errors.ts'
import type { StreamKeeper } from '../../../operator/broker/streams.ts'
import type { KubeClient } from '../../../operator/kube/client.ts'
import type { KubeObject } from '../../../operator/kube/object.ts'
import { AGENTS } from '../../../operator/reconcile/kinds.ts'
import { Streams } from '../../../operator/reconcile/streams.ts'

const GONE_MS = 300_000
const agent: KubeObject = {
  apiVersion: AGENTS.apiVersion,
  kind: 'Agent',
  metadata: {
    namespace: 'default',
    name: 'a',
    uid: 'u',
    resourceVersion: '7',
    // Long ago: its pods had a long grace period.
    deletionTimestamp: '2026-01-01T00:00:00Z',
    finalizers: ['kaos.tools/streams', 'other'],
  },
}
const owner = { kind: 'agent', namespace: 'default', name: 'a' } as const
const unreachable = new KaosError('broker_unreachable', 'no')
const refused = new KaosError('stream_refused', 'could not remove stream "x": no')
const { signal } = new AbortController()

/** What the broker does; each may be changed in between. */
function start() {
  const broker = { error: undefined as KaosError | undefined, unreachableMs: 0, now: 0 }
  const done: unknown[] = []
  const streams = new Streams({
    client: {
      patch: async (_resource: unknown, _place: unknown, body: { metadata: object }) => void done.push(body.metadata),
    } as never as KubeClient,
    keeper: {
      remove: async () => {
        if (broker.error) throw broker.error
      },
    } as never as StreamKeeper,
    link: { unreachableMs: () => broker.unreachableMs },
    onLeft: (_object, reason, note) => void done.push(`${reason}: ${note}`),
    now: () => broker.now,
  })
  const release = (isUrgent = false) => streams.release(AGENTS, agent, owner, { signal, isUrgent })
  return { broker, done, release }
}

const letGo = { uid: 'u', resourceVersion: '7', finalizers: ['other'] }

describe('a resource that was deleted', () => {
  it('goes when its mail is removed', async () => {
    const { done, release } = start()

    await release()

    expect(done).toEqual([letGo])
  })

  it.each([
    ['is gone for a moment', unreachable, 800],
    ['refuses once', refused, 0],
  ])('waits for a broker that %s, however long ago it was deleted', async (_what, error, unreachableMs) => {
    const { broker, done, release } = start()
    Object.assign(broker, { error, unreachableMs })

    await expect(release()).rejects.toBe(error)
    broker.now = GONE_MS - 1
    await expect(release()).rejects.toBe(error)
    broker.error = undefined
    await release()

    expect(done).toEqual([letGo])
  })

  it.each([
    ['has been gone for minutes', unreachable, GONE_MS, 0],
    ['is connected and has not answered for minutes', unreachable, 0, GONE_MS],
    ['has refused for minutes', refused, 0, GONE_MS],
  ])('goes without its streams, and says so, where the broker %s', async (_what, error, unreachableMs, laterMs) => {
    const { broker, done, release } = start()
    broker.error = error
    if (laterMs > 0) await expect(release()).rejects.toBe(error)

    Object.assign(broker, { unreachableMs, now: laterMs })
    await release()

    expect(done).toEqual([letGo, expect.stringMatching(/^StreamsLeft: its streams stay on the broker: /)])
  })

  it('does not wait where its namespace goes', async () => {
    const { broker, done, release } = start()
    broker.error = unreachable

    await release(true)

    expect(done).toEqual([letGo, 'StreamsLeft: its streams stay on the broker: the broker does not answer'])
  })
})
