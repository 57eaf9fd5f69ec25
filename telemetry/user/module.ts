/** Imports a file of the user's, with a machine or with tools, and says for its author what stands in the way. */
import { extname } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { runUserCode, type UserCode } from './code.ts'

const EXTENSION = /^\.[cm]?[jt]s$/

/** Why a file cannot be one, by its name; undefined when it can. */
export function extensionMistake(file: string): string | undefined {
  return EXTENSION.test(extname(file)) ? undefined : 'its name ends neither in .ts nor in .js'
}

/**
 * What a `.ts` or `.js` file exports. It runs as code of the user's, once per process: changes need a restart. Rejects with what the file
 * throws, and with an Error when its import takes longer than `timeoutMs`.
 */
export async function importUserModule(
  file: string,
  of: UserCode,
  timeoutMs: number,
): Promise<{ readonly [name: string]: unknown }> {
  const late = Promise.withResolvers<never>()
  const why = `it did not end within ${timeoutMs} ms; it may wait for something at the top level`
  const timer = setTimeout(() => late.reject(new Error(why)), timeoutMs)
  try {
    return await Promise.race([runUserCode(of, () => import(pathToFileURL(file).href)), late.promise])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Why an import failed: the words of the error, where it is, and what to write instead where Node's words do not say it.
 *
 * @param message The words of `error`.
 */
export function importMistake(error: unknown, message: string, file: string): string {
  const [words = '', hint = ''] = message.split('\n')
  const { code, name, stack = '' } = error instanceof Error ? (error as NodeJS.ErrnoException) : {}
  // A file that cannot be read has no frames: its place, a path or a URL, stands before the message.
  const [, at = '', line] = (name === 'SyntaxError' && /^(.+):(\d+)$/.exec(stack.split('\n', 1)[0]!)) || []
  const path = at.startsWith('file:') ? fileURLToPath(at) : at
  const place = line === undefined ? '' : `${path === file ? '' : ` of "${path}"`} at line ${line}`
  if (code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX')
    return `${words}${place}: Node runs TypeScript by taking its types away; write a union of texts or an object "as const" for an enum, and fields for parameter properties`
  if (/does not provide an export named/.test(words))
    return `${words}${place}; a type is imported with "import type" or "import { type … }"`
  return `${words}${place}${hint.startsWith('Did you mean') ? ` (${hint})` : ''}`
}
