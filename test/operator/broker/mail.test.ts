/** Backlogs and wake-up calls from a real server. */
import type { NatsConnection } from '@nats-io/transport-node'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectBroker } from '../../../bus/connection.ts'
import { createStreams } from '../../../bus/streams.ts'
import { subjectsOf } from '../../../bus/wire/subjects.ts'
import { BrokerLink } from '../../../operator/broker/link.ts'
import { BrokerMail } from '../../../operator/broker/mail.ts'
import type { ResourceRef } from '../../../operator/broker/owner.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../../support/broker.ts'

const A: ResourceRef = { namespace: 'default', name: 'a' }
const B: ResourceRef = { namespace: 'default', name: 'b' }
/** More than the server puts on a page. */
const MANY = 260
const ANSWER = { timeout: 10_000 } as const

let broker: TestBroker
let link: BrokerLink
let mail: BrokerMail
let connection: NatsConnection
beforeEach(async () => {
  broker = await startTestBroker()
  connection = await connectBroker(broker.settings, { name: 'test', log: silentLog() })
  await createStreams(connection, { namespace: 'default', agents: ['a', 'b'], tools: ['t'] })
  await createStreams(connection, { namespace: 'other', agents: ['a'], tools: [] })
  link = new BrokerLink({ settings: broker.settings, log: silentLog() })
  mail = new BrokerMail(link, silentLog())
  await untilConnected()
})
afterEach(async () => {
  await link.close()
  await connection.close()
  await broker.stop()
})

function untilConnected(): Promise<void> {
  return new Promise((resolve) => {
    mail.onConnect(resolve)
  })
}

/** Resolves when the broker has stored it. */
const send = ({ namespace, name }: ResourceRef, over = connection) =>
  over.request(`kaos.${namespace}.agent.${name}.task`, 'a task', ANSWER)

describe('backlogs', () => {
  it('are the messages of each mail stream that wait or are in hand, of all namespaces', async () => {
    await send(A)
    await send(A)
    await send({ namespace: 'other', name: 'a' })
    await connection.request('kaos.default.agent.b.mail.reply.tool.t.b_k_0-0', 'a reply', ANSWER)
    await connection.request('kaos.default.agent.b.journal.b_k', 'an entry', ANSWER)
    const api = '$JS.API.CONSUMER.MSG.NEXT.kaos_default_agent_a_mail.task'
    const pulled = await connection.request(api, '', { ...ANSWER, noMux: true })

    const backlogs = await mail.list()

    expect(pulled.string()).toBe('a task')
    expect([A, B, { namespace: 'other', name: 'a' }].map((agent) => backlogs.of(agent))).toEqual([2, 1, 1])
    expect([await mail.read(A), await mail.read(B)]).toEqual([2, 1])
    pulled.respond('+ACK')
    await connection.flush()
    expect(await mail.read(A)).toBe(1)
  })

  it('of what has no stream are absent, not zero', async () => {
    const nobody = { namespace: 'default', name: 'nobody' }

    expect((await mail.list()).of(nobody)).toBe('absent')
    expect(await mail.read(nobody)).toBeUndefined()
  })

  it('are listed page by page', async () => {
    const agents = Array.from({ length: MANY }, (_, i) => `many-${i}`)
    await createStreams(connection, { namespace: 'default', agents, tools: [] })
    await Promise.all(agents.map((name) => send({ namespace: 'default', name })))

    const backlogs = await mail.list()

    expect(agents.map((name) => backlogs.of({ namespace: 'default', name }))).toEqual(agents.map(() => 1))
  })
})

describe('a wake-up call', () => {
  it('comes once for the next message of any kind that is stored, and not for those of others', async () => {
    const calls: string[] = []
    mail.listen(A, () => calls.push('a'))
    mail.listen(B, () => calls.push('b'))
    mail.listen({ namespace: 'other', name: 'a' }, () => calls.push('other a'))
    await mail.confirmed()

    await connection.request('kaos.default.agent.b.mail.start.agent.a.a_k_0-0', 'a delegation', ANSWER)
    await send(A)
    await send(A)
    await mail.confirmed()

    expect(calls).toEqual(['b', 'a'])
  })

  it('says when the broker stored the message', async () => {
    const heard = new Promise<number>((resolve) => mail.listen(A, resolve))
    await mail.confirmed()

    const before = Date.now()
    await send(A)

    const storedAt = await heard
    expect(storedAt).toBeGreaterThanOrEqual(before - 1)
    expect(storedAt).toBeLessThanOrEqual(Date.now())
  })

  it('has no body: what a task says is for its agent', async () => {
    const body = Promise.withResolvers<string>()
    connection.subscribe(subjectsOf('default').wake('a'), { callback: (_error, message) => body.resolve(message.string()) })
    await connection.flush()

    await send(A)

    expect(await body.promise).toBe('')
  })

  it('does not come to who does not listen any more, and twice to who listens again', async () => {
    const calls: string[] = []
    mail.listen(A, () => calls.push('replaced'))
    mail.listen(A, () => {
      calls.push('first')
      mail.listen(A, () => calls.push('second'))
    })
    mail.listen(B, () => calls.push('ignored'))
    mail.ignore(B)
    await mail.confirmed()

    await send(A)
    await mail.confirmed()
    await mail.confirmed()
    await send(A)
    await send(B)
    await mail.confirmed()

    expect(calls).toEqual(['first', 'second'])
  })

  it('comes after the broker was gone, too', async () => {
    const heard = new Promise<number>((resolve) => mail.listen(A, resolve))
    await mail.confirmed()
    const lost = new Promise<void>((resolve) => {
      const look = () => (link.unreachableMs() > 0 ? resolve() : setImmediate(look))
      look()
    })

    await broker.kill()
    await lost
    const back = untilConnected()
    await broker.restart()
    await back
    await mail.confirmed()
    const fresh = await connectBroker(broker.settings, { name: 'test', log: silentLog() })
    await send(A, fresh)

    await heard
    await fresh.close()
  })

  it('comes to who listened before there was a broker', async () => {
    const late = new BrokerLink({ settings: broker.settings, log: silentLog() })
    const lateMail = new BrokerMail(late, silentLog())
    const heard = new Promise<number>((resolve) => lateMail.listen(A, resolve))

    await new Promise<void>((resolve) => {
      lateMail.onConnect(resolve)
    })
    await lateMail.confirmed()
    await send(A)

    await heard
    await late.close()
  })
})

it('nothing can be asked while the broker is gone', async () => {
  const lost = new Promise<void>((resolve) => {
    const look = () => (link.unreachableMs() > 0 ? resolve() : setImmediate(look))
    look()
  })
  await broker.kill()
  await lost

  for (const asking of [mail.list(), mail.read(A), mail.confirmed()]) {
    await expect(asking).rejects.toMatchObject({ code: 'broker_unreachable' })
  }
})
