/** Draws a trace as text, so that a test can say how it must look. */
import type { ReceivedSpan } from './decode.ts'

/**
 * One line per span, indented below its parent: `service: name [KIND] STATUS`; siblings by start, then by name.
 *
 * @param outside Span ids of the caller's, which no one exported: children of theirs are drawn as roots.
 * @throws Error when a span id comes twice, or when a parent is missing.
 */
export function drawTree(spans: readonly ReceivedSpan[], outside: readonly string[] = []): string {
  const known = new Map<string, ReceivedSpan>()
  const mistakes: string[] = []
  for (const span of spans) {
    if (known.has(span.spanId)) mistakes.push(`span id "${span.spanId}" comes twice, as ${lineOf(span)}`)
    known.set(span.spanId, span)
  }
  const children = new Map<string, ReceivedSpan[]>()
  for (const span of known.values()) {
    const parent = outside.includes(span.parentSpanId ?? '') ? '' : (span.parentSpanId ?? '')
    if (parent !== '' && !known.has(parent)) mistakes.push(`parent "${parent}" is missing, of ${lineOf(span)}`)
    children.set(parent, [...(children.get(parent) ?? []), span])
  }
  if (mistakes.length > 0) throw new Error(`the trace is no tree:\n  ${mistakes.join('\n  ')}`)

  const drawn: string[] = []
  const draw = (parent: string, indent: string): void => {
    for (const span of (children.get(parent) ?? []).sort(byStart)) {
      drawn.push(indent + lineOf(span))
      draw(span.spanId, `${indent}  `)
    }
  }
  draw('', '')
  if (drawn.length < known.size)
    throw new Error(`the trace is no tree: ${known.size - drawn.length} spans are their own ancestors`)
  return drawn.join('\n')
}

function lineOf({ service, name, kind, status }: ReceivedSpan): string {
  return `${service}: ${name} [${kind.toUpperCase()}] ${status.code.toUpperCase()}`
}

function byStart(a: ReceivedSpan, b: ReceivedSpan): number {
  if (a.startNs !== b.startNs) return a.startNs < b.startNs ? -1 : 1
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}
