/**
 * Records the spans of what turns did: once for each delivery, when its work is complete and just before it is acked. Until then they are kept
 * here, and die with the process; whoever is given the delivery again makes them from the journal.
 */
import type { Bus, Delivery } from '../bus/contracts.ts'
import { isLeftToOthers, RecordedSpans } from '../bus/recorded-spans.ts'
import type { Entry } from '../bus/wire/entry.ts'
import { messageOf } from '../bus/wire/errors.ts'
import { actorSpanId } from '../bus/wire/ids.ts'
import { agentParty } from '../bus/wire/subjects.ts'
import { logFields } from '../bus/wire/trace.ts'
import type { Logger } from '../telemetry/log.ts'
import type { CountedSpan, FinishedSpan } from '../telemetry/span.ts'
import type { ServiceTelemetry } from '../telemetry/telemetry.ts'
import { Actor, type ActorState } from './actor.ts'
import type { Machine } from './machine.ts'
import { fold } from './record.ts'
import { type Activation, agentSpan, effectSpans, type SpanFacts } from './spans.ts'

/** What a delivery led to so far. */
interface Done {
  readonly spans: (FinishedSpan | CountedSpan)[]
  activation: Activation
}

export interface SpanRecorderOptions {
  readonly bus: Pick<Bus, 'journal' | 'blobs' | 'liveness'>
  readonly hostId: string
  readonly machine: Machine
  readonly telemetry: ServiceTelemetry
  readonly facts: Omit<SpanFacts, 'naming' | 'hasContent' | 'isExported'>
  readonly log: Logger
}

export class SpanRecorder {
  private readonly options: SpanRecorderOptions
  private readonly exported: SpanFacts
  private readonly counted: SpanFacts
  private readonly held = new Map<string, Done>()
  private readonly recorded: RecordedSpans

  constructor(options: SpanRecorderOptions) {
    const { facts, telemetry, bus, hostId } = options
    this.options = options
    this.exported = { ...facts, naming: telemetry.naming, hasContent: telemetry.hasContent, isExported: true }
    this.counted = { ...this.exported, isExported: false }
    this.recorded = new RecordedSpans({ liveness: bus.liveness, party: agentParty(facts.agent), hostId })
  }

  /** Takes in an entry that stands now. */
  note(task: string, state: ActorState, entry: Entry): void {
    if (this.options.telemetry.isOn) this.take(this.held, task, state, entry)
  }

  /** Whether somebody else records and acks a delivery. */
  leaves(delivery: Delivery): boolean {
    return this.options.telemetry.isOn && isLeftToOthers(delivery)
  }

  /** Records what a delivery led to. `isAgain`: it was handed out before, and what it led to then is not known here. */
  async record(actor: Actor, delivery: string, isAgain: boolean): Promise<void> {
    const { telemetry } = this.options
    if (!telemetry.isOn) return
    const here = this.held.get(delivery)
    this.held.delete(delivery)
    if (this.recorded.has(delivery)) return
    if (isAgain && (await this.recorded.hasOwner(actor.state!.owners.get(delivery), delivery))) return
    const done = isAgain ? await this.readAgain(actor, delivery) : here
    if (!done) return
    this.recorded.add(delivery)
    for (const span of done.spans) telemetry.record(span)
    const own = agentSpan(this.factsFor(actor.state!), actor.task, actor.state!, done.activation)
    if (own) telemetry.record(own)
  }

  /** The answer to another host that wonders whether it is to record the spans of a delivery. */
  answers(question: string): boolean {
    return this.recorded.answers(question)
  }

  /** A delivery that is not acked here: whoever acks it records its spans. */
  drop(delivery: string): void {
    this.held.delete(delivery)
  }

  private factsFor({ trace }: ActorState): SpanFacts {
    return this.options.telemetry.isExported(trace) ? this.exported : this.counted
  }

  private take(into: Map<string, Done>, task: string, state: ActorState, entry: Entry): void {
    const spans = effectSpans(this.factsFor(state), task, state, entry)
    const known = into.get(entry.delivery)
    const { n, at, outcome } = entry
    if (known) known.spans.push(...spans)
    const activation = { n, startMs: at, ...known?.activation, endMs: at, ...(outcome && { outcome }) }
    if (known) known.activation = activation
    else into.set(entry.delivery, { spans: [...spans], activation })
  }

  /** The journal is read whole: a snapshot in the middle would hide what stands before it. */
  private async readAgain(actor: Actor, delivery: string): Promise<Done | undefined> {
    const { bus, machine, log } = this.options
    const all = new Map<string, Done>()
    const copy = new Actor(actor.agent, actor.task)
    const self = agentParty(actor.agent)
    try {
      const stored = await bus.journal.read(actor.agent, actor.task, 0)
      const readBlob = (sha: string) => bus.blobs.read(self, self, actor.task, sha)
      await fold(copy, machine, stored, readBlob, (entry, state) => {
        if (entry.delivery === delivery) this.take(all, actor.task, state, entry)
      })
    } catch (error) {
      // The work counts, not what is shown of it.
      const { agent, task, state } = actor
      const about = { agent, task, ...logFields(state!.trace, actorSpanId(state!.trace.traceId, task)) }
      log.warn({ ...about, reason: messageOf(error) }, 'could not read the journal again for its spans; they are left out')
      return undefined
    }
    return all.get(delivery)
  }
}
