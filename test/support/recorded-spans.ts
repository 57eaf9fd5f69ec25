/** What actors hand to telemetry, kept as plain data: for tests of which spans there are. What leaves the process is tested on the wire. */
import type { FinishedSpan } from '../../telemetry/span.ts'
import { noService, type ServiceTelemetry } from '../../telemetry/telemetry.ts'

export interface RecordedSpans {
  readonly telemetry: ServiceTelemetry
  readonly spans: readonly FinishedSpan[]
}

export function recordSpans(options: Partial<ServiceTelemetry> = {}): RecordedSpans {
  const spans: FinishedSpan[] = []
  const record: ServiceTelemetry['record'] = (span) => {
    if ('spanId' in span) spans.push(span)
  }
  return { spans, telemetry: { ...noService, isOn: true, isExported: () => true, record, ...options } }
}

/** The tree as indented lines, by time and then by name. Throws when a span comes twice or a parent is missing. */
export function drawSpans(spans: readonly FinishedSpan[], line: (span: FinishedSpan) => string): string {
  const ids = spans.map(({ spanId }) => spanId)
  const twice = spans.filter(({ spanId }, i) => ids.indexOf(spanId) !== i).map(({ name }) => name)
  if (twice.length > 0) throw new Error(`recorded twice: ${twice.join(', ')}`)
  const orphans = spans.filter(({ parentSpanId }) => parentSpanId !== undefined && !ids.includes(parentSpanId))
  if (orphans.length > 0) throw new Error(`without their parent: ${orphans.map(({ name }) => name).join(', ')}`)
  const below = (parent: string | undefined, indent: string): string[] =>
    spans
      .filter(({ parentSpanId }) => parentSpanId === parent)
      .toSorted((a, b) => a.startMs - b.startMs || (a.name < b.name ? -1 : 1))
      .flatMap((span) => [indent + line(span), ...below(span.spanId, `${indent}  `)])
  return below(undefined, '').join('\n')
}
