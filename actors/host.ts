/** Holds the actors of one agent in this process, and does for a turn what touches journal, effects and mail. */
import { LRUCache } from 'lru-cache'
import type { Bus, Clock, Delivery } from '../bus/contracts.ts'
import type { Entry, Input, StartInput, Work } from '../bus/wire/entry.ts'
import { KaosError, toFailure } from '../bus/wire/errors.ts'
import { entryId, parseEffectId } from '../bus/wire/ids.ts'
import type { Json } from '../bus/wire/json.ts'
import { DELIVERY_LIMITS, HOST_LIMITS, MESSAGE_LIMITS, TASK_LIMITS } from '../bus/wire/limits.ts'
import { limitsOf, type Mail, type Outgoing } from '../bus/wire/message.ts'
import { agentParty, partyText, type Subjects, subjectsOf } from '../bus/wire/subjects.ts'
import type { Logger } from '../telemetry/log.ts'
import { Actor, type ActorState, apply, decide, newState, type Pending, startHash } from './actor.ts'
import type { CrashPoint } from './crash.ts'
import type { Effect, EffectCall } from './effects/effect.ts'
import type { Machine } from './machine.ts'
import { actorSpan, conclusion, progressOf, workingRecord } from './outbox.ts'
import { type Draft, encode, fold, noteStored } from './record.ts'
import type { Cause } from './running.ts'

/** An agent as this process runs it. */
export interface AgentRuntime {
  readonly name: string
  readonly machine: Machine
  readonly effects: Readonly<Record<string, Effect>>
  /** What a new task takes with it: the manifest and the tool lists of now. Throws `tool_list_missing` while one is not there. */
  definition(): Promise<Json>
  /** The definition of a task whose tool lists never came: the machine turns it into a typed failure. */
  withoutTools(failure: { readonly code: string; readonly message: string }): Json
}

/** Who this process is. A host id is new at every start. */
export interface HostIdentity {
  readonly id: string
  /** `<host id>.<append counter>`, never the same twice. */
  nextWriter(): string
}

export interface HostOptions {
  readonly bus: Bus
  readonly agent: AgentRuntime
  readonly identity: HostIdentity
  readonly clock: Clock
  readonly log: Logger
  readonly crash: CrashPoint
}

export class Host {
  readonly subjects: Subjects
  readonly agent: AgentRuntime
  private readonly options: HostOptions
  private readonly actors: LRUCache<string, Actor>
  private readonly pinned = new Map<string, Actor>()
  /** When mail was first met here whose task, effect or body is not there, by delivery. */
  private readonly missedSince = new LRUCache<string, number>({ max: HOST_LIMITS.missedMailMax })

  constructor(options: HostOptions) {
    this.options = options
    this.agent = options.agent
    this.subjects = subjectsOf(options.bus.namespace)
    this.actors = new LRUCache({
      max: HOST_LIMITS.actorsCachedMax,
      maxSize: HOST_LIMITS.actorBytesCachedMax,
      sizeCalculation: (actor) => actor.bytes + 1_024,
    })
  }

  get id(): string {
    return this.options.identity.id
  }

  /**
   * The actor that mail is for, pinned until `close`. It is read from its journal unless nothing can be there yet. For mail that comes again it
   * is read again: another host may have had it meanwhile, and what that one finished must not run here once more.
   */
  async open(mail: Mail, count: number): Promise<Actor> {
    let actor = this.pinned.get(mail.task) ?? this.actors.get(mail.task)
    const isNew = !actor
    actor ??= new Actor(this.agent.name, mail.task)
    actor.pins++
    this.pinned.set(mail.task, actor)
    if (count > 1 || (isNew && (mail.kind === 'reply' || mail.kind === 'signal'))) {
      const opened = actor
      await actor.lock
        .run(() => this.reload(opened))
        .catch((error) => {
          this.close(opened)
          throw error
        })
    }
    return actor
  }

