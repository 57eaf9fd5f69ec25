/**
 * Of which work this process has recorded the spans, and whether another one has: a message comes again when its ack was lost, and a span is
 * recorded once all the same.
 */
import { LRUCache } from 'lru-cache'
import type { Delivery, Liveness } from './contracts.ts'
import { HOST_LIMITS } from './wire/limits.ts'
import type { Party } from './wire/subjects.ts'

/** Begins the question of one process to another; no delivery and no effect id begins so. */
const QUESTION = 'recorded '

/** Who asks and answers: one process of an agent or a tool server. */
export interface RecordingProcess {
  readonly liveness: Pick<Liveness, 'asks'>
  readonly party: Party
  readonly hostId: string
}

/**
 * Whether a message is left to whoever was given it while this process was silent, who records and acks; if nobody was, it comes again. Only the
 * first time: a process that is silent again and again, for its work is heavy, must get through with it.
 */
export function isLeftToOthers({ isStale, count }: Delivery): boolean {
  return isStale && count === 1
}

export class RecordedSpans {
  private readonly process: RecordingProcess
  private readonly recorded = new LRUCache<string, true>({ max: HOST_LIMITS.recordedSpansMax })

  constructor(process: RecordingProcess) {
    this.process = process
  }

  /** @param work A delivery or an effect id. */
  has(work: string): boolean {
    return this.recorded.has(work)
  }

  add(work: string): void {
    this.recorded.set(work, true)
  }

  /** The answer to another process that wonders whether it is to record. False for questions about anything else. */
  answers(question: string): boolean {
    return question.startsWith(QUESTION) && this.has(question.slice(QUESTION.length))
  }

  /** Whether the process that did the work lives and has recorded it: then only its ack was lost on the way. */
  async hasOwner(owner: string | undefined, work: string): Promise<boolean> {
    const { liveness, party, hostId } = this.process
    return owner !== undefined && owner !== hostId && liveness.asks(party, owner, QUESTION + work)
  }
}
