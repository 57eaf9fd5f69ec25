/**
 * An OTLP backend in this process: takes what is exported over gRPC (or HTTP), decodes the bytes themselves, and can refuse, delay, hang, go away
 * and come back.
 */
import {
  decodeLogs,
  decodeMetrics,
  decodeSpans,
  type ReceivedLog,
  type ReceivedMetric,
  type ReceivedSpan,
  SIGNALS,
  type Signal,
} from './otlp/decode.ts'
import { type Incoming, type Listener, listen, type Protocol } from './otlp/transport.ts'
import { drawTree } from './otlp/tree.ts'

export { status as grpcStatus } from '@grpc/grpc-js'
export type { ReceivedLog, ReceivedMetric, ReceivedSpan, Signal, Value, Values } from './otlp/decode.ts'

const WAIT_MS = 15_000

export interface OtlpReceiverOptions {
  /** Default: a free one. */
  readonly port?: number
  /** Default `grpc`. */
  readonly protocol?: Protocol
}

export interface ReceivedRequest {
  /** Names in lower case. */
  readonly headers: { readonly [name: string]: string }
  readonly bytes: number
  /** gRPC status of the answer, 0 for success; undefined while there is none, or when the client did not wait for it. */
  readonly answered: number | undefined
}

export interface OtlpReceiver extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`, for OTEL_EXPORTER_OTLP_ENDPOINT. The same after `close` and `reopen`. */
  readonly url: string
  readonly port: number
  /** Of requests that were answered with success, in order of arrival; so are metrics and logs. */
  spans(): readonly ReceivedSpan[]
  /** As often as they were exported: the last one of a name has the newest values. */
  metrics(): readonly ReceivedMetric[]
  logs(): readonly ReceivedLog[]
  /** The newest export of a metric of a service. */
  metric(service: string, name: string): ReceivedMetric | undefined
  /** All that came, also what was refused; oldest first. */
  readonly requests: { readonly [signal in Signal]: readonly ReceivedRequest[] }
  /**
   * Resolves with what the predicate gives as soon as that is truthy; it is asked at once and after each answer.
   *
   * @param what What is waited for: "a span of the writer".
   * @throws Error after 15 s, with what has arrived by then.
   */
  waitFor<T>(predicate: () => T, what: string): Promise<NonNullable<T>>
  /** Answers the next `times` requests (default: all until `resume`) of a signal with a gRPC status, or with the HTTP status for the same. */
  refuse(signal: Signal, code: number, times?: number): void
  /** Answers this late from now on. */
  delay(ms: number): void
  /** Answers nothing until `resume`. */
  hang(): void
  /** Ends refusals, delay and hanging; requests that hang are answered now. */
  resume(): void
  /** As a collector that is killed: cuts connections and frees the port. What was received stays. */
  close(): Promise<void>
  /** Listens again on the same port. */
  reopen(): Promise<void>
  /**
   * The trace as indented lines `service: name [KIND] STATUS`, siblings by start, then by name.
   *
   * @param outside Span ids that a caller brought along and nobody exports: parents that may be missing.
   * @throws Error when a span id comes twice, or when a parent is missing.
   */
  treeOf(traceId: string, outside?: readonly string[]): string
  /** Bodies of all requests, also of refused ones, one character per byte: to search secrets in. Headers are not in it. */
  rawText(): string
}

export async function startOtlpReceiver(options: OtlpReceiverOptions = {}): Promise<OtlpReceiver> {
  const bodies: Buffer[] = []
  const requests: { [signal in Signal]: ReceivedRequest[] } = { traces: [], metrics: [], logs: [] }
  const spans = new Decoded(decodeSpans)
  const metrics = new Decoded(decodeMetrics)
  const logs = new Decoded(decodeLogs)
  const stored = { traces: spans, metrics, logs }
  const refusals = new Map<Signal, { code: number; left: number }>()
  const waiting = new Set<() => void>()
  let delayMs = 0
  let hanging: PromiseWithResolvers<void> | undefined

  const answer = async ({ signal, headers, body, isGone }: Incoming): Promise<number> => {
    const index = requests[signal].push({ headers, bytes: body.length, answered: undefined }) - 1
    bodies.push(body)
    wake()
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs))
    await hanging?.promise
    const code = nextRefusal(signal)
    if (isGone()) return code
    if (code === 0) stored[signal].push(body)
    requests[signal][index] = { headers, bytes: body.length, answered: code }
    wake()
    return code
  }
  const nextRefusal = (signal: Signal): number => {
    const refusal = refusals.get(signal)
    if (!refusal || refusal.left === 0) return 0
    refusal.left--
    return refusal.code
  }
  const wake = () => {
    for (const ask of [...waiting]) ask()
  }
  const summary = () =>
    SIGNALS.map((signal) => {
      const answers = requests[signal].map(({ answered }) => answered ?? 'none')
      return `${answers.length} requests of ${signal} (answers: ${[...new Set(answers)].join(', ')})`
    }).join(', ')

  const protocol = options.protocol ?? 'grpc'
  let listener: Listener | undefined = await listen(protocol, options.port ?? 0, answer)
  const { port } = listener
  const close = async () => {
    await listener?.close()
    listener = undefined
  }

  return {
    url: `http://127.0.0.1:${port}`,
    port,
    spans: () => spans.all(),
    metrics: () => metrics.all(),
    logs: () => logs.all(),
    metric: (service, name) => metrics.all().findLast((metric) => metric.service === service && metric.name === name),
    requests,
    waitFor: (predicate, what) =>
      new Promise((resolve, reject) => {
        const end = (settle: () => void) => {
          waiting.delete(ask)
          clearTimeout(timer)
          settle()
        }
        const late = () => {
          const names = [...new Set(spans.all().map(({ service, name }) => `${service}: ${name}`))].slice(0, 50)
          const came = `${summary()}; spans: ${names.join(', ') || 'none'}; ${logs.all().length} logs`
          end(() => reject(new Error(`waited ${WAIT_MS} ms for ${what}; came: ${came}`)))
        }
        const timer = setTimeout(late, WAIT_MS)
        const ask = () => {
          try {
            const found = predicate()
            if (found) end(() => resolve(found))
          } catch (error) {
            end(() => reject(error))
          }
        }
        waiting.add(ask)
        ask()
      }),
    refuse: (signal, code, times = Number.POSITIVE_INFINITY) => void refusals.set(signal, { code, left: times }),
    delay: (ms) => {
      delayMs = ms
    },
    hang: () => {
      hanging ??= Promise.withResolvers()
    },
    resume: () => {
      refusals.clear()
      delayMs = 0
      hanging?.resolve()
      hanging = undefined
    },
    close,
    reopen: async () => {
      listener ??= await listen(protocol, port, answer)
    },
    treeOf: (traceId, outside) =>
      drawTree(
        spans.all().filter((span) => span.traceId === traceId),
        outside,
      ),
    rawText: () => bodies.map((body) => body.toString('latin1')).join('\n'),
    [Symbol.asyncDispose]: close,
  }
}

/** Bodies of one signal, decoded when they are first asked for: a burst is received at full speed. */
class Decoded<T> {
  private readonly decode: (body: Buffer) => T[]
  private readonly items: T[] = []
  private fresh: Buffer[] = []

  constructor(decode: (body: Buffer) => T[]) {
    this.decode = decode
  }

  push(body: Buffer): void {
    this.fresh.push(body)
  }

  all(): readonly T[] {
    for (const body of this.fresh.splice(0)) for (const item of this.decode(body)) this.items.push(item)
    return this.items
  }
}
