/** Serves one agent in this process: pulls its mail, takes a turn for each message, and says what becomes of mail that cannot be processed. */
import type { Delivery, MailSubscription } from '../bus/contracts.ts'
import { NO_USAGE } from '../bus/wire/entry.ts'
import type { ErrorCode } from '../bus/wire/error-codes.ts'
import { isRetryable, KaosError, toFailure } from '../bus/wire/errors.ts'
import { actorSpanId } from '../bus/wire/ids.ts'
import { DELIVERY_LIMITS, STREAM_LIMITS } from '../bus/wire/limits.ts'
import {
  checkSize,
  decodeMail,
  doorTask,
  HEADERS,
  type Incoming,
  type Mail,
  parseBlobBody,
  type ReplyBody,
} from '../bus/wire/message.ts'
import { agentParty, parseMailSubject, partyText } from '../bus/wire/subjects.ts'
import { logFields, readTrace } from '../bus/wire/trace.ts'
import { noService } from '../telemetry/telemetry.ts'
import { Host } from './host.ts'
import { deadLetter, refusalReply, resultMessage } from './outbox.ts'
import type { HostOptions } from './runtime.ts'
import { takeTurn } from './turn/turn.ts'

export interface AgentService {
  /** Takes nothing new and resolves when what is in hand is done; what is not after `graceMs` is handed back. */
  stop(graceMs: number): Promise<void>
}

export function serveAgent(options: HostOptions & { readonly mailSlots?: number; readonly taskSlots?: number }): AgentService {
  const { bus, agent, identity, telemetry = noService } = options
  const { counts } = telemetry
  const host = new Host(options)
  const party = agentParty(agent.name)
  const turns = new Map<Delivery, Promise<void>>()
  const receive = (delivery: Delivery) => {
    counts.consumed(delivery.count)
    const begunAt = performance.now()
    const turn = work(delivery, host, options).finally(() => {
      counts.processed(performance.now() - begunAt)
      turns.delete(delivery)
    })
    turns.set(delivery, turn)
  }
  const holds = (asked: string) => bus.mailbox.holds(party, asked) || host.spans.answers(asked)
  const liveness = bus.liveness.serve(party, identity.id, holds)
  const pulls: readonly MailSubscription[] = [
    // Two pulls with slots of their own, mail more than tasks: work under way goes before new work.
    bus.mailbox.open({ kind: 'mail', agent: agent.name }, options.mailSlots ?? DELIVERY_LIMITS.mailSlots, receive),
    bus.mailbox.open({ kind: 'task', agent: agent.name }, options.taskSlots ?? DELIVERY_LIMITS.taskSlots, receive),
  ]
  counts.observe(() => ({ ...host.load(), backlog: pulls.reduce((sum, pull) => sum + pull.backlog(), 0) }))
  return {
    async stop(graceMs) {
      await Promise.all(pulls.map((pull) => pull.stop()))
      const deadline = new Promise<void>((resolve) => setTimeout(resolve, graceMs).unref())
      await Promise.race([Promise.allSettled(turns.values()), deadline])
      // Another host takes it up at once instead of after ack_wait.
      host.shut()
      for (const delivery of turns.keys()) delivery.nak(0)
      await liveness.stop()
    },
  }
}

