/** Folds a recorded actor through today's machine and compares every decision with the record. Pure: the record answers all effects. */
import { type ActorState, apply, decide, newState } from '../actors/actor.ts'
import { comparable, type Decision, type Machine } from '../actors/machine.ts'
import { sameCommands, stateHash } from '../actors/record.ts'
import type { Input } from '../bus/wire/entry.ts'
import { isObject, type Json } from '../bus/wire/json.ts'
import { type Difference, firstDifference } from './difference.ts'
import type { RecordedActor, RecordedEntry } from './record.ts'

export interface Fold {
  /** Comparable states after each entry that was the same. */
  readonly states: readonly Json[]
  /** The first entry that today's machine decides otherwise; nothing after it was looked at. */
  readonly difference: (Difference & { readonly n: number }) | undefined
}

/** An agent's definition that takes the place of the recorded one, and what the states were with that. */
export interface Instead {
  readonly definition: Json
  readonly states: readonly Json[]
}

export function foldActor(actor: RecordedActor, machine: Machine, instead?: Instead): Fold {
  const states: Json[] = []
  let state: ActorState | undefined
  for (const recorded of actor.entries.slice(0, actor.proven)) {
    const { entry, writer, seal } = recorded
    const unasked = askedFor(state, entry.input)
    if (unasked) return { states, difference: { n: entry.n, ...unasked } }
    const decision = decide(machine, state, withDefinition(entry.input, instead?.definition), entry.at)
    const difference =
      compareDecisions(actor, recorded, decision, machine) ??
      (instead ? compareStates(instead.states[entry.n], decision) : compareHashes(actor, recorded, decision))
    if (difference) return { states, difference: { n: entry.n, ...difference } }
    state ??= newState(entry)
    apply(actor.task, state, entry, decision, writer, seal)
    states.push(comparable(decision.snapshot))
  }
  return { states, difference: undefined }
}

/** The record answers an effect by its id, or not at all: an answer that nothing asked for is never given to the machine. */
function askedFor(state: ActorState | undefined, input: Input): Difference | undefined {
  if (input.kind !== 'result' && input.kind !== 'error') return undefined
  if (state?.pending.has(input.effect)) return undefined
  return { path: 'input.effect', recorded: input.effect, got: '(no such effect is under way)' }
}

function withDefinition(input: Input, definition: Json | undefined): Input {
  return input.kind === 'start' && definition !== undefined ? { ...input, definition } : input
}

function compareDecisions(
  actor: RecordedActor,
  { entry, stored }: RecordedEntry,
  decision: Decision,
  machine: Machine,
): Difference | undefined {
  if (sameCommands(actor, decision, stored)) return undefined
  const { commands, outcome } = decision
  // A machine that throws is named in its failure, and its name alone is no difference.
  const got = JSON.stringify({ outcome, commands }).replaceAll(machine.id, entry.machine)
  // An end that comes too early says more than the commands that are therefore not there.
  const recorded = { outcome: entry.outcome, commands: entry.commands } as unknown as Json
  return firstDifference(recorded, JSON.parse(got) as Json)
}

function compareHashes(actor: RecordedActor, { entry }: RecordedEntry, decision: Decision): Difference | undefined {
  const got = stateHash(actor, decision)
  return got === entry.state ? undefined : { path: 'state', recorded: entry.state, got }
}

/** With another definition the state may differ in what merely repeats it; whatever that leads to shows in the decisions. */
function compareStates(recorded: Json | undefined, decision: Decision): Difference | undefined {
  if (recorded === undefined) return undefined
  return firstDifference(withoutDefinition(recorded), withoutDefinition(comparable(decision.snapshot)), 'state')
}

function withoutDefinition(state: Json): Json {
  if (!isObject(state) || !isObject(state.context)) return state
  const { definition: _definition, limits: _limits, ...context } = state.context
  return { ...state, context }
}
