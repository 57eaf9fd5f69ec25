/** Holds the actors of one agent in this process: opens them, says what may be decided, decides and appends, and takes over from the dead. */
import { LRUCache } from 'lru-cache'
import type { Delivery } from '../bus/contracts.ts'
import type { Entry, Input } from '../bus/wire/entry.ts'
import { KaosError, toFailure } from '../bus/wire/errors.ts'
import { actorSpanId, entryId, parseEffectId } from '../bus/wire/ids.ts'
import { DELIVERY_LIMITS, HOST_LIMITS } from '../bus/wire/limits.ts'
import type { Mail } from '../bus/wire/message.ts'
import { agentParty, partyText, type Subjects, subjectsOf } from '../bus/wire/subjects.ts'
import { logFields, type TraceContext } from '../bus/wire/trace.ts'
import { KEYS, OPERATIONS, spanName } from '../telemetry/names.ts'
import { noService, type ServiceTelemetry } from '../telemetry/telemetry.ts'
import { Actor, type ActorState, apply, decide, newState, type Pending, startHash } from './actor.ts'
import { Courier } from './courier.ts'
import { progressOf } from './outbox.ts'
import { type Draft, encode, fold, noteStored } from './record.ts'
import type { AgentRuntime, HostOptions } from './runtime.ts'
import { SpanRecorder } from './span-recorder.ts'
import { rootAttributes } from './spans.ts'
import type { CrashPoint } from './turn/crash.ts'
import type { Cause } from './turn/running.ts'

export class Host {
  readonly subjects: Subjects
  readonly agent: AgentRuntime
  readonly courier: Courier
  readonly options: HostOptions
  private readonly telemetry: ServiceTelemetry
  readonly spans: SpanRecorder
  private readonly actors: LRUCache<string, Actor>
  private readonly pinned = new Map<string, Actor>()
  /** When mail was first met here whose task, effect or body is not there, by delivery. */
  private readonly missedSince = new LRUCache<string, number>({ max: HOST_LIMITS.missedMailMax })
  private isShut = false

  constructor(options: HostOptions) {
    this.options = options
    this.agent = options.agent
    this.courier = new Courier(options)
    this.subjects = subjectsOf(options.bus.namespace)
    this.telemetry = options.telemetry ?? noService
    const { name: agent, traceBoundary = 'task' } = options.agent
    this.spans = new SpanRecorder({
      bus: options.bus,
      hostId: options.identity.id,
      machine: options.agent.machine,
      telemetry: this.telemetry,
      facts: { agent, subjects: this.subjects, traceBoundary },
      log: options.log,
    })
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

  /** Whether a task has begun. */
  async knows(task: string): Promise<boolean> {
    const known = this.pinned.get(task) ?? this.actors.get(task)
    if (known?.state) return true
    return (await this.options.bus.journal.readFromSnapshot(this.agent.name, task)).length > 0
  }

  close(actor: Actor): void {
    actor.pins--
    if (actor.pins > 0 || this.pinned.get(actor.task) !== actor) return
    this.pinned.delete(actor.task)
    // Nothing more is decided in one that has ended; a copy of its mail finds the journal. Kept, 2,000 of them are half of a busy host's heap.
    if (actor.state && !actor.state.outcome) this.actors.set(actor.task, actor)
    else this.actors.delete(actor.task)
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
        return cause.local || this.isFromAddressee(actor, effect, mail)
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
    if (this.isShut)
      throw new KaosError('no_progress', `could not decide "${cause.id}": this host ends, and has handed its mail back`)
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
    this.telemetry.counts.appended(performance.now() - begunAt)
    await this.at('after-append', actor)
    const state = actor.state ?? newState(draft as Entry)
    apply(actor.task, state, draft as Entry, decision, writer, encoded.seal)
    actor.state = state
    noteStored(actor, sequence, encoded.text, encoded.bodies, encoded.hasSnapshot)
    this.spans.note(actor.task, state, draft as Entry)
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
      ...((n === 0 || (!cause.local && cause.input.kind !== 'resumed')) && {
        trace: n === 0 ? this.rootTrace(mail) : mail.trace,
      }),
      machine: machine.id,
    }
    const wantsSnapshot = n > 0 && n % HOST_LIMITS.snapshotEvery === 0 && !decision.outcome
    return { decision, draft, encoded: encode(actor, draft, decision, wantsSnapshot ? machine : undefined) }
  }

