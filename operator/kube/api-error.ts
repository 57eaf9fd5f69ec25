/** What the API server answers when it does not do what was asked: its `Status`, as an error of ours. */

import type { ErrorCode } from '../../bus/wire/error-codes.ts'
import { KaosError } from '../../bus/wire/errors.ts'

/** One field that the server refuses, or one more reason. */
export interface ApiCause {
  readonly field?: string
  readonly message?: string
  readonly reason?: string
}

export interface ApiStatus {
  readonly code?: number
  readonly reason?: string
  readonly message?: string
  readonly details?: { readonly causes?: readonly ApiCause[]; readonly retryAfterSeconds?: number }
}

/** What the server can ask us to wait at most; a larger wish is cut, and asked again. */
const RETRY_AFTER_MS_MAX = 60_000

/** `status` is the HTTP code, `reason` one of Kubernetes's words (`NotFound`, `Conflict`, `Invalid`, `Expired`). */
export class ApiError extends KaosError {
  readonly status: number
  readonly reason: string
  readonly causes: readonly ApiCause[]

  /** `attempt`: what was tried, as "could not <attempt>". `retryAfter`: the header of that name. */
  constructor(attempt: string, answer: ApiStatus & { readonly code: number }, retryAfter?: string) {
    const { code, reason = '', message = '', details } = answer
    const why = message === '' ? `the server answered ${code}${reason === '' ? '' : ` ${reason}`}` : message
    const retryAfterMs = retryAfterOf(retryAfter, details?.retryAfterSeconds)
    super(codeOf(code), `could not ${attempt}: ${why}`, retryAfterMs === undefined ? {} : { retryAfterMs })
    this.name = 'ApiError'
    this.status = code
    this.reason = reason
    this.causes = details?.causes ?? []
  }

  /** The version that was named is too old: only a new list helps. */
  get isExpired(): boolean {
    return this.status === 410
  }
}

export function isNotFound(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404
}

/** The server knows us, and we may not. */
export function isForbidden(error: unknown): boolean {
  return error instanceof ApiError && error.status === 403
}

export function isConflict(error: unknown): boolean {
  return error instanceof ApiError && error.status === 409
}

/** The uid in a request is a precondition: another object of the same name is there. */
export function isOtherUid(error: unknown): boolean {
  return error instanceof ApiError && error.status === 409 && /\buid\b/i.test(error.message)
}

/** The reader of a list or watch has to begin again. */
export function isExpired(error: unknown): boolean {
  return error instanceof ApiError && error.isExpired
}

function codeOf(status: number): ErrorCode {
  if (status === 401 || status === 403) return 'cluster_denied'
  if (status === 409 || status === 410 || status === 429 || status >= 500) return 'cluster_busy'
  return 'cluster_refused'
}

function retryAfterOf(header: string | undefined, seconds: number | undefined): number | undefined {
  const wanted = header !== undefined && /^\d+$/.test(header) ? Number(header) : seconds
  return wanted === undefined ? undefined : Math.min(wanted * 1_000, RETRY_AFTER_MS_MAX)
}
