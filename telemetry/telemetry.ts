/**
 * What the rest of the project knows of telemetry. With nothing set it is `noTelemetry`, which does nothing; else `sdk.ts` stands behind it,
 * which is loaded only then.
 */
import type { Naming } from './names.ts'
import type { Attributes, CountedSpan, FinishedSpan, SpanKind } from './span.ts'

/** One agent or tool server: a service of its own in the backend, also where many share a process. */
export interface ServiceIdentity {
  readonly name: string
  readonly namespace: string
  readonly kind: 'agent' | 'tool-server' | 'client'
  /** Of its manifest: `false` silences it alone, absent follows the environment. */
  readonly enabled?: boolean | undefined
  /** Of its manifest: where its telemetry goes instead of where the environment says. */
  readonly endpoint?: string | undefined
}

export interface Telemetry {
  readonly isOn: boolean
  /** The same one for the same name. Never throws: what is wrong with an endpoint is a warning, and that service exports nothing. */
  service(identity: ServiceIdentity): ServiceTelemetry
  /** Exports a line of the log, for the service that its field `agent` or `server` names, else for the process. */
  log(line: LogLine): void
  /** Everything recorded so far is exported, or the time is over. Never rejects. */
  flush(timeoutMs: number): Promise<void>
  /** Exports what is left within the time and ends. Never rejects. */
  stop(timeoutMs: number): Promise<void>
}

/** A line of the log as it is written, parsed: `level` as text, `time` as ISO text, `msg`, `trace_id`, `span_id`, `err`; all else are attributes. */
export interface LogLine {
  readonly [field: string]: unknown
}

export interface ServiceTelemetry {
  readonly isOn: boolean
  readonly naming: Naming
  /** Whether prompts, arguments and results may stand in spans. */
  readonly hasContent: boolean
  /**
   * Trace flags of a task whose caller sent no trace context, by the sampler's decision; what its children and tools are handed. Without
   * telemetry they say "sampled", so that whoever is asked decides for itself.
   */
  rootFlags(span: RootSpan): number
  /** Whether spans of a trace are exported. Those of others need not be made whole. */
  isExported(trace: Pick<FinishedSpan, 'traceId' | 'flags'>): boolean
  /** Records a span and what is counted by it, once. */
  record(span: FinishedSpan | CountedSpan): void
  readonly counts: Counts
  /**
   * Runs a function of the user's as a span below `parent`, or below the user's span that runs now. The span ends with the function, also when it
   * throws. Without telemetry it only runs.
   */
  span<T>(name: string, parent: SpanParent, run: () => T): T
  /** Runs a function so that spans which libraries make in it stand below `parent`. */
  within<T>(parent: SpanParent, run: () => T): T
}

/** What a sampler sees of a root span before it begins. */
export interface RootSpan {
  readonly traceId: string
  readonly name: string
  readonly kind: SpanKind
  readonly attributes: Attributes
}

/** W3C trace context whose span is the parent. */
export interface SpanParent {
  readonly traceparent: string
  readonly tracestate?: string | undefined
  /** What spans of the user's below it say as well: which task they are part of. */
  readonly attributes?: { readonly [key: string]: string }
}

/** What is counted beside spans. Labels are few and bounded: the service is on the resource. */
export interface Counts {
  /** A message came in, and how often it had been handed out. */
  consumed(count: number): void
  /** How long a message was in hand, until it was acked or given back. */
  processed(ms: number): void
  /** A message that an actor or a tool server sent is stored. */
  sent(): void
  /** How long the broker took to store an entry. */
  appended(ms: number): void
  takenOver(): void
  /** Read whenever metrics are collected; the last one given counts. */
  observe(read: () => Gauges): void
}

export interface Gauges {
  /** Tasks in hand in this process. */
  readonly active: number
  /** Tasks that this process last worked on, and that wait for mail alone. */
  readonly parked: number
  /** Messages that wait for this consumer, as the broker last said. */
  readonly backlog: number
}

const nothing = () => undefined

/** Telemetry that is off: nothing is loaded, kept or paid. */
export const noService: ServiceTelemetry = {
  isOn: false,
  naming: 'kaos',
  hasContent: false,
  rootFlags: () => 1,
  isExported: () => false,
  record: nothing,
  counts: {
    consumed: nothing,
    processed: nothing,
    sent: nothing,
    appended: nothing,
    takenOver: nothing,
    observe: nothing,
  },
  span: (_name, _parent, run) => run(),
  within: (_parent, run) => run(),
}

export const noTelemetry: Telemetry = {
  isOn: false,
  service: () => noService,
  log: nothing,
  flush: async () => {},
  stop: async () => {},
}
