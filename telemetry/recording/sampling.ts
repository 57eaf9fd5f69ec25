/** Decides which spans are exported, as OTEL_TRACES_SAMPLER says: for a task once, when it begins. */
import { ROOT_CONTEXT, SamplingDecision, SpanKind, TraceFlags } from '@opentelemetry/api'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace'
import type { Settings } from '../settings.ts'
import type { FinishedSpan, SpanKind as Kind } from '../span.ts'
import type { RootSpan } from '../telemetry.ts'

export const SPAN_KINDS: { readonly [kind in Kind]: SpanKind } = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
}

export class Sampling {
  /** For spans that the SDK begins itself. */
  readonly sampler: Sampler
  readonly #root: Sampler
  readonly #followsParent: boolean

  constructor({ root, followsParent, ratio }: Settings['sampler']) {
    this.#root = createRoot(root, ratio)
    this.#followsParent = followsParent
    this.sampler = followsParent ? new ParentBasedSampler({ root: this.#root }) : this.#root
  }

  /** W3C trace flags of a trace that begins with this span. */
  rootFlags(span: RootSpan): number {
    return this.#asks(span) ? TraceFlags.SAMPLED : TraceFlags.NONE
  }

  /** A sampler that follows its callers has decided when the trace began: its flags say so, also for the root itself. */
  isExported({ traceId, flags }: Pick<FinishedSpan, 'traceId' | 'flags'>): boolean {
    if (this.#followsParent) return (flags & TraceFlags.SAMPLED) !== 0
    // No root sampler looks at more than the trace's id.
    return this.#asks({ traceId, name: '', kind: 'internal', attributes: {} })
  }

  #asks({ traceId, name, kind, attributes }: RootSpan): boolean {
    const asked = this.#root.shouldSample(ROOT_CONTEXT, traceId, name, SPAN_KINDS[kind], attributes, [])
    return asked.decision === SamplingDecision.RECORD_AND_SAMPLED
  }
}

function createRoot(name: Settings['sampler']['root'], ratio: number): Sampler {
  switch (name) {
    case 'always_on':
      return new AlwaysOnSampler()
    case 'always_off':
      return new AlwaysOffSampler()
    case 'traceidratio':
      return new TraceIdRatioBasedSampler(ratio)
  }
}
