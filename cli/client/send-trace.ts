/**
 * The trace in which a task is sent: that of the caller, as TRACEPARENT and TRACESTATE say (OpenTelemetry's environment carriers, which CI systems
 * and shells set), else one that follows from the task's id, so that the same id again is the same trace and the same span.
 */
import type { HeaderPairs } from '../../bus/publish/publish.ts'
import { toFailure } from '../../bus/wire/errors.ts'
import { spanIdOf } from '../../bus/wire/ids.ts'
import { HEADERS } from '../../bus/wire/message.ts'
import { subjectsOf } from '../../bus/wire/subjects.ts'
import { readTrace, traceHeaders } from '../../bus/wire/trace.ts'
import { KEYS, OPERATIONS, spanName } from '../../telemetry/names.ts'
import type { FinishedSpan } from '../../telemetry/span.ts'
import { messagingAttributes, spanFailure } from '../../telemetry/span-parts.ts'
import { noService, type ServiceIdentity, type ServiceTelemetry } from '../../telemetry/telemetry.ts'
import type { TaskAddress } from './lookup.ts'

/** Who sends tasks, as a backend knows it where OTEL_SERVICE_NAME does not say it. */
export function clientService(namespace: string): ServiceIdentity {
  return { name: 'kaos-cli', namespace, kind: 'client' }
}

export interface SendTrace {
  readonly traceId: string
  /** What TRACEPARENT held instead of trace context. */
  readonly refused?: string | undefined
  /** Trace context, and what the task is known by, for its message. */
  readonly headers: HeaderPairs
  /** Sends, and records that as a span. Rejects with what `send` rejects with. */
  record(send: () => Promise<void>): Promise<void>
}

export interface SendTraceOptions {
  readonly namespace: string
  readonly address: TaskAddress
  /** Default: off. Without it the caller's span, if there is one, is the parent of the task. */
  readonly telemetry?: ServiceTelemetry | undefined
  /** Where the caller's trace context stands. Default: nowhere. */
  readonly env?: NodeJS.ProcessEnv | undefined
}

export function sendTrace({ namespace, address, telemetry = noService, env = {} }: SendTraceOptions): SendTrace {
  const { agent, key, task } = address
  const carrier = { traceparent: env.TRACEPARENT, tracestate: env.TRACESTATE, baggage: env.BAGGAGE }
  const header = (name: string) => carrier[name as keyof typeof carrier] || undefined
  const caller = readTrace(header, { namespace, agent, cause: key })
  const { traceId, parentSpanId, tracestate, refused } = caller
  // A door mail without traceparent derives the same trace id from its cause.
  const cause: HeaderPairs = [[HEADERS.cause, key]]
  if (!telemetry.isOn) {
    const context = parentSpanId === undefined ? baggageOf(caller) : traceHeaders(caller, parentSpanId)
    return { traceId, refused, headers: [...cause, ...context], record: (send) => send() }
  }
  const { door, templates } = subjectsOf(namespace)
  const described = {
    name: spanName(OPERATIONS.send, templates.door, telemetry.naming),
    kind: 'producer',
    attributes: {
      [KEYS.op]: OPERATIONS.send,
      [KEYS.namespace]: namespace,
      [KEYS.agent]: agent,
      [KEYS.task]: task,
      ...messagingAttributes('send', templates.door),
      [KEYS.messagingDestination]: door(agent),
      [KEYS.messagingMessage]: key,
    },
  } as const
  const flags = parentSpanId === undefined ? telemetry.rootFlags({ traceId, ...described }) : caller.flags
  // Many tasks may be sent in the trace of one caller.
  const spanId = spanIdOf(traceId, `${task}/send`)
  return {
    traceId,
    refused,
    headers: [...cause, ...traceHeaders({ ...caller, flags }, spanId)],
    async record(send) {
      const startMs = Date.now()
      const finish = (failure?: FinishedSpan['failure']) => {
        telemetry.record({ ...described, traceId, spanId, parentSpanId, flags, tracestate, startMs, endMs: Date.now(), failure })
        if (!failure) telemetry.counts.sent()
      }
      try {
        await send()
      } catch (error) {
        finish(spanFailure(toFailure(error)))
        throw error
      }
      finish()
    },
  }
}

function baggageOf({ baggage }: { readonly baggage?: string }): HeaderPairs {
  return baggage === undefined ? [] : [['baggage', baggage]]
}
