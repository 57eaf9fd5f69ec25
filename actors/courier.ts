/** Carries out what entries ask for: runs local effects, sends messages, and tells the world how an actor is doing. Nothing here decides. */
import type { Input, Work } from '../bus/wire/entry.ts'
import { type Failure, KaosError, toFailure } from '../bus/wire/errors.ts'
import { spanIdOf } from '../bus/wire/ids.ts'
import { isObject } from '../bus/wire/json.ts'
import { MESSAGE_LIMITS, TASK_LIMITS } from '../bus/wire/limits.ts'
import type { Mail, Outgoing } from '../bus/wire/message.ts'
import { partyText, type Subjects, subjectsOf } from '../bus/wire/subjects.ts'
import { formatTraceparent } from '../bus/wire/trace.ts'
import { noService, type SpanParent } from '../telemetry/telemetry.ts'
import type { Actor, Pending } from './actor.ts'
import type { Effect, EffectCall, LocalEffect } from './effects/effect.ts'
import { conclusion, workingRecord } from './outbox.ts'
import type { HostOptions } from './runtime.ts'
import type { Cause } from './turn/running.ts'

type Run = (signal: AbortSignal) => Promise<Cause>
export type Way = { readonly kind: 'local'; readonly run: Run } | { readonly kind: 'mail'; readonly message: Outgoing }

export class Courier {
  private readonly options: HostOptions
  private readonly subjects: Subjects

  constructor(options: HostOptions) {
    this.options = options
    this.subjects = subjectsOf(options.bus.namespace)
  }

  isLocal(effect: Pending): boolean {
    return this.effectOf(effect)?.kind === 'local'
  }

  /** How a pending effect is carried out: run here, or sent. A run never rejects. */
  wayOf(actor: Actor, effect: Pending): Way {
    const source = this.effectOf(effect)
    if (source?.kind !== 'mail') return { kind: 'local', run: this.runHere(actor, effect, source) }
    try {
      const message = source.message(this.callOf(actor, effect))
      const bytes = Buffer.byteLength(message.body)
      if (bytes <= MESSAGE_LIMITS.bodyBytesMax) return { kind: 'mail', message }
      const allowed = `at most ${MESSAGE_LIMITS.bodyBytesMax} are allowed`
      throw new KaosError('payload_too_large', `the message of effect "${effect.id}" has ${bytes} bytes; ${allowed}`)
    } catch (error) {
      return { kind: 'local', run: refusalRun(effect, toFailure(error)) }
    }
  }

  private runHere(actor: Actor, effect: Pending, source: LocalEffect | undefined): Run {
    const { clock, bus, telemetry = noService } = this.options
    const startedAt = clock.now()
    const subject = this.subjects.progress(actor.state!.trace.traceId, actor.agent, actor.task)
    const tell = (event: object) =>
      bus.progress.tell(subject, { ...event, agent: actor.agent, task: actor.task, effect: effect.id })
    const work = (attempts: number, seen?: Partial<Work>): Work => ({
      startedAt,
      endedAt: clock.now(),
      attempts,
      host: this.options.identity.id,
      ...(source?.address && { address: source.address }),
      ...seen,
    })
    return async (signal) => {
      await this.options.crash('effect-in-flight', actor.task)
      let input: Input
      try {
        if (!source) throw new KaosError('machine_contract', `agent "${actor.agent}" has no effect "${effect.effect}"`)
        const call = { ...this.callOf(actor, effect), signal, tell }
        const answer = await telemetry.within(spanOf(call), () => source.run(call))
        input = {
          kind: 'result',
          effect: effect.id,
          value: answer.value,
          ...(answer.usage && { usage: answer.usage }),
          work: work(answer.attempts ?? 1, answer.seen),
        }
      } catch (error) {
        const failure = toFailure(error)
        input = { kind: 'error', effect: effect.id, failure, work: work(attemptsOf(failure)) }
      }
      return { id: effect.id, input, local: true }
    }
  }

  /** Sends the message of an effect that is answered by mail. */
  async send(actor: Actor, message: Outgoing): Promise<void> {
    await this.post(message)
    await this.options.crash('after-send', actor.task)
  }

  /** Writes the actor into the index of traces, as working. */
  announce(actor: Actor): Promise<void> {
    return this.post(workingRecord(this.subjects, actor))
  }

  /** Index, result and reply of an actor that ended. The parent is taken from the mail when a cancel overtook the start. */
  async conclude(actor: Actor, mail: Mail): Promise<void> {
    await this.options.crash('before-conclude', actor.task)
    const parent = actor.state!.parent ?? (mail.kind === 'start' ? { agent: mail.from.name, effect: mail.effect! } : undefined)
    await Promise.all(conclusion(this.subjects, actor, parent).map((message) => this.post(message)))
    await this.options.crash('after-conclude', actor.task)
  }

  /** Tells the addressees of effects by mail that the last entry ended them early. */
  stops(actor: Actor): Promise<void>[] {
    return actor.state!.cut.flatMap((effect) => {
      const source = this.effectOf(effect)
      const message = source?.kind === 'mail' ? source.stop?.(this.callOf(actor, effect)) : undefined
      return message ? [this.post(message)] : []
    })
  }

  /** What a delivery that comes again sends again: all that its first turn may not have got out. */
  again(actor: Actor, mail: Mail, owner: string): Promise<void>[] {
    const state = actor.state!
    const isStart = mail.kind === 'task' || mail.kind === 'start'
    const ended = state.outcome && (isStart || state.endedBy === owner)
    return [...(isStart ? [this.announce(actor)] : []), ...(ended ? [...this.stops(actor), this.conclude(actor, mail)] : [])]
  }

  /** Whether an answer comes from whom the effect was sent to. */
  isFromAddressee(effect: Pending, mail: Mail): boolean {
    const source = this.effectOf(effect)
    return source?.kind === 'mail' && partyText(source.addressee(effect.input)) === partyText(mail.from)
  }

  private async post(message: Outgoing): Promise<void> {
    await this.options.bus.post.send(message)
    this.options.telemetry?.counts.sent()
  }

  private effectOf(effect: Pending): Effect | undefined {
    return this.options.agent.effects[effect.effect]
  }

  private callOf(actor: Actor, effect: Pending): EffectCall {
    const { trace, limits = TASK_LIMITS, path } = actor.state!
    const { id, input, begun } = effect
    return { id, agent: actor.agent, task: actor.task, input, trace, limits, path, begun }
  }
}

/** Of an effect that counts its attempts. */
function attemptsOf({ details }: Failure): number {
  return isObject(details) && typeof details.attempts === 'number' ? details.attempts : 1
}

/** Where spans of libraries stand that work for an effect, such as those of HTTP requests. Most effects have none, and nobody reads it. */
function spanOf({ id, trace }: EffectCall): SpanParent {
  const { traceId, flags, tracestate } = trace
  return {
    get traceparent() {
      return formatTraceparent(traceId, spanIdOf(traceId, id), flags)
    },
    tracestate,
  }
}

/** The answer to an effect that may not be sent, or that no stream would take. */
function refusalRun(effect: Pending, failure: Failure): Run {
  const input: Input = { kind: 'error', effect: effect.id, failure }
  return async () => ({ id: effect.id, input, local: true })
}
