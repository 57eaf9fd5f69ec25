/** Parts that the spans of actors, of tool servers and of the command line have in common. */
import { KEYS, MESSAGING_SYSTEM } from './names.ts'
import { redact } from './redact.ts'
import type { Attributes, AttributeValue, SpanFailure, SpanLink } from './span.ts'

/**
 * A prompt, arguments or a result as it may stand in a span: as structure, without secrets. Undefined for what says nothing. JSON that does not
 * survive the redaction is given as text.
 */
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

/** @param template The subject without what differs from message to message. */
export function messagingAttributes(operation: 'process' | 'send', template: string): Attributes {
  return {
    [KEYS.messagingSystem]: MESSAGING_SYSTEM,
    [KEYS.messagingSystemName]: MESSAGING_SYSTEM,
    [KEYS.messagingOperation]: operation,
    [KEYS.messagingOperationType]: operation,
    [KEYS.messagingTemplate]: template,
  }
}

/** The conventions call an answer with `isError` a tool_error: what the tool itself says of its failure has no details. */
export function spanFailure(failure: {
  readonly code: string
  readonly message: string
  readonly details?: unknown
}): SpanFailure {
  const { code, message, details } = failure
  return { code: code === 'tool_failed' && details === undefined ? 'tool_error' : code, message: redact(message) }
}

/**
 * The link of a later delivery to the span that sent the message. The first one is the parent alone: a link that says the same again makes Jaeger
 * 1.76 show the span as following, not as a child, unless it says of which kind it is.
 */
export function redeliveryLink(traceId: string, parentSpanId: string, attempt: number): SpanLink {
  return { traceId, spanId: parentSpanId, attributes: { [KEYS.attempts]: attempt, [KEYS.referenceKind]: 'child_of' } }
}