  close(actor: Actor): void {
    actor.pins--
    if (actor.pins > 0 || this.pinned.get(actor.task) !== actor) return
    this.pinned.delete(actor.task)
    if (actor.state) this.actors.set(actor.task, actor)
  }

  /** Whether a cause is to be decided. Rule 6 lives here: a no is said only on a state that is proven current. Called inside the lock. */
  async accepts(actor: Actor, mail: Mail, cause: Cause, delivery: Delivery): Promise<boolean> {
    const { input } = cause
    switch (input.kind) {
      case 'start':
        this.checkSameStart(actor, mail)
        return !actor.state
      case 'signal':
        if (!actor.state) await this.reload(actor)
        // A cancel may overtake the start; anything else waits for it.
        if (!actor.state && input.name !== 'cancel')
          throw this.missing(
            'unknown_task',
            `signal "${input.name}" is for task "${mail.task}", which no journal knows`,
            delivery,
          )
        return !actor.state || (!actor.state.outcome && !actor.state.signals.has(input.id) && this.maySignal(actor.state, mail))
      case 'resumed':
        return true
      case 'result':
      case 'error': {
        const position = parseEffectId(input.effect)!
        if (!actor.state || position.n >= actor.state.n) await this.reload(actor)
        const { state } = actor
        if (!state || position.n >= state.n) {
          const message = `mail "${mail.id}" answers effect "${input.effect}", which no journal knows`
          throw this.missing('unknown_effect', message, delivery)
        }
        const effect = state.pending.get(input.effect)
        if (!effect) return false
        return cause.local || this.isFromAddressee(effect, mail)
      }
    }
  }

  /**
   * The error for mail that refers to what is not there: retryable during 30 s, then terminal. Counted from its first look here and not from
   * when the mail was sent: a server that was leader answers from its past, and mail that waited long must not be dropped for one such answer.
   */
  missing(
    code: 'unknown_effect' | 'unknown_task' | 'body_missing',
    message: string,
    { message: { delivery } }: Delivery,
  ): KaosError {
    const now = this.options.clock.now()
    const since = this.missedSince.get(delivery) ?? now
    this.missedSince.set(delivery, since)
    if (now - since > DELIVERY_LIMITS.unknownEffectAgeMs) return new KaosError(code, message)
    return new KaosError('no_progress', `${message} yet`, { retryAfterMs: DELIVERY_LIMITS.unknownEffectRetryMs })
  }

  /** Decides a cause and stores the entry. Called inside the lock. */
  async decideAndAppend(actor: Actor, mail: Mail, cause: Cause, owner: string): Promise<Entry | 'lost' | 'overtaken'> {
    const { identity, bus } = this.options
    const { decision, draft, encoded } = this.prepare(actor, mail, cause, owner)
    const { n } = draft
    const self = agentParty(actor.agent)
    for (const [sha, body] of encoded.blobs) await bus.blobs.write(self, self, actor.task, sha, body)
    const writer = identity.nextWriter()
    await this.at('before-append', actor)
    const begunAt = performance.now()
    const sequence = await bus.journal.append({
      agent: actor.agent,
      task: actor.task,
      slot: entryId(actor.task, n),
      writer,
      text: encoded.text,
      snapshotAt: actor.snapshotAt,
      expected: actor.sequence,
    })
    if (sequence === 'lost') {
      await this.reload(actor)
      return 'lost'
    }
    await this.at('after-append', actor)
    const state = actor.state ?? newState(draft as Entry)
    apply(actor.task, state, draft as Entry, decision, writer, encoded.seal)
    actor.state = state
    noteStored(actor, sequence, encoded.text, encoded.bodies, encoded.hasSnapshot)
    bus.progress.tell(this.subjects.progress(state.trace.traceId, actor.agent, actor.task), progressOf(draft, actor, this.id))
    this.note(actor, draft)
    if (performance.now() - begunAt > DELIVERY_LIMITS.ackWaitMs / 3) {
      await this.reload(actor)
      if (this.lostOwnership(actor, owner)) return 'overtaken'
    }
    return draft as Entry
  }

