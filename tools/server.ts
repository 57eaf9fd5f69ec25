/**
 * Serves one tool server's calls from the bus. A call that comes again is answered from the record: before any run the server claims the
 * effect, after it the reply is stored on the claim, and only then it is sent. The ack comes last.
 */
import type { Bus, Clock, Delivery } from '../bus/contracts.ts'
import type { ToolDescription } from '../bus/wire/catalog.ts'
import type { ErrorCode } from '../bus/wire/error-codes.ts'
import { type Failure, isRetryable, KaosError, toFailure } from '../bus/wire/errors.ts'
import { isTaskId, parseEffectId } from '../bus/wire/ids.ts'
import { isTooDeep, sha256 } from '../bus/wire/json.ts'
import { DELIVERY_LIMITS, MESSAGE_LIMITS } from '../bus/wire/limits.ts'
import {
  blobBody,
  type CallBody,
  checkSize,
  decodeCall,
  HEADERS,
  headerText,
  type Incoming,
  type Outgoing,
  parseBlobBody,
  type ReplyBody,
} from '../bus/wire/message.ts'
import { type Party, parseCallSubject, partyText, type Subjects, subjectsOf, toolParty } from '../bus/wire/subjects.ts'
import { logFieldsOf, readTrace, type TraceContext } from '../bus/wire/trace.ts'
import type { Logger } from '../telemetry/log.ts'
import { noService, type ServiceTelemetry } from '../telemetry/telemetry.ts'
import type { ToolSession } from './session.ts'
import { type ReceivedCall, SpanRecorder } from './span-recorder.ts'
import { executionTraceparent } from './spans.ts'

/** Named instants of a call at which a test may end the process. */
export const TOOL_CRASH_POINTS = ['before-run', 'after-begun', 'after-run', 'after-done', 'after-reply'] as const
/** Called at every point; a promise that never resolves is a death. */
export type ToolCrashPoint = (point: (typeof TOOL_CRASH_POINTS)[number], effect: string) => Promise<void> | undefined

export interface ToolServerOptions {
  readonly bus: Bus
  readonly server: string
  readonly session: Pick<ToolSession, 'call' | 'list'> & Partial<Pick<ToolSession, 'transport'>>
  readonly identity: { readonly id: string; nextWriter(): string }
  readonly clock: Clock
  readonly log: Logger
  readonly crash: ToolCrashPoint
  /** Longest time of one call; default 60 s. */
  readonly timeoutMs?: number
  readonly slots?: number
  /** Default: off. */
  readonly telemetry?: ServiceTelemetry
}

export interface ToolService {
  /** Takes nothing new and resolves when what is in hand is done; what is not after `graceMs` is aborted and handed back. */
  stop(graceMs: number): Promise<void>
}

/** The claim on an effect, as it stands in `done` until the reply replaces it. */
interface Claim {
  readonly begun: { readonly host: string; readonly at: number }
}

const TIMEOUT_MS = 60_000
const HELD_RETRY_MS = 1_000
/** What a call that is aborted has to hand its message back. */
const ABORT_MS = 1_000
/** Deliveries of a call whose body is not found: about 10 s. */
const BODY_TRIES = 5

export function serveTools(options: ToolServerOptions): ToolService {
  const { bus, server, identity, telemetry = noService } = options
  const { counts } = telemetry
  const party = toolParty(server)
  const running = new Map<string, AbortController>()
  const jobs = new Set<Promise<void>>()
  const calls = new Calls(options, running)
  const liveness = bus.liveness.serve(party, identity.id, (asked) => running.has(asked) || calls.spans.answers(asked))
  const slots = options.slots ?? DELIVERY_LIMITS.callSlots
  const pull = bus.mailbox.open({ kind: 'call', tool: server }, slots, (delivery) => {
    counts.consumed(delivery.count)
    const begunAt = performance.now()
    const job = calls.take(delivery).finally(() => {
      counts.processed(performance.now() - begunAt)
      jobs.delete(job)
    })
    jobs.add(job)
  })
  counts.observe(() => ({ active: running.size, parked: 0, backlog: pull.backlog() }))
  return {
    async stop(graceMs) {
      await pull.stop()
      const deadline = new Promise<void>((resolve) => setTimeout(resolve, graceMs).unref())
      await Promise.race([Promise.allSettled(jobs), deadline])
      for (const abort of running.values()) abort.abort()
      await Promise.race([Promise.allSettled(jobs), new Promise<void>((resolve) => setTimeout(resolve, ABORT_MS).unref())])
      await liveness.stop()
    },
  }
}

