import { afterEach, describe, expect, it } from 'vitest'
import { serveAgent } from '../../actors/service.ts'
import { CRASH_POINTS, neverCrash } from '../../actors/turn/crash.ts'
import { type Bus, type Mailbox, systemClock } from '../../bus/contracts.ts'
import type { MemoryBus } from '../../bus/memory.ts'
import { silentLog } from '../../telemetry/log.ts'
import { countSpan } from '../../telemetry/metrics.ts'
import type { ServiceTelemetry } from '../../telemetry/telemetry.ts'
import { identity, MemorySystem, type ScriptedModel, until } from '../support/memory-system.ts'
import { drawSpans, recordSpans } from '../support/recorded-spans.ts'

const agents = [
  { name: 'boss', tools: ['echo'], peers: ['worker'] },
  { name: 'worker', tools: ['echo'] },
]
const model: ScriptedModel = ({ agent, messages }) => {
  // A peer is shown what was said before.
  const turn = messages
    .slice(messages.findLastIndex(({ role }) => role === 'user'))
    .filter(({ role }) => role === 'assistant').length
  if (turn === 0) return { calls: [{ name: 'echo', arguments: { text: agent } }] }
  if (agent === 'boss' && turn === 1) return { calls: [{ name: 'delegate_to_worker', arguments: { task: 'help' } }] }
  return { text: `${agent} is done` }
}

/** Spans of one agent by order of their places, which do not depend on how fast anything was. */
const TREE = [
  'agent.process_message boss OK',
  '  model.inference boss OK',
  '  tool.echo boss OK',
  '  model.inference boss OK',
  '  delegate.worker boss OK',
  '    agent.process_message worker OK',
  '      model.inference worker OK',
  '      tool.echo worker OK',
  '      model.inference worker OK',
  '  model.inference boss OK',
].join('\n')

let system: MemorySystem
afterEach(() => system.close())

const draw = (spans: Parameters<typeof drawSpans>[0]) =>
  drawSpans(
    spans.map((span) => ({ ...span, startMs: placeOf(span.attributes['kaos.effect.id']) })),
    ({ name, attributes, failure }) => `${name} ${attributes['agent.name']} ${failure ? failure.code : 'OK'}`,
  )
/** The number of the entry that began it. */
const placeOf = (effect: unknown) => Number(/_(\d+)-\d+$/.exec(String(effect))?.[1] ?? -1)

const run = async (options: Parameters<MemorySystem['startHost']>[0] = {}) => {
  const recorded = recordSpans()
  system = new MemorySystem({ agents, tools: ['echo'], model })
  system.startHost({ ...options, telemetry: recorded.telemetry })
  system.startTools('echo')
  system.send('boss', 'go', { 'Nats-Msg-Id': 'k' })
  return recorded
}

/** Every first acknowledgement is lost on its way. */
function withLostAcks(bus: MemoryBus, lost: Set<string>): Bus {
  const open: Mailbox['open'] = (consumer, slots, receive) =>
    bus.mailbox.open(consumer, slots, (delivery) => {
      const { message, count } = delivery
      const ack = () => {
        if (lost.has(message.delivery)) return delivery.ack()
        lost.add(message.delivery)
        delivery.release()
      }
      receive({ message, count, isStale: false, ack, nak: (ms) => delivery.nak(ms), release: () => delivery.release() })
    })
  return Object.create(bus, { mailbox: { value: { ...bus.mailbox, open } } }) as Bus
}