  /** The entry of a cause. An answer that no journal can hold is the failure of its effect, or the task would wait for it for ever. */
  private prepare(actor: Actor, mail: Mail, cause: Cause, owner: string) {
    const at = this.options.clock.now()
    try {
      return this.draw(actor, mail, cause, owner, at)
    } catch (error) {
      if (!(error instanceof KaosError) || error.code !== 'payload_too_large' || cause.input.kind !== 'result') throw error
      const { value: _value, ...answered } = cause.input
      const input: Input = { ...answered, kind: 'error', failure: toFailure(error) }
      return this.draw(actor, mail, { ...cause, input }, owner, at)
    }
  }

  private draw(actor: Actor, mail: Mail, cause: Cause, owner: string, at: number) {
    const { machine } = this.agent
    const decision = decide(machine, actor.state, cause.input, at)
    const n = actor.state?.n ?? 0
    const draft: Draft = {
      n,
      at,
      cause: cause.id,
      delivery: owner,
      ...(n === 0 && { from: mail.from }),
      input: cause.input,
      commands: decision.commands,
      ...(decision.outcome && { outcome: decision.outcome }),
      ...((n === 0 || (!cause.local && cause.input.kind !== 'resumed')) && { trace: mail.trace }),
      machine: machine.id,
    }
    const wantsSnapshot = n > 0 && n % HOST_LIMITS.snapshotEvery === 0 && !decision.outcome
    return { decision, draft, encoded: encode(actor, draft, decision, wantsSnapshot ? machine : undefined) }
  }

  /** Whether another host has taken over a delivery, as far as this state knows. */
  lostOwnership(actor: Actor, delivery: string): boolean {
    const owner = actor.state?.owners.get(delivery)
    return owner !== undefined && owner !== this.id
  }

  /**
   * Makes a delivery ours before its local effects run again. False: its holder lives, and it is left alone. The question goes to the owner
   * over the bus; silence for 300 ms means dead. Called inside the lock.
   */
  async fence(actor: Actor, mail: Mail, delivery: string): Promise<boolean> {
    for (;;) {
      const { state } = actor
      const mine = state
        ? [...state.pending.values()].filter((effect) => effect.delivery === delivery && this.isLocal(effect))
        : []
      const owner = state?.owners.get(delivery)
      if (mine.length === 0 || owner === this.id || owner === undefined) return true
      if (await this.options.bus.liveness.asks(agentParty(actor.agent), owner, delivery)) return false
      const input: Input = { kind: 'resumed', delivery }
      const stood = await this.decideAndAppend(
        actor,
        mail,
        { id: `${delivery}.resumed.${state!.n}`, input, local: false },
        delivery,
      )
      if (stood === 'overtaken') return false
      if (stood === 'lost') continue
      this.options.log.info(
        { agent: actor.agent, task: actor.task, trace_id: state!.trace.traceId, from: owner, effects: mine.length },
        'took over a task',
      )
      return true
    }
  }

  isLocal(effect: Pending): boolean {
    return this.effectOf(effect)?.kind === 'local'
  }

  /** How to run a pending effect here, or undefined when it goes by mail. The run never rejects. */
  localRun(actor: Actor, effect: Pending): ((signal: AbortSignal) => Promise<Cause>) | undefined {
    const source = this.effectOf(effect)
    if (source?.kind === 'mail') return this.refusalRun(effect, source.message(this.callOf(actor, effect)))
    const { clock, bus } = this.options
    const startedAt = clock.now()
    const subject = this.subjects.progress(actor.state!.trace.traceId, actor.agent, actor.task)
    const tell = (event: object) =>
      bus.progress.tell(subject, { ...event, agent: actor.agent, task: actor.task, effect: effect.id })
    const work = (attempts: number): Work => ({ startedAt, endedAt: clock.now(), attempts, host: this.id })
    return async (signal) => {
      await this.at('effect-in-flight', actor)
      let input: Input
      try {
        if (!source) throw new KaosError('machine_contract', `agent "${actor.agent}" has no effect "${effect.effect}"`)
        const answer = await source.run({ ...this.callOf(actor, effect), signal, tell })
        input = {
          kind: 'result',
          effect: effect.id,
          value: answer.value,
          ...(answer.usage && { usage: answer.usage }),
          work: work(answer.attempts ?? 1),
        }
      } catch (error) {
        input = { kind: 'error', effect: effect.id, failure: toFailure(error), work: work(1) }
      }
      return { id: effect.id, input, local: true }
    }
  }

