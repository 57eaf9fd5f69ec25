/** JSON values and their hashes: what travels and what is stored is nothing but this. */
import { createHash } from 'node:crypto'
import canonicalize from 'canonicalize'

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }
export type JsonObject = { readonly [key: string]: Json }

export function sha256(text: string | Uint8Array): string {
  return createHash('sha256').update(text).digest('hex')
}

/** RFC 8785 text of a value: the same value gives the same text whatever the order of its keys. Fields that are undefined are left out. */
export function canonicalText(value: unknown): string {
  try {
    return canonicalize(value) ?? 'null'
  } catch (error) {
    // RFC 8785 has no text for half a surrogate pair, which models do produce: such strings count as their escaped form.
    if (error instanceof Error && error.message.startsWith('Lone surrogate')) return canonicalize(escapeLone(value)) ?? 'null'
    throw error
  }
}

export function hashOf(value: unknown): string {
  return sha256(canonicalText(value))
}

export function isObject(value: unknown): value is { [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function escapeLone(value: unknown): unknown {
  if (typeof value === 'string') return value.isWellFormed() ? value : JSON.stringify(value)
  if (Array.isArray(value)) return value.map(escapeLone)
  if (!isObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, escapeLone(field)]))
}
