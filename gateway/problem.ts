/** Errors as OpenAI's clients read them: a status, `{"error": {message, type, param, code}}`, and whether the same may be asked again. */

import { type ErrorCode, errorCodes } from '../bus/wire/error-codes.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { redact } from '../telemetry/redact.ts'
import type { TaskEnd, Ticket } from './door.ts'

/** Statuses by code. Any other is 503 when it is retryable; else 500 for our own codes and 422 for those of the user's. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  bad_message: 400,
  bad_name: 400,
  unsupported_version: 400,
  payload_too_large: 413,
  unknown_agent: 404,
  expired: 410,
  key_conflict: 422,
  canceled: 409,
  door_full: 429,
  result_timeout: 504,
  // how a task failed: limits of its own are no fault of the server, and asking again would only pay for them again
  step_limit: 422,
  tool_call_limit: 422,
  token_limit: 422,
  time_limit: 422,
  depth_limit: 422,
  fan_out_limit: 422,
  delegation_cycle: 422,
  machine_rejected: 422,
  model_failed: 502,
  model_without_tools: 502,
  model_bad_answer: 502,
  model_timeout: 504,
  agent_failed: 502,
  effect_timeout: 504,
}
const RETRY_AFTER_SECONDS = 1
/** Errors of sending after which nothing is in the mail for certain. */
const NOT_STORED: ReadonlySet<string> = new Set<ErrorCode>(['door_full', 'unknown_agent', 'payload_too_large', 'stream_missing'])

/** What is wrong with a request itself, where no code of ours says it. */
export class HttpProblem extends Error {
  readonly status: number
  readonly code: string
  /** The field that is meant. */
  readonly param: string | undefined
  readonly headers: Readonly<Record<string, string>>

  constructor(
    status: number,
    code: string,
    message: string,
    more: { readonly param?: string | undefined; readonly headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(message)
    this.name = 'HttpProblem'
    this.status = status
    this.code = code
    this.param = more.param
    this.headers = more.headers ?? {}
  }
}

export function badRequest(message: string, param?: string): HttpProblem {
  return new HttpProblem(400, 'bad_message', message, { param })
}

/** How a task ended that did not complete. */
export class TaskProblem extends Error {
  readonly end: Exclude<TaskEnd, { readonly state: 'completed' }>

  constructor(end: Exclude<TaskEnd, { readonly state: 'completed' }>) {
    super(end.failure.message)
    this.name = 'TaskProblem'
    this.end = end
  }
}

export interface ErrorBody {
  readonly error: {
    readonly message: string
    readonly type: string
    readonly param: string | null
    readonly code: string
    /** Of a task that was put into the mail. */
    readonly task?: string
    readonly trace?: string
    readonly idempotency_key?: string
  }
}

export interface Told {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: ErrorBody
}

/** What was known when it went wrong. */
export interface Circumstances {
  readonly ticket?: Ticket | undefined
  /** The task may be in the mail: only the same key finds it again. */
  readonly isSent?: boolean
  /** The caller gave the key, so that a client that repeats the request repeats the key. */
  readonly isKeyed?: boolean
}

/** An error that is none of ours tells nothing of itself. */
export function tell(error: unknown, { ticket, isSent = false, isKeyed = false }: Circumstances = {}): Told {
  const { status, code, message, type, param, again, headers } = describe(error)
  const isStored = isSent && !NOT_STORED.has(code)
  const mayRepeat = again && (!isStored || isKeyed)
  return {
    status,
    headers: {
      'x-should-retry': String(mayRepeat), // OpenAI's clients obey it; by themselves they repeat every 409, 429 and 5xx
      ...(mayRepeat && { 'retry-after': String(RETRY_AFTER_SECONDS) }),
      ...headers,
    },
    body: {
      error: {
        message: redact(message),
        type,
        param: param ?? null,
        code,
        ...(ticket && isStored && { task: ticket.task, trace: traceOf(error) ?? ticket.traceId, idempotency_key: ticket.id }),
      },
    },
  }
}

/** A task that was begun before has a trace of its own. */
export function traceOf(error: unknown): string | undefined {
  return error instanceof TaskProblem ? error.end.trace : undefined
}

interface Description {
  readonly status: number
  readonly code: string
  readonly message: string
  readonly type: string
  readonly again: boolean
  readonly param?: string | undefined
  readonly headers?: Readonly<Record<string, string>>
}

function describe(error: unknown): Description {
  if (error instanceof HttpProblem) {
    const { status, code, message, param, headers } = error
    return { status, code, message, type: typeOf(status), again: false, param, headers }
  }
  if (error instanceof TaskProblem) {
    const { state, failure } = error.end
    return { status: statusOf(failure.code), code: failure.code, message: failure.message, type: `task_${state}`, again: false }
  }
  if (error instanceof KaosError) {
    const status = statusOf(error.code)
    const isOwnFault = status === 500
    return {
      status,
      code: error.code,
      message: isOwnFault ? INTERNAL : error.message,
      type: typeOf(status),
      again: error.family === 'retryable',
    }
  }
  return { status: 500, code: 'internal', message: INTERNAL, type: typeOf(500), again: false }
}

const INTERNAL = 'the request could not be answered; the log of the process says why'

function statusOf(code: string): number {
  const known = STATUS[code as ErrorCode]
  if (known !== undefined) return known
  if (!(code in errorCodes)) return 422
  return errorCodes[code as ErrorCode].family === 'retryable' ? 503 : 500
}

function typeOf(status: number): string {
  if (status === 429) return 'rate_limit_error'
  return status < 500 ? 'invalid_request_error' : 'server_error'
}
