/**
 * Asks an OpenAI-compatible endpoint for one chat completion over pooled keep-alive connections: streamed, bounded in time and size, and
 * repeated while that may help. What the answer means is the agent's affair; what its bytes mean is `chat.ts`.
 *
 * CPU of one call at no latency, 5 events in the answer, 16 calls at once, Node 24.21 on two shared cores: 61-94 us, where undici's bare
 * dispatch takes 36-71, its `request` with the body as text 55-78, global fetch 250-330 and the openai client 575-690. Each further event
 * costs 1.7 us, most of it JSON.parse.
 */
import type { Agent } from 'undici'
import { KaosError } from '../../bus/wire/errors.ts'
import type { JsonObject } from '../../bus/wire/json.ts'
import { allowedBaggage } from '../../telemetry/baggage.ts'
import type { Logger } from '../../telemetry/log.ts'
import { redact } from '../../telemetry/redact.ts'
import { AttemptFailed, type ChatAnswer, type ChatRequest, refusesTools } from './chat.ts'
import { Exchange } from './exchange.ts'

export const ATTEMPTS_MAX = 3
const CONNECTIONS_MAX = 128 // per origin; calls beyond wait inside their time-out
const ORIGINS_MAX = 64
const CONNECT_TIMEOUT_MS = 5_000
/** Below the 5 s after which uvicorn, and so vLLM and LiteLLM, closes an idle connection: the server must not be first. */
const KEEP_ALIVE_MS = 4_000
const BACKOFF_MS = 250
const WORDS_CHARS_MAX = 500
const TIMER_MS_MAX = 2 ** 31 - 1 // a longer timer of Node fires at once

export interface ModelCall {
  /** The base, as in http://127.0.0.1:11434/v1; a query string in it is kept. */
  readonly url: string
  /** Read again for every attempt; never logged, and removed from the server's words. */
  readonly apiKey?: (() => string | undefined) | undefined
  readonly body: ChatRequest | JsonObject
  /** The same for every attempt, and for a call that a resumed turn makes again. */
  readonly idempotencyKey: string
  readonly traceparent: string
  readonly tracestate?: string | undefined
  /** Of the task, as it came: what of it leaves, the client's `baggageKeys` say. */
  readonly baggage?: string | undefined
  /** For all attempts together, waits included. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
  /** Progress only: an attempt that breaks is repeated from the start, and so are its deltas. The answer's text is what counts. */
  readonly onText?: ((delta: string) => void) | undefined
}

export interface ModelAnswer extends ChatAnswer {
  readonly attempts: number
  /** From the start of the attempt that answered to its first piece of text or tool call. */
  readonly firstTokenMs: number
}

export interface ModelClient {
  /**
   * One answer, or a KaosError: `model_failed` (no connection, a status, an error in the server's words), `model_without_tools` (the server
   * refuses the tools that the request offers), `model_bad_answer` (cut off, broken, empty), `model_timeout`, `payload_too_large`, `aborted`. At most ATTEMPTS_MAX attempts: after a broken connection or a cut-off
   * answer, 408, 409, 429 and 5xx, with jittered back-off or after the server's Retry-After. A wait for which the time-out leaves no room
   * ends the call at once. `details` holds the attempts, the status, and the wait asked for.
   */
  complete(call: ModelCall): Promise<ModelAnswer>
  /** Closes the connections; calls under way fail as aborted. */
  close(): Promise<void>
}

export interface ModelClientOptions {
  readonly log?: Logger | undefined
  /** Wait before the second attempt, twice that before the third, each plus up to `backoffMs` by chance. Default 250. */
  readonly backoffMs?: number | undefined
  readonly random?: (() => number) | undefined
  /** Which baggage models are sent, by key. Default none. */
  readonly baggageKeys?: readonly string[] | undefined
}