interface Call extends ReceivedCall {
  readonly from: Party
  /** Its body is the real one. */
  readonly message: Incoming
  readonly signal: AbortSignal
}

/** `reply` is absent where the body stood in the record. */
interface Settled {
  readonly body: string
  readonly reply?: ReplyBody
}

class Calls {
  readonly spans: SpanRecorder
  private readonly options: ToolServerOptions
  private readonly telemetry: ServiceTelemetry
  private readonly running: Map<string, AbortController>
  private readonly subjects: Subjects

  constructor(options: ToolServerOptions, running: Map<string, AbortController>) {
    this.options = options
    this.running = running
    this.subjects = subjectsOf(options.bus.namespace)
    const { bus, server, log, identity, session, telemetry = noService } = options
    this.telemetry = telemetry
    const place = { subjects: this.subjects, server, hostId: identity.id, transport: session.transport }
    this.spans = new SpanRecorder({ bus, telemetry, log, ...place })
  }

  /** Never rejects: whatever happens is judged here. */
  async take(delivery: Delivery): Promise<void> {
    const place = parseCallSubject(delivery.message.subject)
    if (place && this.running.has(place.effect)) return delivery.nak(HELD_RETRY_MS)
    const abort = new AbortController()
    try {
      if (!place || !parseEffectId(place.effect))
        throw new KaosError('bad_message', `subject "${delivery.message.subject}" names no effect`)
      this.running.set(place.effect, abort)
      await this.options.crash('before-run', place.effect)
      const message = await this.withBody(delivery.message, place.from)
      const call: Call = {
        ...place,
        message,
        trace: this.traceIn(message, place),
        body: once(() => decodeCall(message)),
        signal: abort.signal,
      }
      const settled = await this.settle(call)
      if (settled === 'held') return delivery.nak(HELD_RETRY_MS)
      await this.send(this.replyTo(call, message, settled.body))
      await this.options.crash('after-reply', call.effect)
      if (this.spans.leaves(delivery)) return delivery.release()
      await this.spans.record(call, delivery, settled.body, settled.reply)
      delivery.ack()
    } catch (error) {
      await this.judge(delivery, error)
    } finally {
      if (place && this.running.get(place.effect) === abort) this.running.delete(place.effect)
    }
  }

  private traceIn({ header }: Incoming, { from, effect }: { readonly from: Party; readonly effect: string }): TraceContext {
    return readTrace(header, { namespace: this.subjects.namespace, agent: from.name, cause: effect })
  }

  private async send(message: Outgoing): Promise<void> {
    await this.options.bus.post.send(message)
    this.telemetry.counts.sent()
  }

