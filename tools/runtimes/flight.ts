/**
 * One request on its way, for transports that need to know more of it than the SDK hands them: it has no headers, end or failure per
 * request. The session puts it around the sending; what the SDK does for the request later, such as taking up its event stream again, still
 * finds it.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { ErrorCode } from '../../bus/wire/error-codes.ts'

export interface Flight {
  /** Sent with every HTTP request for this request. */
  readonly headers: Readonly<Record<string, string>>
  /** Aborted when nobody waits any more: what is still open for this request is to be closed. */
  readonly hangUp: AbortSignal
  /** The server has told how to take up the answer again if its stream breaks. */
  isResumable: boolean
  isOver: boolean
  /** Ends the request with an error, unless it is over. `why` continues a sentence about the server. */
  fail(code: ErrorCode, why: string): void
}

export const flights = new AsyncLocalStorage<Flight>()
