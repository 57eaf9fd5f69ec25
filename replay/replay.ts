/**
 * Re-executes a recorded trace: every actor's inputs go through today's machine with today's definition, and what it decides must be what was
 * recorded. Pure. The first entry that differs is named; what cannot be proven is never called identical.
 */
import type { Machine } from '../actors/machine.ts'
import type { StartInput } from '../bus/wire/entry.ts'
import type { Json } from '../bus/wire/json.ts'
import { causalTimes } from './causal-order.ts'
import { findCause, isSameDefinition } from './cause.ts'
import { foldActor } from './fold.ts'
import type { LoadedTrace } from './load.ts'
import type { Missing, RecordedActor } from './record.ts'
import type { Verdict } from './verdict.ts'

export interface Today {
  /** The machine of an agent; of one that is not declared any more, any: its record says what it was. */
  machine(agent: string): Machine
  /** What an agent is now, from its manifest and its tool lists; undefined when it is not declared any more. */
  definition(agent: string): Json | undefined
}

type Diverged = Extract<Verdict, { readonly verdict: 'diverged' }>

export function replayTrace(loaded: LoadedTrace, today: Today): Verdict {
  const begunAt = performance.now()
  const ms = () => performance.now() - begunAt
  const { traceId, actors } = loaded
  const times = causalTimes(loaded)
  const [first] = actors
    .flatMap((actor) => replayActor(actor, today) ?? [])
    .sort((a, b) => times.get(a.entry)! - times.get(b.entry)!)
  if (first) return { verdict: 'diverged', traceId, ...first, ms: ms() }
  const missing = [...actors.flatMap((actor) => actor.missing), ...undeclared(actors, today)]
  if (missing.length > 0) return { verdict: 'inconclusive', traceId, missing, ms: ms() }
  const entries = actors.reduce((sum, actor) => sum + actor.proven, 0)
  return { verdict: 'identical', traceId, entries, actors: actors.length, calls: 0, ms: ms() }
}

/**
 * Two folds: with the recorded definition, which shows what the code alone changes, and with today's. Where the definition is the same one is
 * enough, and the recorded state hashes must hold.
 */
function replayActor(actor: RecordedActor, today: Today): Omit<Diverged, 'verdict' | 'traceId' | 'ms'> | undefined {
  const recorded = startOf(actor)?.definition
  const machine = today.machine(actor.agent)
  const now = recorded === undefined ? undefined : today.definition(actor.agent)
  // Whose machine is not known any more cannot differ: the agent is missing, and the verdict says so.
  if (recorded !== undefined && now === undefined && actor.entries[0]!.entry.machine.split('@')[0] !== machine.name)
    return undefined
  const asRecorded = foldActor(actor, machine)
  const hasChanged = now !== undefined && !isSameDefinition(now, recorded)
  const { states } = asRecorded
  const difference = (hasChanged && foldActor(actor, machine, { definition: now, states }).difference) || asRecorded.difference
  if (!difference) return undefined
  const { agent, task } = actor
  const { n } = difference
  const cause = findCause({ actor, machine, recorded, today: now, difference, asRecorded })
  return { agent, task, ...difference, entry: actor.entries[n]!.id, ...cause }
}

function undeclared(actors: readonly RecordedActor[], { definition }: Today): readonly Missing[] {
  const started = actors.filter(startOf)
  return [...new Map(started.map((actor) => [actor.agent, actor])).values()]
    .filter(({ agent }) => definition(agent) === undefined)
    .map(({ agent, task }) => ({ kind: 'agent', agent, task, message: `agent "${agent}" is not declared any more` }))
}

/** Undefined for a task that was canceled before it began. */
function startOf(actor: RecordedActor): StartInput | undefined {
  const input = actor.entries[0]?.entry.input
  return input?.kind === 'start' ? input : undefined
}
