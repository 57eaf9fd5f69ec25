/** One running actor in this process: its folded state, the lock that orders its decisions, and the local effects it has under way. */
import { Bodies } from '../bus/wire/bodies.ts'
import {
  addUsage,
  type Command,
  type Entry,
  type Input,
  type Limits,
  NO_USAGE,
  type Outcome,
  type Usage,
} from '../bus/wire/entry.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { type EffectId, effectId, type TaskId } from '../bus/wire/ids.ts'
import { hashOf, type Json } from '../bus/wire/json.ts'
import { HOST_LIMITS } from '../bus/wire/limits.ts'
import type { Party } from '../bus/wire/subjects.ts'
import type { TraceContext } from '../bus/wire/trace.ts'
import type { BegunWith } from './effects/effect.ts'
import { advance, begin, type Decision, type Machine, persist, prune, restore, type Snapshot } from './machine.ts'
import { Running } from './turn/running.ts'

/** An effect that was begun and not answered. */
export interface Pending {
  readonly id: EffectId
  readonly as: string
  /** Name of its source: which kind of effect. */
  readonly effect: string
  readonly input: Json
  /** The entry that began it. */
  readonly n: number
  /** When that was, epoch ms. */
  readonly at: number
  /** The physical message that owns it. */
  readonly delivery: string
  readonly begun: BegunWith
}

/** The fold of a journal. Changed in place, by `apply` alone. */
export interface ActorState {
  snapshot: Snapshot | undefined
  /** Entries so far; the number of the next one. */
  n: number
  seal: string
  usage: Usage
  outcome: Outcome | undefined
  /** The delivery whose turn ended the actor: it repeats the conclusion when it comes again. */
  endedBy: string
  endedAt: number
  /** What the last entry ended early, by a stop or with the actor: its addressees are told. */
  cut: readonly Pending[]
  /** What the last entry answered. */
  answered: Pending | undefined
  /** What befell the actor, as its span says at the end; the first `HOST_LIMITS.marksMax`. */
  readonly marks: Mark[]
  readonly pending: Map<EffectId, Pending>
  /** Which host last wrote an entry for a delivery, the latest last: of all that own something pending, and of some more. */
  readonly owners: Map<string, string>
  readonly signals: Set<string>
  /** Who began it, and what entry 0 was: the proof that a second start is the same. */
  readonly origin: {
    readonly from: Party
    readonly delivery: string
    readonly inputHash: string
    readonly at: number
    readonly title: string
    /** Logical id of the message that began it. */
    readonly cause: string
    readonly session: string | undefined
  }
  readonly parent: { readonly agent: string; readonly effect: EffectId } | undefined
  readonly limits: Limits | undefined
  readonly path: readonly string[]
  readonly trace: TraceContext
}

/** Something that happened to an actor beside its effects. Times are epoch ms. */
export type Mark =
  | { readonly kind: 'takeover'; readonly at: number; readonly from: string; readonly to: string }
  | {
      readonly kind: 'delegation_failed'
      readonly at: number
      readonly effect: EffectId
      readonly peer: string
      readonly code: string
    }
  | { readonly kind: 'signal'; readonly at: number; readonly name: string }

export class Actor {
  readonly agent: string
  readonly task: TaskId
  readonly lock = new Lock()
  readonly running = new Running()
  readonly bodies = new Bodies()
  state: ActorState | undefined
  /** Stream sequence of the last entry known; 0 before the first. */
  sequence = 0
  /** Stream sequence of the last entry with a snapshot; 0 for none. */
  snapshotAt = 0
  /** Bytes of journal text folded: what the actor roughly costs in memory. */
  bytes = 0
  /** Turns that hold it: a pinned actor is not forgotten, or there would be two locks for one actor. */
  pins = 0

  constructor(agent: string, task: TaskId) {
    this.agent = agent
    this.task = task
  }
}

/** One at a time, in order of asking. */
export class Lock {
  private tail: Promise<void> = Promise.resolve()

  async run<T>(work: () => Promise<T>): Promise<T> {
    const before = this.tail
    let release!: () => void
    this.tail = new Promise((resolve) => {
      release = resolve
    })
    await before
    try {
      return await work()
    } finally {
      release()
    }
  }
}

