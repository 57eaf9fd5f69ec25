/** A trace as a tree of actors and what they asked for, with times, waiting, tokens and takeovers. Plain data; works on unfinished traces too. */
import type { ToolInput } from '../actors/agent/calls.ts'
import type { ModelInput, ModelValue } from '../actors/agent/machine.ts'
import {
  addUsage,
  type Command,
  type Entry,
  type Input,
  localSource,
  NO_USAGE,
  type Outcome,
  type Usage,
} from '../bus/wire/entry.ts'
import type { Failure } from '../bus/wire/errors.ts'
import { actorSpanId, effectId, executionSpanId, spanIdOf } from '../bus/wire/ids.ts'
import type { Json } from '../bus/wire/json.ts'
import { delegationsOf, type LoadedTrace } from './load.ts'
import type { RecordedActor } from './record.ts'

/** `unknown`: the journal is missing, or its end is. */
export type ActorStatus = Outcome['state'] | 'working' | 'unknown'

/** All times are epoch ms. */
export interface TraceTree {
  readonly traceId: string
  readonly state: ActorStatus
  readonly startedAt: number
  /** Of the last entry; the trace ended then unless it is still working. */
  readonly lastAt: number
  readonly ms: number
  readonly usage: Usage
  readonly entries: number
  readonly actors: number
  readonly takeovers: number
  /** What of the record is not there. */
  readonly missing: readonly string[]
  readonly roots: readonly ActorNode[]
}

/** Where something stands in a tracing backend, if it was exported: ids are positions, so they are known without asking there. */
export interface SpanPlace {
  /** 16 hex digits. */
  readonly spanId: string
  /** Absent where the trace begins. */
  readonly parentSpanId?: string
}

export interface ActorNode extends SpanPlace {
  readonly agent: string
  readonly task: string
  readonly state: ActorStatus
  readonly failure?: Failure
  readonly startedAt: number
  readonly lastAt: number
  readonly ms: number
  /** Time in which nothing ran in the actor's host: it waited for mail alone. */
  readonly parkedMs: number
  /** With that of its children. */
  readonly usage: Usage
  readonly entries: number
  /** In the order in which they were begun. */
  readonly effects: readonly EffectNode[]
  readonly takeovers: readonly Takeover[]
  readonly signals: readonly Signal[]
  /** Nothing is under way, and it has not ended: only a message goes on with it. */
  readonly isWaiting: boolean
}

/** An event that somebody sent to an actor. */
export interface Signal {
  readonly name: string
  readonly at: number
  /** The actor did nothing about it: its state takes no such event. */
  readonly isIgnored: boolean
}

export interface TimelineOptions {
  /** Until when what is still under way counts, epoch ms; absent: until the last entry. */
  readonly now?: number
  /** Whether effects show what was asked and answered, as it stands in the record. */
  readonly hasContent?: boolean
}

export interface EffectNode extends SpanPlace {
  readonly id: string
  /** Which kind: `model`, `tool`, `delegate`, or `local`: a function of the agent's own machine. */
  readonly effect: string
  /** The model, `tool@server`, the agent asked, or the function. */
  readonly name: string
  /** `open`: not answered yet. `stopped`: nobody waits for the answer any more. */
  readonly state: 'open' | 'completed' | 'failed' | 'stopped'
  readonly failure?: Failure
  /** When it was asked for. */
  readonly begunAt: number
  /** When the work on it began, as far as its answer says so. */
  readonly startedAt: number
  readonly endedAt?: number
  readonly ms?: number
  readonly waitMs: number
  readonly attempts: number
  readonly usage: Usage
  readonly host?: string
  /** Span of the tool server's own work on a call. */
  readonly executeSpanId?: string
  /** The actor that a delegation began. */
  readonly child?: ActorNode
  /** What was asked; only with `hasContent`. */
  readonly asked?: Json
  /** What came back; only with `hasContent`. */
  readonly answer?: Json
}

/** Another host carried on where the one before fell silent. */
export interface Takeover {
  readonly n: number
  readonly at: number
  readonly from: string
  readonly to: string
  /** Since the last entry of the delivery that changed hands. */
  readonly afterMs: number
}

