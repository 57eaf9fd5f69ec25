/** Prompts, arguments and results as they may stand in a span: as structure, without secrets. */
import { redact } from './redact.ts'
import type { AttributeValue } from './span.ts'

/** Undefined for what says nothing. JSON that does not survive the redaction is given as text. */
export function spanContent(value: unknown): AttributeValue | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'string') return redact(value)
  const text = redact(JSON.stringify(value))
  try {
    const parsed: unknown = JSON.parse(text)
    return typeof parsed === 'object' ? (parsed as AttributeValue) : text
  } catch {
    return text
  }
}
