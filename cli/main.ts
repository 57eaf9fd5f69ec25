/** The kaos command: runs what was asked for and turns an error into words and an exit code. Verbs and options: `program.ts`. */
import { CommanderError } from 'commander'
import { KaosError } from '../bus/wire/errors.ts'
import { EXIT, exitCodeOf } from './process/exit-codes.ts'
import { program } from './program.ts'
import { allowLeavingReaders, describeError, errorJson, printJson, say } from './view/terminal.ts'

/** What still holds a process whose command is over: a tool that ignores its abort, an export that nobody answers. Nobody waits for it. */
const LEAVE_MS = 500

const XSTATE_MISSING = 'kaos needs the package xstate, 5.33 or newer, beside it: npm install xstate'

allowLeavingReaders()
try {
  await program().parseAsync()
} catch (error) {
  const isJson = process.argv.includes('--json')
  if (error instanceof CommanderError) {
    // It has told people already.
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
    if (isJson && error.exitCode !== 0) printJson(errorJson(new KaosError('usage', error.message.replace(/^error: /, ''))))
  } else {
    const told = isXStateMissing(error) ? new KaosError('usage', XSTATE_MISSING) : error
    if (isJson) printJson(errorJson(told))
    else say(describeError(told))
    process.exitCode = exitCodeOf(told)
  }
}
setTimeout(() => process.exit(), LEAVE_MS).unref()

/** Yours to choose and to install: your machines and this command share one copy. */
function isXStateMissing(error: unknown): boolean {
  const { code, message = '' } = (error ?? {}) as { readonly code?: unknown; readonly message?: string }
  return code === 'ERR_MODULE_NOT_FOUND' && message.includes("package 'xstate'")
}
