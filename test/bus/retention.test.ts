/** What retention removes and, above all, what it does not: on a real broker, with records as hosts write them. */
import { randomBytes } from 'node:crypto'
import { jetstreamManager } from '@nats-io/jetstream'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { connectBroker, type NatsConnection } from '../../bus/connection.ts'
import { startRetention } from '../../bus/retention/retention.ts'
import { type RetentionRun, removeEnded } from '../../bus/retention/run.ts'
import { sha256 } from '../../bus/wire/json.ts'
import { agentParty, streamNames } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'
import { until } from '../support/memory-system.ts'
import { BODY, Records } from '../support/old-records.ts'

const DAY_MS = 86_400_000
const AGE_MS = 30 * DAY_MS

let broker: TestBroker
let connection: NatsConnection
beforeAll(async () => {
  broker = await startTestBroker()
  connection = await connect()
})
afterAll(async () => {
  await connection.close()
  await broker.stop()
})

const connect = () => connectBroker(broker.settings, { name: 'test', log: silentLog() })
const newTrace = () => randomBytes(16).toString('hex')

async function open(): Promise<Records> {
  const records = await Records.open(broker.settings, `n${randomBytes(4).toString('hex')}`)
  onTestFinished(() => records.bus.close())
  return records
}

/** One run over their namespace, a month and two days from now. */
function runOn({ bus }: Records, more: Partial<Parameters<typeof removeEnded>[1]> = {}, by = connection): Promise<RetentionRun> {
  return removeEnded(by, {
    namespaces: [bus.namespace],
    ageMs: AGE_MS,
    now: Date.now() + AGE_MS + 2 * DAY_MS,
    inboxPrefix: '_INBOX.test',
    signal: new AbortController().signal,
    log: silentLog(),
    ...more,
  })
}

/** A moment of the broker's time with nothing stored in the same millisecond, before or after. */
async function moment(): Promise<number> {
  const begun = Date.now()
  await until(() => Date.now() > begun + 1 || undefined, 'the next millisecond')
  const at = Date.now()
  await until(() => Date.now() > at + 1 || undefined, 'the millisecond after it')
  return at
}