  /** The body of the reply: from the record, or from a run that the claim made ours. */
  private async settle(call: Call): Promise<Settled | 'held'> {
    const { bus, server, identity, clock } = this.options
    const { effect, from } = call
    let expected = 0
    for (;;) {
      const claim: Claim = { begun: { host: identity.id, at: clock.now() } }
      const begun = await bus.claims.put(server, effect, { text: JSON.stringify(claim), writer: identity.nextWriter(), expected })
      if (begun !== 'lost') {
        await this.options.crash('after-begun', effect)
        const reply = bounded(await this.runCall(call))
        await this.options.crash('after-run', effect)
        const body = await this.toBody(reply.text, effect, from)
        const done = await bus.claims.put(server, effect, { text: body, writer: identity.nextWriter(), expected: begun })
        await this.options.crash('after-done', effect)
        if (done !== 'lost') return { body, reply: reply.reply }
      }
      const record = await bus.claims.read(server, effect)
      if (!record) throw new KaosError('no_progress', `the claim on effect "${effect}" is not readable yet`)
      if (!record.text.startsWith('{"begun":')) return { body: record.text }
      const { host, at: startedAt } = (JSON.parse(record.text) as Claim).begun
      if (host !== identity.id && (await bus.liveness.asks(toolParty(server), host, effect))) return 'held'
      if (await this.mayRepeat(call)) {
        expected = record.sequence
        continue
      }
      const failure: Failure = {
        code: 'indeterminate',
        message: `the tool server died while effect "${effect}" ran, and its tool is neither idempotent nor read-only`,
      }
      const reply: ReplyBody = { kind: 'error', failure, work: { startedAt, endedAt: clock.now(), attempts: 1, host } }
      const put = { text: JSON.stringify(reply), writer: identity.nextWriter(), expected: record.sequence }
      if ((await bus.claims.put(server, effect, put)) !== 'lost') return { body: put.text, reply }
    }
  }

  /** Runs the tool. A failure is a reply too. */
  private async runCall(call: Call): Promise<ReplyBody> {
    const { clock, identity, session } = this.options
    const { effect, trace, signal } = call
    const startedAt = clock.now()
    const finish = () => ({
      usage: { inputTokens: 0, outputTokens: 0, modelCalls: 0, toolCalls: 1 },
      work: { startedAt, endedAt: clock.now(), attempts: 1, host: identity.id },
    })
    try {
      const body = call.body()
      const timeoutMs = this.timeLeft(body, startedAt)
      const { value, isError } = await session.call({
        tool: body.tool,
        arguments: body.arguments as { [key: string]: never },
        timeoutMs,
        signal,
        idempotencyKey: effect,
        traceparent: executionTraceparent(trace, effect, this.telemetry),
        tracestate: trace.tracestate,
        baggage: trace.baggage,
      })
      if (!isError) return { kind: 'result', value, ...finish() }
      const text = typeof value === 'string' ? value : JSON.stringify(value)
      return { kind: 'error', failure: { code: 'tool_failed', message: text }, ...finish() }
    } catch (error) {
      // We are stopping: that is no answer of the tool. The delivery goes back, and the claim says that the tool may have run.
      if (signal.aborted)
        throw new KaosError('no_progress', `the tool server stopped while effect "${effect}" ran`, {
          cause: error,
          retryAfterMs: 0,
        })
      return { kind: 'error', failure: toFailure(error, 'tool_failed'), ...finish() }
    }
  }

  private timeLeft(call: CallBody, now: number): number {
    const timeoutMs = this.options.timeoutMs ?? TIMEOUT_MS
    if (call.deadlineAt === undefined) return timeoutMs
    if (call.deadlineAt <= now)
      throw new KaosError('time_limit', `the task's time ended at ${new Date(call.deadlineAt).toISOString()}`)
    return Math.min(timeoutMs, call.deadlineAt - now)
  }

  /** Whether a run that may have happened may happen again: the tool says so itself. */
  private async mayRepeat(call: Call): Promise<boolean> {
    const { tool } = call.body()
    const tools: readonly ToolDescription[] = await this.options.session.list().catch(() => [])
    const known = tools.find(({ name }) => name === tool)
    return known !== undefined && (known.readOnlyHint || known.idempotentHint)
  }

  /** A reply too large for a message lies as a blob in our store, written before the reply is stored. */
  private async toBody(body: string, effect: string, from: Party): Promise<string> {
    const bytes = Buffer.byteLength(body)
    if (bytes <= MESSAGE_LIMITS.inlineBytesMax) return body
    const owner = toolParty(this.options.server)
    const sha = sha256(body)
    const { task } = parseEffectId(effect)!
    await this.options.bus.blobs.write(owner, from, task, sha, body)
    return blobBody({ owner, to: from, task, sha, bytes })
  }

