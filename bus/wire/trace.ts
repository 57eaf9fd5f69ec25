/** W3C trace context as it travels in headers and stands in entries. Parsed here and never taken from an ambient context. */
import { KaosError } from './errors.ts'
import { sha256 } from './json.ts'

export interface TraceContext {
  /** 32 hex digits, the same for the whole tree of a root task. */
  readonly traceId: string
  /** 16 hex digits: the span that caused this message. Absent where the trace begins here. */
  readonly parentSpanId?: string
  /** W3C trace flags, one byte. Bit 0 (sampled) counts for export only, never for the journal. */
  readonly flags: number
  readonly tracestate?: string
  readonly baggage?: string
  /** What was sent instead of a readable traceparent, cut to 100 characters. */
  readonly refused?: string
}

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const HEADER_BYTES_MAX = 1_024

/** Undefined for anything that W3C Trace Context level 1 calls invalid. */
export function parseTraceparent(text: string): Pick<TraceContext, 'traceId' | 'parentSpanId' | 'flags'> | undefined {
  const match = TRACEPARENT.exec(text.trim())
  if (!match) return undefined
  const [, version, traceId, parentSpanId, flags, rest] = match
  if (version === 'ff' || (version === '00' && rest !== undefined)) return undefined
  if (/^0+$/.test(traceId!) || /^0+$/.test(parentSpanId!)) return undefined
  return { traceId: traceId!, parentSpanId: parentSpanId!, flags: Number.parseInt(flags!, 16) }
}

export function formatTraceparent(traceId: string, spanId: string, flags: number): string {
  return `00-${traceId}-${spanId}-${flagsText(flags)}`
}

/** What a line of the log says of the span that it belongs to. */
export function logFields({ traceId, flags }: Pick<TraceContext, 'traceId' | 'flags'>, spanId: string) {
  return { trace_id: traceId, span_id: spanId, trace_flags: flagsText(flags) }
}

/** The same, of the span that a traceparent names; none for what is no traceparent. */
export function logFieldsOf(traceparent: string | undefined): Partial<ReturnType<typeof logFields>> {
  const parsed = traceparent === undefined ? undefined : parseTraceparent(traceparent)
  return parsed ? logFields(parsed, parsed.parentSpanId!) : {}
}

/** The trace of a task whose sender gave none: derived, so that a redelivery finds the same. */
export function deriveTraceId(namespace: string, agent: string, cause: string): string {
  return sha256(`trace\n${namespace}\n${agent}\n${cause}`).slice(0, 32)
}

/** Reads the trace headers of a message; an absent or unreadable traceparent begins a new trace that is derived from the cause. */
export function readTrace(
  header: (name: string) => string | undefined,
  origin: { readonly namespace: string; readonly agent: string; readonly cause: string },
): TraceContext {
  const sent = header('traceparent')
  const baggage = readableState(header('baggage'))
  const parsed = sent === undefined ? undefined : parseTraceparent(sent)
  if (!parsed) {
    const traceId = deriveTraceId(origin.namespace, origin.agent, origin.cause)
    return { traceId, flags: 1, ...(baggage && { baggage }), ...(sent && { refused: sent.slice(0, 100) }) }
  }
  const tracestate = readableState(header('tracestate'))
  return { ...parsed, ...(tracestate && { tracestate }), ...(baggage && { baggage }) }
}

/** The trace headers of a message that `spanId` sends. */
export function traceHeaders(trace: TraceContext, spanId: string): readonly (readonly [string, string])[] {
  return [
    ['traceparent', formatTraceparent(trace.traceId, spanId, trace.flags)],
    ...(trace.tracestate ? [['tracestate', trace.tracestate] as const] : []),
    ...(trace.baggage ? [['baggage', trace.baggage] as const] : []),
  ]
}

const SPAN_NAME_CHARS_MAX = 128

/** The name of a span of the user's. Throws `span_name`. */
export function checkSpanName(name: unknown): string {
  if (typeof name === 'string' && name !== '' && name.length <= SPAN_NAME_CHARS_MAX) return name
  const given = typeof name === 'string' ? `a text of ${name.length} characters` : typeof name
  const why = `its name is ${given}; give a text of 1 to ${SPAN_NAME_CHARS_MAX} characters`
  throw new KaosError('span_name', `could not begin a span: ${why}`)
}

/** A tracestate or baggage as it is handed on; undefined for one that is long, or has other than printable characters. */
export function readableState(text: string | undefined): string | undefined {
  return text && text.length <= HEADER_BYTES_MAX && /^[\x20-\x7e]*$/.test(text) ? text : undefined
}

function flagsText(flags: number): string {
  return flags.toString(16).padStart(2, '0')
}
