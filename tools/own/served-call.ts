/** A call that any MCP client makes of `kaos tools serve`: where its span is, and the span when it is over. The runtimes of a tool server leave that to it. */
import { randomBytes } from 'node:crypto'
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import { messageOf } from '../../bus/wire/errors.ts'
import { formatTraceparent, parseTraceparent } from '../../bus/wire/trace.ts'
import { OPERATIONS, spanName } from '../../telemetry/names.ts'
import type { ServiceTelemetry, SpanParent } from '../../telemetry/telemetry.ts'
import type { NetworkTransport } from '../runtimes/channel.ts'
import { executionSpan } from '../spans.ts'

export interface ServedCall {
  readonly tool: string
  /** The client's trace context; undefined where it sent none. */
  readonly sent: SpanParent | undefined
  readonly arguments: unknown
}

/** Runs a call below a span of its own, which `run` is given as its parent. */
export async function runServed(
  telemetry: ServiceTelemetry,
  { server, transport }: { readonly server: string; readonly transport: NetworkTransport },
  call: ServedCall,
  run: (parent: SpanParent | undefined) => Promise<CallToolResult>,
): Promise<CallToolResult> {
  if (!telemetry.isOn) return run(call.sent)
  const { tool, sent } = call
  const parent = sent && parseTraceparent(sent.traceparent)
  const traceId = parent?.traceId ?? randomBytes(16).toString('hex')
  const spanId = randomBytes(8).toString('hex')
  const place = { tool, server, transport, arguments: call.arguments }
  const root = { traceId, name: spanName(OPERATIONS.execute, tool, telemetry.naming), kind: 'server' } as const
  const flags = parent?.flags ?? telemetry.rootFlags({ ...root, attributes: executionSpan(telemetry, place).attributes })
  const tracestate = sent?.tracestate
  const startMs = Date.now()
  const record = (ended: { readonly result?: unknown; readonly failure?: { readonly code: string; readonly message: string } }) =>
    telemetry.record({
      ...executionSpan(telemetry, { ...place, ...ended }),
      traceId,
      spanId,
      parentSpanId: parent?.parentSpanId,
      flags,
      tracestate,
      startMs,
      endMs: Date.now(),
    })
  try {
    const traceparent = formatTraceparent(traceId, spanId, flags)
    const result = await run({ traceparent, ...(tracestate && { tracestate }) })
    record(result.isError ? { failure: { code: 'tool_failed', message: wordsOf(result) } } : { result: result.content })
    return result
  } catch (error) {
    record({ failure: { code: 'payload_too_large', message: messageOf(error) } })
    throw error
  }
}

function wordsOf({ content }: CallToolResult): string {
  return content.map((block) => (block.type === 'text' ? block.text : '')).join('\n')
}