export function buildTimeline(trace: LoadedTrace, options: TimelineOptions = {}): TraceTree {
  const actors = new Map(trace.actors.map((actor) => [actor.task, actor]))
  const whole = { ...options, traceId: trace.traceId, actors }
  const roots = trace.actors.filter(({ parent }) => parent === undefined).map((actor) => actorNode(actor, whole))
  const known = roots.filter(({ entries }) => entries > 0)
  const startedAt = Math.min(...known.map((root) => root.startedAt))
  const state = statusOf(roots)
  const lastEntryAt = Math.max(...trace.actors.flatMap(({ entries }) => entries.map(({ entry }) => entry.at)))
  const lastAt = state === 'working' ? Math.max(lastEntryAt, options.now ?? 0) : lastEntryAt
  const isKnown = known.length > 0
  return {
    traceId: trace.traceId,
    state,
    startedAt: isKnown ? startedAt : 0,
    lastAt: isKnown ? lastAt : 0,
    ms: isKnown ? lastAt - startedAt : 0,
    usage: roots.map(({ usage }) => usage).reduce(addUsage, NO_USAGE),
    entries: trace.actors.reduce((sum, { entries }) => sum + entries.length, 0),
    actors: trace.actors.length,
    takeovers: trace.actors.reduce((sum, actor) => sum + takeoversOf(actor).length, 0),
    missing: trace.actors.flatMap(({ missing }) =>
      missing.filter(({ kind }) => kind !== 'outcome').map(({ message }) => message),
    ),
    roots,
  }
}

/** One root is the rule. Of several the least finished counts, then the first that did not go well. */
function statusOf(roots: readonly ActorNode[]): ActorStatus {
  const states = roots.map(({ state }) => state)
  const first = (['unknown', 'working'] as const).find((state) => states.includes(state))
  return first ?? states.find((state) => state !== 'completed') ?? 'completed'
}

interface Whole extends TimelineOptions {
  readonly traceId: string
  readonly actors: ReadonlyMap<string, RecordedActor>
}

function actorNode(actor: RecordedActor, whole: Whole): ActorNode {
  const entries = actor.entries.map(({ entry }) => entry)
  const effects = effectsOf(actor, whole)
  const outcome = entries.find((entry) => entry.outcome)?.outcome
  const startedAt = entries[0]?.at ?? 0
  const isWorking = !outcome && actor.missing.every(({ kind }) => kind === 'outcome')
  const lastAt = Math.max(entries.at(-1)?.at ?? 0, isWorking ? (whole.now ?? 0) : 0)
  const parentSpanId = entries[0]?.trace?.parentSpanId
  return {
    agent: actor.agent,
    task: actor.task,
    spanId: actorSpanId(whole.traceId, actor.task),
    ...(parentSpanId !== undefined && { parentSpanId }),
    state: outcome?.state ?? (isWorking ? 'working' : 'unknown'),
    ...(outcome && outcome.state !== 'completed' && { failure: outcome.failure }),
    startedAt,
    lastAt,
    ms: lastAt - startedAt,
    parkedMs: parkedMs(actor),
    usage: effects.map(({ usage, child }) => child?.usage ?? usage).reduce(addUsage, NO_USAGE),
    entries: entries.length,
    effects,
    takeovers: takeoversOf(actor),
    signals: signalsOf(entries),
    isWaiting: isWorking && entries.length > 0 && effects.every((effect) => effect.state !== 'open'),
  }
}

function signalsOf(entries: readonly Entry[]): readonly Signal[] {
  return entries.flatMap(({ input, at, state, commands, outcome }, n) => {
    if (input.kind !== 'signal') return []
    const isIgnored = !outcome && commands.length === 0 && state === entries[n - 1]?.state
    return [{ name: input.name, at, isIgnored }]
  })
}

function effectsOf(actor: RecordedActor, whole: Whole): readonly EffectNode[] {
  const { traceId, actors, hasContent } = whole
  const parentSpanId = actorSpanId(traceId, actor.task)
  const entries = actor.entries.map(({ entry }) => entry)
  const children = new Map(delegationsOf(actor).map(({ task }) => [task, actors.get(task)]))
  const hasEnded = entries.some((entry) => entry.outcome)
  return entries.flatMap((entry) =>
    entry.commands.flatMap((command, k) => {
      if (command.kind !== 'start') return []
      const id = effectId(actor.task, entry.n, k)
      const answer = entries.find(({ input }) => 'effect' in input && input.effect === id)
      const isStopped = hasEnded || stopsLater(entries, entry.n, command.as)
      const child = children.get(id)
      return [
        {
          id,
          effect: localSource(command.effect) === undefined ? command.effect : 'local',
          name: nameOf(command, answer),
          ...(answer ? answered(entry.at, answer) : unanswered(entry.at, isStopped)),
          spanId: spanIdOf(traceId, id),
          parentSpanId,
          ...(command.effect === 'tool' && { executeSpanId: executionSpanId(traceId, id) }),
          ...(child && { child: actorNode(child, whole) }),
          ...(hasContent && contentOf(command.input, answer)),
        },
      ]
    }),
  )
}

