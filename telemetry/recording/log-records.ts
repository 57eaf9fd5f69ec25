/** Makes of a line of the log what exporters take. */
import { type AnyValue, SeverityNumber, TraceFlags } from '@opentelemetry/api'
import { cleanAttributes, type InstrumentationScope, millisToHrTime } from '@opentelemetry/core'
import type { Resource } from '@opentelemetry/resources'
import type { ReadableLogRecord } from '@opentelemetry/sdk-logs'
import { KEYS } from '../names.ts'
import type { AttributeLimits } from '../settings.ts'
import type { LogLine } from '../telemetry.ts'

const SEVERITIES: { readonly [level: string]: readonly [SeverityNumber, string] } = {
  trace: [SeverityNumber.TRACE, 'TRACE'],
  debug: [SeverityNumber.DEBUG, 'DEBUG'],
  info: [SeverityNumber.INFO, 'INFO'],
  warn: [SeverityNumber.WARN, 'WARN'],
  error: [SeverityNumber.ERROR, 'ERROR'],
  fatal: [SeverityNumber.FATAL, 'FATAL'],
}

export interface LogSource {
  readonly resource: Resource
  readonly scope: InstrumentationScope
  readonly limits: AttributeLimits
}

export function readableLogRecord(line: LogLine, { resource, scope, limits }: LogSource): ReadableLogRecord {
  const { level, time, msg, err, trace_id: traceId, span_id: spanId, trace_flags: flags, ...fields } = line
  const [severityNumber, severityText] = SEVERITIES[String(level)] ?? [SeverityNumber.UNSPECIFIED, String(level)]
  const atMs = Date.parse(String(time))
  const { attributes = {}, droppedAttributesCount = 0 } = cleanAttributes({ ...exception(err), ...fields }, limits)
  const spanContext = readSpanContext(traceId, spanId, flags)
  return {
    hrTime: millisToHrTime(Number.isNaN(atMs) ? Date.now() : atMs),
    hrTimeObserved: millisToHrTime(Date.now()),
    severityNumber,
    severityText,
    body: typeof msg === 'string' ? msg.slice(0, limits.attributeValueLengthLimit) : ((msg ?? '') as AnyValue),
    attributes,
    droppedAttributesCount,
    ...(spanContext && { spanContext }),
    resource,
    instrumentationScope: scope,
  }
}

/** A line may belong to a trace, and to none of its spans. */
function readSpanContext(traceId: unknown, spanId: unknown, flags: unknown) {
  if (typeof traceId !== 'string' || !/^[0-9a-f]{32}$/.test(traceId)) return undefined
  const isSpan = typeof spanId === 'string' && /^[0-9a-f]{16}$/.test(spanId)
  return { traceId, spanId: isSpan ? spanId : '', traceFlags: flags === '01' ? TraceFlags.SAMPLED : TraceFlags.NONE }
}

function exception(err: unknown): { readonly [key: string]: unknown } {
  if (typeof err !== 'object' || err === null) return err === undefined ? {} : { [KEYS.exceptionMessage]: String(err) }
  const { type, message, stack, code } = err as { readonly [field: string]: unknown }
  return {
    [KEYS.exceptionType]: type,
    [KEYS.exceptionMessage]: message,
    [KEYS.exceptionStack]: stack,
    [KEYS.errorType]: code,
  }
}
