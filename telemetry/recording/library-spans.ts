/**
 * The global tracer provider: spans that libraries begin in code of an agent or a tool belong to its service, all others to the process.
 */
import { type Context, context, type Span, type SpanOptions, type Tracer, type TracerProvider, trace } from '@opentelemetry/api'
import { placeOf } from './user-spans.ts'

/** @param process Where spans go that no service of ours set off. */
export function libraryTracerProvider(process: (name: string, version?: string) => Tracer): TracerProvider {
  return { getTracer: (name, version) => new LibraryTracer((at) => (placeOf(at)?.tracer ?? process)(name, version)) }
}

class LibraryTracer implements Tracer {
  readonly #tracerAt: (at: Context) => Tracer

  constructor(tracerAt: (at: Context) => Tracer) {
    this.#tracerAt = tracerAt
  }

  startSpan(name: string, options?: SpanOptions, at: Context = context.active()): Span {
    return this.#tracerAt(at).startSpan(name, options, at)
  }

  startActiveSpan<F extends (span: Span) => unknown>(name: string, ...rest: readonly unknown[]): ReturnType<F> {
    const run = rest.at(-1) as F
    const [options, at = context.active()] = rest.slice(0, -1) as [SpanOptions?, Context?]
    const span = this.startSpan(name, options, at)
    return context.with(trace.setSpan(at, span), () => run(span)) as ReturnType<F>
  }
}
