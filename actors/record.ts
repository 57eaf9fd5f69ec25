/** Entries on their way into the journal and back: bodies become references and references bodies, seals are made and checked. */
import { bodyText } from '../bus/wire/bodies.ts'
import { type Command, type Entry, openEntry, sealEntry } from '../bus/wire/entry.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { entryId } from '../bus/wire/ids.ts'
import { canonicalText, hashOf, type Json } from '../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../bus/wire/limits.ts'
import { type Actor, type ActorState, apply, decide, newState, persistState, restoreState } from './actor.ts'
import { comparable, type Decision, type Machine } from './machine.ts'

/** An entry as it is decided: with bodies, and without what only its text has. */
export type Draft = Omit<Entry, 'parts' | 'blobs' | 'snapshot' | 'state'>

export interface Encoded {
  readonly text: string
  readonly seal: string
  /** Bodies too large for the entry, by hash: they are stored before it. */
  readonly blobs: ReadonlyMap<string, string>
  /** Hashes of all bodies that come with the entry. */
  readonly bodies: readonly string[]
  readonly hasSnapshot: boolean
}

export function stateHash(actor: Pick<Actor, 'bodies'>, decision: Decision): string {
  return hashOf(actor.bodies.split(comparable(decision.snapshot), new Map()))
}

/** The text of a draft. `machine` is given when the entry carries a snapshot. Throws `payload_too_large` when it cannot be made to fit. */
export function encode(actor: Actor, draft: Draft, decision: Decision, snapshotBy?: Machine): Encoded {
  const met = new Map<string, Json>()
  const split = <T>(value: T): T => actor.bodies.split(value as Json, met) as T
  const splitFields = <T>(value: T): T => actor.bodies.splitFields(value as { [key: string]: Json }, met) as T
  const hasSnapshot = snapshotBy !== undefined && actor.state !== undefined
  const entry: Entry = {
    ...draft,
    input: splitFields(draft.input),
    commands: splitCommands(draft.commands, split),
    ...(draft.outcome && { outcome: splitFields(draft.outcome) }),
    state: stateHash(actor, decision),
    ...(hasSnapshot && { snapshot: split(persistState(snapshotBy, actor.state!)) }),
  }
  const fresh = [...met]
    .filter(([sha]) => hasSnapshot || !actor.bodies.isStored(sha))
    .map(([sha, body]) => ({ sha, text: bodyText(body) }))
  const { inline, beside } = place(fresh, fresh.length === 0 ? 0 : JSON.stringify(entry).length)
  const largest = Math.max(0, ...beside.map(({ text }) => Buffer.byteLength(text)))
  if (largest > MESSAGE_LIMITS.journalBodyBytesMax) {
    throw new KaosError(
      'payload_too_large',
      `entry "${entryId(actor.task, draft.n)}" needs a body of ${largest} bytes; at most ${MESSAGE_LIMITS.journalBodyBytesMax} are allowed`,
    )
  }
  const parts = inline.length > 0 && { parts: Object.fromEntries(inline.map(({ sha }) => [sha, met.get(sha)!])) }
  const blobs = beside.length > 0 && { blobs: Object.fromEntries(beside.map(({ sha, text }) => [sha, Buffer.byteLength(text)])) }
  const { text, seal } = sealEntry({ ...entry, ...parts, ...blobs }, actor.state?.seal ?? '')
  if (Buffer.byteLength(text) > MESSAGE_LIMITS.messageBytesMax - 4_096) {
    throw new KaosError(
      'payload_too_large',
      `entry "${entryId(actor.task, draft.n)}" has ${Buffer.byteLength(text)} bytes without its bodies`,
    )
  }
  return {
    text,
    seal,
    blobs: new Map(beside.map((body) => [body.sha, body.text])),
    bodies: fresh.map(({ sha }) => sha),
    hasSnapshot,
  }
}

/**
 * Folds stored entries into the actor and proves each: number, seal, commands, state. Throws `journal_gap`, `journal_damaged`,
 * `body_missing` or `machine_changed`; the actor is then of no use and must be forgotten. `onEntry` is told each with the state after it.
 */
