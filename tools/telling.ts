/**
 * Tells telemetry what became of a call: one span `tool.execute`, made from the reply that was stored, when the reply has left and just before
 * the ack. Whoever answers a call from the record of a process that died tells of it in its stead.
 */
import { LRUCache } from 'lru-cache'
import type { Bus, Delivery } from '../bus/contracts.ts'
import type { Work } from '../bus/wire/entry.ts'
import { type Failure, messageOf } from '../bus/wire/errors.ts'
import { parseEffectId, spanIdOf } from '../bus/wire/ids.ts'
import { HOST_LIMITS } from '../bus/wire/limits.ts'
import { type CallBody, decodeReply, parseBlobBody, type ReplyBody } from '../bus/wire/message.ts'
import { type Subjects, toolParty } from '../bus/wire/subjects.ts'
import { formatTraceparent, type TraceContext } from '../bus/wire/trace.ts'
import { spanContent } from '../telemetry/content.ts'
import type { Logger } from '../telemetry/log.ts'
import { GEN_AI_OPERATIONS, KEYS, MESSAGING_SYSTEM, OPERATIONS, spanName } from '../telemetry/names.ts'
import { redact } from '../telemetry/redact.ts'
import type { Attributes, FinishedSpan, SpanFailure } from '../telemetry/span.ts'
import type { ServiceTelemetry } from '../telemetry/telemetry.ts'

/** A call as its message says it. */
export interface ReceivedCall {
  readonly effect: string
  /** Its parent is the span that waits for the answer. */
  readonly trace: TraceContext
  /** Throws where the body cannot be read. */
  readonly body: () => CallBody
}

/** How an MCP server is reached: `pipe` is stdio, `tcp` HTTP; undefined in this process. */
export type Transport = 'pipe' | 'tcp' | undefined

/** Id of the span of a call's execution. */
export function executionSpan({ traceId }: Pick<TraceContext, 'traceId'>, effect: string): string {
  return spanIdOf(traceId, `${effect}/execute`)
}

/** W3C trace context for the MCP server that executes a call: the span is ours where there is one, else as it came; empty without a trace. */
export function executionTraceparent(
  { trace, effect }: Pick<ReceivedCall, 'trace' | 'effect'>,
  telemetry: ServiceTelemetry,
): string {
  const spanId = telemetry.isOn ? executionSpan(trace, effect) : trace.parentSpanId
  return spanId === undefined ? '' : formatTraceparent(trace.traceId, spanId, trace.flags)
}

export interface TellingOptions {
  readonly bus: Pick<Bus, 'blobs' | 'liveness'>
  readonly subjects: Subjects
  readonly server: string
  readonly hostId: string
  readonly transport: Transport
  readonly telemetry: ServiceTelemetry
  readonly log: Logger
}

export class Telling {
  private readonly options: TellingOptions
  private readonly told = new LRUCache<string, true>({ max: HOST_LIMITS.toldMax })

  constructor(options: TellingOptions) {
    this.options = options
  }

  /** The answer to another process that wonders whether it is to tell of a call. */
  hasTold(question: string): boolean {
    return question.startsWith(TOLD) && this.told.has(question.slice(TOLD.length))
  }

  /** Records the span of a call, once. `reply` is absent where the call was answered from the record. Never rejects. */
  async tell(call: ReceivedCall, delivery: Delivery, stored: string, reply: ReplyBody | undefined): Promise<void> {
    const { telemetry, log, server } = this.options
    if (!telemetry.isOn || this.told.has(call.effect)) return
    try {
      const known = reply ?? decodeReply(await this.bodyOf(stored))
      if (!reply && (await this.isToldBy(known.work?.host, call.effect))) return
      this.told.set(call.effect, true)
      telemetry.record(this.spanOf(call, delivery, known))
    } catch (error) {
      // The work counts, not what is shown of it.
      log.warn(
        { server, effect: call.effect, reason: messageOf(error) },
        'could not read again what a span tells; it is left out',
      )
    }
  }

  private async bodyOf(stored: string): Promise<string> {
    const ref = parseBlobBody(stored)
    return ref ? this.options.bus.blobs.read(ref.owner, ref.to, ref.task, ref.sha) : stored
  }