export function createModelClient(options: ModelClientOptions = {}): ModelClient {
  const { log, backoffMs = BACKOFF_MS, random = Math.random, baggageKeys = [] } = options
  const open = new Set<Limit>()
  let isClosed = false
  const opening = openAgent()
  opening.catch(() => {}) // whoever calls is told
  let agent: Agent | undefined

  async function complete(call: ModelCall): Promise<ModelAnswer> {
    agent ??= await opening
    if (call.signal.aborted || isClosed) throw aborted(call)
    const ask = requestOf(call)
    const baggage = allowedBaggage(call.baggage, baggageKeys)
    const onText = call.onText && harmless(call.onText, log)
    const limit = new Limit(call)
    open.add(limit)
    try {
      for (let attempt = 1; ; attempt++) {
        const exchange = new Exchange(onText)
        limit.begin(attempt, (error) => exchange.stop(error))
        agent.dispatch({ ...ask, headers: headersOf(call, baggage) }, exchange)
        try {
          const answer = await exchange.answer
          exchange.letGo()
          return { ...answer, attempts: attempt, firstTokenMs: exchange.firstTokenMs }
        } catch (cause) {
          if (!(cause instanceof AttemptFailed)) throw cause
          const error = judged(call, cause)
          const waitMs = error.afterMs ?? backoffMs * 2 ** (attempt - 1)
          const jitteredMs = waitMs + random() * backoffMs
          if (!error.again || attempt === ATTEMPTS_MAX || jitteredMs >= limit.leftMs) throw failed(call, error, attempt)
          log?.warn(
            { ...fieldsOf(call), attempt, waitMs: jitteredMs, why: clean(call, error) },
            'model call failed, trying again',
          )
          await limit.pause(jitteredMs, error)
        }
      }
    } finally {
      limit.release()
      open.delete(limit)
    }
  }

  async function close(): Promise<void> {
    isClosed = true
    for (const limit of open) limit.abort()
    await opening.then(
      (each) => each.destroy(),
      () => {}, // it never opened
    )
  }

  return { complete, close }
}

/**
 * Its 110 modules are loaded beside whatever a host does when it starts, and not with the first call: on a busy machine that takes a second, in which
 * another host may have made the call.
 */
async function openAgent(): Promise<Agent> {
  const undici = await import('undici')
  return new undici.Agent({
    connections: CONNECTIONS_MAX,
    maxOrigins: ORIGINS_MAX,
    pipelining: 1,
    allowH2: false, // an abort then closes the socket, which is what makes a server stop generating
    connectTimeout: CONNECT_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    headersTimeout: 0, // the call's own time-out stands over both, to the millisecond
    bodyTimeout: 0,
  })
}

/** What ends a call from outside, its time-out or its caller's signal: told to whatever the call does at that moment, and remembered. */
class Limit {
  readonly #call: ModelCall
  readonly #deadline: number
  readonly #timer: NodeJS.Timeout
  #attempt = 0
  #last: AttemptFailed | undefined
  #ended: KaosError | undefined
  #tell: (error: KaosError) => void = () => undefined
  readonly abort = (): void => this.#end(aborted(this.#call))

  constructor(call: ModelCall) {
    this.#call = call
    this.#deadline = performance.now() + call.timeoutMs
    this.#timer = setTimeout(() => this.#end(timedOut(call, this.#attempt, this.#last)), Math.min(call.timeoutMs, TIMER_MS_MAX))
    call.signal.addEventListener('abort', this.abort, { once: true })
  }

  get leftMs(): number {
    return this.#deadline - performance.now()
  }

  begin(attempt: number, tell: (error: KaosError) => void): void {
    this.#attempt = attempt
    this.#tell = tell
    if (this.#ended) tell(this.#ended)
  }

  /** Waits between two attempts; rejects as soon as the call ends. */
  async pause(waitMs: number, last: AttemptFailed): Promise<void> {
    this.#last = last
    if (this.#ended) throw this.#ended
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, waitMs)
      this.#tell = (error) => {
        clearTimeout(timer)
        reject(error)
      }
    })
  }

  release(): void {
    clearTimeout(this.#timer)
    this.#call.signal.removeEventListener('abort', this.abort)
  }

  #end(error: KaosError): void {
    if (this.#ended) return
    this.#ended = error
    this.#tell(error)
  }
}

