/** Spans of HTTP requests, where OTEL_INCLUDE_HTTP_CLIENT or OTEL_INCLUDE_HTTP_SERVER asks for them. Loaded only then. */
import { createRequire } from 'node:module'
import type { MeterProvider, TracerProvider } from '@opentelemetry/api'
import { isSpanContextValid } from '@opentelemetry/api'
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http'
import { UndiciInstrumentation } from '@opentelemetry/instrumentation-undici'

/** Probes come every few seconds and say nothing. */
const PROBES: readonly string[] = ['/health', '/ready']

export interface HttpSpans {
  readonly client: boolean
  readonly server: boolean
  readonly tracers: TracerProvider
  readonly meters: MeterProvider | undefined
}

/** Returns what ends them. */
export function startHttpSpans({ client, server, tracers, meters }: HttpSpans): () => void {
  const instrumentations = [...(client ? [clientSpans()] : []), ...(server ? [serverSpans()] : [])]
  for (const instrumentation of instrumentations) {
    instrumentation.setTracerProvider(tracers)
    if (meters) instrumentation.setMeterProvider(meters)
  }
  // Modules of ESM are not patched without a loader; the prototype of the server is, once somebody requires it.
  if (server) createRequire(import.meta.url)('http')
  return () => {
    for (const instrumentation of instrumentations) instrumentation.disable()
  }
}

/** Requests of work only: those that nobody's span is the parent of are the program's own. */
function clientSpans(): UndiciInstrumentation {
  return new UndiciInstrumentation({
    requireParentforSpans: true,
    requestHook: (span, request) => {
      // A model call already carries its own span's context; the instrumentation adds that of the HTTP span, and there must be one.
      const headers: unknown = request.headers
      if (!isSpanContextValid(span.spanContext()) || !Array.isArray(headers)) return
      for (let i = headers.length - 2; i >= 0; i -= 2)
        if (/^(traceparent|tracestate)$/i.test(String(headers[i]))) headers.splice(i, 2)
    },
  })
}

function serverSpans(): HttpInstrumentation {
  return new HttpInstrumentation({
    disableOutgoingRequestInstrumentation: true,
    ignoreIncomingRequestHook: ({ url = '' }) => PROBES.includes(url.split('?')[0]!),
  })
}
