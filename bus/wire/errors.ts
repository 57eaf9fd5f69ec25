/** Errors as they are thrown, stored and sent. Which there are: `error-codes.ts`. */
import { type ErrorCode, errorCodes, type Family } from './error-codes.ts'
import type { Json } from './json.ts'

/** An error as it is stored and sent. */
export interface Failure {
  readonly code: string
  readonly message: string
  readonly details?: Json
}

export class KaosError extends Error {
  readonly code: ErrorCode
  /** Milliseconds to wait before the same is tried again; only for retryable errors. */
  readonly retryAfterMs: number | undefined
  readonly details: Json | undefined

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; retryAfterMs?: number; details?: Json } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'KaosError'
    this.code = code
    this.retryAfterMs = options.retryAfterMs
    this.details = options.details
  }

  get family(): Family {
    return errorCodes[this.code].family
  }

  get cure(): string {
    return errorCodes[this.code].cure
  }
}

export function isRetryable(error: unknown): boolean {
  return error instanceof KaosError && error.family === 'retryable'
}

/** What is stored and sent of any error. A foreign error keeps its message and takes the code given. */
export function toFailure(error: unknown, code: ErrorCode = 'internal'): Failure {
  if (error instanceof KaosError) {
    return { code: error.code, message: error.message, ...(error.details === undefined ? {} : { details: error.details }) }
  }
  return { code, message: messageOf(error) }
}

/** Of a foreign error; a journal keeps it for as long as the task. */
const MESSAGE_CHARS_MAX = 8_192

/** The words of whatever somebody else's code threw, which may be anything: also what throws when it is looked at. */
export function messageOf(thrown: unknown): string {
  try {
    const said = thrown instanceof Error || isWithMessage(thrown) ? thrown.message : thrown
    const text = typeof said === 'object' && said !== null ? JSON.stringify(said) : String(said)
    return text.length > MESSAGE_CHARS_MAX ? `${text.slice(0, MESSAGE_CHARS_MAX)}…` : text
  } catch {
    return 'something was thrown that has no text'
  }
}

function isWithMessage(thrown: unknown): thrown is { readonly message: string } {
  return typeof thrown === 'object' && thrown !== null && 'message' in thrown && typeof thrown.message === 'string'
}
