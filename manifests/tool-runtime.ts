/** What can run an MCPServer on this machine, and how `params` of those runtimes is read. */
import { parse } from 'yaml'
import { z } from 'zod'

/** Runtimes that this process can run itself. */
export const localRuntimes = ['calculator', 'echo', 'stdio', 'url'] as const
/** Runtimes that need a pod; an installation may add others. */
export const podRuntimes = ['python-string', 'kubernetes', 'slack', 'pctx-codemode', 'fastmcp-codemode', 'custom'] as const

export type LocalRuntime = (typeof localRuntimes)[number]

const variableName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'expected the name of an environment variable' })

const stdioParamsSchema = z.strictObject({
  command: z.string().min(1).describe('Program to run; looked up on PATH.'),
  args: z.array(z.string()).default([]).describe('Its arguments. Default [].'),
  env: z.record(variableName, z.string()).default({}).describe('Variables that are set for it. Default {}.'),
  passEnv: z
    .array(variableName)
    .default([])
    .describe('Names of variables of this process that are passed on to it, such as a token. Default [].'),
})

const urlParamsSchema = z.strictObject({
  url: z.string().describe('Address of the Streamable HTTP endpoint.'),
  headersFromEnv: z
    .record(z.string().regex(/^[A-Za-z0-9-]+$/, { error: 'expected the name of an HTTP header' }), variableName)
    .default({})
    .describe('Headers sent with every request: name of the header to name of the variable that holds its value. Default {}.'),
})

export type StdioParams = Readonly<z.output<typeof stdioParamsSchema>>
export type UrlParams = Readonly<z.output<typeof urlParamsSchema>>

/** The message says what is allowed. */
export class ParamsError extends Error {
  override readonly name = 'ParamsError'
}

export function isLocalRuntime(runtime: string): runtime is LocalRuntime {
  return (localRuntimes as readonly string[]).includes(runtime)
}

/** What is allowed instead, when the runtime cannot read its params. Runtimes of pods read their own. */
export function checkParams(runtime: string, params: string | undefined): string | undefined {
  try {
    if (runtime === 'stdio') parseStdioParams(params)
    if (runtime === 'url') parseUrlParams(params)
    return undefined
  } catch (error) {
    if (error instanceof ParamsError) return error.message
    throw error
  }
}

/** A command line, or YAML (so JSON as well) with `command`. No shell is involved. Throws ParamsError. */
export function parseStdioParams(params: string | undefined): StdioParams {
  const text = (params ?? '').trim()
  if (/^(\{|(command|args|env|passEnv)\s*:)/.test(text)) return parseObject(text, stdioParamsSchema)
  const [command, ...args] = splitCommandLine(text)
  if (!command) throw new ParamsError('a command line such as "npx -y my-mcp-server", or YAML with command and args')
  return { command, args, env: {}, passEnv: [] }
}

/** A URL, or YAML (so JSON as well) with `url`. Throws ParamsError. */
export function parseUrlParams(params: string | undefined): UrlParams {
  const text = (params ?? '').trim()
  const read = /^(\{|(url|headersFromEnv)\s*:\s)/.test(text)
    ? parseObject(text, urlParamsSchema)
    : { url: text, headersFromEnv: {} }
  if (!/^https?:$/.test(URL.parse(read.url)?.protocol ?? '')) {
    throw new ParamsError('a URL that begins with http:// or https://, or YAML with url and headersFromEnv')
  }
  return read
}

/**
 * Splits as a POSIX shell does: blanks separate, single quotes keep all, double quotes keep blanks, a backslash keeps the next character.
 * What only a shell could do (pipes, `&&`, variables) is refused rather than passed on as an argument. Throws ParamsError.
 */
export function splitCommandLine(line: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let quote: '"' | "'" | undefined
  for (let at = 0; at < line.length; at++) {
    const char = line[at]!
    if (quote !== "'" && /[`$]/.test(char)) throw shellOnly(char)
    if (quote === undefined && /[|&;<>]/.test(char)) throw shellOnly(char)
    if (char === '\\' && quote !== "'") {
      const next = line[++at] ?? ''
      // Inside double quotes a backslash is itself unless it stands before what it has to protect.
      word = (word ?? '') + (quote === '"' && !/["\\$`]/.test(next) ? `\\${next}` : next)
    } else if (char === quote) quote = undefined
    else if (quote === undefined && (char === '"' || char === "'")) {
      quote = char
      word ??= ''
    } else if (quote === undefined && /\s/.test(char)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else word = (word ?? '') + char
  }
  if (quote) throw new ParamsError(`a command line in which each ${quote} is closed`)
  if (word !== undefined) words.push(word)
  return words
}

function shellOnly(char: string): ParamsError {
  return new ParamsError(`a plain command line: no shell reads it, so put ${char} in single quotes, or run "sh -c '…'"`)
}

function parseObject<Schema extends z.ZodType>(text: string, schema: Schema): z.output<Schema> {
  let value: unknown
  try {
    value = parse(text)
  } catch (error) {
    throw new ParamsError(`YAML that can be read (${(error as Error).message.split('\n')[0]})`)
  }
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const mistakes = result.error.issues.map((issue) => [issue.path.join('.'), issue.message].filter(Boolean).join(': '))
  throw new ParamsError(`YAML with ${fieldNames(schema)} (${mistakes.join('; ')})`)
}

function fieldNames(schema: z.ZodType): string {
  return schema instanceof z.ZodObject ? Object.keys(schema.shape).join(', ') : ''
}
