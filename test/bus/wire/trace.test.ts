import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  checkSpanName,
  deriveTraceId,
  formatTraceparent,
  logFieldsOf,
  parseTraceparent,
  readTrace,
  traceHeaders,
} from '../../../bus/wire/trace.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const parentSpanId = 'b7ad6b7169203331'
const origin = { namespace: 'default', agent: 'a', cause: '7-1' }
const from = (headers: Readonly<Record<string, string>>) => readTrace((name) => headers[name], origin)

describe('a traceparent', () => {
  // https://www.w3.org/TR/trace-context/#traceparent-header and its test suite.
  const good: readonly (readonly [string, string, number])[] = [
    ['sampled', `00-${traceId}-${parentSpanId}-01`, 1],
    ['not sampled', `00-${traceId}-${parentSpanId}-00`, 0],
    ['with flags that are not known', `00-${traceId}-${parentSpanId}-ff`, 255],
    ['of a later version', `cc-${traceId}-${parentSpanId}-01`, 1],
    ['of a later version with more behind it', `cc-${traceId}-${parentSpanId}-01-what-the-future-holds`, 1],
    ['with white space around it', ` \t00-${traceId}-${parentSpanId}-01 `, 1],
  ]
  for (const [what, text, flags] of good) {
    it(`${what} is read`, () => expect(parseTraceparent(text)).toEqual({ traceId, parentSpanId, flags }))
  }

  const bad = [
    '',
    '00',
    'garbage',
    `ff-${traceId}-${parentSpanId}-01`,
    `0-${traceId}-${parentSpanId}-01`,
    `000-${traceId}-${parentSpanId}-01`,
    `00-${traceId}-${parentSpanId}`,
    `00-${traceId}-${parentSpanId}-`,
    `00-${traceId}-${parentSpanId}-1`,
    `00-${traceId}-${parentSpanId}-001`,
    `00-${traceId}-${parentSpanId}-01-`,
    `00-${traceId}-${parentSpanId}-01-what`,
    `cc-${traceId}-${parentSpanId}-01.what`,
    `00-${'0'.repeat(32)}-${parentSpanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${parentSpanId}-01`,
    `00-${traceId}-${parentSpanId.toUpperCase()}-01`,
    `0A-${traceId}-${parentSpanId}-01`,
    `00-${traceId}-${parentSpanId}-0X`,
    `00-${traceId.slice(1)}-${parentSpanId}-01`,
    `00-${traceId}0-${parentSpanId}-01`,
    `00-${traceId}-${parentSpanId.slice(1)}-01`,
    `00_${traceId}_${parentSpanId}_01`,
    `00-${traceId}-${parentSpanId}-01\n00-${traceId}-${parentSpanId}-01`,
    `00-${traceId}-${parentSpanId}-01,00-${traceId}-${parentSpanId}-01`,
    '00-'.repeat(100_000),
  ]
  for (const text of bad) {
    it(`is not read from ${JSON.stringify(text.slice(0, 90))}`, () => expect(parseTraceparent(text)).toBeUndefined())
  }

  it('reads back as it was written', () => {
    const hex = (length: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${length}}$`)).filter((text) => !/^0+$/.test(text))
    fc.assert(
      fc.property(hex(32), hex(16), fc.integer({ min: 0, max: 255 }), (trace, span, flags) => {
        expect(parseTraceparent(formatTraceparent(trace, span, flags))).toEqual({ traceId: trace, parentSpanId: span, flags })
      }),
    )
  })

  it('never throws and never lets a wrong one through', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.stringMatching(/^[0-9a-f-]{50,60}$/)), (text) => {
        const parsed = parseTraceparent(text)
        if (!parsed) return
        expect(parsed.traceId).toMatch(/^[0-9a-f]{32}$/)
        expect(parsed.parentSpanId).toMatch(/^[0-9a-f]{16}$/)
      }),
    )
  })
})

describe('the trace of a message', () => {
  it('is the one that its sender gave, with state and baggage', () => {
    const headers = { traceparent: `00-${traceId}-${parentSpanId}-01`, tracestate: 'vendor=1', baggage: 'tenant=acme' }

    expect(from(headers)).toEqual({ traceId, parentSpanId, flags: 1, tracestate: 'vendor=1', baggage: 'tenant=acme' })
  })

  it('is derived from the cause where there is none, the same for a redelivery', () => {
    const trace = from({})

    expect(trace).toEqual({ traceId: deriveTraceId('default', 'a', '7-1'), flags: 1 })
    expect(trace.traceId).toMatch(/^[0-9a-f]{32}$/)
    expect(from({})).toEqual(trace)
    expect(readTrace(() => undefined, { ...origin, cause: '7-2' }).traceId).not.toBe(trace.traceId)
  })

  it('is a new one when the traceparent cannot be read, which is noted, cut short', () => {
    const trace = from({ traceparent: 'x'.repeat(5_000), tracestate: 'vendor=1', baggage: 'tenant=acme' })

    expect(trace.traceId).toBe(deriveTraceId('default', 'a', '7-1'))
    expect(trace.parentSpanId).toBeUndefined()
    expect(trace.refused).toBe('x'.repeat(100))
    // State belongs to the trace that was refused; baggage does not.
    expect(trace.tracestate).toBeUndefined()
    expect(trace.baggage).toBe('tenant=acme')
  })

  for (const [what, value] of [
    ['longer than 1,024 characters', 'x'.repeat(1_025)],
    ['with a line break', 'a=1\r\nNats-Rollup: all'],
    ['with a character that Latin-1 would turn into a line break', 'a=\u010d\u010aNats-Rollup: all'],
    ['with a control character', 'a=\u0000'],
  ] as const) {
    it(`leaves out state and baggage ${what}`, () => {
      const trace = from({ traceparent: `00-${traceId}-${parentSpanId}-01`, tracestate: value, baggage: value })

      expect(trace).toEqual({ traceId, parentSpanId, flags: 1 })
    })
  }

  it('goes on to the next message', () => {
    const trace = from({ traceparent: `00-${traceId}-${parentSpanId}-00`, tracestate: 'vendor=1', baggage: 'tenant=acme' })
    const next = Object.fromEntries(traceHeaders(trace, 'aaaaaaaaaaaaaaaa'))

    expect(from(next)).toEqual({ ...trace, parentSpanId: 'aaaaaaaaaaaaaaaa' })
  })
})

describe('the fields of a log line', () => {
  it('are those of the span of a traceparent', () => {
    expect(logFieldsOf(`00-${traceId}-${parentSpanId}-00`)).toEqual({
      trace_id: traceId,
      span_id: parentSpanId,
      trace_flags: '00',
    })
    expect(logFieldsOf('00-nonsense')).toEqual({})
    expect(logFieldsOf(undefined)).toEqual({})
  })
})

describe('the name of a span', () => {
  it('is a text of 1 to 128 characters', () => {
    expect(checkSpanName('look up the price')).toBe('look up the price')
    for (const [name, given] of [
      ['', 'a text of 0 characters'],
      ['x'.repeat(129), 'a text of 129 characters'],
      [undefined, 'undefined'],
      [Object.create(null), 'object'],
    ] as const)
      expect(() => checkSpanName(name)).toThrow(
        `could not begin a span: its name is ${given}; give a text of 1 to 128 characters`,
      )
  })
})