function contentOf(asked: Json, answer: Entry | undefined): Pick<EffectNode, 'asked' | 'answer'> {
  if (answer?.input.kind === 'result') return { asked, answer: answer.input.value }
  return answer?.input.kind === 'error' ? { asked, answer: answer.input.failure as unknown as Json } : { asked }
}

type Answer = Omit<EffectNode, keyof SpanPlace | 'executeSpanId' | 'id' | 'effect' | 'name' | 'child' | 'asked' | 'answer'>

function unanswered(begunAt: number, isStopped: boolean): Answer {
  const state = isStopped ? 'stopped' : 'open'
  return { state, begunAt, startedAt: begunAt, waitMs: 0, attempts: 0, usage: NO_USAGE }
}

function answered(begunAt: number, { at, input }: Entry): Answer {
  const { usage = NO_USAGE, work } = input as Extract<Input, { readonly kind: 'result' | 'error' }>
  const startedAt = work?.startedAt ?? begunAt
  const endedAt = work?.endedAt ?? at
  return {
    state: input.kind === 'error' ? 'failed' : 'completed',
    ...(input.kind === 'error' && { failure: input.failure }),
    begunAt,
    startedAt,
    endedAt,
    // Clocks of other hosts may be behind.
    ms: Math.max(0, endedAt - startedAt),
    waitMs: Math.max(0, startedAt - begunAt),
    attempts: work?.attempts ?? 1,
    usage,
    ...(work && { host: work.host }),
  }
}

function stopsLater(entries: readonly Entry[], n: number, as: string): boolean {
  return entries.some((entry) => entry.n > n && entry.commands.some((command) => command.kind === 'stop' && command.as === as))
}

/** The model that answered, in its own words: it may be another than the agent declares. */
function answeringModel(answer: Entry | undefined): string | undefined {
  if (answer?.input.kind !== 'result') return undefined
  return (answer.input.value as Partial<ModelValue> | null)?.model || undefined
}

/** The name in a command whose body is missing. */
const UNKNOWN = '?'

function nameOf(command: Extract<Command, { readonly kind: 'start' }>, answer: Entry | undefined): string {
  const input = command.input as Json as unknown as Partial<ModelInput & ToolInput & { peer: string }> | null
  switch (command.effect) {
    case 'model':
      return answeringModel(answer) ?? input?.request?.model ?? UNKNOWN
    case 'tool':
      return `${input?.tool ?? UNKNOWN}@${input?.server ?? UNKNOWN}`
    case 'delegate':
      return input?.peer ?? UNKNOWN
    default:
      return localSource(command.effect) ?? command.as
  }
}

/** Tools and agents answer by mail, and the host may do other things or be gone meanwhile; all else runs in it. */
function parkedMs(actor: RecordedActor): number {
  const open = new Map<string, string>()
  let parked = 0
  let before: number | undefined
  for (const { entry } of actor.entries) {
    const isParked = open.size > 0 && [...open.values()].every((effect) => effect === 'tool' || effect === 'delegate')
    if (isParked && before !== undefined) parked += Math.max(0, entry.at - before)
    if ('effect' in entry.input) open.delete(entry.input.effect)
    entry.commands.forEach((command, k) => {
      if (command.kind === 'start') open.set(effectId(actor.task, entry.n, k), command.effect)
    })
    before = entry.at
  }
  return parked
}

function takeoversOf(actor: RecordedActor): readonly Takeover[] {
  const last = new Map<string, { readonly host: string; readonly at: number }>()
  return actor.entries.flatMap(({ entry, writer }) => {
    const { n, at, delivery, input } = entry
    const host = writer.split('.')[0]!
    const before = last.get(delivery)
    last.set(delivery, { host, at })
    if (input.kind !== 'resumed') return []
    return [{ n, at, from: before?.host ?? '', to: host, afterMs: Math.max(0, at - (before?.at ?? at)) }]
  })
}
