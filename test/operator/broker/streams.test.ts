/** The streams of agents and tool servers as the operator keeps them, on a real server. */
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectBroker } from '../../../bus/connection.ts'
import { streamNames } from '../../../bus/wire/subjects.ts'
import { BrokerLink } from '../../../operator/broker/link.ts'
import type { Owner } from '../../../operator/broker/owner.ts'
import { StreamKeeper } from '../../../operator/broker/streams.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../../support/broker.ts'

const ANALYST: Owner = { kind: 'agent', namespace: 'prod', name: 'analyst' }
const NOTES: Owner = { kind: 'tool', namespace: 'prod', name: 'notes' }
const MAIL = streamNames.agentMail('prod', 'analyst')
const JOURNAL = streamNames.agentJournal('prod', 'analyst')
const NOT_FOUND = { code: 10_059 }
const ANSWER = { timeout: 10_000 } as const

let broker: TestBroker
let link: BrokerLink
let connection: NatsConnection
let manager: JetStreamManager
beforeEach(async () => {
  broker = await startTestBroker()
  link = new BrokerLink({ settings: broker.settings, log: silentLog() })
  connection = await connectBroker(broker.settings, { name: 'test', log: silentLog() })
  manager = await jetstreamManager(connection)
  await untilConnected()
})
afterEach(async () => {
  await link.close()
  await connection.close()
  await broker.stop()
})

function untilConnected(): Promise<void> {
  return new Promise((resolve) => {
    link.onConnect(resolve)
  })
}

const keeper = (replicas: 1 | 3 = 1) => new StreamKeeper(link, { replicas })
/** The least that is between two resyncs of a resource. */
const RESYNC_MS = 510_000

/** Everything on the broker that says how it is made. */
async function configurations(): Promise<readonly unknown[]> {
  const streams = await manager.streams.list().next()
  return Promise.all(
    streams.map(async ({ config, created }) => {
      const consumers = await manager.consumers.list(config.name).next()
      return { config, created, consumers: consumers.map((consumer) => [consumer.created, consumer.config]) }
    }),
  )
}

describe('ensure', () => {
  it('creates what an agent and a tool server need, and nothing more the next time', async () => {
    await keeper().ensure(ANALYST)
    await keeper().ensure(NOTES)
    const before = await configurations()

    await keeper().ensure(ANALYST)
    await keeper().ensure(NOTES)

    const names = await manager.streams.names().next()
    expect(names.sort()).toEqual([
      'KV_kaos_catalog',
      'kaos_dead',
      JOURNAL,
      MAIL,
      streamNames.toolDone('prod', 'notes'),
      streamNames.toolMail('prod', 'notes'),
      'kaos_results',
      'kaos_traces',
    ])
    expect(await configurations()).toEqual(before)
  })

  it('asks the broker once per connection, until it is told to forget', async () => {
    const one = keeper()
    await one.ensure(ANALYST)
    await manager.streams.delete(MAIL)

    await one.ensure(ANALYST)
    await expect(manager.streams.info(MAIL)).rejects.toMatchObject(NOT_FOUND)
    one.forget(ANALYST)
    await one.ensure(ANALYST)

    expect((await manager.streams.info(MAIL)).config.name).toBe(MAIL)
  })

  it('finds what somebody else has removed by the next resync', async () => {
    let now = 0
    const one = new StreamKeeper(link, { replicas: 1, now: () => now })
    await one.ensure(ANALYST)
    await one.ensure(NOTES)
    await manager.streams.delete('kaos_dead')
    await manager.streams.delete(streamNames.toolMail('prod', 'notes'))
    await manager.consumers.delete(MAIL, 'task')

    now = RESYNC_MS
    await one.ensure(ANALYST)
    await one.ensure(NOTES)

    expect(await manager.streams.names().next()).toEqual(
      expect.arrayContaining(['kaos_dead', streamNames.toolMail('prod', 'notes')]),
    )
    expect((await manager.consumers.info(MAIL, 'task')).name).toBe('task')
  })

  it('changes settings that differ, in place, and no message is lost', async () => {
    await keeper().ensure(ANALYST)
    await connection.request('kaos.prod.agent.analyst.task', 'waits', ANSWER)
    const before = await configurations()
    const { created } = await manager.streams.info(MAIL)
    await manager.streams.update(MAIL, { max_msgs_per_subject: 7, republish: undefined } as never)
    await manager.consumers.update(MAIL, 'task', { max_ack_pending: 3 })

    await keeper().ensure(ANALYST)

    expect(await configurations()).toEqual(before)
    const { state, created: createdNow } = await manager.streams.info(MAIL)
    expect({ messages: state.messages, created: createdNow }).toEqual({ messages: 1, created })
  })

  it('says what the server says when it refuses', async () => {
    await expect(keeper(3).ensure(ANALYST)).rejects.toMatchObject({
      code: 'stream_refused',
      message: expect.stringMatching(/could not create bucket "kaos_catalog": replicas > 1 not supported/),
    })
  })
})

