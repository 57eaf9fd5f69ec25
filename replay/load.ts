/** Loads a recorded trace: every actor of the tree with all that its entries name. Afterwards nothing needs the bus any more. */
import type { DelegateInput } from '../actors/agent/calls.ts'
import type { AgentDefinition, Peer } from '../actors/agent/definition.ts'
import type { TraceRecord } from '../actors/outbox.ts'
import type { Blobs, Journal } from '../bus/contracts.ts'
import type { TraceIndex } from '../bus/results.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { effectId, entryId, parseRootTask, rootTaskId } from '../bus/wire/ids.ts'
import { RETENTION_LIMITS } from '../bus/wire/limits.ts'
import { agentParty } from '../bus/wire/subjects.ts'
import { type Missing, type RecordedActor, readRecord } from './record.ts'

/** The part of a bus that holds recorded traces. */
export interface TraceSource {
  readonly traces: Pick<TraceIndex, 'actors'>
  readonly journal: Pick<Journal, 'read'>
  readonly blobs: Pick<Blobs, 'read'>
}

export interface LoadedTrace {
  readonly traceId: string
  /** Parents before their children. */
  readonly actors: readonly RecordedActor[]
}

export interface Delegation {
  /** Id of the effect, which is the child's task. */
  readonly task: string
  readonly agent: string
  /** Number of the entry that asked for it. */
  readonly n: number
  /** Number of the entry that took the answer. */
  readonly answeredAt: number | undefined
}

interface Wanted {
  readonly agent: string
  readonly task: string
  readonly parent?: string
  /** What proves that it began; a child without such proof may just not have. */
  readonly begunBecause?: string | undefined
  /** What proves that it ended. */
  readonly endedBecause?: string | undefined
}

/**
 * What is missing or damaged is noted in the actors and is nobody's error here. Throws `unknown_trace`, `expired` for one whose journals were
 * removed for their age, and what the bus throws when it cannot be read.
 *
 * @param now Epoch ms.
 */
export async function loadTrace(source: TraceSource, traceId: string, now = Date.now()): Promise<LoadedTrace> {
  const index = await source.traces.actors(traceId)
  if (index.length === 0) {
    throw new KaosError(
      'unknown_trace',
      `no trace "${traceId}" is recorded: there never was, or it ended longer ago than is kept`,
    )
  }
  const records = new Map(index.map(({ task, text }) => [task, JSON.parse(text) as TraceRecord]))
  const roots = new Map(index.map(({ task }) => parseRootTask(task)).map(({ agent, key }) => [rootTaskId(agent, key), agent]))
  const wanted: Wanted[] = [...roots].map(([task, agent]) => ({ agent, task, begunBecause: 'the index of traces names it' }))
  const actors: RecordedActor[] = []
  // The list grows while it is worked through. An actor counts only if a recorded delegation leads to it.
  for (const next of wanted) {
    const actor = await loadActor(source, next, records.get(next.task))
    if (!actor) continue
    actors.push(actor)
    const external = externalPeersOf(actor)
    for (const { agent, task, answeredAt } of delegationsOf(actor)) {
      // A program of its own keeps no journal: its answer stands in this one, and that is all there is.
      if (external.has(agent)) continue
      const proof = answeredAt === undefined ? undefined : `entry "${entryId(actor.task, answeredAt)}" holds its answer`
      wanted.push({ agent, task, parent: actor.task, begunBecause: proof, endedBecause: proof })
    }
  }
  checkAge(traceId, [...records.values()], actors, now)
  return { traceId, actors }
}

/** A journal that is empty is a damage, unless the trace ended so long ago that it may have been removed: then its roots went first. */
function checkAge(traceId: string, records: readonly TraceRecord[], actors: readonly RecordedActor[], now: number): void {
  const endedAt = Math.max(...records.map((record) => (record.state === 'working' ? now : (record.endedAt ?? now))))
  const isThere = actors.some(({ parent, entries }) => parent === undefined && entries.length > 0)
  if (isThere || now - endedAt < RETENTION_LIMITS.daysMin * 86_400_000) return
  const day = new Date(endedAt).toISOString().slice(0, 10)
  throw new KaosError(
    'expired',
    `the journals of trace "${traceId}" have been removed: it ended on ${day}, longer ago than is kept`,
  )
}

/** Whom the actor's declaration called external when its task began. */
function externalPeersOf({ entries }: RecordedActor): ReadonlySet<string> {
  const input = entries[0]?.entry.input
  const definition = input?.kind === 'start' ? (input.definition as unknown as Partial<AgentDefinition> | null) : undefined
  // A machine's own definition may have none, and a body that is missing is not there.
  const peers = Array.isArray(definition?.peers) ? definition.peers : []
  return new Set(peers.filter((peer: Peer | null) => peer?.external).map((peer: Peer) => peer.name))
}

/** The tasks that an actor handed to others, in the order in which it did. */
export function delegationsOf(actor: Pick<RecordedActor, 'task' | 'entries'>): readonly Delegation[] {
  const answers = new Map(
    actor.entries.flatMap(({ entry: { input, n } }) => ('effect' in input ? [[input.effect, n] as const] : [])),
  )
  return actor.entries.flatMap(({ entry: { commands, n } }) =>
    commands.flatMap((command, k) => {
      if (command.kind !== 'start' || command.effect !== 'delegate') return []
      const task = effectId(actor.task, n, k)
      const agent = (command.input as Partial<DelegateInput> | null)?.peer
      // Nobody knows whom a command asked whose body is missing, which is noted already.
      return agent === undefined ? [] : [{ task, agent, n, answeredAt: answers.get(task) }]
    }),
  )
}

/** Undefined for a child that has no journal and need not have one: its parent was canceled or failed first, or it is still to begin. */
async function loadActor(
  source: TraceSource,
  wanted: Wanted,
  indexed: TraceRecord | undefined,
): Promise<RecordedActor | undefined> {
  const { agent, task } = wanted
  const stored = await source.journal.read(agent, task, 0)
  if (stored.length === 0 && wanted.begunBecause === undefined) return undefined
  const self = agentParty(agent)
  const actor = await readRecord(wanted, stored, (sha) => source.blobs.read(self, self, task, sha))
  return { ...actor, missing: [...actor.missing, ...missingAtEnd(actor, wanted, indexed)] }
}

/** A journal ends with an outcome. One whose end was cut off looks like one that is still being written, unless something knows better. */
function missingAtEnd(actor: RecordedActor, wanted: Wanted, indexed: TraceRecord | undefined): readonly Missing[] {
  const { agent, task, entries } = actor
  const last = entries.at(-1)?.entry
  if (!last)
    return [{ kind: 'journal', agent, task, message: `the journal of task "${task}" is empty, but ${wanted.begunBecause}` }]
  const n = last.n + 1
  const counted = indexed?.entries ?? 0
  if (last.outcome && n >= counted) return []
  const endedBecause = n < counted ? `the index of traces counts ${counted} entries` : wanted.endedBecause
  if (endedBecause === undefined)
    return [{ kind: 'outcome', agent, task, message: `task "${task}" of agent "${agent}" is still working` }]
  const entry = entryId(task, n)
  return [{ kind: 'entry', agent, task, entry, message: `entry "${entry}" is missing, but ${endedBecause}` }]
}
