/** Parts that the spans of actors, of tool servers and of the command line have in common. */
import { KEYS, MESSAGING_SYSTEM } from './names.ts'
import { redact } from './redact.ts'
import type { Attributes, AttributeValue, SpanFailure, SpanLink } from './span.ts'

/** Of one attribute, as JSON: two of them fit a message of 4 MiB, which receivers take, whatever the characters. */
const CONTENT_CHARS_MAX = 256 * 1_024
/** A level of JSON is up to three of protobuf, and some receivers refuse a whole message that nests deeper than a hundred. */
const CONTENT_DEPTH_MAX = 24
/** What of a message is looked through for secrets; the limit of attributes cuts off more. */
const MESSAGE_CHARS_MAX = 65_536

/**
 * A prompt, arguments or a result as it may stand in a span: as structure, without secrets. Undefined for what says nothing. Of a list that is too
 * large the last items are given; JSON that is too large or too deep, or does not survive the redaction, is given as text that is cut off.
 */
export function spanContent(value: unknown): AttributeValue | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'string') return redact(value.slice(0, CONTENT_CHARS_MAX))
  const json = fitting(value)
  const text = redact(json.slice(0, CONTENT_CHARS_MAX))
  if (json.length > CONTENT_CHARS_MAX || isDeeper(value, CONTENT_DEPTH_MAX)) return text
  try {
    const parsed: unknown = JSON.parse(text)
    return typeof parsed === 'object' ? (parsed as AttributeValue) : text
  } catch {
    return text
  }
}

/** JSON of a value, of a list only as many of its last items as there is room for. */
function fitting(value: unknown): string {
  const json = JSON.stringify(value)
  if (json.length <= CONTENT_CHARS_MAX || !Array.isArray(value)) return json
  const items: string[] = []
  let chars = 2
  for (const item of value.toReversed()) {
    const text = JSON.stringify(item)
    chars += text.length + 1
    if (chars > CONTENT_CHARS_MAX) break
    items.unshift(text)
  }
  return items.length > 0 ? `[${items.join(',')}]` : json
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return levels === 0 || Object.values(value).some((item) => isDeeper(item, levels - 1))
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
  return {
    code: code === 'tool_failed' && details === undefined ? 'tool_error' : code,
    message: redact(message.slice(0, MESSAGE_CHARS_MAX)),
  }
}

/**
 * The link of a later delivery to the span that sent the message. The first one is the parent alone: a link that says the same again makes Jaeger
 * 1.76 show the span as following, not as a child, unless it says of which kind it is.
 */
export function redeliveryLink(traceId: string, parentSpanId: string, attempt: number): SpanLink {
  return { traceId, spanId: parentSpanId, attributes: { [KEYS.attempts]: attempt, [KEYS.referenceKind]: 'child_of' } }
}
