/** Loads the file of a machine: a TypeScript or JavaScript module whose default export is the machine. */
import { readFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { KaosError, messageOf } from '../../bus/wire/errors.ts'
import { runUserCode } from '../../telemetry/user-code.ts'
import { type OwnMachine, registerOwnMachine } from './register.ts'

const EXTENSION = /^\.[cm]?[jt]s$/
/** Of the import, with all that it imports. */
const LOAD_TIMEOUT_MS = 30_000

/**
 * Throws `machine_file` when there is nothing to load or the import takes longer than `timeoutMs` (default 30 s), and what `registerOwnMachine`
 * throws. A module is loaded once per process.
 */
export async function loadMachine(
  name: string,
  file: string,
  { timeoutMs = LOAD_TIMEOUT_MS }: { readonly timeoutMs?: number } = {},
): Promise<OwnMachine> {
  const refuse = (why: string, cause?: unknown) =>
    new KaosError('machine_file', `could not load the machine of agent "${name}" from "${file}": ${why}`, { cause })
  if (!EXTENSION.test(extname(file))) throw refuse('its name ends neither in .ts nor in .js')
  const source = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw refuse(error.code === 'ENOENT' ? 'there is no such file' : messageOf(error), error)
  })
  const importing = runUserCode({ agent: name }, () => import(pathToFileURL(file).href))
  const module = await inTime<{ readonly [name: string]: unknown }>(importing, timeoutMs).catch((error: unknown) => {
    // What the file makes while it is loaded, such as a local effect, says by itself what is wrong.
    throw error instanceof KaosError && error.code !== 'machine_file' ? error : refuse(reasonOf(error, file), error)
  })
  if (module.default === undefined) {
    const named = Object.keys(module).join(', ')
    throw refuse(`the machine must be its default export, and it exports ${named === '' ? 'nothing' : `${named} but no default`}`)
  }
  return registerOwnMachine(name, module.default, { source })
}

/** The words of the error, where it is, and what to write instead where Node's words do not say it. */
function reasonOf(error: unknown, file: string): string {
  const [message = '', hint = ''] = messageOf(error).split('\n')
  const { code, name, stack = '' } = error instanceof Error ? (error as NodeJS.ErrnoException) : {}
  // A file that cannot be read has no frames: its place, a path or a URL, stands before the message.
  const [, at = '', line] = (name === 'SyntaxError' && /^(.+):(\d+)$/.exec(stack.split('\n', 1)[0]!)) || []
  const path = at.startsWith('file:') ? fileURLToPath(at) : at
  const place = line === undefined ? '' : `${path === file ? '' : ` of "${path}"`} at line ${line}`
  if (code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX')
    return `${message}${place}: Node runs TypeScript by taking its types away; write a union of texts or an object "as const" for an enum, and fields for parameter properties`
  if (/does not provide an export named/.test(message))
    return `${message}${place}; a type is imported with "import type" or "import { type … }"`
  const more = hint.startsWith('Did you mean') ? ` (${hint})` : ''
  return `${message}${place}${more}`
}

async function inTime<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const late = Promise.withResolvers<never>()
  const why = `its import did not end within ${timeoutMs} ms; it may wait for something at the top level, which belongs into an effect`
  const timer = setTimeout(() => late.reject(new KaosError('machine_file', why)), timeoutMs)
  try {
    return await Promise.race([work, late.promise])
  } finally {
    clearTimeout(timer)
  }
}
