/** What the offline model is told to answer: the rules of a script file, and their check. `offline-model.ts` follows them. */
import { readFile } from 'node:fs/promises'
import { isNode, LineCounter, parseDocument } from 'yaml'
import { z } from 'zod'
import { KaosError } from '../../bus/wire/errors.ts'

export const SCRIPT_BYTES_MAX = 1024 * 1024
export const RULES_MAX = 1_000
const DELAY_MS_MAX = 600_000
const QUOTE_CHARS_MAX = 80

/** "/…/flags" is a regular expression, anything else a part of the text in whatever case. */
const pattern = z.string().min(1).refine(isPattern, 'a part of the text, or a valid regular expression between slashes')
const delay = z.int().min(0).max(DELAY_MS_MAX)

/**
 * What goes wrong instead of the reply, or before it if `times` says how often: an error status, a connection that closes in the middle of
 * the answer, a body that is not JSON, no response at all, an answer without content, an answer without end.
 */
const fault = z.strictObject({
  kind: z.enum(['status', 'close', 'garbage', 'hang', 'empty', 'endless']),
  /** Kind `status` only. */
  status: z.int().min(300).max(599).optional(),
  /** Seconds or an HTTP date, for the Retry-After header. */
  retryAfter: z.union([z.number().min(0), z.string()]).optional(),
  body: z.json().optional(),
  times: z.int().min(1).optional(),
})

const reply = z.strictObject({
  text: z.string().optional(),
  /** Arguments as text are sent as they are, which allows broken ones. */
  calls: z
    .array(
      z.strictObject({ name: z.string().min(1), arguments: z.union([z.record(z.string(), z.json()), z.string()]).optional() }),
    )
    .max(128)
    .optional(),
  /** Before the first byte. */
  delayMs: delay.optional(),
  /** Between the pieces of a stream. */
  chunkMs: delay.optional(),
  usage: z.strictObject({ inputTokens: z.int().min(0), outputTokens: z.int().min(0) }).optional(),
  finish: z.string().optional(),
  fault: fault.optional(),
})

const rule = z.strictObject({
  /** All that is given must hold; nothing given always holds. */
  when: z
    .strictObject({
      /** The system prompt begins with "You are <agent>." */
      agent: z.string().min(1).optional(),
      /** Answers of the model since the last user message, so 0 is the first reply. */
      turn: z.int().min(0).optional(),
      /** In the last user message. */
      text: pattern.optional(),
      /** In the tool results since then. */
      results: pattern.optional(),
    })
    .optional(),
  /** Used at most so often, then as if it were not there. */
  times: z.int().min(1).optional(),
  reply,
})

/** The first rule that matches answers. */
export const scriptSchema = z.strictObject({ rules: z.array(rule).max(RULES_MAX) })

export type Script = Readonly<z.infer<typeof scriptSchema>>
export type Rule = Script['rules'][number]
export type Fault = z.infer<typeof fault>

/** Reads a script, YAML or JSON. Throws a KaosError that lists every mistake with file, line, field and value. */
export async function loadScript(file: string): Promise<Script> {
  const text = await readFile(file, 'utf8').catch((cause: Error) => {
    throw new KaosError('bad_script', `could not read the model script "${file}": ${cause.message}`, { cause })
  })
  return parseScript(text, file)
}

/** `file` is the name in errors. */
export function parseScript(text: string, file: string): Script {
  if (Buffer.byteLength(text) > SCRIPT_BYTES_MAX) throw refused(file, [`${file}: larger than ${SCRIPT_BYTES_MAX} bytes`])
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines })
  if (document.errors.length > 0) {
    throw refused(
      file,
      document.errors.map((error) => `${file}:${lines.linePos(error.pos[0]).line}: ${error.message.split('\n')[0]}`),
    )
  }
  const value: unknown = document.toJS()
  const parsed = scriptSchema.safeParse(value)
  if (parsed.success) return parsed.data
  throw refused(
    file,
    parsed.error.issues.map((issue) => `${file}:${lineOf(issue.path)}: ${describe(issue, value)}`),
  )

  /** Of the field, or of the nearest one around it that is there. */
  function lineOf(path: readonly PropertyKey[]): number {
    for (let length = path.length; length >= 0; length--) {
      const node = document.getIn(path.slice(0, length), true)
      if (isNode(node) && node.range) return lines.linePos(node.range[0]).line
    }
    return 1
  }
}

/** Whether a pattern of a rule is found in a text. */
export function matches(wanted: string, text: string): boolean {
  const expression = expressionOf(wanted)
  return expression === undefined
    ? text.toLowerCase().includes(wanted.toLowerCase())
    : new RegExp(expression.source, expression.flags).test(text)
}

function expressionOf(wanted: string): { source: string; flags: string } | undefined {
  const found = /^\/(.+)\/([a-z]*)$/s.exec(wanted)
  return found ? { source: found[1]!, flags: found[2]! } : undefined
}

function isPattern(wanted: string): boolean {
  try {
    matches(wanted, '')
    return true
  } catch {
    return false
  }
}

function describe(issue: z.core.$ZodIssue, value: unknown): string {
  const given = issue.path.reduce<unknown>((part, key) => (part as Record<PropertyKey, unknown> | undefined)?.[key], value)
  const shown = JSON.stringify(given) ?? 'nothing'
  const cut = shown.length > QUOTE_CHARS_MAX ? `${shown.slice(0, QUOTE_CHARS_MAX)}…` : shown
  return `${issue.path.join('.') || 'the document'}: got ${cut}: ${issue.message}`
}

function refused(file: string, mistakes: readonly string[]): KaosError {
  return new KaosError(
    'bad_script',
    `could not use the model script "${file}":\n${mistakes.map((mistake) => `  ${mistake}`).join('\n')}`,
    {
      details: mistakes,
    },
  )
}