/** What the machine says to an input. Pure. The caller has checked that the input may be decided. */
export function decide(machine: Machine, state: ActorState | undefined, input: Input, at: number): Decision {
  if (!state) {
    if (input.kind === 'start') return begin(machine, input, at)
    const failure = { code: 'canceled', message: 'the task was canceled before it began' }
    return { snapshot: undefined, commands: [], outcome: { state: 'canceled', failure } }
  }
  if (input.kind === 'resumed') return { snapshot: state.snapshot, commands: [], outcome: undefined }
  if (!state.snapshot || input.kind === 'start')
    throw new KaosError('internal', `an input of kind "${input.kind}" cannot be decided any more`)
  if (input.kind === 'signal') {
    return advance(machine, state.snapshot, { kind: 'signal', name: input.name, data: input.data }, at, openNames(state))
  }
  const effect = state.pending.get(input.effect)
  if (!effect) throw new KaosError('internal', `effect "${input.effect}" is not pending`)
  const open = openNames(state, effect.id)
  const { usage } = input
  return input.kind === 'result'
    ? advance(machine, state.snapshot, { kind: 'result', as: effect.as, value: input.value, usage }, at, open)
    : advance(machine, state.snapshot, { kind: 'error', as: effect.as, failure: input.failure, usage }, at, open)
}

/** What the first entry of a journal begins with. */
export function newState(entry: Entry): ActorState {
  const start = entry.input.kind === 'start' ? entry.input : undefined
  if (!entry.from || !entry.trace) throw new KaosError('journal_damaged', 'entry 0 does not say who sent it')
  return {
    snapshot: undefined,
    n: 0,
    seal: '',
    usage: NO_USAGE,
    outcome: undefined,
    endedBy: '',
    endedAt: 0,
    cut: [],
    answered: undefined,
    marks: [],
    pending: new Map(),
    owners: new Map(),
    signals: new Set(),
    origin: {
      from: entry.from,
      delivery: entry.delivery,
      inputHash: start ? startHash(start) : '',
      at: entry.at,
      title: titleOf(start?.input ?? null),
      cause: entry.cause,
      session: start?.session,
    },
    parent: start?.parent,
    limits: start?.limits,
    path: start?.path ?? [],
    trace: entry.trace,
  }
}

/** Takes one entry into the state. `entry` holds bodies, not references. */
export function apply(task: TaskId, state: ActorState, entry: Entry, decision: Decision, writer: string, seal: string): void {
  const { input } = entry
  const host = writer.split('.')[0]!
  mark(state, entry, host)
  state.owners.delete(entry.delivery)
  state.owners.set(entry.delivery, host)
  if (input.kind === 'signal') state.signals.add(input.id)
  state.answered = undefined
  if (input.kind === 'result' || input.kind === 'error') {
    state.answered = state.pending.get(input.effect)
    state.pending.delete(input.effect)
    state.usage = addUsage(state.usage, input.usage)
  }
  const cut: Pending[] = []
  const begun = begunWith(state, entry.commands)
  entry.commands.forEach((command, k) => {
    if (command.kind === 'start') {
      const id = effectId(task, entry.n, k)
      const { as, effect } = command
      const { n, at, delivery } = entry
      state.pending.set(id, { id, as, effect, input: command.input, n, at, delivery, begun: { ...begun } })
      if (isCall(effect)) begun.toolCalls++
    } else if (command.kind === 'stop') {
      for (const effect of state.pending.values()) {
        if (effect.as !== command.as) continue
        state.pending.delete(effect.id)
        // What this very entry began was never sent.
        if (effect.n < entry.n) cut.push(effect)
      }
    }
  })
  if (entry.outcome) {
    state.outcome = entry.outcome
    state.endedBy = entry.delivery
    state.endedAt = entry.at
    for (const effect of state.pending.values()) if (effect.n < entry.n) cut.push(effect)
    state.pending.clear()
  }
  state.cut = cut
  state.snapshot = decision.snapshot
  if (state.snapshot) prune(state.snapshot, openNames(state))
  state.n = entry.n + 1
  state.seal = seal
  forgetOwners(state)
}

