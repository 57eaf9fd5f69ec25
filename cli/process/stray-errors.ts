/**
 * What becomes of errors that code of the user's own throws where nobody can catch them: a promise that nobody awaited, a timer, a listener. They
 * are logged and the process goes on, for the turn that is under way knows nothing of them and other agents live here too. Whatever is not
 * known as the user's is a defect of ours, and the process dies of it loudly: every task goes on from its journal at the next start.
 */
import { messageOf } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { userCodeUnderWay } from '../../telemetry/user/code.ts'

/** For the whole life of a process that hosts agents or tools. */
export function surviveStrayErrors(log: Logger): void {
  // Both handlers run in the context of what threw.
  process.on('uncaughtException', (error) => {
    const of = userCodeUnderWay()
    if (of) log.error({ ...of, err: error }, 'code of yours threw where nobody could catch it; it goes on')
    else die(error)
  })
  process.on('unhandledRejection', (reason) => {
    const of = userCodeUnderWay()
    if (of) log.error({ ...of, err: asError(reason) }, 'code of yours left a rejected promise to itself; it goes on')
    else die(reason)
  })
  process.on('exit', (code) => {
    const of = userCodeUnderWay()
    if (!of) return
    log.error(
      { ...of, exitCode: code },
      'code of yours called process.exit, which ends all that runs here; throw an error instead',
    )
    // Whoever watches this process must not take it for an end that was meant.
    if (code === 0) process.exitCode = 1
  })
}

/** As Node does without a handler. */
function die(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.stack : messageOf(error)}\n`)
  process.exit(1)
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(`rejected with ${messageOf(reason)}`)
}
