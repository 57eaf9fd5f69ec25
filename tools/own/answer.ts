/** What a run returned, as an MCP result of bounded size. A value that is too large is noticed before a copy of it is made. Pure. */
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import { isObject, type JsonObject } from '../../bus/wire/json.ts'
import { MCP_LIMITS } from '../limits.ts'

/** The result is larger than `MCP_LIMITS.resultBytesMax`. */
export class TooLarge extends Error {}

/**
 * Text as text, an object as a structured result with its text, undefined and null as nothing, all else as its JSON text: MCP's structured
 * results are objects. Throws TooLarge, and TypeError for what JSON cannot hold.
 */
export function answerOf(value: unknown): CallToolResult {
  if (value === undefined || value === null) return { content: [] }
  if (typeof value === 'string') return { content: [{ type: 'text', text: bounded(value) }] }
  const text = jsonOf(value)
  // Parsed again, so that what the caller gets is what the text says: a date is text, and nobody else holds the object.
  const parsed: unknown = JSON.parse(text)
  return { content: [{ type: 'text', text }], ...(isObject(parsed) && { structuredContent: parsed as JsonObject }) }
}

/** JSON text of bounded size. Throws as `answerOf`. */
export function jsonOf(value: unknown): string {
  let bytes = 0
  const text = JSON.stringify(value, (key, part: unknown) => {
    bytes += key.length + (typeof part === 'string' ? part.length : 1)
    if (bytes > MCP_LIMITS.resultBytesMax) throw new TooLarge()
    return part
  }) as string | undefined
  if (text === undefined) throw new TypeError(`a ${typeof value} is no JSON`)
  return bounded(text)
}

/** A text has at least as many bytes as characters, and to count those reads nothing. */
function bounded(text: string): string {
  if (text.length > MCP_LIMITS.resultBytesMax || Buffer.byteLength(text) > MCP_LIMITS.resultBytesMax) throw new TooLarge()
  return text
}
