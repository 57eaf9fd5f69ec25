/** Where two JSON values first differ, and what stands there: short enough to be read. */
import { isObject, type Json } from '../bus/wire/json.ts'

export interface Difference {
  /** As one would write it in JavaScript: `commands[0].input.request.messages[0].content`. */
  readonly path: string
  /** Excerpts around the first difference. */
  readonly recorded: string
  readonly got: string
}

const EXCERPT_CHARS_MAX = 200
const EXCERPT_BEFORE_CHARS = 60
const NOTHING = '(nothing)'
const PLAIN_KEY = /^[A-Za-z_$][\w$]*$/

/** Undefined when they are the same. A field that is undefined counts as absent. */
export function firstDifference(recorded: Json | undefined, got: Json | undefined, path = ''): Difference | undefined {
  if (recorded === got) return undefined
  if (Array.isArray(recorded) && Array.isArray(got)) {
    for (let i = 0; i < Math.max(recorded.length, got.length); i++) {
      const found = firstDifference(recorded[i], got[i], `${path}[${i}]`)
      if (found) return found
    }
    return undefined
  }
  if (isObject(recorded) && isObject(got)) {
    for (const key of new Set([...Object.keys(recorded), ...Object.keys(got)])) {
      const found = firstDifference(recorded[key], got[key], join(path, key))
      if (found) return found
    }
    return undefined
  }
  if (typeof recorded === 'string' && typeof got === 'string') return { path, ...differingLine(recorded, got) }
  return { path, recorded: excerpt(recorded), got: excerpt(got) }
}

function join(path: string, key: string): string {
  if (!PLAIN_KEY.test(key)) return `${path}[${JSON.stringify(key)}]`
  return path === '' ? key : `${path}.${key}`
}

function excerpt(value: Json | undefined): string {
  return value === undefined ? NOTHING : cut(JSON.stringify(value), 0)
}

/** Only the line that changed, and of a long line only what is around the change. */
function differingLine(recorded: string, got: string): { readonly recorded: string; readonly got: string } {
  const then = recorded.split('\n')
  const now = got.split('\n')
  const i = then.findIndex((line, at) => line !== now[at])
  const line = i < 0 ? then.length : i
  const [a, b] = [then[line], now[line]]
  if (a === undefined || b === undefined) return { recorded: shown(a, 0), got: shown(b, 0) }
  let same = 0
  while (same < a.length && a[same] === b[same]) same++
  return { recorded: shown(a, same), got: shown(b, same) }
}

function shown(line: string | undefined, at: number): string {
  return line === undefined ? NOTHING : cut(line, at)
}

function cut(text: string, at: number): string {
  if (text.length <= EXCERPT_CHARS_MAX) return text
  const from = Math.max(0, Math.min(at - EXCERPT_BEFORE_CHARS, text.length - EXCERPT_CHARS_MAX))
  const to = from + EXCERPT_CHARS_MAX
  return `${from > 0 ? '…' : ''}${text.slice(from, to)}${to < text.length ? '…' : ''}`
}
