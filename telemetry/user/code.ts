/** Knows whose code runs: so that what a function of the user's own throws where nobody can catch it is told from a defect of ours. */
import { AsyncLocalStorage } from 'node:async_hooks'

/** Where the code belongs, as the log names it. */
export interface UserCode {
  readonly agent?: string
  readonly task?: string
  readonly effect?: string
  readonly tool?: string
}

const underWay = new AsyncLocalStorage<UserCode>()

/** Runs a function of the user's. All that it sets off, also after it returned, is known as its. */
export function runUserCode<T>(of: UserCode, run: () => T): T {
  return underWay.run(of, run)
}

/** Whose code runs at this moment; undefined for ours. */
export function userCodeUnderWay(): UserCode | undefined {
  return underWay.getStore()
}

/** Makes a controller that aborts with the signal, its listeners running as code of the user's. */
export function abortedAsUserCode(of: UserCode, signal: AbortSignal): AbortController {
  const own = new AbortController()
  const abort = () => underWay.run(of, () => own.abort(signal.reason))
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  return own
}
