import { describe, expect, it, onTestFinished } from 'vitest'
import { ACCESS_LIMITS } from '../../../operator/kube/access.ts'
import { acquireLease, LEASE_LIMITS, LEASES, type LeaseOptions, microTime } from '../../../operator/kube/lease.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { type Asked, refuse, ScriptedApiServer } from './api-server.ts'

const PLACE = { namespace: 'system', name: 'operator' }
const LIMITS = { durationMs: 1_000, renewDeadlineMs: 400, renewEveryMs: 5, requestMs: 100 }
const isWrite = ({ method }: Asked) => method === 'PUT' || method === 'POST'

interface Spec {
  readonly holderIdentity: string
  readonly leaseTransitions: number
  readonly renewTime: string
}

async function start() {
  const server = await ScriptedApiServer.start()
  const stopping = new AbortController()
  onTestFinished(async () => {
    stopping.abort()
    await server[Symbol.asyncDispose]()
  })
  const acquire = async (identity: string, options: Partial<LeaseOptions> = {}) => {
    const leadership = await acquireLease(
      { client: server.client(), ...PLACE, identity, log: silentLog(), limits: LIMITS, ...options },
      stopping.signal,
    )
    onTestFinished(() => leadership.release())
    return leadership
  }
  const spec = async () => (await server.client().get(LEASES, PLACE))?.spec as Spec | undefined
  return { server, stopping, acquire, spec }
}

const aborted = (signal: AbortSignal) =>
  new Promise<unknown>((resolve) => signal.addEventListener('abort', () => resolve(signal.reason), { once: true }))

