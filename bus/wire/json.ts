/** JSON values and their hashes: what travels and what is stored is nothing but this. */
import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import { MESSAGE_LIMITS } from './limits.ts'

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }
export type JsonObject = { readonly [key: string]: Json }

export function sha256(text: string | Uint8Array): string {
  return hash('sha256', text, 'hex')
}

/** RFC 8785 text of a value: the same value gives the same text whatever the order of its keys. Fields that are undefined are left out. */
export function canonicalText(value: unknown): string {
  // By the engine's own serializer wherever that gives the same text: 4 us instead of 9 for the state of an agent with two calls under way.
  const ordered = inOrder(value, 0)
  const text = ordered === NOT_IN_ORDER ? undefined : JSON.stringify(ordered)
  if (text !== undefined) return text
  try {
    return canonicalize(value) ?? 'null'
  } catch (error) {
    // RFC 8785 has no text for half a surrogate pair, which models do produce. JSON has: its escape.
    if (error instanceof Error && error.message.startsWith('Lone surrogate')) return escapedText(value)
    throw error
  }
}

const NOT_IN_ORDER = Symbol('not in order')

/** A copy whose keys are in order. Not for everything: the engine moves keys that read as numbers, and "__proto__" is no field to it. */
function inOrder(value: unknown, depth: number): unknown {
  if (typeof value === 'number') return Number.isFinite(value) ? value : NOT_IN_ORDER
  if (value === null || typeof value !== 'object') return value
  if (depth > MESSAGE_LIMITS.jsonDepthMax) return NOT_IN_ORDER
  if (Array.isArray(value)) {
    const copy: unknown[] = []
    for (let i = 0; i < value.length; i++) {
      const element = inOrder(value[i], depth + 1)
      if (element === NOT_IN_ORDER) return NOT_IN_ORDER
      copy.push(element)
    }
    return copy
  }
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return NOT_IN_ORDER
  const copy: { [key: string]: unknown } = {}
  for (const key of Object.keys(value).sort()) {
    const first = key.charCodeAt(0)
    if ((first >= DIGIT_0 && first <= DIGIT_9) || key === '__proto__' || key === 'toJSON') return NOT_IN_ORDER
    const field = inOrder((value as { readonly [key: string]: unknown })[key], depth + 1)
    if (field === NOT_IN_ORDER) return NOT_IN_ORDER
    copy[key] = field
  }
  return copy
}

const [DIGIT_0, DIGIT_9] = [0x30, 0x39]

export function hashOf(value: unknown): string {
  return sha256(canonicalText(value))
}

export function isObject(value: unknown): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What in a value is not JSON, such as `context.seen is a Map`; undefined when it is JSON. Fields that are undefined count as absent. */
export function jsonMistake(value: unknown, path: string, depth = 0): string | undefined {
  switch (typeof value) {
    case 'undefined':
    case 'string':
    case 'boolean':
      return undefined
    case 'number':
      return Number.isFinite(value) ? undefined : `${path} is ${value}`
    case 'object':
      break
    default:
      return `${path} is a ${typeof value}`
  }
  if (value === null) return undefined
  if (depth > MESSAGE_LIMITS.jsonDepthMax) return `${path.slice(0, 100)}… nests deeper than ${MESSAGE_LIMITS.jsonDepthMax} levels`
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const mistake = value[i] === undefined ? `${path}[${i}] is undefined` : jsonMistake(value[i], `${path}[${i}]`, depth + 1)
      if (mistake !== undefined) return mistake
    }
    return undefined
  }
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return `${path} is a ${value.constructor?.name ?? 'foreign object'}`
  for (const key in value) {
    const mistake = jsonMistake((value as { readonly [key: string]: unknown })[key], `${path}.${key}`, depth + 1)
    if (mistake !== undefined) return mistake
  }
  return undefined
}

/** A copy as it is after it travelled: fields that are undefined are gone, and nobody else holds a part of it. */
export function copyJson(value: unknown): Json {
  return JSON.parse(JSON.stringify(value)) as Json
}

/** Makes a JSON value immutable all the way down. What is frozen already is not looked at again. */
export function freezeJson<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const field of Object.values(value)) freezeJson(field)
  return value
}

/** Whether JSON text nests deeper than is allowed, found without parsing it: by its brackets outside of texts. */
export function isTooDeep(text: string): boolean {
  let depth = 0
  let isText = false
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i)
    if (isText) {
      if (char === BACKSLASH) i++
      else if (char === QUOTE) isText = false
    } else if (char === QUOTE) isText = true
    else if (char === OPEN_LIST || char === OPEN_OBJECT) {
      if (++depth > MESSAGE_LIMITS.jsonDepthMax) return true
    } else if (char === CLOSE_LIST || char === CLOSE_OBJECT) depth--
  }
  return false
}

const [QUOTE, BACKSLASH, OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d]

/** The same form, with `\ud800` for half a pair: other values have other texts, and the value can be read back. */
function escapedText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((element) => escapedText(element ?? null)).join(',')}]`
  if (!isObject(value)) return JSON.stringify(value)
  const keys = Object.keys(value).filter((key) => value[key] !== undefined)
  return `{${keys
    .sort()
    .map((key) => `${JSON.stringify(key)}:${escapedText(value[key])}`)
    .join(',')}}`
}
