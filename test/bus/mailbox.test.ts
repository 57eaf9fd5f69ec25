/** What a standing pull does with answers that are no mail. */
import { AckPolicy, jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { expect, it } from 'vitest'
import type { Delivery } from '../../bus/contracts.ts'
import { openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { streamNames, userParty } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker } from '../support/broker.ts'

/** How often a pull looks after itself. */
const TICK_MS = 300
const PULLS = 4

it('asks a consumer that has too many pulls again by its timer, not in a loop', async () => {
  await using broker = await startTestBroker()
  const connection = await connect({ servers: broker.url })
  const manager = await jetstreamManager(connection)
  const stream = streamNames.agentMail('default', 'busy')
  await manager.streams.add({ name: stream, subjects: ['kaos.default.agent.busy.task'] })
  await manager.consumers.add(stream, { durable_name: 'task', ack_policy: AckPolicy.Explicit, max_waiting: 1 })
  const api = `$JS.API.CONSUMER.MSG.NEXT.${stream}.task`
  connection.publish(api, JSON.stringify({ batch: 1, expires: 60e9 }), { reply: connection.subscribe('elsewhere').getSubject() })
  const refusedAt: number[] = []
  const refused = Promise.withResolvers<void>()
  connection.subscribe(api, {
    callback: () => {
      if (refusedAt.push(performance.now()) === PULLS) refused.resolve()
    },
  })
  await connection.flush()
  const bus = await openBus(broker.settings, { namespace: 'default', as: userParty('test'), log: silentLog() })

  const pulling = bus.mailbox.open({ kind: 'task', agent: 'busy' }, 1, () => {})
  await refused.promise

  // A timer never fires early. In a loop all of them would be there at once.
  expect(refusedAt.at(-1)! - refusedAt[0]!).toBeGreaterThan((PULLS - 2) * TICK_MS)
  expect(bus.state().unbound).toEqual(['agent busy task'])
  await pulling.stop()
  await bus.close()
  await connection.close()
})

it('is handed nothing any more once it has stopped, so that mail goes to who works', async () => {
  await using broker = await startTestBroker()
  const bus = await openBus(broker.settings, { namespace: 'default', as: userParty('test'), log: silentLog() })
  await createStreams(bus.connection, { namespace: 'default', agents: ['a'], tools: [] })
  const received: Delivery[] = []
  const first = Promise.withResolvers<void>()
  const pulling = bus.mailbox.open({ kind: 'task', agent: 'a' }, 8, (delivery) => {
    received.push(delivery)
    first.resolve()
  })
  await bus.connection.request('kaos.default.agent.a.task', 'first', { timeout: 10_000 })
  await first.promise

  await pulling.stop()
  await bus.connection.request('kaos.default.agent.a.task', 'second', { timeout: 10_000 })
  received[0]!.ack()
  await bus.connection.flush()

  const manager = await jetstreamManager(bus.connection)
  const consumer = await manager.consumers.info(streamNames.agentMail('default', 'a'), 'task')
  expect(consumer).toMatchObject({ num_pending: 1, num_ack_pending: 0, delivered: { consumer_seq: 1 } })
  expect(received.map(({ message }) => message.body)).toEqual(['first'])
  await bus.close()
})
