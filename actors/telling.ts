/**
 * Tells telemetry what turns did: once for each delivery, when its work is complete and just before it is acked. Until then it is kept here, and
 * dies with the process; whoever is given the delivery again reads from the journal what the one before had not told.
 */
import { LRUCache } from 'lru-cache'
import type { Bus } from '../bus/contracts.ts'
import type { Entry } from '../bus/wire/entry.ts'
import { messageOf } from '../bus/wire/errors.ts'
import { HOST_LIMITS } from '../bus/wire/limits.ts'
import { agentParty } from '../bus/wire/subjects.ts'
import type { Logger } from '../telemetry/log.ts'
import type { FinishedSpan } from '../telemetry/span.ts'
import type { ServiceTelemetry } from '../telemetry/telemetry.ts'
import { Actor, type ActorState } from './actor.ts'
import type { Machine } from './machine.ts'
import { fold } from './record.ts'
import { type Activation, agentSpan, effectSpans, type SpanFacts } from './spans.ts'

/** What a delivery led to so far. */
interface Told {
  readonly spans: FinishedSpan[]
  activation: Activation
}

export class Telling {
  private readonly telemetry: ServiceTelemetry
  private readonly facts: SpanFacts
  private readonly held = new Map<string, Told>()
  private readonly told = new LRUCache<string, true>({ max: HOST_LIMITS.toldMax })

  constructor(telemetry: ServiceTelemetry, facts: Omit<SpanFacts, 'naming' | 'hasContent'>) {
    this.telemetry = telemetry
    this.facts = { ...facts, naming: telemetry.naming, hasContent: telemetry.hasContent }
  }

  /** Takes in an entry that stands now. */
  note(task: string, state: ActorState, entry: Entry): void {
    if (this.telemetry.isOn) this.take(this.held, task, state, entry)
  }

  /** Records what a delivery led to. `isAgain`: it was handed out before, and what it led to then is not known here. */
  async tell(actor: Actor, delivery: string, isAgain: boolean, place: TellingPlace): Promise<void> {
    if (!this.telemetry.isOn) return
    const here = this.held.get(delivery)
    this.held.delete(delivery)
    if (this.told.has(delivery) || (isAgain && (await this.isToldByOwner(actor, delivery, place)))) return
    const seen = isAgain ? await this.recall(actor, delivery, place) : here
    if (!seen) return
    this.told.set(delivery, true)
    for (const span of seen.spans) this.telemetry.record(span)
    const own = agentSpan(this.facts, actor.task, actor.state!, seen.activation)
    if (own) this.telemetry.record(own)
  }

  /** The answer to another host that wonders whether it is to tell of a delivery. */
  hasTold(question: string): boolean {
    return question.startsWith(TOLD) && this.told.has(question.slice(TOLD.length))
  }

  /** A delivery that is not acked here: whoever acks it tells of it. */
  drop(delivery: string): void {
    this.held.delete(delivery)
  }

  private take(into: Map<string, Told>, task: string, state: ActorState, entry: Entry): void {
    const spans = effectSpans(this.facts, task, state, entry)
    const known = into.get(entry.delivery)
    const { n, at, outcome } = entry
    if (known) known.spans.push(...spans)
    const activation = { n, startMs: at, ...known?.activation, endMs: at, ...(outcome && { outcome }) }
    if (known) known.activation = activation
    else into.set(entry.delivery, { spans: [...spans], activation })
  }

  /** Whoever wrote last for the delivery lives and told of it: its ack was lost on the way. */
  private async isToldByOwner({ agent, state }: Actor, delivery: string, { bus, hostId }: TellingPlace): Promise<boolean> {
    const owner = state!.owners.get(delivery)
    if (owner === undefined || owner === hostId) return false
    return bus.liveness.asks(agentParty(agent), owner, TOLD + delivery)
  }

  /** The journal is read whole: a snapshot in the middle would hide what stands before it. */
  private async recall(actor: Actor, delivery: string, { bus, machine, log }: TellingPlace): Promise<Told | undefined> {
    const all = new Map<string, Told>()
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
      log.warn(
        { agent: actor.agent, task: actor.task, trace_id: actor.state!.trace.traceId, reason: messageOf(error) },
        'could not read again what spans tell; they are left out',
      )
      return undefined
    }
    return all.get(delivery)
  }
}

/** Begins the question of one host to another whether it has told of a delivery; no delivery begins so. */
const TOLD = 'told '

/** What reads again, and asks others, where a delivery comes again. */
interface TellingPlace {
  readonly bus: Pick<Bus, 'journal' | 'blobs' | 'liveness'>
  readonly hostId: string
  readonly machine: Machine
  readonly log: Logger
}