  /** The answer to an effect whose message no stream would take; undefined for every other. */
  private refusalRun(effect: Pending, { body }: Outgoing): (() => Promise<Cause>) | undefined {
    const bytes = Buffer.byteLength(body)
    if (bytes <= MESSAGE_LIMITS.bodyBytesMax) return undefined
    const message = `the message of effect "${effect.id}" has ${bytes} bytes; at most ${MESSAGE_LIMITS.bodyBytesMax} are allowed`
    const input: Input = { kind: 'error', effect: effect.id, failure: { code: 'payload_too_large', message } }
    return async () => ({ id: effect.id, input, local: true })
  }

  /** Sends the message of an effect that is answered by mail. */
  async post(actor: Actor, effect: Pending): Promise<void> {
    const source = this.effectOf(effect)
    if (source?.kind !== 'mail') throw new KaosError('internal', `effect "${effect.id}" does not go by mail`)
    await this.options.bus.post.send(source.message(this.callOf(actor, effect)))
    await this.at('after-send', actor)
  }

  /** Writes the actor into the index of traces, as working. */
  announce(actor: Actor): Promise<void> {
    return this.options.bus.post.send(workingRecord(this.subjects, actor))
  }

  /** Index, result and reply of an actor that ended. The parent is taken from the mail when a cancel overtook the start. */
  async conclude(actor: Actor, mail: Mail): Promise<void> {
    const { post } = this.options.bus
    await this.at('before-conclude', actor)
    const parent = actor.state!.parent ?? (mail.kind === 'start' ? { agent: mail.from.name, effect: mail.effect! } : undefined)
    await Promise.all(conclusion(this.subjects, actor, parent).map((message) => post.send(message)))
    await this.at('after-conclude', actor)
  }

  /** Tells the addressees of effects by mail that the last entry ended them early. */
  stops(actor: Actor): Promise<void>[] {
    return actor.state!.cut.flatMap((effect) => {
      const source = this.effectOf(effect)
      const message = source?.kind === 'mail' ? source.stop?.(this.callOf(actor, effect)) : undefined
      return message ? [this.options.bus.post.send(message)] : []
    })
  }

  /** What a delivery that comes again sends again: all that its first turn may not have got out. */
  again(actor: Actor, mail: Mail, owner: string): Promise<void>[] {
    const state = actor.state!
    const isStart = mail.kind === 'task' || mail.kind === 'start'
    const ended = state.outcome && (isStart || state.endedBy === owner)
    return [...(isStart ? [this.announce(actor)] : []), ...(ended ? [...this.stops(actor), this.conclude(actor, mail)] : [])]
  }

  /** What a new task begins with. Waits, by redelivery, for tool lists that are not announced yet. */
  async startInput(mail: Extract<Mail, { readonly kind: 'task' | 'start' }>, sentAt: number): Promise<StartInput> {
    const at = this.options.clock.now()
    const { input, session, limits, path, context } = mail.start
    const definition = await this.agent.definition().catch((error: unknown) => {
      if (!(error instanceof KaosError) || error.code !== 'tool_list_missing') throw error
      if (at - sentAt < HOST_LIMITS.toolListWaitMs) throw error
      return this.agent.withoutTools(toFailure(error))
    })
    return {
      kind: 'start',
      input,
      definition,
      limits: { ...TASK_LIMITS, ...limitsOf(limits, at) },
      path: mail.kind === 'start' ? (path ?? []) : [],
      ...(context !== undefined && mail.kind === 'start' && { context }),
      ...(session !== undefined && { session }),
      ...(mail.kind === 'start' && { parent: { agent: mail.from.name, effect: mail.effect! } }),
    }
  }

