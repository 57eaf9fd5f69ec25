/** Says what is wrong with a value, so that the model that gave it can correct it. Pure. */
import type { SchemaIssue } from './define.ts'

/** Of one answer: a model that made more mistakes sees the rest when it tries again. */
const ISSUES_MAX = 10
const VALUE_LENGTH_MAX = 80

/** Each field with what is wrong and what was given. */
export function mistakesIn(value: unknown, issues: readonly SchemaIssue[]): string {
  const shown = issues.slice(0, ISSUES_MAX).map(({ path, message }) => {
    if (path.length === 0) return message
    return `${path.map(String).join('.')}: ${message}, given ${shorten(valueAt(value, path))}`
  })
  const more = issues.length - shown.length
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('; ')
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((at, key) => (at as { [key: PropertyKey]: unknown } | undefined | null)?.[key], value)
}

function shorten(value: unknown): string {
  if (value === undefined) return 'nothing'
  // A text is cut before it is quoted: it may be long.
  const text = typeof value === 'string' ? JSON.stringify(value.slice(0, VALUE_LENGTH_MAX + 1)) : plain(value)
  return text.length > VALUE_LENGTH_MAX ? `${text.slice(0, VALUE_LENGTH_MAX)}…` : text
}

function plain(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}