  private async isToldBy(host: string | undefined, effect: string): Promise<boolean> {
    const { bus, hostId, server } = this.options
    if (host === undefined || host === hostId) return false
    return bus.liveness.asks(toolParty(server), host, TOLD + effect)
  }

  private spanOf(call: ReceivedCall, { message, count }: Delivery, reply: ReplyBody): FinishedSpan {
    const { telemetry, subjects, server, transport } = this.options
    const { trace, effect } = call
    const work: Partial<Work> = reply.work ?? {}
    const startMs = work.startedAt ?? message.sentAt
    const body = readable(call)
    const parent = trace.parentSpanId
    return {
      ...executionOf(telemetry, {
        tool: body?.tool ?? 'unknown',
        server,
        transport,
        call: { effect, subjects },
        arguments: body?.arguments,
        ...(reply.kind === 'error' ? { failure: reply.failure } : { result: reply.value }),
      }),
      traceId: trace.traceId,
      spanId: executionSpan(trace, effect),
      parentSpanId: parent,
      flags: trace.flags,
      tracestate: trace.tracestate,
      startMs,
      endMs: work.endedAt ?? startMs,
      // The parent is also where the message was made; a later delivery of it is one more link to there.
      links:
        parent === undefined || count === 1
          ? []
          : [{ traceId: trace.traceId, spanId: parent, attributes: { [KEYS.attempts]: count } }],
    }
  }
}

/** What one execution of a tool was, wherever its call came from. */
export interface Execution {
  readonly tool: string
  /** Name of the MCP server. */
  readonly server: string
  readonly transport: Transport
  readonly arguments?: unknown
  readonly result?: unknown
  readonly failure?: Failure | undefined
  /** Known of calls that came over the bus. */
  readonly call?: { readonly effect: string; readonly subjects: Subjects } | undefined
}

/** All of a span `tool.execute` but its place and time. */
export function executionOf(
  { naming, hasContent }: Pick<ServiceTelemetry, 'naming' | 'hasContent'>,
  execution: Execution,
): Pick<FinishedSpan, 'name' | 'kind' | 'attributes' | 'failure'> {
  const { tool, server, transport, call, failure } = execution
  return {
    name: spanName(OPERATIONS.execute, tool, naming),
    kind: 'server',
    attributes: {
      [KEYS.op]: OPERATIONS.execute,
      [KEYS.genAiOperation]: GEN_AI_OPERATIONS.tool,
      [KEYS.genAiTool]: tool,
      [KEYS.genAiToolType]: 'extension',
      [KEYS.mcpMethod]: 'tools/call',
      [KEYS.server]: server,
      [KEYS.transport]: transport,
      ...(call && callAttributes(server, call)),
      ...(hasContent && {
        [KEYS.genAiArguments]: spanContent(execution.arguments),
        [KEYS.genAiResult]: spanContent(execution.result),
      }),
    },
    failure: failure && failureOf(failure),
  }
}

function callAttributes(
  server: string,
  { effect, subjects }: { readonly effect: string; readonly subjects: Subjects },
): Attributes {
  const { namespace } = subjects
  return {
    [KEYS.task]: parseEffectId(effect)?.task,
    [KEYS.effect]: effect,
    [KEYS.namespace]: namespace,
    [KEYS.genAiToolCall]: effect,
    [KEYS.messagingSystem]: MESSAGING_SYSTEM,
    [KEYS.messagingSystemName]: MESSAGING_SYSTEM,
    [KEYS.messagingOperation]: 'process',
    [KEYS.messagingOperationType]: 'process',
    [KEYS.messagingTemplate]: `kaos.${namespace}.tool.{server}.call`,
    [KEYS.messagingMessage]: effect,
    [KEYS.messagingConversation]: effect,
    [KEYS.messagingConsumer]: 'call',
    [KEYS.journalRef]: subjects.done(server, effect),
  }
}

/** The conventions call it tool_error when the tool itself says that it failed: then nobody has added details. */
function failureOf({ code, message, details }: Failure): SpanFailure {
  return { code: code === 'tool_failed' && details === undefined ? 'tool_error' : code, message: redact(message) }
}

function readable(call: ReceivedCall): CallBody | undefined {
  try {
    return call.body()
  } catch {
    return undefined
  }
}

/** Begins the question of one process to another whether it has told of an effect's call; no effect id begins so. */
const TOLD = 'told '
