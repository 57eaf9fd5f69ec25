/** One service of the process: an agent, a tool server, or the process itself, with a resource of its own. */
import { createNoopMeter, type MeterProvider as MeterProviderApi, type Tracer } from '@opentelemetry/api'
import type { Resource } from '@opentelemetry/resources'
import type { ReadableLogRecord } from '@opentelemetry/sdk-logs'
import { type IMetricReader, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import { type ReadableSpan, type SpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import type { Losses } from '../export/losses.ts'
import type { Outlets } from '../export/outlets.ts'
import { metricPrinter, printLogRecord, printSpan } from '../export/printing.ts'
import { countSpan, type Metric, messagingLabelsOf } from '../metrics.ts'
import type { Naming } from '../names.ts'
import type { Destination, Signal } from '../settings/endpoint.ts'
import type { Settings } from '../settings.ts'
import type { CountedSpan, FinishedSpan } from '../span.ts'
import type { Counts, LogLine, RootSpan, ServiceTelemetry, SpanParent } from '../telemetry.ts'
import { readableSpan } from './finished-spans.ts'
import { Instruments } from './instruments.ts'
import { readableLogRecord } from './log-records.ts'
import { SCOPE } from './resource.ts'
import type { Sampling } from './sampling.ts'
import { type Place, runAsSpan, runAt } from './user-spans.ts'

export interface ServiceParts {
  readonly resource: Resource
  readonly settings: Settings
  readonly sampling: Sampling
  readonly outlets: Outlets
  readonly losses: Losses
  /** Where each signal goes; absent: nowhere over OTLP. */
  readonly destinations: { readonly [signal in Signal]?: Destination }
}

export class SdkService implements ServiceTelemetry {
  readonly isOn = true
  readonly naming: Naming
  readonly hasContent: boolean
  readonly counts: Counts
  readonly meterProvider: MeterProviderApi | undefined
  readonly #parts: ServiceParts
  readonly #meters: MeterProvider | undefined
  readonly #instruments: Instruments
  readonly #tracers: TracerProvider | undefined
  readonly #spanSinks: readonly ((span: ReadableSpan) => void)[]
  readonly #logSinks: readonly ((record: ReadableLogRecord) => void)[]

  constructor(parts: ServiceParts) {
    const { settings, outlets, destinations, resource, sampling } = parts
    const { traces, logs } = destinations
    const spanQueue = traces && outlets.spans(traces)
    const logQueue = logs && outlets.logs(logs)
    this.#parts = parts
    this.naming = settings.naming
    this.hasContent = settings.hasContent
    this.#spanSinks = [
      ...(spanQueue ? [(span: ReadableSpan) => spanQueue.add(span)] : []),
      ...(settings.signals.traces.isPrinted ? [printSpan] : []),
    ]
    this.#logSinks = [
      ...(logQueue ? [(record: ReadableLogRecord) => logQueue.add(record)] : []),
      ...(settings.signals.logs.isPrinted ? [printLogRecord] : []),
    ]
    const readers = metricReaders(parts)
    this.#meters = readers.length > 0 ? new MeterProvider({ resource, readers }) : undefined
    this.meterProvider = this.#meters
    this.#instruments = new Instruments(this.#meters?.getMeter(SCOPE.name, SCOPE.version) ?? createNoopMeter())
    this.counts = createCounts(this.#instruments)
    this.#tracers =
      this.#spanSinks.length > 0
        ? new TracerProvider({
            resource,
            sampler: sampling.sampler,
            spanLimits: settings.spanLimits,
            spanProcessors: [new SinkProcessor(this.#spanSinks)],
          })
        : undefined
  }

  rootFlags(span: RootSpan): number {
    return this.#parts.sampling.rootFlags(span)
  }

  isExported(trace: Pick<FinishedSpan, 'traceId' | 'flags'>): boolean {
    return this.#spanSinks.length > 0 && this.#parts.sampling.isExported(trace)
  }

  record(span: FinishedSpan | CountedSpan): void {
    try {
      if (this.#meters) countSpan(span, this.naming, this.#instruments.count)
      if (!('spanId' in span) || !this.isExported(span)) return
      const { resource, settings } = this.#parts
      const readable = readableSpan(span, { resource, scope: SCOPE, limits: settings.spanLimits })
      for (const sink of this.#spanSinks) sink(readable)
    } catch (error) {
      // The work goes on, whatever a span holds.
      this.#parts.losses.add('traces', 'unreadable', 1, String(error))
    }
  }

  log(line: LogLine): void {
    if (this.#logSinks.length === 0) return
    const { resource, settings, losses } = this.#parts
    try {
      const record = readableLogRecord(line, { resource, scope: SCOPE, limits: settings.logLimits })
      for (const sink of this.#logSinks) sink(record)
    } catch (error) {
      losses.add('logs', 'unreadable', 1, String(error))
    }
  }

  span<T>(name: string, parent: SpanParent, run: () => T): T {
    return this.#tracers ? runAsSpan(name, this.#place(parent), this.tracer(SCOPE.name, SCOPE.version)!, run) : run()
  }

  within<T>(parent: SpanParent, run: () => T): T {
    return this.#tracers ? runAt(this.#place(parent), run) : run()
  }

  /** For spans that libraries begin; undefined when this service exports no spans. */
  tracer(name: string, version?: string): Tracer | undefined {
    return this.#tracers?.getTracer(name, version)
  }

  /** Counts what is counted of the process itself. */
  count(metric: Metric, value: number, labels: { readonly [label: string]: string }): void {
    this.#instruments.count(metric, value, labels)
  }

  async flushMetrics(): Promise<void> {
    await this.#meters?.forceFlush()
  }

  /** Exports the metrics for the last time. */
  async stopMetrics(): Promise<void> {
    await this.#meters?.shutdown()
  }

  #place(parent: SpanParent): Place {
    return { parent, tracer: (name, version) => this.#tracers!.getTracer(name, version) }
  }
}

function metricReaders({ settings, outlets, destinations }: ServiceParts): IMetricReader[] {
  const { metricIntervalMs: exportIntervalMillis, metricTimeoutMs: exportTimeoutMillis, signals } = settings
  const exporters = [
    ...(destinations.metrics ? [outlets.metrics(destinations.metrics)] : []),
    ...(signals.metrics.isPrinted ? [metricPrinter] : []),
  ]
  return exporters.map((exporter) => new PeriodicExportingMetricReader({ exporter, exportIntervalMillis, exportTimeoutMillis }))
}

function createCounts(instruments: Instruments): Counts {
  const { count } = instruments
  const sent = messagingLabelsOf('send')
  const received = messagingLabelsOf('receive')
  const processed = messagingLabelsOf('process')
  return {
    consumed: (times) => {
      count('consumed', 1, received)
      if (times > 1) count('redeliveries', 1, {})
    },
    processed: (ms) => count('processed', ms / 1_000, processed),
    sent: () => count('sent', 1, sent),
    appended: (ms) => count('append', ms, {}),
    takenOver: () => count('takeovers', 1, {}),
    observe: (read) => instruments.observe(read),
  }
}

/** Takes the SDK's own spans to where finished ones go. */
class SinkProcessor implements SpanProcessor {
  readonly #sinks: readonly ((span: ReadableSpan) => void)[]

  constructor(sinks: readonly ((span: ReadableSpan) => void)[]) {
    this.#sinks = sinks
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (span.spanContext().traceFlags & 1) for (const sink of this.#sinks) sink(span)
  }

  async forceFlush(): Promise<void> {}

  async shutdown(): Promise<void> {}
}
