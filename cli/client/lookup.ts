/** Finds tasks and traces by what people type: a task id, a trace id, or "last". */
import { startHash } from '../../actors/actor.ts'
import type { ResultRecord, TraceRecord } from '../../actors/outbox.ts'
import type { NatsBus } from '../../bus/open.ts'
import type { StartInput } from '../../bus/wire/entry.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { isRootTask, isTaskId, keyOf, parseRootTask, rootTaskId } from '../../bus/wire/ids.ts'
import { HEADERS } from '../../bus/wire/message.ts'
import { agentParty, streamNames } from '../../bus/wire/subjects.ts'
import { readRecord } from '../../replay/record.ts'

/** A root task and where its result stands. */
export interface TaskAddress {
  readonly agent: string
  readonly key: string
  readonly task: string
}

export interface Found {
  readonly traceId: string
  readonly record: TraceRecord
}

/** Records of the index that a search looks at. */
const SEARCHED_MAX = 2_000
/** Unread tasks at a door among which one is looked for. */
const UNREAD_SEARCHED_MAX = 1_000

/** The root task of an id, or the last one. Throws `usage` for what is no task id. */
export async function findTask(bus: NatsBus, id: string): Promise<TaskAddress> {
  const task = id === 'last' ? (await latestRoot(bus))?.record.task : id
  if (task === undefined) throw new KaosError('unknown_task', `there are no tasks in namespace "${bus.namespace}"`)
  if (!isTaskId(task)) {
    const cure = 'it is the agent, "_" and the id it was sent with, like "coordinator_order-17"; "kaos task list" shows it'
    throw new KaosError('usage', `"${id}" is no task id: ${cure}`)
  }
  const root = parseRootTask(task)
  return { ...root, task: rootTaskId(root.agent, root.key) }
}

/** The trace of a trace id, of a task id, or of the last root task. Throws `unknown_trace`. */
export async function findTrace(bus: NatsBus, id: string): Promise<string> {
  if (/^[0-9a-f]{32}$/.test(id)) return id
  if (id !== 'last' && !isTaskId(id)) {
    throw new KaosError(
      'usage',
      `"${id}" is neither a trace id (32 hex digits) nor a task id (like "coordinator_order-17") nor "last"`,
    )
  }
  const { agent, key } = parseRootTask(id)
  const result = id === 'last' ? undefined : await bus.results.get(agent, key)
  // A rejected task never began. Any other that ended is known however many came after it.
  const { state, trace } = JSON.parse(result ?? '{}') as Partial<ResultRecord>
  if (trace !== undefined && state !== 'rejected') return trace
  const found = id === 'last' ? await latestRoot(bus) : await findRecord(bus, rootTaskId(agent, key))
  if (!found) throw new KaosError('unknown_trace', `there is no trace of "${id}" in namespace "${bus.namespace}"`)
  return found.traceId
}

/** The record of a task in the index of traces; undefined before it begins. */
export async function findRecord(bus: NatsBus, task: string): Promise<Found | undefined> {
  return search(bus, (record) => record.task === task)
}

function latestRoot(bus: NatsBus): Promise<Found | undefined> {
  return search(bus, (record) => isRootTask(record.task))
}

async function search(bus: NatsBus, isWanted: (record: { readonly task: string }) => boolean): Promise<Found | undefined> {
  const found = (await bus.traces.latest(SEARCHED_MAX)).find(isWanted)
  return found && { traceId: found.traceId, record: JSON.parse(found.text) as TraceRecord }
}

/** Whether the task lies unread at its agent's door, or is being worked on: it leaves the door at its first pause. */
export async function isAtDoor(bus: NatsBus, { agent, key }: TaskAddress): Promise<boolean> {
  const declared = await bus.catalog.agents()
  if (!declared.some(({ name }) => name === agent)) return false // no stream to read
  const query = { seq: 1, next_by_subj: bus.subjects.door(agent), batch: UNREAD_SEARCHED_MAX }
  const unread = await bus.reader.get(streamNames.agentMail(bus.namespace, agent), query)
  return unread.some(({ header }) => {
    const id = header(HEADERS.key) || header(HEADERS.messageId)
    return id !== undefined && keyOf(bus.namespace, agent, id) === key
  })
}

/** Trace and input of a task that has begun. The agent must be declared. */
export async function beginningOf(
  bus: NatsBus,
  { agent, task }: TaskAddress,
): Promise<{ readonly traceId: string; readonly startHash: string } | undefined> {
  const [first] = await bus.journal.read(agent, task, 0)
  if (!first) return undefined
  const self = agentParty(agent)
  const { entries } = await readRecord({ agent, task }, [first], (sha) => bus.blobs.read(self, self, task, sha))
  const entry = entries[0]?.entry
  return entry?.trace && { traceId: entry.trace.traceId, startHash: startHash(entry.input as StartInput) }
}
