import { describe, expect, it } from 'vitest'
import { KaosError } from '../../bus/wire/errors.ts'
import { spanIdOf } from '../../bus/wire/ids.ts'
import { deriveTraceId, parseTraceparent } from '../../bus/wire/trace.ts'
import { sendTrace } from '../../cli/client/send-trace.ts'
import { recordSpans } from '../support/recorded-spans.ts'

const address = { agent: 'writer', key: 'order-17', task: 'writer_order-17' }
const namespace = 'default'
const derived = deriveTraceId(namespace, 'writer', 'order-17')
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const PARENT = '00f067aa0ba902b7'
const caller = { TRACEPARENT: `00-${TRACE}-${PARENT}-00`, TRACESTATE: 'vendor=1', BAGGAGE: 'user=anna' }

const traceparentOf = ({ headers }: ReturnType<typeof sendTrace>) => parseTraceparent(String(new Map(headers).get('traceparent')))

describe('without telemetry', () => {
  it('names no span that nobody exports, and still knows the trace', () => {
    const trace = sendTrace({ namespace, address })

    expect(trace.headers).toEqual([['Kaos-Cause', 'order-17']])
    expect(trace.traceId).toBe(derived)
  })

  it('hands on the trace context of the caller as it is', () => {
    const trace = sendTrace({ namespace, address, env: caller })

    expect(trace.traceId).toBe(TRACE)
    expect(new Map(trace.headers)).toEqual(
      new Map([
        ['Kaos-Cause', 'order-17'],
        ['traceparent', caller.TRACEPARENT],
        ['tracestate', 'vendor=1'],
        ['baggage', 'user=anna'],
      ]),
    )
  })

  it.each(['', 'garbage', `00-${TRACE}-0000000000000000-01`])('takes the traceparent %j for none, and says so', (TRACEPARENT) => {
    const trace = sendTrace({ namespace, address, env: { ...caller, TRACEPARENT } })

    expect([trace.traceId, trace.refused]).toEqual([derived, TRACEPARENT || undefined])
    expect(trace.headers).toEqual([
      ['Kaos-Cause', 'order-17'],
      ['baggage', 'user=anna'],
    ])
  })
})

describe('with telemetry', () => {
  it('records the sending as a span that is the parent of the task, the same for the same id', async () => {
    const { telemetry, spans } = recordSpans()

    for (let i = 0; i < 2; i++) await sendTrace({ namespace, address, telemetry }).record(async () => {})

    expect(spans).toHaveLength(2)
    expect(spans[1]).toMatchObject({
      name: 'send kaos.default.agent.{agent}.task',
      kind: 'producer',
      traceId: derived,
      spanId: spanIdOf(derived, 'writer_order-17/send'),
      parentSpanId: undefined,
      flags: 1,
      attributes: { 'kaos.task.id': 'writer_order-17', 'messaging.destination.name': 'kaos.default.agent.writer.task' },
    })
    expect(spans[0]!.spanId).toBe(spans[1]!.spanId)
    expect(traceparentOf(sendTrace({ namespace, address, telemetry }))).toEqual({
      traceId: derived,
      parentSpanId: spans[0]!.spanId,
      flags: 1,
    })
  })

  it('leaves it to the sampler whether a trace that begins here is exported', () => {
    const { telemetry } = recordSpans({ rootFlags: () => 0 })

    expect(traceparentOf(sendTrace({ namespace, address, telemetry }))?.flags).toBe(0)
  })

  it('stands below the caller, follows its decision, and is another span for each task', async () => {
    const { telemetry, spans } = recordSpans({ rootFlags: () => 1 })
    const other = { ...address, key: 'order-18', task: 'writer_order-18' }

    await sendTrace({ namespace, address, telemetry, env: caller }).record(async () => {})
    await sendTrace({ namespace, address: other, telemetry, env: caller }).record(async () => {})

    expect(spans.map(({ traceId, parentSpanId, flags, tracestate }) => [traceId, parentSpanId, flags, tracestate])).toEqual([
      [TRACE, PARENT, 0, 'vendor=1'],
      [TRACE, PARENT, 0, 'vendor=1'],
    ])
    expect(spans[0]!.spanId).not.toBe(spans[1]!.spanId)
  })

  it('tells a task that could not be sent, and rejects with why', async () => {
    const { telemetry, spans } = recordSpans()
    const full = new KaosError('door_full', 'the door of agent "writer" is full')

    const sending = sendTrace({ namespace, address, telemetry }).record(() => Promise.reject(full))

    await expect(sending).rejects.toBe(full)
    expect(spans[0]!.failure).toMatchObject({ code: 'door_full', message: full.message })
  })
})
