/**
 * Records what became of a call as one span `tool.execute`, made from the reply that was stored, when the reply has left and just before the ack.
 * Whoever answers a call from the record of a process that died records it in its stead.
 */
import type { Bus, Delivery } from '../bus/contracts.ts'
import { isLeftToOthers, RecordedSpans } from '../bus/recorded-spans.ts'
import { messageOf } from '../bus/wire/errors.ts'
import { executionSpanId } from '../bus/wire/ids.ts'
import { type CallBody, decodeReply, parseBlobBody, type ReplyBody } from '../bus/wire/message.ts'
import { type Subjects, toolParty } from '../bus/wire/subjects.ts'
import { logFields, type TraceContext } from '../bus/wire/trace.ts'
import type { Logger } from '../telemetry/log.ts'
import type { CountedSpan, FinishedSpan } from '../telemetry/span.ts'
import { redeliveryLink } from '../telemetry/span-parts.ts'
import type { ServiceTelemetry } from '../telemetry/telemetry.ts'
import type { NetworkTransport } from './runtimes/channel.ts'
import { countedExecution, executionSpan } from './spans.ts'

/** A call as its message says it. */
export interface ReceivedCall {
  readonly effect: string
  /** Its parent is the span that waits for the answer. */
  readonly trace: TraceContext
  /** Throws where the body cannot be read. */
  readonly body: () => CallBody
}

export interface SpanRecorderOptions {
  readonly bus: Pick<Bus, 'blobs' | 'liveness'>
  readonly subjects: Subjects
  readonly server: string
  readonly hostId: string
  readonly transport: NetworkTransport
  readonly telemetry: ServiceTelemetry
  readonly log: Logger
}

export class SpanRecorder {
  private readonly options: SpanRecorderOptions
  private readonly recorded: RecordedSpans

  constructor(options: SpanRecorderOptions) {
    const { bus, server, hostId } = options
    this.options = options
    this.recorded = new RecordedSpans({ liveness: bus.liveness, party: toolParty(server), hostId })
  }

  /** The answer to another process that wonders whether it is to record the span of a call. */
  answers(question: string): boolean {
    return this.recorded.answers(question)
  }

  /** Whether somebody else records and acks a delivery. */
  leaves(delivery: Delivery): boolean {
    return this.options.telemetry.isOn && isLeftToOthers(delivery)
  }

  /**
   * Records the span of a call, once. Never rejects.
   *
   * @param stored The reply's body as it is stored; a large one refers to a blob.
   * @param reply Absent where the call was answered from the record.
   */
  async record(call: ReceivedCall, delivery: Delivery, stored: string, reply: ReplyBody | undefined): Promise<void> {
    const { telemetry, log, server } = this.options
    const { effect, trace } = call
    if (!telemetry.isOn || this.recorded.has(effect)) return
    try {
      const known = reply ?? decodeReply(await this.bodyOf(stored))
      if (!reply && (await this.recorded.hasOwner(known.work?.host, effect))) return
      this.recorded.add(effect)
      telemetry.record(this.spanOf(call, delivery, known))
    } catch (error) {
      // The work counts, not what is shown of it.
      const about = { server, effect, ...logFields(trace, executionSpanId(trace.traceId, effect)) }
      log.warn({ ...about, reason: messageOf(error) }, 'could not read a stored reply again for its span; it is left out')
    }
  }

  private async bodyOf(stored: string): Promise<string> {
    const ref = parseBlobBody(stored)
    return ref ? this.options.bus.blobs.read(ref.owner, ref.to, ref.task, ref.sha) : stored
  }

  private spanOf(call: ReceivedCall, { message, count }: Delivery, reply: ReplyBody): FinishedSpan | CountedSpan {
    const { telemetry, subjects, server, transport } = this.options
    const { effect } = call
    const { traceId, parentSpanId, flags, tracestate } = call.trace
    const startMs = reply.work?.startedAt ?? message.sentAt
    const endMs = reply.work?.endedAt ?? startMs
    const body = readable(call)
    const tool = body?.tool ?? 'unknown'
    const failure = reply.kind === 'error' ? reply.failure : undefined
    if (!telemetry.isExported(call.trace)) return { ...countedExecution({ tool, failure }), startMs, endMs }
    return {
      ...executionSpan(telemetry, {
        tool,
        server,
        transport,
        call: { effect, subjects },
        arguments: body?.arguments,
        ...(reply.kind === 'error' ? { failure } : { result: reply.value }),
      }),
      traceId,
      spanId: executionSpanId(traceId, effect),
      parentSpanId,
      flags,
      tracestate,
      startMs,
      endMs,
      links: parentSpanId === undefined || count === 1 ? [] : [redeliveryLink(traceId, parentSpanId, count)],
    }
  }
}

function readable(call: ReceivedCall): CallBody | undefined {
  try {
    return call.body()
  } catch {
    return undefined
  }
}
