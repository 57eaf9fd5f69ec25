/**
 * What the offline model does where no script says it:
 *
 * 1. Results are here: the answer lists them.
 * 2. Else it calls the tool or peer that fits the task best, and beside it those that fit at least half as well, at most three in all.
 *    A tool fits by every word of the task that is in its name (3 points) or its description (1); one that requires an `expression`
 *    has 3 points if the task holds one, else none.
 * 3. Nothing fits: it asks its peers, at most three; who has none says one sentence that repeats the task.
 *
 * Arguments are the required ones of the schema: a constant, the default or the first of an enum; for an `expression` the arithmetic in
 * the task, or its first two numbers multiplied; for a `url` the URL in the task; for any other string the quoted part of the task, or all
 * of it; numbers in the order in which the task has them.
 */
import { isObject, type Json } from '../../bus/wire/json.ts'
import { type OfflineTool, plainText, type Situation } from './situation.ts'

const CALLS_MAX = 3
/** How tools that hand a task to another agent begin. */
const PEER = 'delegate_to_'
const RESULT_CHARS_MAX = 600
const INPUT_CHARS_MAX = 200
const SCHEMA_DEPTH_MAX = 5
const NAME_POINTS = 3
const NUMBER = /-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?/g
const ARITHMETIC = /[-(]*\d+(?:\.\d+)?\)*(?:\s*[-+*/^%]\s*[-(]*\d+(?:\.\d+)?\)*)+/
const EMPTY_WORDS = new Set(
  'about agent and answer any are ask call can delegate for from give given hand has have how into its not one our per please return task that the their them then this tool use what when which who will with work you your'.split(
    ' ',
  ),
)

export function replyByRules(situation: Situation): { text: string; calls: readonly { name: string; arguments: Json }[] } {
  if (situation.results.length > 0) return { text: fromResults(situation), calls: [] }
  const calls = best(situation).map((tool) => ({
    name: tool.name,
    arguments: fill(tool.parameters, new Source(situation.input)),
  }))
  return { text: calls.length > 0 ? '' : statement(situation.input), calls }
}

function fromResults({ results }: Situation): string {
  const lines = results.map(({ name, text }) => `- ${name || 'unnamed'}: ${cut(plainText(text), RESULT_CHARS_MAX)}`)
  return `The offline model found, from ${results.length} result${results.length === 1 ? '' : 's'}:\n${lines.join('\n')}`
}

function statement(input: string): string {
  return `The offline model has no script and no tool for this task: "${cut(input, INPUT_CHARS_MAX)}"`
}

function best({ input, tools, turn }: Situation): OfflineTool[] {
  if (turn > 0) return []
  const task = wordsOf(input)
  const scored = tools.map((tool) => ({ tool, points: pointsOf(tool, task, input) })).filter(({ points }) => points > 0)
  if (scored.length === 0) return tools.filter(({ name }) => name.startsWith(PEER)).slice(0, CALLS_MAX)
  scored.sort((a, b) => b.points - a.points)
  return scored
    .filter(({ points }) => points * 2 >= scored[0]!.points)
    .slice(0, CALLS_MAX)
    .map(({ tool }) => tool)
}

function pointsOf(tool: OfflineTool, task: ReadonlySet<string>, input: string): number {
  const wantsExpression = requiredOf(tool.parameters).includes('expression')
  if (wantsExpression && new Source(input).expression() === undefined) return 0
  const name = wordsOf(tool.name)
  const described = wordsOf(tool.description)
  let points = wantsExpression ? NAME_POINTS : 0
  for (const word of task) points += name.has(word) ? NAME_POINTS : described.has(word) ? 1 : 0
  return points
}

/** Lower case, without plural s, without the words that say nothing about a task. */
function wordsOf(text: string): Set<string> {
  const parts =
    text
      .replace(/([a-z\d])([A-Z])/g, '$1 $2')
      .toLowerCase()
      .match(/[\p{L}\d]+/gu) ?? []
  return new Set(
    parts
      .filter((word) => word.length > 2 && !EMPTY_WORDS.has(word))
      .map((word) => (word.length > 3 ? word.replace(/s$/, '') : word)),
  )
}

/** What a task has to offer for arguments; each number is given out once. */
class Source {
  readonly text: string
  readonly #numbers: number[]

  constructor(text: string) {
    this.text = text
    this.#numbers = (text.match(NUMBER) ?? []).map((number) => Number(number.replaceAll(',', '')))
  }

  number(): number | undefined {
    return this.#numbers.shift()
  }

  expression(): string | undefined {
    const [first, second] = this.#numbers
    return ARITHMETIC.exec(this.text)?.[0].trim() ?? (second === undefined ? undefined : `${first} * ${second}`)
  }

  string(name: string): string {
    if (name === 'expression') return this.expression() ?? this.text
    if (/ur[il]/i.test(name)) return /https?:\/\/\S+/.exec(this.text)?.[0] ?? this.text
    return /"([^"]+)"/.exec(this.text)?.[1] ?? this.text
  }
}

function fill(schema: Json, source: Source, name = '', depth = 0): Json {
  if (!isObject(schema) || depth > SCHEMA_DEPTH_MAX) return {}
  if (schema.const !== undefined) return schema.const
  if (schema.default !== undefined) return schema.default
  if (Array.isArray(schema.enum) && schema.enum.length > 0) return schema.enum[0]!
  const choices = schema.anyOf ?? schema.oneOf
  if (Array.isArray(choices) && choices.length > 0) return fill(choices[0]!, source, name, depth + 1)
  switch (Array.isArray(schema.type) ? schema.type[0] : schema.type) {
    case 'string':
      return cut(source.string(name), typeof schema.maxLength === 'number' ? schema.maxLength : Number.POSITIVE_INFINITY, '')
    case 'number':
      return source.number() ?? (typeof schema.minimum === 'number' ? schema.minimum : 0)
    case 'integer':
      return Math.round(source.number() ?? (typeof schema.minimum === 'number' ? schema.minimum : 0))
    case 'boolean':
      return true
    case 'null':
      return null
    case 'array':
      return [fill(schema.items ?? { type: 'string' }, source, name, depth + 1)]
    default: {
      const properties = isObject(schema.properties) ? schema.properties : {}
      return Object.fromEntries(
        requiredOf(schema).map((key) => [key, fill(properties[key] ?? { type: 'string' }, source, key, depth + 1)]),
      )
    }
  }
}

function requiredOf(schema: Json): string[] {
  const required = isObject(schema) && Array.isArray(schema.required) ? schema.required : []
  return required.filter((key) => typeof key === 'string')
}

function cut(text: string, max: number, mark = '…'): string {
  return text.length > max ? text.slice(0, max) + mark : text
}
