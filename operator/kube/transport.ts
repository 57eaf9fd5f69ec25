/**
 * How a request travels: with credentials, a deadline, and as many tries as the server asks for within it. Says nothing of kinds and objects;
 * `client.ts` does.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import { KaosError, messageOf } from '../../bus/wire/errors.ts'
import type { ClusterAccess } from './access.ts'
import { ApiError, type ApiStatus } from './api-error.ts'

export const REQUEST_LIMITS = {
  /** A request, all its tries and waits together. */
  deadlineMs: 15_000,
  /** Tries of a request that the server asks to be sent again. */
  triesMax: 5,
  /** Between them without a `Retry-After`; half of it and up to as much again, by chance. */
  retryMs: 1_000,
  answerBytesMax: 64 * 1024 * 1024,
} as const

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
  /** Default 15 s; 30 s for a page of a list. */
  readonly deadlineMs?: number | undefined
}

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'replace' | 'apply' | 'patch' | 'delete'

export interface Call extends CallOptions {
  readonly verb: Verb
  readonly kind: string
  /** In messages, as "could not <attempt>". */
  readonly attempt: string
  readonly path: string
  readonly query?: Readonly<Record<string, string | undefined>>
  readonly body?: unknown
  readonly isMetadataOnly?: boolean | undefined
}

export interface Answer {
  readonly body: unknown
  readonly warnings: readonly string[]
}

/** One answer, for metrics. `status` 0: none came. */
export interface Answered {
  readonly verb: Verb
  readonly kind: string
  readonly status: number
  readonly ms: number
}

export interface TransportOptions {
  /**
   * Called before each try of a write, and again when it goes out, for a connection may take its time, and this process may stand still meanwhile.
   * What it throws is what the write ends with. Leadership is checked here.
   */
  readonly guard?: (() => void) | undefined
  readonly onAnswer?: ((answered: Answered) => void) | undefined
}

const METHODS = {
  get: 'GET',
  list: 'GET',
  watch: 'GET',
  create: 'POST',
  replace: 'PUT',
  apply: 'PATCH',
  patch: 'PATCH',
  delete: 'DELETE',
} as const satisfies Record<Verb, Dispatcher.HttpMethod>

export class Transport {
  readonly #access: ClusterAccess
  readonly #options: TransportOptions

  constructor(access: ClusterAccess, options: TransportOptions) {
    this.#access = access
    this.#options = options
  }

  withGuard(guard: () => void): Transport {
    return new Transport(this.#access, { ...this.#options, guard })
  }

  async close(): Promise<void> {
    await this.#access.close()
  }

  async send(call: Call): Promise<Answer> {
    const deadline = new Deadline(call.attempt, call.deadlineMs ?? REQUEST_LIMITS.deadlineMs, call.signal)
    try {
      for (let tries = 1; ; tries++) {
        if (METHODS[call.verb] !== 'GET') this.#options.guard?.()
        const answer = await this.#exchange(call, deadline).catch((error: unknown) => {
          // A kept connection that the server had closed meanwhile; a read may always be sent again.
          if (METHODS[call.verb] === 'GET' && tries === 1 && !deadline.signal.aborted) return undefined
          throw error
        })
        if (!answer) continue
        const text = await textOf(call, answer.body).catch((error: unknown) => {
          throw deadline.errorFor(error)
        })
        if (answer.statusCode < 300) return { body: jsonOf(call, text), warnings: warningsOf(answer.headers.warning) }
        const error = errorOf(call, answer, text)
        if (error.status === 401 && tries === 1) this.#access.forget()
        else await this.#waitToRepeat(error, tries, deadline)
      }
    } finally {
      deadline.stop()
    }
  }

  /** The body of an answer that goes on and on; the deadline is for its headers, the signal ends it at any time. */
  async open(call: Call & { readonly signal: AbortSignal; readonly deadlineMs: number }): Promise<AsyncIterable<Uint8Array>> {
    const deadline = new Deadline(call.attempt, call.deadlineMs, call.signal)
    try {
      const answer = await this.#exchange(call, deadline)
      if (answer.statusCode === 200) {
        deadline.stop({ keepsSignal: true })
        return answer.body
      }
      const error = errorOf(call, answer, await textOf(call, answer.body))
      if (error.status === 401) this.#access.forget()
      throw error
    } catch (error) {
      deadline.stop()
      throw deadline.errorFor(error)
    }
  }

  /** Throws the error unless the server asks for another try and there is time for one. */
  async #waitToRepeat(error: ApiError, tries: number, deadline: Deadline): Promise<void> {
    const isAsked = error.status === 429 || (error.status >= 500 && error.retryAfterMs !== undefined)
    const ms = error.retryAfterMs ?? REQUEST_LIMITS.retryMs * (0.5 + Math.random())
    if (!isAsked || tries >= REQUEST_LIMITS.triesMax || ms > deadline.leftMs) throw error
    await sleep(ms, undefined, { signal: deadline.signal }).catch((cause: unknown) => {
      throw deadline.errorFor(cause)
    })
  }

  async #exchange(call: Call, deadline: Deadline): Promise<Dispatcher.ResponseData> {
    const startedAt = performance.now()
    const answered = (status: number) =>
      this.#options.onAnswer?.({ verb: call.verb, kind: call.kind, status, ms: performance.now() - startedAt })
    try {
      // A request that waits for a connection hears of its signal only when it gets one; it is not sent then.
      const answer = await deadline.orLate(this.#request(call, deadline.signal))
      answered(answer.statusCode)
      return answer
    } catch (error) {
      answered(0)
      throw deadline.errorFor(error)
    }
  }

  async #request(call: Call, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const { origin, prefix, headers, dispatcher, watching } = await this.#access.get()
    const { guard } = this.#options
    const pool = call.verb === 'watch' ? watching : dispatcher
    const way = guard && METHODS[call.verb] !== 'GET' ? pool.compose(checking(guard)) : pool
    return await way.request({
      origin,
      path: `${prefix}${call.path}${queryOf(call.query)}`,
      method: METHODS[call.verb],
      headers: { ...headers, ...headersOf(call) },
      signal,
      ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
    })
  }
}