  private async withBody(message: Incoming, from: Party): Promise<Incoming> {
    const ref = parseBlobBody(message.body)
    if (!ref) return message
    if (partyText(ref.owner) !== partyText(from) || !isTaskId(ref.task)) {
      throw new KaosError(
        'bad_message',
        `the body refers to a blob of "${partyText(ref.owner)}", but its sender is "${partyText(from)}"`,
      )
    }
    return { ...message, body: checkSize(ref, await this.options.bus.blobs.read(ref.owner, ref.to, ref.task, ref.sha)) }
  }

  private async judge(delivery: Delivery, error: unknown): Promise<void> {
    const { log, server } = this.options
    const { message, count } = delivery
    const call = parseCallSubject(message.subject)
    const traceparent = call && executionTraceparent(this.traceIn(message, call), call.effect, this.telemetry)
    const fields = { server, subject: message.subject, delivery: message.delivery, count, ...logFieldsOf(traceparent) }
    const delayMs = Math.min(DELIVERY_LIMITS.nakMaxMs, DELIVERY_LIMITS.nakMs * 2 ** Math.min(10, count - 1))
    // A server that was leader answers from its past: the body may be there all the same.
    const mayCome = error instanceof KaosError && error.code === 'body_missing' && count <= BODY_TRIES
    if (!(error instanceof KaosError) || isRetryable(error) || mayCome) {
      log[count > 5 || !(error instanceof KaosError) ? 'warn' : 'debug']({ ...fields, err: error }, 'a call is tried again')
      return delivery.nak((error as Partial<KaosError>).retryAfterMs ?? delayMs)
    }
    log.error({ ...fields, code: error.code, reason: error.message }, 'a call cannot be processed; it is in the dead letters')
    const failure = toFailure(error)
    const put = this.send({
      subject: this.subjects.dead(toolParty(server)),
      id: `dead.${message.delivery}`,
      body: message.body,
      headers: [
        [HEADERS.cause, headerText(message.header(HEADERS.id) || message.delivery)],
        ['Kaos-Dead-Subject', message.subject],
        ['Kaos-Dead-Code', failure.code],
        ['Kaos-Dead-Reason', failure.message.replaceAll(/[^\x20-\x7e]+/g, ' ').slice(0, 500)],
      ],
    })
    // Whoever called is told, or it would wait for ever.
    const body = JSON.stringify({ kind: 'error', failure } satisfies ReplyBody)
    const told = call && this.send(this.replyTo(call, message, body))
    await Promise.all([put, told])
      .then(() => delivery.ack())
      .catch(() => delivery.nak(delayMs))
  }

  private replyTo(call: { readonly from: Party; readonly effect: string }, message: Incoming, body: string): Outgoing {
    return {
      subject: this.subjects.reply(call.from.name, toolParty(this.options.server), call.effect),
      id: call.effect,
      headers: relayed(message),
      body,
    }
  }
}

function relayed(message: Incoming): (readonly [string, string])[] {
  return ['traceparent', 'tracestate', 'baggage'].flatMap((name) => {
    const value = message.header(name)
    return value ? [[name, headerText(value)] as const] : []
  })
}

/** A reply as text. One that no message may carry is an error of its tool: running the tool again would not help. */
function bounded(reply: ReplyBody): { readonly reply: ReplyBody; readonly text: string } {
  const { usage, work } = reply
  const refused = (code: ErrorCode, message: string) => {
    const failed: ReplyBody = { kind: 'error', failure: { code, message }, usage, work }
    return { reply: failed, text: JSON.stringify(failed) }
  }
  try {
    const text = JSON.stringify(reply)
    const bytes = Buffer.byteLength(text)
    if (bytes > MESSAGE_LIMITS.bodyBytesMax) {
      return refused('payload_too_large', `the result has ${bytes} bytes; at most ${MESSAGE_LIMITS.bodyBytesMax} are allowed`)
    }
    if (!isTooDeep(text)) return { reply, text }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
  }
  return refused('tool_failed', `the result nests deeper than ${MESSAGE_LIMITS.jsonDepthMax} levels`)
}

/** Makes something when it is first wanted, and gives the same from then on. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}
