/** Waiting for a result: for how long, with a broker that is away or silent, and what is left of it. */
import { getEventListeners } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'

const LONG_MS = 30_000

describe('a wait for a result', () => {
  let broker: TestBroker
  let bus: NatsBus
  beforeEach(async () => {
    broker = await startTestBroker()
    bus = await openBus(broker.settings, { namespace: 'default', as: userParty('test'), log: silentLog() })
    await createStreams(bus.connection, { namespace: 'default', agents: ['a'], tools: [] })
  })
  afterEach(async () => {
    await bus.close()
    await broker.stop()
  })

  const store = (text: string) => bus.publisher.publish(bus.subjects.result('a', 'k'), text, [])

  it('ends with what is stored meanwhile, and with what was there before', async () => {
    const waiting = bus.results.wait('a', 'k', { deadlineMs: LONG_MS })
    await bus.connection.flush()

    await store('first')

    expect(await waiting).toBe('first')
    expect(await bus.results.wait('a', 'k', { deadlineMs: 0 })).toBe('first')
  })

  it('ends with nothing at its deadline, also when the broker is silent', async () => {
    const waiting = bus.results.wait('a', 'k', { deadlineMs: 200 })
    process.kill(broker.pid, 'SIGSTOP')

    const text = await waiting
    process.kill(broker.pid, 'SIGCONT')

    expect(text).toBeUndefined()
  })

  it('ends when it is aborted, also when the broker is silent', async () => {
    const leaving = new AbortController()
    const waiting = bus.results.wait('a', 'k', { deadlineMs: LONG_MS, signal: leaving.signal })
    process.kill(broker.pid, 'SIGSTOP')

    leaving.abort()
    const text = await waiting
    process.kill(broker.pid, 'SIGCONT')

    expect(text).toBeUndefined()
  })

  it('looks once more when it is aborted', async () => {
    await store('there')

    expect(await bus.results.wait('a', 'k', { deadlineMs: LONG_MS, signal: AbortSignal.abort() })).toBe('there')
  })

  it('outlives a broker that dies, and finds what was stored while it could hear nothing', async () => {
    const waiting = bus.results.wait('a', 'k', { deadlineMs: LONG_MS })
    await bus.connection.flush()
    await broker.kill()
    await broker.restart()
    const other = await openBus(broker.settings, { namespace: 'default', as: userParty('other'), log: silentLog() })

    await other.publisher.publish(bus.subjects.result('a', 'k'), 'stored', [])

    expect(await waiting).toBe('stored')
    await other.close()
  })

  it('leaves no listener behind, however often it looked', async () => {
    const { signal } = new AbortController()
    const waiting = bus.results.wait('a', 'k', { deadlineMs: LONG_MS, signal })
    await bus.connection.flush()

    await store('first')
    await waiting

    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it('fails when the connection is closed for good', async () => {
    const waiting = bus.results.wait('a', 'k', { deadlineMs: LONG_MS })
    await bus.connection.flush()

    await bus.close()

    await expect(waiting).rejects.toMatchObject({ code: 'read_failed' })
  })
})