/** Calls `guard` at the moment at which a connection takes the request. */
function checking(guard: () => void): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (options, handler) =>
    dispatch(options, {
      onRequestStart: (controller, context) => {
        guard()
        handler.onRequestStart?.(controller, context)
      },
      onRequestUpgrade: (...given) => handler.onRequestUpgrade?.(...given),
      onResponseStart: (...given) => handler.onResponseStart?.(...given),
      onResponseData: (...given) => handler.onResponseData?.(...given),
      onResponseEnd: (...given) => handler.onResponseEnd?.(...given),
      onResponseError: (...given) => handler.onResponseError?.(...given),
    })
}

/** A time-out and the caller's signal in one, without anything left on the caller's signal afterwards. */
class Deadline {
  readonly #controller = new AbortController()
  readonly #attempt: string
  readonly #ms: number
  readonly #endsAt: number
  readonly #timer: NodeJS.Timeout
  readonly #outer: AbortSignal | undefined
  readonly #onAbort = () => this.#controller.abort()
  #isLate = false

  constructor(attempt: string, ms: number, outer: AbortSignal | undefined) {
    this.#attempt = attempt
    this.#ms = ms
    this.#endsAt = performance.now() + ms
    this.#outer = outer
    this.#timer = setTimeout(() => {
      this.#isLate = true
      this.#controller.abort()
    }, ms)
    if (outer?.aborted) this.#onAbort()
    else outer?.addEventListener('abort', this.#onAbort, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get leftMs(): number {
    return this.#endsAt - performance.now()
  }

  /** What `work` ends with, or a rejection as soon as the signal aborts; `work` is then left to itself. */
  async orLate<T>(work: Promise<T>): Promise<T> {
    const { promise: late, reject } = Promise.withResolvers<never>()
    const { signal } = this.#controller
    const end = () => reject(signal.reason)
    if (signal.aborted) end()
    else signal.addEventListener('abort', end, { once: true })
    try {
      return await Promise.race([work, late])
    } finally {
      signal.removeEventListener('abort', end)
    }
  }

  stop(options: { readonly keepsSignal?: boolean } = {}): void {
    clearTimeout(this.#timer)
    if (!options.keepsSignal) this.#outer?.removeEventListener('abort', this.#onAbort)
  }

  errorFor(cause: unknown): KaosError {
    if (cause instanceof KaosError) return cause
    if (this.#isLate)
      return new KaosError('cluster_unreachable', `could not ${this.#attempt}: no answer within ${this.#ms} ms`, { cause })
    const reason: unknown = this.#outer?.reason
    if (this.#outer?.aborted)
      return reason instanceof KaosError ? reason : new KaosError('aborted', `stopped: ${this.#attempt}`, { cause })
    return new KaosError('cluster_unreachable', `could not ${this.#attempt}: ${messageOf(cause)}`, { cause })
  }
}

function queryOf(query: Call['query'] = {}): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined)
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`
}

/** Never a fall-back to the whole object: where metadata alone is asked for, the content must not come. */
function headersOf({ verb, isMetadataOnly, body }: Call): Record<string, string> {
  const form = isMetadataOnly ? `;as=PartialObjectMetadata${verb === 'list' ? 'List' : ''};g=meta.k8s.io;v=v1` : ''
  const type = { apply: 'application/apply-patch+yaml', patch: 'application/merge-patch+json' }
  return {
    accept: `application/json${form}`,
    'user-agent': 'kaos-operator',
    ...(body === undefined ? {} : { 'content-type': type[verb as keyof typeof type] ?? 'application/json' }),
  }
}

async function textOf({ attempt }: Call, body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.byteLength
    if (bytes > REQUEST_LIMITS.answerBytesMax) {
      throw new KaosError(
        'cluster_refused',
        `could not ${attempt}: the answer is larger than ${REQUEST_LIMITS.answerBytesMax} bytes`,
      )
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function jsonOf({ attempt }: Call, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new KaosError('cluster_unreachable', `could not ${attempt}: the answer is no JSON: "${text.slice(0, 200)}"`, { cause })
  }
}

function errorOf({ attempt }: Call, { statusCode, headers }: Dispatcher.ResponseData, text: string): ApiError {
  const after = headers['retry-after']
  let status: ApiStatus = { message: text.slice(0, 500).trim() }
  try {
    status = JSON.parse(text) as ApiStatus
  } catch {
    // A proxy or a server that is starting answers in plain text.
  }
  return new ApiError(attempt, { ...status, code: statusCode }, Array.isArray(after) ? after[0] : after)
}

/** `299 - "text"`, several with commas between them. */
function warningsOf(header: string | string[] | undefined): readonly string[] {
  const text = Array.isArray(header) ? header.join(',') : (header ?? '')
  return [...text.matchAll(/\b\d{3} \S+ "((?:[^"\\]|\\.)*)"/g)].map((match) => match[1]!.replace(/\\(.)/g, '$1'))
}
