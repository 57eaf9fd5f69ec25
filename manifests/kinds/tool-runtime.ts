/** What can run an MCPServer on this machine, and how `params` of those runtimes is read. */
import { parse } from 'yaml'
import { z } from 'zod'
import { nearestTo } from '../loading/nearest.ts'

/** Runtimes that this process can run itself. */
export const localRuntimes = ['calculator', 'echo', 'files', 'http-fetch', 'stdio', 'typescript', 'url'] as const
/** Runtimes that need a pod; an installation may add others. */
export const podRuntimes = ['python-string', 'kubernetes', 'slack', 'pctx-codemode', 'fastmcp-codemode', 'custom'] as const

/** Local runtimes that nothing can be said of without params. */
export const runtimesWithParams: readonly LocalRuntime[] = ['files', 'http-fetch', 'stdio', 'typescript', 'url']

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

const typescriptParamsSchema = z.strictObject({
  path: z.string().min(1).describe('A .ts or .js file that exports tools; relative to the manifest.'),
})

const filesParamsSchema = z.strictObject({
  root: z.string().min(1).describe('The folder whose files can be read; relative to the manifest.'),
  writable: z.boolean().default(false).describe('Whether files can be written too. Default false.'),
})

const httpFetchParamsSchema = z.strictObject({
  hosts: z
    .array(z.string().transform(hostEntry))
    .min(1, { error: 'expected at least one host' })
    .describe(
      'Hosts that may be read: "example.org", "*.example.org" for all below it, each with ":port" where it is not 80 or 443.',
    ),
  allowPrivate: z
    .boolean()
    .default(false)
    .describe('Whether hosts may have addresses that are not public, such as 127.0.0.1 or 10.0.0.1. Default false.'),
})

export type TypescriptParams = Readonly<z.output<typeof typescriptParamsSchema>>
export type FilesParams = Readonly<z.output<typeof filesParamsSchema>>
export type HttpFetchParams = Readonly<z.output<typeof httpFetchParamsSchema>>
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
    if (isLocalRuntime(runtime)) parsers[runtime]?.(params)
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

/** A path, or YAML with `path`. Throws ParamsError. */
export function parseTypescriptParams(params: string | undefined): TypescriptParams {
  const text = (params ?? '').trim()
  const read = /^(\{|path\s*:\s)/.test(text) ? parseObject(text, typescriptParamsSchema) : { path: text }
  if (/\.[cm]?[jt]s$/.test(read.path) && !read.path.includes('\n')) return read
  throw new ParamsError('the path of a .ts or .js file that exports tools, such as "./tools/weather.ts"')
}

/** A path, or YAML with `root` and `writable`. Throws ParamsError. */
export function parseFilesParams(params: string | undefined): FilesParams {
  const text = (params ?? '').trim()
  if (/^(\{|(root|writable)\s*:\s)/.test(text)) return parseObject(text, filesParamsSchema)
  if (text !== '' && !text.includes('\n')) return { root: text, writable: false }
  throw new ParamsError('the path of a folder, such as "./notes", or YAML with root and writable')
}

/** YAML with `hosts` and `allowPrivate`. Throws ParamsError. */
export function parseHttpFetchParams(params: string | undefined): HttpFetchParams {
  return parseObject((params ?? '').trim() || '{}', httpFetchParamsSchema)
}

/** As URLs have it: lower case, without the port of the scheme. */
function hostEntry(given: string, context: z.RefinementCtx): string {
  const [, wildcard = '', host = ''] = /^(\*\.)?(.*)$/s.exec(given)!
  const url = /[\s/?#@\\*]/.test(host) ? null : URL.parse(`http://${host}`)
  if (url && !url.hostname.endsWith('.') && !(wildcard && /^[\d.]+$|^\[/.test(url.hostname))) return `${wildcard}${url.host}`
  const allowed = 'expected a host such as "example.org", "*.example.org" or "localhost:8080"'
  context.addIssue({ code: 'custom', message: `${allowed}, given ${JSON.stringify(given)}` })
  return z.NEVER
}

const parsers: Partial<Record<LocalRuntime, (params: string | undefined) => unknown>> = {
  files: parseFilesParams,
  'http-fetch': parseHttpFetchParams,
  stdio: parseStdioParams,
  typescript: parseTypescriptParams,
  url: parseUrlParams,
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
  const names = fieldNames(schema)
  const mistakes = result.error.issues.map((issue) => {
    const nearest = issue.code === 'unrecognized_keys' && issue.path.length === 0 ? nearestTo(issue.keys[0]!, names) : undefined
    const words = [issue.path.join('.'), issue.message].filter(Boolean).join(': ')
    return nearest === undefined ? words : `${words}; did you mean "${nearest}"?`
  })
  throw new ParamsError(`YAML with ${names.join(', ')} (${mistakes.join('; ')})`)
}

function fieldNames(schema: z.ZodType): string[] {
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : []
}