describe('remove', () => {
  it('takes the mail and the record in the catalog away, and leaves what was recorded', async () => {
    const streams = keeper()
    await streams.ensure(ANALYST)
    await streams.ensure(NOTES)
    await connection.request('kaos.prod.agent.analyst.task', 'waits', ANSWER)
    await connection.request('kaos.prod.agent.analyst.journal.analyst_k', 'an entry', ANSWER)
    await connection.request('kaos.prod.tool.notes.done.analyst_k_0-0', 'a reply', ANSWER)
    for (const key of ['agent.analyst', 'tool.notes', 'agent.other'])
      await connection.request(`$KV.kaos_catalog.prod.${key}`, '{}', ANSWER)

    await streams.remove(ANALYST)
    await streams.remove(NOTES)
    await streams.remove(ANALYST)

    await expect(manager.streams.info(MAIL)).rejects.toMatchObject(NOT_FOUND)
    await expect(manager.streams.info(streamNames.toolMail('prod', 'notes'))).rejects.toMatchObject(NOT_FOUND)
    expect((await manager.streams.info(JOURNAL)).state.messages).toBe(1)
    expect((await manager.streams.info(streamNames.toolDone('prod', 'notes'))).state.messages).toBe(1)
    const { state } = await manager.streams.info('KV_kaos_catalog', { subjects_filter: '>' })
    expect(Object.keys(state.subjects!)).toEqual(['$KV.kaos_catalog.prod.agent.other'])
  })

  it('leaves an agent of the same name that is declared again with the journal of the first', async () => {
    const streams = keeper()
    await streams.ensure(ANALYST)
    await connection.request('kaos.prod.agent.analyst.journal.analyst_k', 'an entry', ANSWER)

    await streams.remove(ANALYST)
    await streams.ensure(ANALYST)

    expect((await manager.streams.info(JOURNAL)).state.messages).toBe(1)
    expect((await manager.streams.info(MAIL)).state.messages).toBe(0)
  })
})

describe('a broker that is gone', () => {
  it('is said at once, with how long it has been gone, until it is back', async () => {
    const streams = keeper()
    const lost = new Promise<void>((resolve) => {
      const look = () => (link.unreachableMs() > 0 ? resolve() : setImmediate(look))
      look()
    })

    await broker.kill()
    await lost
    await expect(streams.ensure(ANALYST)).rejects.toMatchObject({
      code: 'broker_unreachable',
      message: expect.stringContaining(`could not use the broker at "${broker.url}"`),
    })
    await expect(streams.remove(ANALYST)).rejects.toMatchObject({ code: 'broker_unreachable' })
    const back = new Promise<void>((resolve) => {
      link.onConnect(resolve)
    })
    await broker.restart()
    await back

    expect(link.unreachableMs()).toBe(0)
    await streams.ensure(ANALYST)
  })

  it('may come after the operator', async () => {
    await broker.kill()
    const early = new BrokerLink({ settings: broker.settings, log: silentLog() })
    expect(() => early.connection).toThrow('no answer yet')

    const connected = new Promise<void>((resolve) => {
      early.onConnect(resolve)
    })
    await broker.restart()
    await connected

    await new StreamKeeper(early, { replicas: 1 }).ensure(ANALYST)
    await early.close()
  })

  it('refuses requests that nobody answers, within seconds', async () => {
    const streams = keeper()
    await streams.ensure(ANALYST)
    process.kill(broker.pid, 'SIGSTOP')

    const removing = streams.remove(ANALYST)

    await expect(removing).rejects.toMatchObject({ code: 'broker_unreachable' })
    process.kill(broker.pid, 'SIGCONT')
  })
})