describe('retention', () => {
  it('removes a finished trace as a whole: journals, bodies, result and its records in the index', async () => {
    const records = await open()
    const trace = newTrace()
    await records.write({ trace, task: 'a_k' })
    await records.write({ trace, agent: 'b', task: 'a_k_0-0' })
    const before = await records.left()

    const run = await runOn(records)

    expect(Object.keys(before)).toHaveLength(11)
    expect(await records.left()).toEqual({})
    expect(run).toEqual({ traces: 1, tasks: 2, messages: 13, failed: 0, isCut: false })
  })

  it('leaves what is younger, and other namespaces', async () => {
    const [records, others] = [await open(), await open()]
    await records.write({ trace: newTrace(), task: 'a_old' })
    await others.write({ trace: newTrace(), task: 'a_other' })
    const at = await moment()
    await records.write({ trace: newTrace(), task: 'a_young' })

    const run = await runOn(records, { now: at + AGE_MS, settleMs: 0 })

    const left = Object.keys(await records.left())
    expect(run.traces).toBe(1)
    expect(left).toHaveLength(7)
    expect(left.filter((subject) => subject.includes('old'))).toEqual([])
    expect(Object.keys(await others.left())).toHaveLength(7)
  })

  it.each([
    ['an actor of it still works', { index: 'working', journal: 'working' }],
    ['an actor of it works by its journal, whatever the index says', { journal: 'working' }],
    ['a journal of it cannot be read', { journal: 'damaged' }],
    ['a record of it cannot be understood', { index: 'unheard-of' }],
  ] as const)('keeps a trace because %s', async (_why, child) => {
    const records = await open()
    const trace = newTrace()
    await records.write({ trace, task: 'a_k' })
    await records.write({ trace, agent: 'b', task: 'a_k_0-0', ...child })
    const before = await records.left()

    const run = await runOn(records)

    expect(run).toMatchObject({ traces: 0, messages: 0 })
    expect(await records.left()).toEqual(before)
  })

  it('keeps a trace whose youngest actor ended later than the bound', async () => {
    const records = await open()
    const trace = newTrace()
    await records.write({ trace, task: 'a_k' })
    const at = await moment()
    await records.write({ trace, agent: 'b', task: 'a_k_0-0' })
    const before = await records.left()

    await runOn(records, { now: at + AGE_MS, settleMs: 0 })

    expect(await records.left()).toEqual(before)
  })

  it('keeps a task that began anew under the id of one whose removal was cut off', async () => {
    const records = await open()
    const trace = newTrace()
    await records.write({ trace, task: 'a_k', journal: 'gone' })
    const at = await moment()
    await records.append({ agent: 'a', task: 'a_k', n: 0, expected: 0 })
    const before = await records.left()

    const young = await runOn(records, { now: at + AGE_MS, settleMs: 0 })
    const parked = await runOn(records)

    expect([young.traces, parked.traces]).toEqual([0, 0])
    expect(await records.left()).toEqual(before)
  })

  it('keeps a task of the same id that has ended since', async () => {
    const records = await open()
    await records.write({ trace: newTrace(), task: 'a_k', journal: 'gone' })
    const at = await moment()
    await records.append({ agent: 'a', task: 'a_k', n: 0, expected: 0, journal: 'ended' })
    const before = await records.left()

    const run = await runOn(records, { now: at + AGE_MS, settleMs: 0 })

    expect(run.traces).toBe(0)
    expect(await records.left()).toEqual(before)
  })

  it('keeps a body that a new task of the same id was told to be there already', async () => {
    const records = await open()
    const { bus } = records
    const trace = newTrace()
    await records.write({ trace, task: 'a_k' })
    const at = await moment()
    const later = vi.spyOn(Date, 'now')
    onTestFinished(() => later.mockRestore())
    later.mockImplementation(() => performance.timeOrigin + performance.now() + 2 * DAY_MS)
    await bus.blobs.write(agentParty('a'), agentParty('a'), 'a_k', sha256(BODY), BODY)
    later.mockRestore()

    await runOn(records, { now: at + AGE_MS, settleMs: 0 })

    expect(await bus.blobs.read(agentParty('a'), agentParty('a'), 'a_k', sha256(BODY))).toBe(BODY)
    expect(await bus.journal.read('a', 'a_k', 0)).toEqual([])
  })

  it('is not led astray by a record of the index that names everything', async () => {
    const records = await open()
    const { namespace } = records.bus
    await records.write({ trace: newTrace(), task: 'a_works', index: 'working', journal: 'working' })
    await records.write({ trace: newTrace(), task: 'a_waits', index: 'working' })
    const before = await records.left()
    for (const tail of ['a.>', 'a.*', '*.a_works', '>', 'a.a_k.more', 'b.']) {
      const forged = `kaos.${namespace}.trace.${newTrace()}.${tail}`
      records.bus.connection.publish(forged, '{"state":"completed"}')
    }
    await records.bus.connection.flush()

    await runOn(records)

    expect(await records.left()).toMatchObject(before)
  })

  it('is taken up by the next run wherever it dies', async () => {
    const records = await open()
    let deaths = 0
    for (let purges = 0; ; purges++) {
      const trace = newTrace()
      await records.write({ trace, task: `a_k${purges}` })
      await records.write({ trace, agent: 'b', task: `a_k${purges}_0-0` })
      const cut = await runOn(records, {}, dyingAt(connection, purges))
      if (cut.failed === 0) break
      deaths++

      const index = Object.keys(await records.left()).filter((subject) => subject.startsWith('trace.'))
      const next = await runOn(records)

      expect(index).toHaveLength(2)
      expect(next).toMatchObject({ traces: 1, failed: 0 })
      expect(await records.left()).toEqual({})
    }
    expect(deaths).toBe(6)
  })

  it('waits for mail that may still begin a task of the trace, as long as a host would take it', async () => {
    const records = await open()
    const { bus } = records
    await bus.publisher.publish(bus.subjects.door('b'), 'a task whose ack was lost', [])
    const trace = newTrace()
    await records.write({ trace, task: 'a_k' })
    await records.write({ trace, agent: 'b', task: 'a_k_0-0' })
    const week = { ageMs: 7 * DAY_MS }

    const soon = await runOn(records, { ...week, now: Date.now() + 8 * DAY_MS })
    const late = await runOn(records, { ...week, now: Date.now() + 32 * DAY_MS })

    expect([soon.traces, late.traces]).toEqual([0, 1])
  })

  it('removes a trace of more actors than one answer names', async () => {
    const records = await open()
    const trace = newTrace()
    await records.write({ trace, task: 'a_k' })
    await Promise.all(Array.from({ length: 1_100 }, (_, n) => records.note(trace, 'b', `a_k_${n}-0`, 'completed')))

    const run = await runOn(records)

    expect(run).toMatchObject({ traces: 1, tasks: 1_101 })
    expect(await records.left()).toEqual({})
  })

  it('goes on with other traces where the journals of an agent are gone with their stream', async () => {
    const records = await open()
    const { namespace } = records.bus
    await records.write({ trace: newTrace(), agent: 'b', task: 'b_k' })
    await records.write({ trace: newTrace(), task: 'a_k' })
    const manager = await jetstreamManager(records.bus.connection)
    await manager.streams.delete(streamNames.agentJournal(namespace, 'b'))

    const run = await runOn(records)

    expect(run).toMatchObject({ traces: 2, failed: 0 })
    expect((await manager.streams.info(streamNames.agentJournal(namespace, 'a'))).state.messages).toBe(0)
  })

  it('stops between two steps when it is told to', async () => {
    const records = await open()
    await records.write({ trace: newTrace(), task: 'a_k' })
    const before = await records.left()

    const run = await runOn(records, { signal: AbortSignal.abort() })

    expect(run).toMatchObject({ traces: 0, isCut: false })
    expect(await records.left()).toEqual(before)
  })
})

