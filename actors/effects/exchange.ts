/** One request to a model and its response, as undici's own handler: a stream or an iterator around it would cost more than the answer. */
import { StringDecoder } from 'node:string_decoder'
import type { Dispatcher } from 'undici'
import { AnswerFold, AttemptFailed, type ChatAnswer, closedHalfWay, isWorthRepeating, tooLarge, wordsOf } from './chat.ts'

/** All that is read of one response. The answer in it has its own, lower limit. */
export const BODY_BYTES_MAX = 128 * 1024 * 1024
const ERROR_BYTES_MAX = 16 * 1024
/** How long a server may take to end a body after [DONE] before its connection is given up. */
const DRAIN_MS = 1_000

type Controller = Dispatcher.DispatchController
type Headers = { readonly [name: string]: string | string[] | undefined }

export class Exchange implements Dispatcher.DispatchHandler {
  /** Rejects with AttemptFailed, or with what `stop` was given. Settles at [DONE] already: the end of the body may be late. */
  readonly answer: Promise<ChatAnswer>
  firstTokenMs = 0
  readonly #startedAt = performance.now()
  readonly #fold: AnswerFold
  readonly #decoder = new StringDecoder('utf8')
  #resolve!: (answer: ChatAnswer) => void
  #reject!: (error: Error) => void
  #isSettled = false
  #hasEnded = false
  #controller: Controller | undefined
  #stopped: Error | undefined
  #drain: NodeJS.Timeout | undefined
  #status = 0
  #afterMs: number | undefined
  #bytes = 0
  #errorBody = ''

  constructor(onText?: (delta: string) => void) {
    this.#fold = new AnswerFold(onText)
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Settles and closes the connection at once. A request that still waits for a connection is dropped when it gets one. */
  stop(error: Error): void {
    this.#stopped = error
    this.#fail(error)
    this.#controller?.abort(error)
  }

  /** For a settled exchange: the connection is kept if the body ends soon. */
  letGo(): void {
    if (!this.#hasEnded) this.#drain = setTimeout(() => this.stop(new Error('the body did not end')), DRAIN_MS)
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller
    if (this.#stopped) controller.abort(this.#stopped)
  }

  onResponseStart(_controller: Controller, status: number, headers: Headers): void {
    if (status < 200) return
    this.#status = status
    if (status >= 400) this.#afterMs = retryAfterMs(headers['retry-after'])
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    this.#bytes += chunk.length
    if (this.#status !== 200) this.#collect(chunk, controller)
    else if (this.#bytes > BODY_BYTES_MAX) controller.abort(tooLarge())
    else this.#read(chunk, controller)
  }

  onResponseEnd(): void {
    this.#end()
    if (this.#status === 200) this.#finish()
    else this.#fail(this.#refused())
  }

  onResponseError(_controller: Controller | null, error: Error): void {
    this.#end()
    if (error instanceof AttemptFailed) this.#fail(error)
    else if (this.#status === 0) this.#fail(noResponse(error))
    else if (this.#status !== 200) this.#fail(this.#refused())
    else if (this.#fold.isComplete) this.#finish()
    else this.#fail(closedHalfWay(error))
  }

  #read(chunk: Buffer, controller: Controller): void {
    if (this.#isSettled) return
    try {
      this.#fold.feed(this.#decoder.write(chunk))
      if (this.firstTokenMs === 0 && this.#fold.hasBegun) this.firstTokenMs = performance.now() - this.#startedAt
      if (this.#fold.isDone) this.#finish()
    } catch (error) {
      controller.abort(asFailure(error))
    }
  }

  /** The beginning of an error's body says enough. */
  #collect(chunk: Buffer, controller: Controller): void {
    const over = this.#bytes - ERROR_BYTES_MAX
    this.#errorBody += this.#decoder.write(over > 0 ? chunk.subarray(0, -over) : chunk)
    if (over > 0) controller.abort(this.#refused())
  }

  #finish(): void {
    if (this.#isSettled) return
    try {
      const answer = this.#fold.finish()
      this.firstTokenMs ||= performance.now() - this.#startedAt
      this.#isSettled = true
      this.#resolve(answer)
    } catch (error) {
      this.#fail(asFailure(error))
    }
  }

  #fail(error: Error): void {
    this.#isSettled = true
    this.#reject(error)
  }

  #refused(): AttemptFailed {
    const words = wordsOf(parsed(this.#errorBody))
    return new AttemptFailed('model_failed', `status ${this.#status}${words === '' ? '' : `: ${words}`}`, {
      again: isWorthRepeating(this.#status),
      status: this.#status,
      afterMs: this.#afterMs,
    })
  }

  #end(): void {
    this.#hasEnded = true
    clearTimeout(this.#drain)
  }
}

/** Nothing came back: no connection, or one that closed first, as a kept one may at any time. Only a request that cannot be sent is final. */
function noResponse(cause: Error): AttemptFailed {
  const code = 'code' in cause ? String(cause.code) : ''
  return new AttemptFailed('model_failed', `no response: ${cause.message || code}`, {
    again: code !== 'UND_ERR_INVALID_ARG',
    cause,
  })
}

function asFailure(error: unknown): AttemptFailed {
  return error instanceof AttemptFailed
    ? error
    : new AttemptFailed('model_bad_answer', 'the answer cannot be read', { cause: error })
}

/** Seconds or an HTTP date, as milliseconds from now. */
function retryAfterMs(header: string | string[] | undefined): number | undefined {
  const value = String(header ?? '').trim()
  const ms = /^\d+(\.\d+)?$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

function parsed(text: string) {
  try {
    return JSON.parse(text)
  } catch {
    return text.trim()
  }
}
