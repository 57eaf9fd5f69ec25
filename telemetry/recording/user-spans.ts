/** Spans of the user's own functions: the only ones that are ever open, and they end with their function. */
import {
  type Context,
  context,
  createContextKey,
  createTraceState,
  ROOT_CONTEXT,
  type Span,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { parseTraceParent } from '@opentelemetry/core'
import { EVENTS, KEYS, OPERATIONS } from '../names.ts'
import { redact } from '../redact.ts'
import type { SpanParent } from '../telemetry.ts'

/** Below which span code runs, and whose service it is: spans that libraries begin find both here. */
export interface Place {
  readonly parent: SpanParent
  readonly tracer: (name: string, version?: string) => Tracer
}

const PLACE = createContextKey('kaos place')

export function placeOf(of: Context): Place | undefined {
  return of.getValue(PLACE) as Place | undefined
}

/** Runs a function below a parent; what it sets off finds its place too. */
export function runAt<T>(place: Place, run: () => T): T {
  return context.with(new PlaceContext(place), run)
}

/** Runs a function as a span. The span ends with it: when it returns or throws, or when the promise that it returns is settled. */
export function runAsSpan<T>(name: string, place: Place, tracer: Tracer, run: () => T): T {
  const active = context.active()
  const outer = placeOf(active)?.parent.traceparent === place.parent.traceparent ? active : contextAt(place)
  const span = tracer.startSpan(name, { attributes: { ...place.parent.attributes, [KEYS.op]: OPERATIONS.user } }, outer)
  let result: T
  try {
    result = context.with(trace.setSpan(outer, span), run)
  } catch (error) {
    endFailed(span, error)
    throw error
  }
  if (!(result instanceof Promise)) {
    endWell(span)
    return result
  }
  const told = result.then(
    (value: unknown) => {
      endWell(span)
      return value
    },
    (error: unknown) => {
      endFailed(span, error)
      throw error
    },
  )
  if (Object.getPrototypeOf(result) === Promise.prototype) return told as T
  // A promise with methods of its own is handed on as it is; it reports its rejection itself.
  told.catch(() => undefined)
  return result
}

/** Worked out when somebody first asks for it: most of what runs at a place begins no span. */
class PlaceContext implements Context {
  readonly #place: Place
  #context: Context | undefined

  constructor(place: Place) {
    this.#place = place
  }

  getValue(key: symbol): unknown {
    return this.#whole().getValue(key)
  }

  setValue(key: symbol, value: unknown): Context {
    return this.#whole().setValue(key, value)
  }

  deleteValue(key: symbol): Context {
    return this.#whole().deleteValue(key)
  }

  #whole(): Context {
    this.#context ??= contextAt(this.#place)
    return this.#context
  }
}

function contextAt(place: Place): Context {
  const { traceparent, tracestate } = place.parent
  const parent = parseTraceParent(traceparent)
  const withPlace = ROOT_CONTEXT.setValue(PLACE, place)
  if (!parent) return withPlace
  return trace.setSpanContext(withPlace, { ...parent, ...(tracestate && { traceState: createTraceState(tracestate) }) })
}

function endWell(span: Span): void {
  span.setStatus({ code: SpanStatusCode.OK })
  span.end()
}

function endFailed(span: Span, error: unknown): void {
  const { type, message, stack } = describe(error)
  span.setAttribute(KEYS.errorType, type)
  span.addEvent(EVENTS.exception, {
    [KEYS.exceptionType]: type,
    [KEYS.exceptionMessage]: message,
    ...(stack && { [KEYS.exceptionStack]: stack }),
  })
  span.setStatus({ code: SpanStatusCode.ERROR, message })
  span.end()
}

/** Of whatever was thrown, also of an object whose properties throw. */
function describe(error: unknown): { readonly type: string; readonly message: string; readonly stack?: string } {
  try {
    if (!(error instanceof Error)) return { type: typeof error, message: redact(String(error)) }
    const { code } = error as { code?: unknown }
    const type = typeof code === 'string' && code ? code : error.name
    return { type, message: redact(error.message), ...(error.stack && { stack: redact(error.stack) }) }
  } catch {
    return { type: 'unknown', message: 'what was thrown cannot be shown' }
  }
}