/** Never rejects: whatever happens is judged here. */
async function work(delivery: Delivery, host: Host, options: HostOptions): Promise<void> {
  const { bus, agent } = options
  let mail: Mail | undefined
  try {
    await host.at('after-pull', { task: delivery.message.subject.split('.').at(-1) ?? '' })
    mail = await readMail()
    checkAge(mail, delivery.message, options)
    await takeTurn(delivery, mail, host)
  } catch (error) {
    await judge(error).catch((failed: unknown) => {
      options.log.error({ agent: agent.name, err: failed }, 'could not put mail aside')
      delivery.nak(delayOf(delivery))
    })
  }

  async function judge(error: unknown): Promise<void> {
    const { message } = delivery
    const known = mail && { task: mail.task, ...logFields(mail.trace, actorSpanId(mail.trace.traceId, mail.task)) }
    const fields = { agent: agent.name, ...known, subject: message.subject, delivery: message.delivery, count: delivery.count }
    if (isRetryable(error)) {
      const { code, retryAfterMs } = error as KaosError
      // Other troubles pass; this one waits for somebody.
      const isToldAtOnce = code === 'machine_changed' && delivery.count === 1
      options.log[isToldAtOnce || isWorthTelling(delivery.count) ? 'warn' : 'debug'](
        { ...fields, code, reason: (error as KaosError).message, ...(isToldAtOnce && { cure: (error as KaosError).cure }) },
        'mail is tried again',
      )
      return delivery.nak(retryAfterMs ?? delayOf(delivery))
    }
    if (waitsForNewerHost(error)) {
      options.log[delivery.count === 1 || isWorthTelling(delivery.count) ? 'warn' : 'debug'](
        { ...fields, code: error.code, reason: error.message },
        'mail waits for a newer host',
      )
      return delivery.nak(DELIVERY_LIMITS.nakMaxMs)
    }
    if (!(error instanceof KaosError) || error.code === 'internal') {
      options.log.error({ ...fields, err: error }, 'a turn failed; its mail is tried again')
      return delivery.nak(delayOf(delivery))
    }
    options.log.error(
      { ...fields, code: error.code, reason: error.message, cure: error.cure },
      'mail cannot be processed; it is in the dead letters',
    )
    await refuse(error)
    delivery.ack()
  }

  /**
   * A later version of an answer, or of the journal that mail is for: a host that knows it may run already, or will. Put aside it would be lost
   * to a task that waits for it. A new task of a later version is refused: its sender learns of that at once and nobody waits.
   */
  function waitsForNewerHost(error: unknown): error is KaosError {
    if (!(error instanceof KaosError) || error.code !== 'unsupported_version') return false
    return mail !== undefined || parseMailSubject(delivery.message.subject)?.kind === 'reply'
  }

  /**
   * Who was asked and answers what cannot be read will not answer again: that is put aside and taken for an error, or the task would wait for
   * ever. The turn still looks at who it is from.
   */
  async function readMail(): Promise<Mail> {
    const { message } = delivery
    try {
      return decodeMail(bus.namespace, await withBody(message, options))
    } catch (thrown) {
      const error = isMissingBody(thrown) ? host.missing('body_missing', thrown.message, delivery) : thrown
      const isAnswer = parseMailSubject(message.subject)?.kind === 'reply'
      if (!isAnswer || !(error instanceof KaosError) || !UNREADABLE.has(error.code)) throw error
      const failure = toFailure(error)
      const body = JSON.stringify({ kind: 'error', failure } satisfies ReplyBody)
      const answer = decodeMail(bus.namespace, { ...message, body, isUtf8: true })
      await bus.post.send(deadLetter(host.subjects, agentParty(agent.name), message, failure))
      return answer
    }
  }

  /** Dead letter; for a task that never began a result that says why, and for a delegation the answer that its parent waits for. */
  async function refuse(error: KaosError): Promise<void> {
    const { message } = delivery
    const failure = toFailure(error)
    const subject = parseMailSubject(message.subject)
    const sends = [bus.post.send(deadLetter(host.subjects, agentParty(agent.name), message, failure))]
    if (subject?.kind === 'start' && error.code !== 'key_conflict') {
      sends.push(bus.post.send(refusalReply(host.subjects, agent.name, subject.from.name, subject.task, failure)))
    }
    if (subject?.kind === 'task' && error.code !== 'key_conflict') {
      const cause = message.header(HEADERS.cause) || message.header(HEADERS.id) || message.delivery
      const task = doorTask(bus.namespace, agent.name, message, cause)
      // Garbage under the key of a task that has begun must not take the place of its result.
      if (!mail && (await host.knows(task))) {
        await Promise.all(sends)
        return
      }
      const { traceId } = readTrace(message.header, { namespace: bus.namespace, agent: agent.name, cause })
      const now = options.clock.now()
      const record = { task, agent: agent.name, trace: traceId, startedAt: now, endedAt: now, usage: NO_USAGE }
      sends.push(bus.post.send(resultMessage(host.subjects, agent.name, task, { state: 'rejected', failure, ...record })))
    }
    await Promise.all(sends)
  }
}

/** What makes an answer unreadable for everybody. A later version does not. */
const UNREADABLE: ReadonlySet<string> = new Set<ErrorCode>(['bad_message', 'body_missing'])

function isMissingBody(error: unknown): error is KaosError {
  return error instanceof KaosError && error.code === 'body_missing'
}

/** The message with its real body, which may lie as a blob in its sender's store. */
async function withBody(message: Incoming, { bus, agent }: HostOptions): Promise<Incoming> {
  const ref = parseBlobBody(message.body)
  if (!ref) return message
  const self = agentParty(agent.name)
  const subject = parseMailSubject(message.subject)
  // People and whoever writes to a door have no store of their own: their body lies in ours. Everyone else may refer to their own store only.
  const owner = subject?.kind === 'task' || subject?.from.kind === 'user' ? self : subject?.from
  if (!owner || partyText(ref.owner) !== partyText(owner) || partyText(ref.to) !== partyText(self)) {
    const given = `a blob of "${partyText(ref.owner)}" for "${partyText(ref.to)}"`
    throw new KaosError('bad_message', `the body refers to ${given}, which its sender may not name here`)
  }
  return { ...message, body: checkSize(ref, await bus.blobs.read(ref.owner, ref.to, ref.task, ref.sha)) }
}

/** "Once" is promised only as long as the journal that proves it is kept. */
function checkAge(mail: Mail, message: Incoming, { clock }: HostOptions): void {
  const ageMs = clock.now() - message.sentAt
  if (ageMs < STREAM_LIMITS.taskAgeMs || mail.kind === 'reply') return
  throw new KaosError(
    'expired',
    `mail "${mail.id}" waited ${Math.round(ageMs / 86_400_000)} days; at most ${STREAM_LIMITS.taskAgeMs / 86_400_000} are allowed`,
  )
}

/** The 8th, 16th, 32nd … time: mail that waits for hours must not fill the log. */
function isWorthTelling(count: number): boolean {
  return count >= 8 && Number.isInteger(Math.log2(count))
}

/** Doubles with every delivery, so that mail nobody can process does not spin. */
function delayOf(delivery: Delivery): number {
  return Math.min(DELIVERY_LIMITS.nakMaxMs, DELIVERY_LIMITS.nakMs * 2 ** Math.min(10, delivery.count - 1))
}
