/** A span as plain data, finished before anybody records it: actors and tools make these, and know no SDK. */

export type SpanKind = 'internal' | 'server' | 'client' | 'producer' | 'consumer'

/** Text, number, truth, or, where a backend takes structure, lists and objects of those. */
export type AttributeValue =
  | string
  | number
  | boolean
  | readonly AttributeValue[]
  | { readonly [key: string]: AttributeValue | null }

/** By the keys of `names.ts`; what is undefined is left out. */
export interface Attributes {
  readonly [key: string]: AttributeValue | undefined
}

export interface FinishedSpan {
  readonly name: string
  readonly kind: SpanKind
  /** 32 hex digits. */
  readonly traceId: string
  /** 16 hex digits, derived from the position, so that a span that is written twice is still one. */
  readonly spanId: string
  /** Absent where the trace begins. */
  readonly parentSpanId?: string | undefined
  /** W3C trace flags. Bit 0: the trace is exported, as far as the sampler follows its callers. */
  readonly flags: number
  readonly tracestate?: string | undefined
  /** Epoch ms. */
  readonly startMs: number
  /** Epoch ms. A clock of another host may be behind: an end before the start counts as the start. */
  readonly endMs: number
  /** Known when the span began: all that a sampler may decide by. */
  readonly attributes: Attributes
  readonly events?: readonly SpanEvent[]
  readonly links?: readonly SpanLink[]
  /** Absent: it went well. */
  readonly failure?: SpanFailure | undefined
}

/** All that is needed of a span that is counted and not exported. Its attributes may be those alone that `metrics.ts` counts by. */
export type CountedSpan = Pick<FinishedSpan, 'startMs' | 'endMs' | 'attributes' | 'failure'>

export interface SpanEvent {
  readonly name: string
  /** Epoch ms. */
  readonly atMs: number
  readonly attributes: Attributes
}

export interface SpanLink {
  readonly traceId: string
  readonly spanId: string
  readonly attributes?: Attributes
}

export interface SpanFailure {
  /** One of a few: what `error.type` says. */
  readonly code: string
  readonly message: string
}
