/** About how much text a span or log record holds, in characters: what a queue and a message have room for. */
import type { ReadableLogRecord } from '@opentelemetry/sdk-logs'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'

/** Of what is no text: ids, times, numbers. */
const ITEM_CHARS = 128
const VALUE_CHARS = 8

export function charsOfSpan({ name, status, attributes, events }: ReadableSpan): number {
  let chars = ITEM_CHARS + name.length + (status.message?.length ?? 0) + charsOf(attributes)
  for (const event of events) chars += event.name.length + charsOf(event.attributes)
  return chars
}

export function charsOfLogRecord({ body, attributes }: ReadableLogRecord): number {
  return ITEM_CHARS + charsOf(body) + charsOf(attributes)
}

function charsOf(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (typeof value !== 'object' || value === null) return VALUE_CHARS
  let chars = 0
  for (const key in value) chars += key.length + charsOf((value as { readonly [key: string]: unknown })[key])
  return chars
}