describe('the spans of a task', () => {
  it('are one tree over its agents, each written once', async () => {
    const { spans } = await run()
    await system.waitForResult('boss', 'k')
    await system.waitForQuiet()

    expect(draw(spans)).toBe(TREE)
    expect(spans.every(({ flags }) => flags === 1)).toBe(true)
    expect(spans.every(({ startMs, endMs }) => endMs >= startMs)).toBe(true)
    const [root] = spans.filter(({ parentSpanId }) => parentSpanId === undefined)
    expect(root).toMatchObject({
      kind: 'consumer',
      attributes: {
        'kaos.task.id': 'boss_k',
        'kaos.task.state': 'completed',
        'gen_ai.operation.name': 'invoke_agent',
        'gen_ai.usage.input_tokens': 50,
        'gen_ai.usage.output_tokens': 25,
        'messaging.system': 'nats',
        'messaging.destination.template': 'kaos.default.agent.{agent}.task',
        'messaging.message.id': expect.any(String),
        'kaos.journal.ref': 'kaos.default.agent.boss.journal.boss_k',
      },
    })
  })

  for (const point of CRASH_POINTS) {
    for (const hit of [1, 2, 4]) {
      it(`are the same after a death ${point}, hit ${hit}, but for the marks of the takeover`, async () => {
        let hits = 0
        const before = await run({ crash: (die) => (at) => (at === point && ++hits === hit ? die() : undefined) })
        await until(() => hits >= hit || system.result('boss', 'k') !== undefined || undefined, 'the death')
        const after = recordSpans()
        system.startHost({ telemetry: after.telemetry })
        await system.waitForResult('boss', 'k')
        await system.waitForQuiet()

        expect(draw([...before.spans, ...after.spans])).toBe(TREE)
      })
    }
  }

  it('tell of a takeover by an event and a link on the span of the agent', async () => {
    let hits = 0
    const before = await run({ crash: (die) => (at) => (at === 'effect-in-flight' && ++hits === 4 ? die() : undefined) })
    await until(() => hits >= 4 || undefined, 'the death')
    const after = recordSpans()
    system.startHost({ telemetry: after.telemetry })
    await system.waitForResult('boss', 'k')
    await system.waitForQuiet()

    const worker = [...before.spans, ...after.spans].find(
      ({ name, attributes }) => name === 'agent.process_message' && attributes['agent.name'] === 'worker',
    )!
    expect(worker.events).toMatchObject([{ name: 'kaos.takeover', attributes: { 'kaos.attempts': 2 } }])
    expect(worker.links).toEqual([
      {
        traceId: worker.traceId,
        spanId: worker.parentSpanId,
        attributes: { 'kaos.attempts': 2, 'opentracing.ref_type': 'child_of' },
      },
    ])
  })

  for (const hosts of [1, 2]) {
    it(`are not written again when an acknowledgement is lost and the mail comes again, on ${hosts === 1 ? 'one host' : 'two hosts'}`, async () => {
      const { telemetry, spans } = recordSpans()
      system = new MemorySystem({ agents, tools: ['echo'], model })
      const lost = new Set<string>()
      for (let i = 0; i < hosts; i++) {
        const bus = withLostAcks(system.broker.connect(), lost)
        const who = identity()
        for (const spec of agents) {
          const agent = system.runtime(spec, who.id)
          serveAgent({ bus, agent, identity: who, clock: systemClock, log: silentLog(), crash: neverCrash, telemetry })
        }
      }
      system.startTools('echo')
      system.send('boss', 'go', { 'Nats-Msg-Id': 'k' })
      await system.waitForResult('boss', 'k')
      // A copy of it.
      system.send('boss', 'go', { 'Nats-Msg-Id': 'k' })
      await system.waitForQuiet()

      expect(lost.size).toBeGreaterThanOrEqual(7)
      expect(draw(spans)).toBe(TREE)
    })
  }

  it('keep the sampling decision of the root in all of the tree', async () => {
    const recorded = recordSpans({ rootFlags: () => 0 })
    system = new MemorySystem({ agents, tools: ['echo'], model })
    system.startHost({ telemetry: recorded.telemetry })
    system.startTools('echo')
    system.send('boss', 'go', { 'Nats-Msg-Id': 'k' })
    await system.waitForResult('boss', 'k')
    await system.waitForQuiet()

    expect(recorded.spans).toHaveLength(10)
    expect(recorded.spans.every(({ flags }) => flags === 0)).toBe(true)
  })

  it('count the same whether or not their trace is exported', async () => {
    const countedWhere = async (isExported: boolean) => {
      const counted: string[] = []
      const record: ServiceTelemetry['record'] = (span) =>
        countSpan(span, 'kaos', (metric, _value, labels) => void counted.push(`${metric} ${JSON.stringify(labels)}`))
      const { telemetry } = recordSpans({ isExported: () => isExported, record })
      system = new MemorySystem({ agents, tools: ['echo'], model })
      system.startHost({ telemetry })
      system.startTools('echo')
      system.send('boss', 'go', { 'Nats-Msg-Id': 'k' })
      await system.waitForResult('boss', 'k')
      await system.waitForQuiet()
      return counted.toSorted()
    }

    const whole = await countedWhere(true)
    await system.close()

    expect(whole.length).toBeGreaterThan(10)
    expect(await countedWhere(false)).toEqual(whole)
  })

  it("take the caller's trace context as it is", async () => {
    const recorded = recordSpans({ rootFlags: () => 0 })
    system = new MemorySystem({ agents, tools: ['echo'], model })
    system.startHost({ telemetry: recorded.telemetry })
    system.startTools('echo')
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    system.send('boss', 'go', { 'Nats-Msg-Id': 'k', traceparent, tracestate: 'a=b' })
    await system.waitForResult('boss', 'k')
    await system.waitForQuiet()

    expect(
      recorded.spans.every(
        ({ flags, traceId, tracestate }) => flags === 1 && traceId === traceparent.slice(3, 35) && tracestate === 'a=b',
      ),
    ).toBe(true)
    expect(
      recorded.spans.find(
        ({ attributes }) => attributes['kaos.task.id'] === 'boss_k' && attributes['kaos.op'] === 'agent.process_message',
      )?.parentSpanId,
    ).toBe('00f067aa0ba902b7')
  })

  it('of an agent with traceBoundary "activation" are whole while it waits', async () => {
    const { spans } = await run({ traceBoundary: 'activation' })
    await system.waitForResult('boss', 'k')
    await system.waitForQuiet()

    const lines = drawSpans(spans, ({ name, attributes }) =>
      `${name} ${attributes['agent.name']} ${attributes['kaos.task.state'] ?? ''}`.trim(),
    ).split('\n')
    expect(lines.filter((line) => line.includes('agent.activate boss')).map((line) => line.trim())).toEqual([
      'agent.activate boss',
      'agent.activate boss completed',
    ])
    expect(lines[0]).toBe('agent.process_message boss')
    expect(spans.find(({ name }) => name === 'agent.process_message')!.attributes['kaos.task.state']).toBeUndefined()
  })

  it('say what failed, on the delegation and on who delegated', async () => {
    const recorded = recordSpans()
    const failing: ScriptedModel = (asked) => {
      if (asked.agent === 'worker') throw new Error('no such model')
      return asked.turn === 0 ? { calls: [{ name: 'delegate_to_worker', arguments: { task: 'help' } }] } : { text: 'alone then' }
    }
    system = new MemorySystem({ agents, tools: ['echo'], model: failing })
    system.startHost({ telemetry: recorded.telemetry })
    system.send('boss', 'go', { 'Nats-Msg-Id': 'k' })
    await system.waitForResult('boss', 'k')
    await system.waitForQuiet()

    const tree = draw(recorded.spans).split('\n')
    expect(tree.map((line) => line.trim())).toEqual([
      'agent.process_message boss OK',
      'model.inference boss OK',
      'delegate.worker boss internal',
      'agent.process_message worker internal',
      'model.inference worker internal',
      'model.inference boss OK',
    ])
    const root = recorded.spans.find(({ parentSpanId }) => parentSpanId === undefined)!
    expect(root.events).toMatchObject([{ name: 'kaos.delegation.failed', attributes: { 'agent.delegation.target': 'worker' } }])
  })
})