describe('a lease', () => {
  it('is taken where there is none, and renewed', async () => {
    const { server, acquire, spec } = await start()

    const leadership = await acquire('one')
    await server.whenAsked(isWrite, 4)

    expect(leadership.isHeld).toBe(true)
    expect(await spec()).toMatchObject({ holderIdentity: 'one', leaseTransitions: 0, leaseDurationSeconds: 1 })
    expect(leadership.check).not.toThrow()
  })

  it('goes to the next one at once when it is released', async () => {
    const { acquire, spec } = await start()
    const first = await acquire('one')
    const waiting = acquire('two')

    await first.release()
    const second = await waiting

    expect([first.isHeld, second.isHeld]).toEqual([false, true])
    expect(first.check).toThrow('is released')
    expect(await spec()).toMatchObject({ holderIdentity: 'two', leaseTransitions: 1 })
  })

  it('is taken over from a holder that renews it no more, by our own clock', async () => {
    const { server, acquire, spec } = await start()
    const inTheFuture = microTime(new Date('2099-01-01T00:00:00Z'))
    server.put(LEASES, {
      metadata: PLACE,
      spec: { holderIdentity: 'dead', leaseDurationSeconds: 15, renewTime: inTheFuture, leaseTransitions: 3 },
    })
    let clock = 0
    const looks = ({ method }: Asked) => method === 'GET'

    const waiting = acquire('two', { now: () => clock })
    await server.whenAsked(looks, 3)
    const holderBefore = (await spec())?.holderIdentity
    clock = 15_000
    await waiting

    expect(holderBefore).toBe('dead')
    expect(await spec()).toMatchObject({ holderIdentity: 'two', leaseTransitions: 4 })
  })

  it('is not taken over from a holder that renews it', async () => {
    const { server, acquire, spec } = await start()
    const holder = (n: number) => ({ holderIdentity: 'alive', leaseDurationSeconds: 1, renewTime: String(n) })
    server.put(LEASES, { metadata: PLACE, spec: holder(0) })
    let clock = 0
    const looks = ({ method }: Asked) => method === 'GET'

    void acquire('two', { now: () => clock }).catch(() => {})
    for (let n = 1; n <= 5; n++) {
      await server.whenAsked(looks, 2 * n)
      server.put(LEASES, { metadata: PLACE, spec: holder(n) })
      clock += 900
    }

    expect((await spec())?.holderIdentity).toBe('alive')
  })

  it('goes to one of two that want it at the same moment', async () => {
    const { acquire, stopping, spec } = await start()

    const both = [acquire('one'), acquire('two')]
    const winner = await Promise.race(both.map((wanted, i) => wanted.then(() => i)))
    stopping.abort()
    const outcomes = await Promise.allSettled(both)

    expect(outcomes[1 - winner]).toMatchObject({ status: 'rejected', reason: { code: 'aborted' } })
    expect((await spec())?.holderIdentity).toBe(['one', 'two'][winner])
  })

  it('is lost when it cannot be renewed in time', async () => {
    const { server, acquire } = await start()
    const leadership = await acquire('one', { limits: { ...LIMITS, renewDeadlineMs: 50 } })
    const lost = aborted(leadership.signal)

    await server.down()

    expect(await lost).toMatchObject({ code: 'lease_lost' })
    expect(leadership.check).toThrow('it was not renewed in time')
    await server.listen()
  })

  it('survives a server that is away for a moment', async () => {
    const { server, acquire } = await start()
    const leadership = await acquire('one', { limits: { ...LIMITS, renewDeadlineMs: 60_000 } })
    for (let i = 0; i < 3; i++) server.once(isWrite, (response) => refuse(response, 500, 'InternalError'))

    await server.whenAsked(isWrite, 8)

    expect(leadership.isHeld).toBe(true)
  })

  it('is kept when renewals fail one after the other, because the next try does not wait for its turn', async () => {
    const { server, acquire } = await start()
    const limits = { ...LIMITS, durationMs: 3_000, renewDeadlineMs: 2_500, renewEveryMs: 1_000, retryMs: 1 }
    const leadership = await acquire('one', { limits })
    for (let i = 0; i < 2; i++) server.once(isWrite, (response) => refuse(response, 500, 'InternalError'))

    await server.whenAsked(isWrite, 4)

    expect(leadership.isHeld).toBe(true)
  })

  it('has time for two renewals that get no answer before it is lost, and says why one got no connection', () => {
    const { renewEveryMs, requestMs, retryMs, renewDeadlineMs } = LEASE_LIMITS

    expect(renewEveryMs + requestMs + retryMs + requestMs).toBeLessThan(renewDeadlineMs)
    expect(ACCESS_LIMITS.connectMs).toBeLessThan(requestMs)
  })

  it('is lost at once when another one has taken it', async () => {
    const { server, acquire } = await start()
    const leadership = await acquire('one')
    const lost = aborted(leadership.signal)

    server.put(LEASES, { metadata: PLACE, spec: { holderIdentity: 'two' } })

    expect(await lost).toMatchObject({ code: 'lease_lost', message: expect.stringContaining('"two" holds it') })
  })

  it('stays with a holder whose lease somebody has only annotated', async () => {
    const { server, acquire, spec } = await start()
    const leadership = await acquire('one')
    const before = await spec()

    server.put(LEASES, { metadata: { ...PLACE, annotations: { a: 'b' } }, spec: before })
    const asked = server.asked.filter(isWrite).length
    await server.whenAsked(isWrite, asked + 5)

    expect(leadership.isHeld).toBe(true)
  })

  it('is lost for a process that stood still, before any timer of it says so', async () => {
    const { acquire } = await start()
    let clock = 0
    const limits = { ...LIMITS, renewEveryMs: 60_000, renewDeadlineMs: 10_000 }
    const leadership = await acquire('one', { limits, now: () => clock })

    clock = 20_000

    expect(leadership.check).toThrow('it was not renewed in time')
    expect(leadership.signal.aborted).toBe(true)
  })

  it('is lost by a process whose event loop was blocked, at its next write', async () => {
    const { server, acquire } = await start()
    const leadership = await acquire('one', { limits: { ...LIMITS, renewDeadlineMs: 100 } })
    const client = server.client().withGuard(leadership.check)
    const asked = server.asked.length

    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 150)
    const written = client.create(LEASES, {
      apiVersion: LEASES.apiVersion,
      kind: 'Lease',
      metadata: { namespace: 'system', name: 'x' },
    })

    await expect(written).rejects.toMatchObject({ code: 'lease_lost' })
    expect(server.asked.slice(asked).some(({ method }) => method === 'POST')).toBe(false)
  })

  it('lets no guarded write through once it is lost', async () => {
    const { server, acquire } = await start()
    let clock = 0
    const limits = { ...LIMITS, renewEveryMs: 60_000, renewDeadlineMs: 10_000 }
    const leadership = await acquire('one', { limits, now: () => clock })
    const client = server.client().withGuard(leadership.check)

    clock = 10_000
    const written = client.create(LEASES, {
      apiVersion: LEASES.apiVersion,
      kind: 'Lease',
      metadata: { namespace: 'system', name: 'x' },
    })

    await expect(written).rejects.toMatchObject({ code: 'lease_lost' })
    expect(server.asked.filter(isWrite)).toHaveLength(1)
  })
})