describe('the loop of retention', () => {
  it('runs on a connection of its own and says what it removed', async () => {
    const records = await open()
    await records.write({ trace: newTrace(), task: 'a_k' })
    const told = Promise.withResolvers<RetentionRun | undefined>()

    const retention = startRetention({
      settings: broker.settings,
      inboxPrefix: '_INBOX.test',
      namespaces: [records.bus.namespace],
      days: 30,
      log: silentLog(),
      now: () => Date.now() + AGE_MS + DAY_MS,
      onRun: told.resolve,
      firstMs: 0,
    })
    onTestFinished(() => retention.stop())

    expect(await told.promise).toMatchObject({ traces: 1, failed: 0 })
    expect(await records.left()).toEqual({})
  })

  it('has nothing to do on a broker that was never used', async () => {
    await using empty = await startTestBroker()
    const told = Promise.withResolvers<RetentionRun | undefined>()

    const retention = startRetention({
      settings: empty.settings,
      inboxPrefix: '_INBOX.test',
      days: 30,
      log: silentLog(),
      onRun: told.resolve,
      firstMs: 0,
    })
    onTestFinished(() => retention.stop())

    expect(await told.promise).toMatchObject({ traces: 0, failed: 0 })
  })

  it('tells that a broker could not be asked, and ends at once while it waits', async () => {
    const told = Promise.withResolvers<RetentionRun | undefined>()
    const settings = { ...broker.settings, servers: ['nats://127.0.0.1:1'] }

    const retention = startRetention({
      settings,
      inboxPrefix: '_INBOX.test',
      days: 30,
      log: silentLog(),
      onRun: told.resolve,
      firstMs: 0,
    })

    expect(await told.promise).toBeUndefined()
    await retention.stop()
  })
})

/** A connection on which the purge after so many fails, and all that come after it. */
function dyingAt(inner: NatsConnection, purges: number): NatsConnection {
  let seen = 0
  return new Proxy(inner, {
    get(target, name) {
      if (name !== 'request') {
        const value = Reflect.get(target, name) as unknown
        return typeof value === 'function' ? value.bind(target) : value
      }
      return (...given: Parameters<NatsConnection['request']>) => {
        if (given[0].includes('STREAM.PURGE') && seen++ >= purges) return Promise.reject(new Error('died'))
        return target.request(...given)
      }
    },
  })
}
