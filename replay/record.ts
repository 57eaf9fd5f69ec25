/** One journal as it was read: which of its entries are whole and follow from each other, and what is missing. */
import { splitCommands } from '../actors/record.ts'
import type { Stored } from '../bus/contracts.ts'
import { Bodies } from '../bus/wire/bodies.ts'
import { type Entry, openEntry } from '../bus/wire/entry.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { entryId } from '../bus/wire/ids.ts'
import type { Json } from '../bus/wire/json.ts'

/** Something without which a trace cannot be re-executed. */
export interface Missing {
  readonly kind: 'journal' | 'entry' | 'seal' | 'body' | 'outcome' | 'agent'
  readonly agent: string
  readonly task: string
  /** Entry id, where one is meant. */
  readonly entry?: string
  readonly message: string
}

export interface RecordedEntry {
  readonly id: string
  /** With bodies in place of references; as stored, if one of them is missing. */
  readonly entry: Entry
  readonly stored: Entry
  readonly seal: string
  readonly writer: string
}

export interface RecordedActor {
  readonly agent: string
  readonly task: string
  /** The task that delegated to it; absent for a root. */
  readonly parent?: string
  /** All that can be read, also after a gap. */
  readonly entries: readonly RecordedEntry[]
  /** How many of them, from the first, are whole and follow from each other: only those can be folded. */
  readonly proven: number
  readonly bodies: Bodies
  readonly missing: readonly Missing[]
}

/** Reads a journal. A missing body, a gap or a broken seal is noted; what is there is given all the same. */
export async function readRecord(
  place: { readonly agent: string; readonly task: string; readonly parent?: string | undefined },
  stored: readonly Stored[],
  readBlob: (sha: string) => Promise<string>,
): Promise<RecordedActor> {
  const { agent, task, parent } = place
  const missing: Missing[] = []
  const note: Note = (kind, n, message) => void missing.push({ kind, agent, task, entry: entryId(task, n), message })
  const opened = openJournal(task, stored, note)
  const bodies = await loadBodies(task, opened, readBlob, note)
  const entries = opened.map((each) => ({ ...each, whole: joined(each.stored, bodies) }))
  const broken = entries.findIndex(({ follows, whole }) => !follows || !whole)
  if (broken >= 0 && missing.length === 0)
    note('body', entries[broken]!.stored.n, `a body of entry "${entries[broken]!.id}" is missing`)
  return {
    agent,
    task,
    ...(parent !== undefined && { parent }),
    entries: entries.map(({ id, stored, seal, writer, whole }) => ({ id, entry: whole ?? stored, stored, seal, writer })),
    proven: broken < 0 ? entries.length : broken,
    bodies,
    missing,
  }
}

type Note = (kind: Missing['kind'], n: number, message: string) => void

interface Opened extends Omit<RecordedEntry, 'entry'> {
  /** Its number and its seal follow from the entry before. */
  readonly follows: boolean
}

function openJournal(task: string, stored: readonly Stored[], note: Note): readonly Opened[] {
  const opened: Opened[] = []
  let n = 0
  let previousSeal = ''
  for (const { text, writer } of stored) {
    const where = `entry "${entryId(task, n)}"`
    const sealed = attempt(() => openEntry(text, previousSeal, where))
    const read = sealed ?? attempt(() => openEntry(text, undefined, where))
    if (!read) {
      note('seal', n++, `${where} cannot be read`)
      continue
    }
    const { entry, seal } = read
    if (entry.n !== n) note('entry', n, `${where} is missing: the journal goes on with entry ${entry.n}`)
    else if (!sealed) note('seal', n, `${where} does not match its seal`)
    opened.push({ id: entryId(task, entry.n), stored: entry, seal, writer, follows: entry.n === n && sealed !== undefined })
    n = entry.n + 1
    previousSeal = seal
  }
  return opened
}

/** A body may stand in a later entry again, so all are taken in before any is missed. */
async function loadBodies(
  task: string,
  opened: readonly Opened[],
  readBlob: (sha: string) => Promise<string>,
  note: Note,
): Promise<Bodies> {
  const bodies = new Bodies()
  const beside = new Map<string, number>()
  for (const { stored } of opened) {
    for (const [sha, body] of Object.entries(stored.parts ?? {})) attempt(() => bodies.add(sha, body))
    for (const sha of Object.keys(stored.blobs ?? {})) if (!beside.has(sha)) beside.set(sha, stored.n)
  }
  for (const [sha, n] of beside) {
    if (bodies.has(sha)) continue
    const text = await readBlob(sha).catch(undefinedIfDamaged)
    if (text !== undefined) attempt(() => bodies.add(sha, JSON.parse(text) as Json))
    if (!bodies.has(sha)) note('body', n, `body "${sha}" of entry "${entryId(task, n)}" is missing`)
  }
  return bodies
}

function joined(stored: Entry, bodies: Bodies): Entry | undefined {
  const join = <T>(value: T): T => bodies.join(value as Json) as T
  return attempt(() => ({
    ...stored,
    input: join(stored.input),
    commands: splitCommands(stored.commands, join),
    ...(stored.outcome && { outcome: join(stored.outcome) }),
  }))
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    return undefinedIfDamaged(error)
  }
}

/** The record is not what it was: that is for the verdict. Any other error goes on to the caller. */
function undefinedIfDamaged(error: unknown): undefined {
  if (error instanceof KaosError && (error.code === 'journal_damaged' || error.code === 'body_missing')) return undefined
  throw error
}
