/** What zod found wrong, in the words of the person who wrote the manifest. */
import { z } from 'zod'
import { allowedBy, fieldNames, listOf, schemaAt, walkFields } from '../fields.ts'
import type { Path } from './document.ts'
import { nearestTo } from './nearest.ts'

/** A mistake inside one resource; its place in the file is looked up by `path`. */
export interface Mistake {
  readonly path: Path
  /** Whether the name of the field or its value is wrong. */
  readonly at: 'name' | 'value'
  readonly given: string
  readonly allowed: string
  readonly nearest?: string
  readonly message: string
}

const givenCharsMax = 60
const givenNamesMax = 5
const nothing = 'nothing'

/** All mistakes of a value, one per place. */
export function findMistakes(schema: z.ZodType, value: unknown): Mistake[] {
  // An empty message marks what the definition itself has no words for.
  const result = schema.safeParse(value, { error: () => '' })
  if (result.success) return []
  const mistakes = result.error.issues.flatMap((issue) => explain(schema, value, issue))
  const seen = new Set<string>()
  return mistakes.filter(({ path }) => {
    const place = path.join('.')
    return !seen.has(place) && seen.add(place)
  })
}

/** A value that is not among the ones allowed, as a mistake. */
export function notAmong(path: Path, given: string, candidates: readonly string[], what: string): Mistake {
  return wrong({
    path,
    at: 'value',
    given: JSON.stringify(given),
    allowed: candidates.length === 0 ? `${what}: there is none` : `${what}: ${candidates.join(', ')}`,
    nearest: nearestTo(given, candidates),
  })
}

/** Completes a mistake with its one-line message. */
export function wrong(mistake: Omit<Mistake, 'message' | 'nearest'> & { readonly nearest?: string | undefined }): Mistake {
  const { nearest, ...rest } = mistake
  const question = nearest === undefined ? '' : `; did you mean ${JSON.stringify(nearest)}?`
  return {
    ...rest,
    ...(nearest === undefined ? {} : { nearest }),
    message: `given ${mistake.given}, allowed: ${mistake.allowed}${question}`,
  }
}

export function dotted(path: Path): string {
  return path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text === '' ? key : `${text}.${key}`),
    '',
  )
}

function explain(root: z.ZodType, value: unknown, issue: z.core.$ZodIssue): Mistake[] {
  const path = issue.path.map((key) => (typeof key === 'number' ? key : String(key)))
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownField(root, [...path, key]))
  const schema = schemaAt(root, path)
  const found = valueAt(value, path)
  const options = schema instanceof z.ZodEnum && typeof found === 'string' ? schema.options.map(String) : []
  return [
    wrong({
      path,
      at: 'value',
      given: render(found, path),
      allowed: issue.message || allowedBy(schema) + quotesHint(schema, found),
      nearest: options.includes(String(found)) ? undefined : nearestTo(String(found), options),
    }),
  ]
}

function unknownField(root: z.ZodType, path: Path): Mistake {
  const name = String(path.at(-1))
  const siblings = fieldNames(schemaAt(root, path.slice(0, -1)))
  // Misspelt, or else put in the wrong place.
  const elsewhere = [...walkFields(root)].filter((field) => field.name === name && !field.path.includes('[]'))
  const nearest = nearestTo(name, siblings) ?? elsewhere[0]?.path
  return {
    path,
    at: 'name',
    given: JSON.stringify(name),
    allowed: siblings.join(', '),
    ...(nearest === undefined ? {} : { nearest }),
    message: `unknown field, allowed: ${siblings.join(', ')}${nearest === undefined ? '' : `; did you mean ${JSON.stringify(nearest)}?`}`,
  }
}

/** YAML reads 8080 and true as a number and a truth value, where the same between quotes is text. */
function quotesHint(schema: z.ZodType | undefined, found: unknown): string {
  return schema instanceof z.ZodString && /^(number|boolean)$/.test(typeof found) ? ' (put it in quotes)' : ''
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? (at as Record<string | number, unknown>)[key] : undefined),
    value,
  )
}

/** What stands there, short, and without what may be secret. */
export function render(value: unknown, path: Path): string {
  if (value === undefined || value === null) return nothing
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  if (typeof value === 'object') {
    const names = Object.keys(value)
    return names.length === 0 ? 'an empty mapping' : `a mapping with ${listOf(names.slice(0, givenNamesMax), 'and')}`
  }
  if (path.includes('apiKey') || path.includes('env')) return 'text that is not shown here'
  // A command line may carry a token, a URL may carry a password: the first word without either is enough to find the place.
  const text = path.at(-1) === 'params' && typeof value === 'string' ? firstWord(value) : value
  const shown = JSON.stringify(text).replace(/\/\/[^/@\s]*@/, '//…@')
  return shown.length > givenCharsMax ? `${shown.slice(0, givenCharsMax)}…"` : shown
}

function firstWord(text: string): string {
  const [word = ''] = text.trim().split(/[\s?]/)
  return word.replace(/\/\/[^/@]*@/, '//') + (word.length < text.trim().length ? ' …' : '')
}
