/** One way out for each receiver and signal, shared by all services of the process that send there. */

import { ExportResultCode } from '@opentelemetry/core'
import type { ReadableLogRecord } from '@opentelemetry/sdk-logs'
import type { PushMetricExporter, ResourceMetrics } from '@opentelemetry/sdk-metrics'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import type { Logger } from '../log.ts'
import type { Destination } from '../settings/endpoint.ts'
import type { Settings } from '../settings.ts'
import { Delivery } from './delivery.ts'
import { createLogExporter, createMetricExporter, createSpanExporter } from './exporters.ts'
import type { Losses } from './losses.ts'
import { ExportQueue } from './queue.ts'
import { charsOfLogRecord, charsOfSpan } from './size.ts'

export class Outlets {
  readonly #settings: Settings
  readonly #losses: Losses
  readonly #log: Logger
  readonly #spans = new Map<string, ExportQueue<ReadableSpan>>()
  readonly #logs = new Map<string, ExportQueue<ReadableLogRecord>>()
  readonly #metrics = new Map<string, { readonly exporter: PushMetricExporter; readonly delivery: Delivery<ResourceMetrics> }>()

  constructor(settings: Settings, losses: Losses, log: Logger) {
    this.#settings = settings
    this.#losses = losses
    this.#log = log
  }

  spans(to: Destination): ExportQueue<ReadableSpan> {
    return once(this.#spans, to, () => {
      const { signals, spanQueue } = this.#settings
      const connect = (n: number) => createSpanExporter({ to, timeoutMs: signals.traces.timeoutMs, n })
      const delivery = new Delivery<ReadableSpan[]>({
        ...this.#shared(to, 'traces'),
        ...inParts(),
        connect,
        timeoutMs: spanQueue.timeoutMs,
      })
      return new ExportQueue('traces', delivery, spanQueue, this.#losses, charsOfSpan)
    })
  }

  logs(to: Destination): ExportQueue<ReadableLogRecord> {
    return once(this.#logs, to, () => {
      const { signals, logQueue } = this.#settings
      const connect = (n: number) => createLogExporter({ to, timeoutMs: signals.logs.timeoutMs, n })
      const delivery = new Delivery<ReadableLogRecord[]>({
        ...this.#shared(to, 'logs'),
        ...inParts(),
        connect,
        timeoutMs: logQueue.timeoutMs,
      })
      return new ExportQueue('logs', delivery, logQueue, this.#losses, charsOfLogRecord)
    })
  }

  metrics(to: Destination): PushMetricExporter {
    return once(this.#metrics, to, () => {
      const { signals, metricTimeoutMs } = this.#settings
      const connect = (n: number) => createMetricExporter({ to, timeoutMs: signals.metrics.timeoutMs, n })
      const temporality = connect(1)
      const delivery = new Delivery<ResourceMetrics>({
        ...this.#shared(to, 'metrics'),
        connect,
        count: ({ scopeMetrics }) =>
          scopeMetrics.flatMap(({ metrics }) => metrics).reduce((sum, metric) => sum + metric.dataPoints.length, 0),
        timeoutMs: metricTimeoutMs,
      })
      const exporter: PushMetricExporter = {
        // What was lost is counted by the delivery.
        export: (batch, done) => void delivery.deliver(batch).then(() => done({ code: ExportResultCode.SUCCESS })),
        forceFlush: async () => {},
        shutdown: async () => {},
        selectAggregationTemporality: (type) => temporality.selectAggregationTemporality!(type),
      }
      return { exporter, delivery }
    }).exporter
  }

  /** Resolves when the spans and log records of so far have arrived or are lost. */
  async flush(): Promise<void> {
    await Promise.all(this.#queues().map((queue) => queue.flush()))
  }

  /** From now on receivers that are away are not waited for. */
  leave(): void {
    for (const queue of this.#queues()) queue.leave()
    for (const { delivery } of this.#metrics.values()) delivery.leave()
  }

  /** Ends: what has not arrived is lost. Resolves at once, when all of it is counted. */
  async close(): Promise<void> {
    const queues = this.#queues().map((queue) => queue.close())
    await Promise.all([...queues, ...[...this.#metrics.values()].map(({ delivery }) => delivery.abandon())])
  }

  #queues(): readonly Pick<ExportQueue<never>, 'flush' | 'leave' | 'close'>[] {
    return [...this.#spans.values(), ...this.#logs.values()]
  }

  #shared<S extends 'traces' | 'metrics' | 'logs'>({ url }: Destination, signal: S) {
    return { signal, to: url, losses: this.#losses, log: this.#log }
  }
}

function inParts<Item>() {
  return {
    count: (items: Item[]) => items.length,
    part: (items: Item[], itemsMax: number) => [items.slice(0, itemsMax), items.slice(itemsMax)] as const,
  }
}

function once<T>(made: Map<string, T>, { protocol, url }: Destination, make: () => T): T {
  const key = `${protocol} ${url}`
  const known = made.get(key) ?? make()
  made.set(key, known)
  return known
}
