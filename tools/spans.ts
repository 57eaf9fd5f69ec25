/** The span `tool.execute`: what one execution of a tool was, wherever its call came from. Pure. */
import type { Failure } from '../bus/wire/errors.ts'
import { executionSpanId, parseEffectId } from '../bus/wire/ids.ts'
import type { Subjects } from '../bus/wire/subjects.ts'
import { formatTraceparent, type TraceContext } from '../bus/wire/trace.ts'
import { GEN_AI_OPERATIONS, KEYS, OPERATIONS, spanName } from '../telemetry/names.ts'
import type { Attributes, CountedSpan, FinishedSpan } from '../telemetry/span.ts'
import { messagingAttributes, spanContent, spanFailure } from '../telemetry/span-parts.ts'
import type { ServiceTelemetry } from '../telemetry/telemetry.ts'
import type { NetworkTransport } from './runtimes/channel.ts'

export interface Execution {
  readonly tool: string
  /** Name of the MCP server. */
  readonly server: string
  readonly transport: NetworkTransport
  readonly arguments?: unknown
  readonly result?: unknown
  readonly failure?: Failure | undefined
  /** Known of calls that came over the bus. */
  readonly call?: { readonly effect: string; readonly subjects: Subjects } | undefined
}

/** What the span is counted by. */
export function countedExecution({
  tool,
  failure,
}: Pick<Execution, 'tool' | 'failure'>): Pick<CountedSpan, 'attributes' | 'failure'> {
  return {
    attributes: { [KEYS.op]: OPERATIONS.execute, [KEYS.genAiTool]: tool, [KEYS.mcpMethod]: 'tools/call' },
    failure: failure && spanFailure(failure),
  }
}

/** All of the span but its place and time. */
export function executionSpan(
  { naming, hasContent }: Pick<ServiceTelemetry, 'naming' | 'hasContent'>,
  execution: Execution,
): Pick<FinishedSpan, 'name' | 'kind' | 'attributes' | 'failure'> {
  const { tool, server, transport, call } = execution
  const { attributes, failure } = countedExecution(execution)
  return {
    name: spanName(OPERATIONS.execute, tool, naming),
    kind: 'server',
    attributes: {
      ...attributes,
      [KEYS.genAiOperation]: GEN_AI_OPERATIONS.tool,
      [KEYS.genAiToolType]: 'extension',
      [KEYS.server]: server,
      [KEYS.transport]: transport,
      ...(call && callAttributes(server, call)),
      ...(hasContent && {
        [KEYS.genAiArguments]: spanContent(execution.arguments),
        [KEYS.genAiResult]: spanContent(execution.result),
      }),
    },
    failure,
  }
}

/**
 * W3C trace context for the MCP server that executes a call: below the execution's span where that is recorded, else as the call came. Empty without
 * a trace.
 */
export function executionTraceparent(trace: TraceContext, effect: string, { isOn }: Pick<ServiceTelemetry, 'isOn'>): string {
  const spanId = isOn ? executionSpanId(trace.traceId, effect) : trace.parentSpanId
  return spanId === undefined ? '' : formatTraceparent(trace.traceId, spanId, trace.flags)
}

function callAttributes(
  server: string,
  { effect, subjects }: { readonly effect: string; readonly subjects: Subjects },
): Attributes {
  return {
    [KEYS.task]: parseEffectId(effect)?.task,
    [KEYS.effect]: effect,
    [KEYS.namespace]: subjects.namespace,
    [KEYS.genAiToolCall]: effect,
    ...messagingAttributes('process', subjects.templates.call),
    [KEYS.messagingMessage]: effect,
    [KEYS.messagingConversation]: effect,
    [KEYS.messagingConsumer]: 'call',
    [KEYS.journalRef]: subjects.done(server, effect),
  }
}