function requestOf(call: ModelCall) {
  const url = URL.parse(call.url)
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw new KaosError('model_failed', `could not ask model ${naming(call)}: this is not an http or https URL`)
  }
  return {
    origin: url.origin,
    path: `${url.pathname.replace(/\/+$/, '')}/chat/completions${url.search}`,
    method: 'POST',
    body: Buffer.from(JSON.stringify({ ...call.body, stream: true, stream_options: { include_usage: true } })),
  } as const
}

function headersOf(call: ModelCall, baggage: string | undefined): string[] {
  const key = keyOf(call)
  const headers = [
    'content-type',
    'application/json',
    'accept',
    'text/event-stream, application/json',
    'user-agent',
    'kaos-actors',
  ]
  headers.push('idempotency-key', call.idempotencyKey, 'traceparent', call.traceparent)
  if (call.tracestate) headers.push('tracestate', call.tracestate)
  if (baggage) headers.push('baggage', baggage)
  if (key !== '') headers.push('authorization', `Bearer ${key}`)
  return headers
}

/** A key read from a file ends with a line break. */
function keyOf(call: ModelCall): string {
  return call.apiKey?.()?.trim() ?? ''
}

/** A watcher that throws must not cost the answer: it hears no more. */
function harmless(onText: (delta: string) => void, log: Logger | undefined): (delta: string) => void {
  let isBroken = false
  return (delta) => {
    if (isBroken) return
    try {
      onText(delta)
    } catch (err) {
      isBroken = true
      log?.warn({ err }, 'progress of a model call could not be shown')
    }
  }
}

function failed(call: ModelCall, last: AttemptFailed, attempts: number): KaosError {
  const tries = attempts === 1 ? '' : ` in ${attempts} attempts`
  return new KaosError(last.code, `could not get an answer from model ${naming(call)}${tries}: ${clean(call, last)}`, {
    cause: last.cause,
    details: {
      attempts,
      ...(last.status === undefined ? {} : { status: last.status }),
      ...(last.afterMs === undefined ? {} : { retryAfterMs: last.afterMs }),
    },
  })
}

/** A refusal of tools is an answer of its own kind: the same request never succeeds, one without tools may. */
function judged({ body }: ModelCall, error: AttemptFailed): AttemptFailed {
  if (!Array.isArray(body.tools) || body.tools.length === 0 || !refusesTools(error)) return error
  return new AttemptFailed('model_without_tools', error.message, {
    cause: error.cause,
    ...(error.status !== undefined && { status: error.status }),
  })
}

function timedOut(call: ModelCall, attempts: number, last: AttemptFailed | undefined): KaosError {
  const before = last === undefined ? '' : `; the attempt before failed: ${clean(call, last)}`
  const message = `model ${naming(call)} did not answer within ${call.timeoutMs} ms (attempt ${attempts})${before}`
  return new KaosError('model_timeout', message, { details: { attempts, timeoutMs: call.timeoutMs } })
}

function aborted(call: ModelCall): KaosError {
  return new KaosError('aborted', `the call to model ${naming(call)} was stopped`, { cause: call.signal.reason })
}

/** Without what a URL may hide: user, password, query. */
function naming(call: ModelCall): string {
  const url = URL.parse(call.url)
  return `"${call.body.model}" at ${url && url.host !== '' ? `${url.protocol}//${url.host}${url.pathname}` : `"${redact(call.url)}"`}`
}

function fieldsOf(call: ModelCall) {
  return { model: call.body.model, trace_id: call.traceparent.slice(3, 35), effect: call.idempotencyKey }
}

/** The server's words may repeat the key that it was sent. */
function clean(call: ModelCall, error: AttemptFailed): string {
  const key = keyOf(call)
  const words = redact(key.length < 4 ? error.message : error.message.replaceAll(key, '[redacted]'))
  return words.length > WORDS_CHARS_MAX ? `${words.slice(0, WORDS_CHARS_MAX)}…` : words
}
