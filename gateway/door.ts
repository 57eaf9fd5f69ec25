/** What the gateway needs of the bus, and gets handed in: a way to put a task into an agent's mail and to learn what becomes of it. */
import type { ToolList } from '../bus/wire/catalog.ts'
import type { Outcome, Usage } from '../bus/wire/entry.ts'

/** A task that a request stands for. The same id is the same task. */
export interface Ticket {
  readonly agent: string
  /** Sent again as Idempotency-Key it finds the same task. */
  readonly id: string
  readonly task: string
  /** Of a new task; one that was begun before under this id has its own. */
  readonly traceId: string
}

/** A ticket of a task that may be in the mail. */
export interface Posted extends Ticket {
  /** What `begun` compares; absent where nobody else can know the id. */
  readonly hash?: string | undefined
  /** It is known that the task is this one; else another body may come first under the id. */
  readonly isOwn: boolean
}

/** The body of a door message. */
export interface TaskBody {
  readonly input: string
  readonly session?: string
}

/** How a task ended. */
export type TaskEnd = Outcome & { readonly task: string; readonly trace: string; readonly usage: Usage }

/** What happens in a task and in all that it causes; for people who watch, so nothing may depend on it alone. */
export interface ProgressEvent {
  readonly kind: 'entry' | 'text'
  readonly agent: string
  readonly task: string
  readonly n?: number
  readonly input?: 'start' | 'result' | 'error' | 'signal' | 'resumed'
  readonly effect?: string
  readonly begins?: readonly { readonly effect: string; readonly name?: string }[]
  readonly text?: string
}

/** Trace context as it came with the request. */
export interface Carrier {
  readonly traceparent?: string | undefined
  readonly tracestate?: string | undefined
  readonly baggage?: string | undefined
}

export interface Door {
  /** Asks nobody. Without an id a random one is taken. */
  open(agent: string, options: { readonly id?: string | undefined; readonly carrier: Carrier }): Ticket
  /** Calls back for what happens in the ticket's trace, until the returned function is called. To be called before `send`. */
  watch(ticket: Ticket, onEvent: (event: ProgressEvent) => void): () => void
  /** Resolves when the task is stored; sending twice is harmless. Throws `door_full`, `unknown_agent`, `publish_timeout`, `payload_too_large`. */
  send(ticket: Ticket, body: TaskBody, carrier: Carrier): Promise<void>
  /** Of a body, so that it need not be kept. */
  hashOf(body: TaskBody): string
  /** The trace of the task, once it has begun. Throws `key_conflict` when it was with a body of another hash. */
  begun(ticket: Ticket, hash: string): Promise<string | undefined>
  /** Undefined after the deadline, or when aborted. Throws `read_failed`. */
  wait(ticket: Ticket, options: { readonly deadlineMs: number; readonly signal: AbortSignal }): Promise<TaskEnd | undefined>
  /** As it is announced now. */
  toolsOf(server: string): Promise<ToolList | undefined>
}
