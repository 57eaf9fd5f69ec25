/** Why a replay diverged: found by experiment. Each thing that changed is put in alone, and the one that leads to the same entry did it. */
import type { Machine } from '../actors/machine.ts'
import { hashOf, isObject, type Json } from '../bus/wire/json.ts'
import { type Fold, foldActor } from './fold.ts'
import type { RecordedActor } from './record.ts'

export type Cause = 'prompt' | 'tool schema' | 'settings' | 'machine'

/** Fields of an agent's definition; what is not named here is a setting. */
const CAUSE_OF_FIELD: Readonly<Record<string, Cause>> = {
  name: 'prompt',
  description: 'prompt',
  instructions: 'prompt',
  systemPrompt: 'prompt',
  peers: 'prompt',
  tools: 'tool schema',
  toolsHash: 'tool schema',
  // Only a tool list that never came fails a task at its start.
  failure: 'tool schema',
}
const SHOWN_CHARS_MAX = 60

type Definition = { readonly [field: string]: Json }

/**
 * The likely cause of a difference, and one sentence. `asRecorded` is the fold with the recorded definition: what differs there too is the
 * machine's doing.
 */
export function findCause(options: {
  readonly actor: RecordedActor
  readonly machine: Machine
  readonly recorded: Json | undefined
  readonly today: Json | undefined
  readonly difference: NonNullable<Fold['difference']>
  readonly asRecorded: Fold
}): { readonly cause: Cause; readonly why: string } {
  const { actor, machine, difference, asRecorded } = options
  const then: Definition = isObject(options.recorded) ? options.recorded : {}
  const now: Definition = isObject(options.today) ? options.today : then
  const isIt = (fold: Fold) => fold.difference?.n === difference.n && fold.difference.path === difference.path
  if (nameOf(machine.id) !== nameOf(actor.entries[difference.n]!.entry.machine) || isIt(asRecorded))
    return { cause: 'machine', why: whyMachine(actor, machine, difference.n) }

  const fields = changedFields(then, now)
  const changed = [...new Set(fields.map(causeOf))].sort()
  const alone = (cause: Cause) => foldActor(actor, machine, { definition: mix(then, now, cause), states: asRecorded.states })
  const cause = changed.length === 1 ? changed[0]! : (changed.find((each) => isIt(alone(each))) ?? changed[0]!)
  return { cause, why: whyDefinition(actor.agent, cause, then, now, fields) }
}

/** Of a machine, without the hash of its code. */
function nameOf(id: string): string {
  return id.slice(0, id.lastIndexOf('@'))
}

export function isSameDefinition(a: Json | undefined, b: Json | undefined): boolean {
  return hashOf(a) === hashOf(b)
}

function causeOf(field: string): Cause {
  return CAUSE_OF_FIELD[field] ?? 'settings'
}

function changedFields(then: Definition, now: Definition): readonly string[] {
  return [...new Set([...Object.keys(then), ...Object.keys(now)])].filter((field) => !isSameDefinition(then[field], now[field]))
}

/** The recorded definition with the fields of one cause as they are today. */
function mix(then: Definition, now: Definition, cause: Cause): Json {
  const pick = (from: Definition, isOfCause: boolean) =>
    Object.entries(from).filter(([field]) => (causeOf(field) === cause) === isOfCause)
  return Object.fromEntries([...pick(then, false), ...pick(now, true)])
}

function whyMachine(actor: RecordedActor, machine: Machine, n: number): string {
  const recorded = actor.entries[n]!.entry.machine
  return recorded === machine.id
    ? `machine "${machine.id}" decides otherwise than it did: code outside its sources changed, or it is not a pure function`
    : `the machine is "${machine.id}" today and was "${recorded}"`
}

function whyDefinition(agent: string, cause: Cause, then: Definition, now: Definition, fields: readonly string[]): string {
  const own = fields.filter((field) => causeOf(field) === cause)
  if (cause === 'tool schema') {
    const tools = changedTools(then.tools, now.tools)
    return tools.length > 0
      ? `the tools of agent "${agent}" changed: ${tools.join(', ')}`
      : `the tool lists of agent "${agent}" are not what they were`
  }
  if (cause === 'prompt') return `the prompt of agent "${agent}" changed in ${own.map((field) => `"${field}"`).join(', ')}`
  const values = own.map((field) => `"${field}" is ${shown(now[field])} and was ${shown(then[field])}`)
  return `the settings of agent "${agent}" changed: ${values.join(', ')}`
}

function changedTools(then: Json | undefined, now: Json | undefined): readonly string[] {
  const byName = (tools: Json | undefined) =>
    new Map(
      (Array.isArray(tools) ? (tools as Json[]) : []).flatMap((tool) => (isObject(tool) ? [[String(tool.name), tool]] : [])),
    )
  const before = byName(then)
  const after = byName(now)
  const names = [...new Set([...before.keys(), ...after.keys()])]
  return names.flatMap((name) => {
    if (!after.has(name)) return [`"${name}" is gone`]
    if (!before.has(name)) return [`"${name}" is new`]
    return isSameDefinition(before.get(name), after.get(name)) ? [] : [`"${name}" differs`]
  })
}

function shown(value: Json | undefined): string {
  return value === undefined ? 'unset' : JSON.stringify(value).slice(0, SHOWN_CHARS_MAX)
}
