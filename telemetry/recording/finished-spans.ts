/**
 * Makes of a finished span what exporters take. The SDK's own spans begin and end at their call and draw their ids; these have both already, so that
 * none is ever open.
 */
import { createTraceState, type HrTime, SpanStatusCode } from '@opentelemetry/api'
import { cleanAttributes, hrTimeDuration, type InstrumentationScope, millisToHrTime } from '@opentelemetry/core'
import type { Resource } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { EVENTS, KEYS } from '../names.ts'
import type { SpanLimits } from '../settings.ts'
import type { FinishedSpan, SpanEvent, SpanFailure } from '../span.ts'
import { SPAN_KINDS } from './sampling.ts'

const NAME_CHARS_MAX = 256

export interface SpanSource {
  readonly resource: Resource
  readonly scope: InstrumentationScope
  readonly limits: SpanLimits
}

export function readableSpan(span: FinishedSpan, { resource, scope, limits }: SpanSource): ReadableSpan {
  const { traceId, spanId, parentSpanId, failure } = span
  const startTime = millisToHrTime(span.startMs)
  // Jaeger 1.76 takes a span of no length for one of negative length, and says so on it.
  const endTime: HrTime = span.endMs > span.startMs ? millisToHrTime(span.endMs) : [startTime[0], startTime[1] + 1]
  const traceState = span.tracestate ? createTraceState(span.tracestate) : undefined
  const spanContext = { traceId, spanId, traceFlags: span.flags | 1, ...(traceState && { traceState }) }
  const given = failure ? { [KEYS.errorType]: failure.code, ...span.attributes } : span.attributes
  const { attributes = {}, droppedAttributesCount = 0 } = cleanAttributes(given, limits)
  const events = failure ? withException(span.events ?? [], failure, span.endMs) : (span.events ?? [])
  const links = span.links ?? []
  return {
    name: span.name.slice(0, NAME_CHARS_MAX),
    kind: SPAN_KINDS[span.kind],
    spanContext: () => spanContext,
    ...(parentSpanId !== undefined && {
      parentSpanContext: {
        traceId,
        spanId: parentSpanId,
        traceFlags: span.flags,
        // Who asks may be another process; what was asked for is part of this one's work.
        isRemote: span.kind === 'server' || span.kind === 'consumer',
      },
    }),
    startTime,
    endTime,
    duration: hrTimeDuration(startTime, endTime),
    ended: true,
    status: failure
      ? { code: SpanStatusCode.ERROR, message: failure.message.slice(0, limits.attributeValueLengthLimit) }
      : { code: SpanStatusCode.OK },
    attributes,
    droppedAttributesCount,
    events: events.slice(0, limits.eventCountLimit).map(({ name, atMs, attributes }) => ({
      name,
      time: millisToHrTime(atMs),
      ...cleanAttributes(attributes, perItem(limits, limits.attributePerEventCountLimit)),
    })),
    droppedEventsCount: Math.max(0, events.length - limits.eventCountLimit),
    links: links.slice(0, limits.linkCountLimit).map(({ traceId, spanId, attributes }) => ({
      context: { traceId, spanId, traceFlags: span.flags },
      ...cleanAttributes(attributes, perItem(limits, limits.attributePerLinkCountLimit)),
    })),
    droppedLinksCount: Math.max(0, links.length - limits.linkCountLimit),
    resource,
    instrumentationScope: scope,
  }
}

/** First, so that no limit cuts it off. */
function withException(events: readonly SpanEvent[], { code, message }: SpanFailure, atMs: number): readonly SpanEvent[] {
  if (events.some(({ name }) => name === EVENTS.exception)) return events
  const attributes = { [KEYS.exceptionType]: code, [KEYS.exceptionMessage]: message }
  return [{ name: EVENTS.exception, atMs, attributes }, ...events]
}

function perItem({ attributeValueLengthLimit }: SpanLimits, attributeCountLimit: number) {
  return { attributeCountLimit, attributeValueLengthLimit }
}