export async function fold(
  actor: Actor,
  machine: Machine,
  stored: readonly { readonly text: string; readonly writer: string; readonly sequence: number }[],
  readBlob: (sha: string) => Promise<string>,
  onEntry?: (entry: Entry, state: ActorState) => void,
): Promise<void> {
  for (const { text, writer, sequence } of stored) {
    const where = `entry ${actor.state?.n ?? 0} of task "${actor.task}"`
    const decoded = await decode(actor, text, where, readBlob)
    if (!actor.state && decoded.snapshot !== undefined) actor.state = restoreState(machine, actor.bodies.join(decoded.snapshot))
    const state = actor.state ?? newState(decoded.entry)
    if (decoded.entry.n !== state.n)
      throw new KaosError('journal_gap', `task "${actor.task}" has entry ${decoded.entry.n} where ${state.n} belongs`)
    const { seal } = openEntry(text, state.seal, where)
    const decision = decide(machine, actor.state, decoded.entry.input, decoded.entry.at)
    if (!sameCommands(actor, decision, decoded.stored) || stateHash(actor, decision) !== decoded.entry.state) {
      const why = decoded.entry.machine === machine.id ? ': it is not a pure function, or code outside its file changed' : ''
      throw new KaosError(
        'machine_changed',
        `${where} was written by machine "${decoded.entry.machine}" and "${machine.id}" decides otherwise${why}`,
      )
    }
    apply(actor.task, state, decoded.entry, decision, writer, seal)
    actor.state = state
    onEntry?.(decoded.entry, state)
    noteStored(actor, sequence, text, decoded.bodies, decoded.snapshot !== undefined)
  }
}

/** Remembers that an entry stands. */
export function noteStored(actor: Actor, sequence: number, text: string, bodies: Iterable<string>, hasSnapshot: boolean): void {
  actor.sequence = sequence
  actor.bytes += text.length
  if (hasSnapshot) actor.snapshotAt = sequence
  actor.bodies.markStored(bodies, hasSnapshot)
}

/** Takes the bodies of an entry and gives the entry with them. Its seal is not checked here. */
export async function decode(
  actor: Pick<Actor, 'bodies'>,
  text: string,
  where: string,
  readBlob: (sha: string) => Promise<string>,
): Promise<{
  readonly entry: Entry
  readonly stored: Entry
  readonly bodies: readonly string[]
  readonly snapshot: Json | undefined
}> {
  const { entry: stored } = openEntry(text, undefined, where)
  const { parts = {}, blobs = {}, snapshot, ...rest } = stored
  for (const [sha, body] of Object.entries(parts)) actor.bodies.add(sha, body)
  for (const sha of Object.keys(blobs)) if (!actor.bodies.has(sha)) actor.bodies.add(sha, JSON.parse(await readBlob(sha)) as Json)
  const join = <T>(value: T): T => actor.bodies.join(value as Json) as T
  const entry: Entry = {
    ...rest,
    input: join(rest.input),
    commands: splitCommands(rest.commands, join),
    ...(rest.outcome && { outcome: join(rest.outcome) }),
  }
  return { entry, stored, bodies: [...Object.keys(parts), ...Object.keys(blobs)], snapshot }
}

/** Whether a decision asks for what the entry recorded. Compared by reference, so that a prompt of a megabyte costs 64 characters. */
export function sameCommands(
  actor: Pick<Actor, 'bodies'>,
  decision: Decision,
  recorded: Pick<Entry, 'commands' | 'outcome'>,
): boolean {
  const { bodies } = actor
  const split = <T>(value: T): T => bodies.split(value as Json, new Map()) as T
  const outcome = decision.outcome && bodies.splitFields(decision.outcome as unknown as { [key: string]: Json }, new Map())
  const isSame = (now: unknown, then: unknown) => canonicalText(now) === canonicalText(then)
  return isSame(splitCommands(decision.commands, split), recorded.commands) && isSame(outcome ?? null, recorded.outcome ?? null)
}

/** A command stays readable in its entry; only what its input holds may be a body. */
export function splitCommands(commands: readonly Command[], split: <T>(value: T) => T): readonly Command[] {
  return commands.map((command) => (command.kind === 'start' ? { ...command, input: split(command.input) } : command))
}

/** Which bodies stand in the entry and which beside it. */
function place(bodies: readonly { sha: string; text: string }[], entryChars: number) {
  const inline: { sha: string; text: string }[] = []
  const beside: { sha: string; text: string }[] = []
  let chars = entryChars
  for (const body of [...bodies].sort((a, b) => a.text.length - b.text.length)) {
    const bytes = Buffer.byteLength(body.text)
    if (bytes > MESSAGE_LIMITS.inlineBytesMax || chars + bytes > MESSAGE_LIMITS.entryBytesMax) beside.push(body)
    else {
      inline.push(body)
      chars += bytes + 70
    }
  }
  return { inline, beside }
}