/** Notes what an entry tells of the actor, before the entry is taken into the state. */
function mark({ marks, owners, pending }: ActorState, { input, at, delivery }: Entry, host: string): void {
  if (marks.length === HOST_LIMITS.marksMax) return
  if (input.kind === 'resumed') marks.push({ kind: 'takeover', at, from: owners.get(delivery) ?? '', to: host })
  if (input.kind === 'signal') marks.push({ kind: 'signal', at, name: input.name })
  if (input.kind !== 'error') return
  const effect = pending.get(input.effect)
  if (effect?.effect !== 'delegate') return
  const { peer } = effect.input as { readonly peer: string }
  marks.push({ kind: 'delegation_failed', at, effect: effect.id, peer, code: input.failure.code })
}

/** Every answer by mail is a delivery, and every snapshot holds its owner: an actor that lives long would outgrow its journal. */
function forgetOwners({ owners, pending }: ActorState): void {
  if (owners.size <= HOST_LIMITS.ownersMax) return
  const owning = new Set([...pending.values()].map(({ delivery }) => delivery))
  for (const delivery of owners.keys()) {
    if (owners.size <= HOST_LIMITS.ownersMax) return
    if (!owning.has(delivery)) owners.delete(delivery)
  }
}

function begunWith({ pending, usage }: ActorState, commands: readonly Command[]) {
  let open = 0
  for (const { effect } of pending.values()) if (isCall(effect)) open++
  const siblings = commands.filter((command) => command.kind === 'start' && isCall(command.effect)).length
  return { siblings, toolCalls: usage.toolCalls + open, tokens: usage.inputTokens + usage.outputTokens }
}

/** Whether an effect is counted: a tool call or a delegation. */
function isCall(effect: string): boolean {
  return effect === 'tool' || effect === 'delegate'
}

/** The whole actor as JSON. The entry that carries it carries the state before itself, so that reading it is the same fold as ever. */
export function persistState(machine: Machine, state: ActorState): Json {
  const { pending, owners, signals, snapshot, answered: _answered, ...rest } = state
  return {
    ...rest,
    outcome: state.outcome ?? null,
    parent: state.parent ?? null,
    limits: state.limits ?? null,
    pending: [...pending.values()],
    owners: [...owners],
    signals: [...signals],
    machine: snapshot ? persist(machine, snapshot) : null,
  } as unknown as Json
}

/** The inverse of `persistState`. */
export function restoreState(machine: Machine, persisted: Json): ActorState {
  const {
    pending,
    owners,
    signals,
    machine: snapshot,
    outcome,
    parent,
    limits,
    ...rest
  } = persisted as unknown as ActorState & {
    pending: Pending[]
    owners: [string, string][]
    signals: string[]
    machine: Json
  }
  return {
    ...rest,
    // Snapshots of earlier versions have none.
    marks: rest.marks ?? [],
    answered: undefined,
    outcome: outcome ?? undefined,
    parent: parent ?? undefined,
    limits: limits ?? undefined,
    pending: new Map(pending.map((effect) => [effect.id, effect])),
    owners: new Map(owners),
    signals: new Set(signals),
    snapshot: snapshot === null ? undefined : restore(machine, snapshot),
  }
}

/** What a sender must repeat to mean the same task. */
export function startHash(start: { readonly input: Json; readonly session?: string | undefined }): string {
  return hashOf([start.input, start.session ?? null])
}

/** Names of the effects under way, without the one that is just being answered. */
export function openNames(state: ActorState, answered?: EffectId): Set<string> {
  const names = new Set<string>()
  for (const effect of state.pending.values()) if (effect.id !== answered) names.add(effect.as)
  return names
}

const TITLE_CHARS_MAX = 100

/** The first words of a task, for lists. */
function titleOf(input: Json): string {
  const text = typeof input === 'string' ? input : JSON.stringify(input)
  const line = text.replaceAll(/\s+/g, ' ').trim()
  return line.length > TITLE_CHARS_MAX ? `${line.slice(0, TITLE_CHARS_MAX - 1)}…` : line
}
