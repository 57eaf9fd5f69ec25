/** One suite for both buses: in memory and on a real nats-server. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Bus, Delivery } from '../../bus/contracts.ts'
import { MemoryBroker } from '../../bus/memory.ts'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { sha256 } from '../../bus/wire/json.ts'
import { agentParty, subjectsOf, toolParty, userParty } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker } from '../support/broker.ts'
import { until } from '../support/memory-system.ts'

interface Rig {
  readonly buses: readonly [Bus, Bus]
  publish(subject: string, body: string, headers?: Record<string, string>): Promise<void>
  close(): Promise<void>
}

const subjects = subjectsOf('default')

async function inMemory(): Promise<Rig> {
  const broker = new MemoryBroker({ ackWaitMs: 60 })
  broker.declareAgent('a')
  broker.declareTool('t')
  return {
    buses: [broker.connect(), broker.connect()],
    publish: async (subject, body, headers) => broker.publish(subject, body, headers),
    close: async () => broker.close(),
  }
}

async function onNats(): Promise<Rig> {
  const broker = await startTestBroker()
  const open = () => openBus(broker.settings, { namespace: 'default', as: userParty('test'), log: silentLog() })
  const buses: readonly [NatsBus, NatsBus] = [await open(), await open()]
  await createStreams(buses[0].connection, { namespace: 'default', agents: ['a'], tools: ['t'] })
  return {
    buses,
    async publish(subject, body, headers = {}) {
      await buses[0].publisher.publish(subject, body, Object.entries(headers))
    },
    async close() {
      await Promise.all(buses.map((bus) => bus.close()))
      await broker.stop()
    },
  }
}

for (const [name, start] of [
  ['in memory', inMemory],
  ['on nats-server', onNats],
] as const) {
  describe(`the bus ${name}`, () => {
    let rig: Rig
    let bus: Bus
    let other: Bus
    beforeAll(async () => {
      rig = await start()
      ;[bus, other] = rig.buses
    })
    afterAll(() => rig.close())

    let counter = 0
    const entry = (task: string, n: number, expected: number) => ({
      agent: 'a',
      task,
      slot: `${task}_${n}`,
      writer: `w.${++counter}`,
      text: `{"n":${n}}`,
      snapshotAt: 0,
      expected,
    })

    it('appends entries in order and reads them back', async () => {
      const first = await bus.journal.append(entry('a_order', 0, 0))
      const second = await bus.journal.append(entry('a_order', 1, first as number))

      const stored = await other.journal.read('a', 'a_order', 0)
      expect(stored.map(({ text }) => text)).toEqual(['{"n":0}', '{"n":1}'])
      expect(stored.map(({ sequence }) => sequence)).toEqual([first, second])
      expect(await other.journal.read('a', 'a_order', first as number)).toHaveLength(1)
      expect(await other.journal.read('a', 'a_nothing', 0)).toEqual([])
    })

    it('tells the second of two writers that it lost', async () => {
      const answers = await Promise.all([bus.journal.append(entry('a_race', 0, 0)), other.journal.append(entry('a_race', 0, 0))])

      expect(answers.filter((answer) => answer === 'lost')).toHaveLength(1)
      expect(await bus.journal.read('a', 'a_race', 0)).toHaveLength(1)
    })

    it('reads from the last snapshot on', async () => {
      const first = (await bus.journal.append(entry('a_snap', 0, 0))) as number
      const second = (await bus.journal.append({ ...entry('a_snap', 1, first), text: '{"n":1,"snapshot":{}}' })) as number
      await bus.journal.append({ ...entry('a_snap', 2, second), snapshotAt: second })

      const stored = await other.journal.readFromSnapshot('a', 'a_snap')

      expect(stored.map(({ sequence }) => sequence)[0]).toBe(second)
      expect(stored).toHaveLength(2)
    })

    it('keeps blobs of several parts and says when one is missing', async () => {
      const body = 'Grüße '.repeat(200_000)
      await bus.blobs.write(agentParty('a'), toolParty('t'), 'a_blob', sha256(body), body)
      await other.blobs.write(agentParty('a'), toolParty('t'), 'a_blob', sha256(body), body)

      expect(await other.blobs.read(agentParty('a'), toolParty('t'), 'a_blob', sha256(body))).toBe(body)
      await expect(bus.blobs.read(agentParty('a'), toolParty('t'), 'a_blob', sha256('else'))).rejects.toMatchObject({
        code: 'body_missing',
      })
    })

    it('delivers mail once, and again after a nak or a release', async () => {
      const seen: [string, number][] = []
      const subscription = bus.mailbox.open({ kind: 'task', agent: 'a' }, 4, (delivery) => {
        seen.push([delivery.message.body, delivery.count])
        if (delivery.message.body === 'nak' && delivery.count === 1) delivery.nak(10)
        else if (delivery.message.body === 'release' && delivery.count === 1) delivery.release()
        else delivery.ack()
      })
      for (const body of ['plain', 'nak', 'release']) await rig.publish(subjects.door('a'), body)

      await until(() => seen.length === 5 || undefined, 'five deliveries')
      await subscription.stop()
      expect(seen).toContainEqual(['plain', 1])
      expect(seen).toContainEqual(['nak', 2])
      expect(seen).toContainEqual(['release', 2])
    })

    it('holds no more than its slots, and knows what it holds', async () => {
      const held: Delivery[] = []
      const subscription = bus.mailbox.open({ kind: 'mail', agent: 'a' }, 2, (delivery) => void held.push(delivery))
      for (let i = 0; i < 5; i++) {
        await bus.post.send({ subject: subjects.reply('a', toolParty('t'), `a_k_0-${i}`), id: `a_k_0-${i}`, body: `${i}` })
      }
      await until(() => held.length === 2 || undefined, 'two deliveries')

      expect(bus.mailbox.holds(agentParty('a'), held[0]!.message.delivery)).toBe(true)
      expect(other.mailbox.holds(agentParty('a'), held[0]!.message.delivery)).toBe(false)
      expect(held[0]!.message.header('Kaos-Id')).toBe('a_k_0-0')
      expect(held).toHaveLength(2)
      for (let i = 0; i < 5; i++) {
        await until(() => held[i], `delivery ${i}`)
        held[i]!.ack()
      }
      expect(bus.mailbox.holds(agentParty('a'), held[0]!.message.delivery)).toBe(false)
      await subscription.stop()
    })

    it('says that it is connected and when its consumers are bound', async () => {
      const subscription = bus.mailbox.open({ kind: 'call', tool: 't' }, 4, (delivery) => delivery.ack())

      await until(() => bus.state().unbound.length === 0 || undefined, 'all consumers to be bound')
      expect(bus.state()).toEqual({ broker: 'connected', unbound: [] })
      await subscription.stop()
    })

    it('answers who holds a delivery, and knows the dead', async () => {
      const serving = bus.liveness.serve(agentParty('a'), 'h1', (delivery) => delivery === '7-1')

      // The subscription travels on another connection than the question.
      await until(async () => (await other.liveness.asks(agentParty('a'), 'h1', '7-1')) || undefined, 'an answer')
      expect(await other.liveness.asks(agentParty('a'), 'h1', '8-1')).toBe(false)
      expect(await other.liveness.asks(agentParty('a'), 'gone', '7-1')).toBe(false)
      await serving.stop()
    })

    it('lets one claim win and a reply stand only on its own claim', async () => {
      const put = (from: Bus, text: string, expected: number) =>
        from.claims.put('t', 'a_k_0-0', { text, writer: `w.${++counter}`, expected })
      const [one, two] = await Promise.all([put(bus, 'claim 1', 0), put(other, 'claim 2', 0)])
      const mine = (one === 'lost' ? two : one) as number

      expect([one, two]).toContain('lost')
      expect(await put(bus, 'reply', mine)).not.toBe('lost')
      expect(await put(other, 'late reply', mine)).toBe('lost')
      expect((await other.claims.read('t', 'a_k_0-0'))?.text).toBe('reply')
    })

    it('stores a message that must be the first only once', async () => {
      const message = { subject: subjects.result('a', 'once'), id: 'once', body: '{"state":"completed"}', once: true }
      await bus.post.send(message)
      await other.post.send({ ...message, body: 'else' })

      if ('results' in bus) expect(await (bus as NatsBus).results.get('a', 'once')).toBe(message.body)
    })

    it('announces tools for all to see', async () => {
      const tool = { name: 'x', description: '', inputSchema: { type: 'object' }, readOnlyHint: true, idempotentHint: true }
      await bus.catalog.announceTools({ v: 1, kind: 'tool', server: 't', hash: 'h', tools: [tool] })

      expect((await other.catalog.tools('t'))?.tools).toEqual([tool])
      expect(await other.catalog.tools('unknown')).toBeUndefined()
    })
  })
}

it('lists a trace of more actors than the server answers for at once', async () => {
  const rig = await onNats()
  const bus = rig.buses[0] as NatsBus
  const traceId = 'a'.repeat(32)
  await Promise.all(
    Array.from({ length: 1_100 }, (_, i) =>
      bus.post.send({ subject: subjects.trace(traceId, 'a', `a_k${i}`), id: `${i}`, body: '{}', once: true }),
    ),
  )

  expect(await bus.traces.actors(traceId)).toHaveLength(1_100)
  await rig.close()
})