  /** Whether this host wrote the last entry of a delivery, as far as this state knows. */
  isOwner(actor: Actor, delivery: string): boolean {
    return actor.state?.owners.get(delivery) === this.id
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
        ? [...state.pending.values()].filter((effect) => effect.delivery === delivery && this.courier.isLocal(effect))
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
      this.telemetry.counts.takenOver()
      this.options.log.info({ ...this.fieldsOf(actor), from: owner, effects: mine.length }, 'took over a task')
      return true
    }
  }

  /** From now on nothing is decided: an effect that is cut off because the process ends must not become the answer of its task. */
  shut(): void {
    this.isShut = true
  }

  /** What this process has to do with actors now. */
  load(): { readonly active: number; readonly parked: number } {
    let parked = 0
    for (const task of this.actors.keys()) if (!this.pinned.has(task)) parked++
    return { active: this.pinned.size, parked }
  }

  /** A named instant at which a test may kill this process. */
  at(point: Parameters<CrashPoint>[0], actor: { readonly task: string }): Promise<void> | undefined {
    return this.options.crash(point, actor.task)
  }

  /** Where no caller decided whether the trace is exported, the sampler does, once and for the whole tree. */
  private rootTrace({
    trace,
    task,
    id,
    start,
  }: Mail & { readonly start?: { readonly session?: string | undefined } }): TraceContext {
    if (trace.parentSpanId !== undefined) return trace
    const { name: agent } = this.agent
    const state = { origin: { cause: id, session: start?.session }, parent: undefined }
    const flags = this.telemetry.rootFlags({
      traceId: trace.traceId,
      name: spanName(OPERATIONS.agent, agent, this.telemetry.naming),
      kind: 'consumer',
      attributes: { [KEYS.op]: OPERATIONS.agent, ...rootAttributes({ agent, subjects: this.subjects }, task, state) },
    })
    return flags === trace.flags ? trace : { ...trace, flags }
  }

  /** What a line of the log says of an actor. */
  private fieldsOf({ agent, task, state }: Actor) {
    const { trace } = state!
    return { agent, task, ...logFields(trace, actorSpanId(trace.traceId, task)) }
  }

  private async reload(actor: Actor): Promise<void> {
    const { journal, blobs } = this.options.bus
    const self = agentParty(actor.agent)
    const isNew = !actor.state
    const begunAt = performance.now()
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
    if (!isNew || !actor.state) return
    const ms = Math.round(performance.now() - begunAt)
    const { n } = actor.state
    this.options.log[ms > HOST_LIMITS.activationMs ? 'info' : 'debug'](
      { ...this.fieldsOf(actor), ms, entries: n, read: stored.length },
      'read a task from its journal',
    )
  }

  /** One line when a task begins and one when it ends: what somebody who reads the log at night looks for. */
  private note(actor: Actor, entry: Draft): void {
    if (entry.n > 0 && !entry.outcome) return
    const { log } = this.options
    const { trace, origin, usage } = actor.state!
    const fields = this.fieldsOf(actor)
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

  private isFromAddressee(actor: Actor, effect: Pending, mail: Mail): boolean {
    if (this.courier.isFromAddressee(effect, mail)) return true
    this.options.log.warn(
      { ...this.fieldsOf(actor), effect: effect.id, from: partyText(mail.from) },
      'refused a reply from a stranger',
    )
    return false
  }
}
