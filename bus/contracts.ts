/**
 * What the rest of the system needs of a bus. Two implementations pass the same conformance suite: one in memory, one on NATS JetStream.
 * All waits inside have a deadline; a retryable KaosError means that nothing was lost and the same may be tried again.
 */
import type { AgentCard, ToolList } from './wire/catalog.ts'
import type { Incoming, Outgoing } from './wire/message.ts'
import type { Party } from './wire/subjects.ts'

/** One entry as it lies in the journal. */
export interface Stored {
  readonly text: string
  /** `<host id>.<append counter>` of who wrote it. */
  readonly writer: string
  readonly sequence: number
}

export interface Append {
  readonly agent: string
  readonly task: string
  /** Entry id. */
  readonly slot: string
  readonly writer: string
  readonly text: string
  /** Sequence of the last entry with a snapshot before this one; 0 for none. */
  readonly snapshotAt: number
  /** Sequence of the entry before; 0 when this is the first. */
  readonly expected: number
}

export interface Journal {
  /** Entries after `sequence`, oldest first; from 0 the whole journal. */
  read(agent: string, task: string, sequence: number): Promise<readonly Stored[]>
  /** What is needed to continue an actor that is not in memory: from its last snapshot on. */
  readFromSnapshot(agent: string, task: string): Promise<readonly Stored[]>
  /**
   * Stores an entry and resolves with its sequence, or with `lost` when another entry stands there. A lost acknowledgement is settled inside:
   * the answer is never "maybe".
   */
  append(append: Append): Promise<number | 'lost'>
}

export interface Blobs {
  /** Stores a body; again is harmless. */
  write(owner: Party, to: Party, task: string, sha: string, body: string): Promise<void>
  /** Throws `body_missing` when a part is not there or the whole does not match its hash. */
  read(owner: Party, to: Party, task: string, sha: string): Promise<string>
}

export interface Post {
  /** Resolves when the message is stored, retries inside; sending twice is harmless. Rejects with a retryable error after about 30 s. */
  send(message: Outgoing): Promise<void>
}

/** A message in hand. Exactly one of ack, nak and release ends it. */
export interface Delivery {
  readonly message: Incoming
  /** How often the broker has handed it out, from 1. */
  readonly count: number
  /** This process was silent for so long that the broker may have given it to somebody else, whose ack counts. */
  readonly isStale: boolean
  ack(): void
  /** Comes again after the delay. Silent when the broker has already given it to somebody else. */
  nak(delayMs: number): void
  /** Leaves it alone: another host holds it, or the broker will hand it out again by itself. */
  release(): void
}

export interface Mailbox {
  /**
   * Takes messages while fewer than `slots` are in hand, and tells the broker every second that they are still worked on. A message that is
   * delivered again while it is in hand replaces its handle and is not announced twice. `receive` must not throw.
   */
  open(consumer: MailConsumer, slots: number, receive: (delivery: Delivery) => void): MailSubscription
  /** Whether this process holds a physical message now. */
  holds(party: Party, delivery: string): boolean
}

export type MailConsumer =
  | { readonly kind: 'task' | 'mail'; readonly agent: string }
  | { readonly kind: 'call'; readonly tool: string }

export interface Subscription {
  /** Takes nothing new; what is in hand stays in hand. */
  stop(): Promise<void>
}

export interface MailSubscription extends Subscription {
  /** Messages of this consumer that are not acked: in hand here, and waiting as the broker last said. */
  backlog(): number
}

export interface Liveness {
  /** Whether that process holds the delivery, asked over the bus; false after 300 ms of silence. */
  asks(party: Party, hostId: string, delivery: string): Promise<boolean>
  /** Answers such questions for this process. */
  serve(party: Party, hostId: string, holds: (delivery: string) => boolean): Subscription
}

/** The tool server's record of one effect: first the claim, then the reply. */
export interface Claims {
  read(tool: string, effect: string): Promise<Stored | undefined>
  /** As Journal.append, on the effect's own subject. */
  put(
    tool: string,
    effect: string,
    record: { readonly text: string; readonly writer: string; readonly expected: number },
  ): Promise<number | 'lost'>
}

export interface Catalog {
  /** What is announced now; read again at most every few seconds, at once with `fresh`. */
  tools(server: string, options?: { readonly fresh?: boolean }): Promise<ToolList | undefined>
  agents(): Promise<readonly AgentCard[]>
  announceTools(list: ToolList): Promise<void>
  announceAgent(card: AgentCard): Promise<void>
}

export interface Progress {
  /** Fire and forget: for people who watch. */
  tell(subject: string, event: object): void
}

export interface BusState {
  /** `reconnecting` also while only the connection that journals are read on is lost; `closed` for good. */
  readonly broker: 'connected' | 'reconnecting' | 'closed'
  /** Open consumers from which the broker has not answered yet, since the connection was made or their last pull was lost: "agent analyst task". */
  readonly unbound: readonly string[]
}

export interface Bus {
  readonly namespace: string
  readonly journal: Journal
  readonly blobs: Blobs
  readonly post: Post
  readonly mailbox: Mailbox
  readonly liveness: Liveness
  readonly claims: Claims
  readonly catalog: Catalog
  readonly progress: Progress
  /** What is known here now; asks nobody. */
  state(): BusState
  close(): Promise<void>
}

export interface Clock {
  /** Epoch ms. */
  now(): number
}

export const systemClock: Clock = { now: () => Date.now() }
