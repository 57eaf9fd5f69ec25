/** What an effect is: work in the world that a machine asked for. */
import type { Limits, Usage, Work } from '../../bus/wire/entry.ts'
import type { EffectId } from '../../bus/wire/ids.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { Outgoing } from '../../bus/wire/message.ts'
import type { Party } from '../../bus/wire/subjects.ts'
import type { TraceContext } from '../../bus/wire/trace.ts'

/** One effect to be carried out. `id` is its idempotency key wherever it goes. */
export interface EffectCall {
  readonly id: EffectId
  readonly agent: string
  readonly task: string
  readonly input: Json
  readonly trace: TraceContext
  /** Of the task that asks. */
  readonly limits: Limits
  /** The agents from the root down to the parent of the agent that asks. */
  readonly path: readonly string[]
  readonly begun: BegunWith
}

/** What stood when an effect was begun, so that its limits are judged the same whenever they are looked at. */
export interface BegunWith {
  /** Calls and delegations of the same decision, this one included. */
  readonly siblings: number
  /** Tool calls of the task so far, answered or not. */
  readonly toolCalls: number
  readonly tokens: number
}

/**
 * Runs in this host. After a crash it may run again under the same id. Rejects with a KaosError that says why; `tell` reaches people who
 * watch and nobody else.
 */
export interface LocalEffect {
  readonly kind: 'local'
  /** "host:port" of what it asks; absent where it asks nobody. */
  readonly address?: string | undefined
  run(call: EffectCall & { readonly signal: AbortSignal; readonly tell: (event: object) => void }): Promise<{
    readonly value: Json
    readonly usage?: Usage
    readonly attempts?: number
    /** For the span alone; the machine never sees it. */
    readonly seen?: Pick<Work, 'responseId' | 'firstChunkMs'>
  }>
}

/** Answered by a message. Its messages are pure functions of the call, so that sending twice is harmless. */
export interface MailEffect {
  readonly kind: 'mail'
  /** From whom alone an answer is accepted. */
  addressee(input: Json): Party
  /** Throws a KaosError when it may not be sent: that is then its answer. */
  message(call: EffectCall): Outgoing
  /** Tells the addressee that its answer is not needed any more; absent where nobody would listen. */
  stop?(call: EffectCall): Outgoing
}

export type Effect = LocalEffect | MailEffect
