/**
 * What the agents of a trace remember of it, in KAOS's event types: a view of the entries, in the order in which one could lead to another. Pure;
 * ids and spans are derived from positions, so that the same record is always the same events, and a backend knows the same spans.
 */
import type { DelegateInput, ToolInput } from '../actors/agent/calls.ts'
import { type Command, type Entry, localSource, type Outcome } from '../bus/wire/entry.ts'
import type { Failure } from '../bus/wire/errors.ts'
import { actorSpanId, effectId, spanIdOf } from '../bus/wire/ids.ts'
import type { Json } from '../bus/wire/json.ts'
import { spanContent } from '../telemetry/span-parts.ts'
import { causalTimes } from './causal-order.ts'
import type { LoadedTrace } from './load.ts'
import type { RecordedActor } from './record.ts'

/** As KAOS names them. A signal of a person is a message of the user's; what a model is asked is no event. */
export const MEMORY_EVENT_TYPES = [
  'user_message',
  'task_delegation_received',
  'tool_call',
  'tool_result',
  'delegation_request',
  'delegation_response',
  'delegation_error',
  'agent_response',
  'error',
] as const
export type MemoryEventType = (typeof MEMORY_EVENT_TYPES)[number]

/** Field names are KAOS's. */
export interface MemoryEvent {
  /** `event_` and 8 hex digits, the same whenever it is asked for. */
  readonly event_id: string
  /** ISO 8601, when its entry was decided. */
  readonly timestamp: string
  readonly event_type: MemoryEventType
  readonly agent: string
  /** Without secrets. */
  readonly content: Json
  readonly metadata: MemoryEventMetadata
}

export interface MemoryEventMetadata {
  readonly trace_id: string
  /** Of the call or delegation, else of the agent's work on the task. */
  readonly span_id: string
  readonly task: string
  /** Id of the entry that it stands in. */
  readonly entry: string
  readonly session?: string
  /** Of a call or delegation; a delegation's is also the task of who was asked. */
  readonly effect?: string
  /** Tool server of a call. */
  readonly server?: string
}

/** An event before it has its place. */
interface Remembered {
  readonly type: MemoryEventType
  readonly content: Json
  /** Absent: about the task itself. */
  readonly effect?: string
  readonly server?: string
}

type Started = Extract<Command, { readonly kind: 'start' }>

/** @param agent Only what this agent remembers. */
export function memoryEvents(
  trace: LoadedTrace,
  { agent }: { readonly agent?: string | undefined } = {},
): readonly MemoryEvent[] {
  const times = causalTimes(trace)
  const timed = trace.actors
    .filter((actor) => agent === undefined || actor.agent === agent)
    .flatMap((actor) => eventsOf(trace.traceId, actor).map((event) => ({ event, at: times.get(event.metadata.entry) ?? 0 })))
  // Stable: events of one entry stay as its parts follow from each other.
  return timed.sort((a, b) => a.at - b.at).map(({ event }) => event)
}

function eventsOf(traceId: string, actor: RecordedActor): readonly MemoryEvent[] {
  const { task } = actor
  const begun = new Map<string, Started>()
  const first = actor.entries[0]?.entry.input
  const session = first?.kind === 'start' ? first.session : undefined
  return actor.entries.flatMap(({ id: entry, entry: recorded }) => {
    const remembered = [
      ...ofInput(recorded, begun),
      ...ofCommands(task, recorded, begun),
      ...(recorded.outcome ? [ofOutcome(recorded.outcome)] : []),
    ]
    return remembered.map(({ type, content, effect, server }): MemoryEvent => {
      const span = effect === undefined ? actorSpanId(traceId, task) : spanIdOf(traceId, effect)
      return {
        event_id: `event_${spanIdOf(traceId, `${effect ?? entry}/${type}/${entry}`).slice(0, 8)}`,
        timestamp: new Date(recorded.at).toISOString(),
        event_type: type,
        agent: actor.agent,
        content: (spanContent(content) ?? null) as Json,
        metadata: {
          trace_id: traceId,
          span_id: span,
          task,
          entry,
          ...(session !== undefined && { session }),
          ...(effect !== undefined && { effect }),
          ...(server !== undefined && { server }),
        },
      }
    })
  })
}

function ofInput({ input, from, outcome }: Entry, begun: ReadonlyMap<string, Started>): readonly Remembered[] {
  switch (input.kind) {
    case 'start':
      return [{ type: input.parent ? 'task_delegation_received' : 'user_message', content: input.input }]
    case 'signal':
      // What an agent is told by who asked it shows in how it ends.
      return from?.kind === 'agent' ? [] : [{ type: 'user_message', content: { event: input.name, data: input.data } }]
    case 'resumed':
      return []
    case 'result': {
      const command = begun.get(input.effect)
      return command ? ofResult(command, input.effect, input.value) : []
    }
    case 'error': {
      const command = begun.get(input.effect)
      // A failure that ends the task is told once, as its end.
      return command && !(outcome && isModel(command)) ? [ofFailure(command, input.effect, input.failure)] : []
    }
  }
}

function ofCommands(task: string, { n, commands }: Entry, begun: Map<string, Started>): readonly Remembered[] {
  return commands.flatMap((command, k): Remembered[] => {
    if (command.kind !== 'start') return []
    const effect = effectId(task, n, k)
    begun.set(effect, command)
    if (isModel(command)) return []
    if (command.effect === 'delegate') {
      const { peer = null, task: text = null } = inputOf<DelegateInput>(command)
      return [{ type: 'delegation_request', content: { agent: peer, task: text }, effect }]
    }
    const { arguments: args = null } = toolOf(command)
    return [{ type: 'tool_call', content: { tool: toolName(command), arguments: args }, effect, ...serverOf(command) }]
  })
}

function ofResult(command: Started, effect: string, value: Json): readonly Remembered[] {
  if (isModel(command)) return []
  if (command.effect === 'delegate') {
    return [{ type: 'delegation_response', content: { agent: peerOf(command), response: value }, effect }]
  }
  return [{ type: 'tool_result', content: { tool: toolName(command), result: value }, effect, ...serverOf(command) }]
}

function ofFailure(command: Started, effect: string, failure: Failure): Remembered {
  const error = told(failure)
  if (command.effect === 'delegate') return { type: 'delegation_error', content: { agent: peerOf(command), error }, effect }
  if (isModel(command)) return { type: 'error', content: error, effect }
  return { type: 'error', content: { tool: toolName(command), error }, effect, ...serverOf(command) }
}

function ofOutcome(outcome: Outcome): Remembered {
  if (outcome.state === 'completed') return { type: 'agent_response', content: outcome.output }
  return { type: 'error', content: told(outcome.failure) }
}

function told({ code, message }: Failure): Json {
  return { code, message }
}

function isModel({ effect }: Started): boolean {
  return effect === 'model'
}

/** The input of a command, whose body may be missing. */
function inputOf<T>({ input }: Started): Partial<T> {
  return (input ?? {}) as unknown as Partial<T>
}

/** A function of a machine's own is to it what a tool is. */
function toolOf(command: Started): Partial<ToolInput> {
  return command.effect === 'tool' ? inputOf<ToolInput>(command) : { arguments: command.input }
}

function toolName(command: Started): Json {
  return (command.effect === 'tool' ? toolOf(command).tool : (localSource(command.effect) ?? command.as)) ?? null
}

function serverOf(command: Started): { readonly server?: string } {
  const { server } = toolOf(command)
  return server === undefined ? {} : { server }
}

function peerOf(command: Started): Json {
  return inputOf<DelegateInput>(command).peer ?? null
}