  /** A named instant at which a test may kill this process. */
  at(point: Parameters<CrashPoint>[0], actor: { readonly task: string }): Promise<void> | undefined {
    return this.options.crash(point, actor.task)
  }

  private async reload(actor: Actor): Promise<void> {
    const { journal, blobs } = this.options.bus
    const self = agentParty(actor.agent)
    const stored = actor.state
      ? await journal.read(actor.agent, actor.task, actor.sequence)
      : await journal.readFromSnapshot(actor.agent, actor.task)
    try {
      await fold(actor, this.agent.machine, stored, (sha) => blobs.read(self, self, actor.task, sha))
    } catch (error) {
      this.actors.delete(actor.task)
      this.pinned.delete(actor.task)
      throw error
    }
  }

  /** One line when a task begins and one when it ends: what somebody who reads the log at night looks for. */
  private note(actor: Actor, entry: Draft): void {
    const { log } = this.options
    const { trace, origin, usage } = actor.state!
    const fields = { agent: actor.agent, task: actor.task, trace_id: trace.traceId, span_id: actorSpan(trace, actor.task) }
    if (entry.n === 0)
      log.debug(
        { ...fields, from: partyText(origin.from), ...(trace.refused && { refusedTraceparent: trace.refused }) },
        'a task began',
      )
    const { outcome } = entry
    if (!outcome) return
    const ended = { ...fields, state: outcome.state, ms: entry.at - origin.at, entries: entry.n + 1, usage }
    if (outcome.state === 'completed') log.info(ended, 'a task ended')
    else log.warn({ ...ended, code: outcome.failure.code, reason: outcome.failure.message }, 'a task ended')
  }

  private checkSameStart(actor: Actor, mail: Mail): void {
    const { state } = actor
    if (!state || (mail.kind !== 'task' && mail.kind !== 'start') || state.origin.inputHash === '') return
    const isSame = partyText(state.origin.from) === partyText(mail.from) && state.origin.inputHash === startHash(mail.start)
    if (isSame) return
    throw new KaosError(
      'key_conflict',
      `task "${mail.task}" was begun by "${partyText(state.origin.from)}" and this start differs in sender or input`,
    )
  }

  /** An actor listens to people and to the agent that began it. */
  private maySignal(state: ActorState, mail: Mail): boolean {
    return mail.from.kind === 'user' || (mail.from.kind === 'agent' && state.parent?.agent === mail.from.name)
  }

  private isFromAddressee(effect: Pending, mail: Mail): boolean {
    const source = this.effectOf(effect)
    if (source?.kind === 'mail' && partyText(source.addressee(effect.input)) === partyText(mail.from)) return true
    this.options.log.warn(
      { agent: mail.agent, task: mail.task, effect: effect.id, from: partyText(mail.from) },
      'refused a reply from a stranger',
    )
    return false
  }

  private effectOf(effect: Pending): Effect | undefined {
    return this.agent.effects[effect.effect]
  }

  private callOf(actor: Actor, effect: Pending): EffectCall {
    return { id: effect.id, agent: actor.agent, task: actor.task, input: effect.input, trace: actor.state!.trace }
  }
}

/** The input that mail brings. A start of an actor that is known already is not going to be decided, so it needs no definition. */
export async function causeOf(actor: Actor, mail: Mail, host: Host, sentAt: number): Promise<Cause> {
  switch (mail.kind) {
    case 'task':
    case 'start': {
      const input: StartInput = actor.state
        ? { kind: 'start', input: mail.start.input, definition: null, limits: TASK_LIMITS, path: [] }
        : await host.startInput(mail, sentAt)
      return { id: mail.id, input, local: false }
    }
    case 'reply':
      return { id: mail.id, input: { effect: mail.effect, ...mail.reply } as Input, local: false }
    case 'signal':
      return { id: mail.id, input: { kind: 'signal', id: mail.id, name: mail.verb, data: mail.data }, local: false }
  }
}
