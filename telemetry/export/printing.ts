/** Prints telemetry to stderr, where `OTEL_…_EXPORTER=console` asks for it: stdout stays the answer of the command. */
import { inspect } from 'node:util'
import { type ExportResult, ExportResultCode, hrTimeToMilliseconds } from '@opentelemetry/core'
import type { ReadableLogRecord } from '@opentelemetry/sdk-logs'
import { AggregationTemporality, type PushMetricExporter, type ResourceMetrics } from '@opentelemetry/sdk-metrics'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'

export function printSpan(span: ReadableSpan): void {
  const { traceId, spanId } = span.spanContext()
  const parent = span.parentSpanContext?.spanId
  const { name, status, attributes, events, links } = span
  const startMs = hrTimeToMilliseconds(span.startTime)
  print('span', {
    ...from(span),
    name,
    traceId,
    spanId,
    parent,
    startMs,
    ms: hrTimeToMilliseconds(span.duration),
    status,
    attributes,
    events,
    links,
  })
}

export function printLogRecord(record: ReadableLogRecord): void {
  const { severityText, body, attributes, spanContext } = record
  print('log', { ...from(record), severityText, body, attributes, traceId: spanContext?.traceId, spanId: spanContext?.spanId })
}

export const metricPrinter: PushMetricExporter = {
  export: ({ resource, scopeMetrics }: ResourceMetrics, done: (result: ExportResult) => void) => {
    for (const { descriptor, dataPoints } of scopeMetrics.flatMap(({ metrics }) => metrics))
      for (const { attributes, value } of dataPoints)
        print('metric', { ...from({ resource }), name: descriptor.name, attributes, value })
    done({ code: ExportResultCode.SUCCESS })
  },
  forceFlush: async () => {},
  shutdown: async () => {},
  selectAggregationTemporality: () => AggregationTemporality.CUMULATIVE,
}

function from({ resource }: Pick<ReadableSpan, 'resource'>) {
  return { service: resource.attributes['service.name'] }
}

function print(what: string, item: object): void {
  process.stderr.write(`${what} ${inspect(item, { depth: 6, breakLength: Number.POSITIVE_INFINITY })}\n`)
}
