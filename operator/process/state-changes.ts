/** When a status has to follow what was seen on the broker. */
import { type ResourceRef, refKey } from '../broker/owner.ts'

/** A backlog breathes with every message; the status is told a new one so often at most. What scaling does is told at once. */
const BACKLOG_EVERY_MS = 15_000

/** Decides when a changed state, or a backlog alone, is worth a look at the agent or tool server. */
export class StateChanges {
  private readonly look: (key: string) => void
  private readonly told = new Map<string, string>()
  private readonly later = new Map<string, NodeJS.Timeout>()

  constructor(look: (key: string) => void) {
    this.look = look
  }

  /** `said`: what its status has to follow at once when it is another; the same again: only the backlog has changed. */
  note(about: ResourceRef, said: string): void {
    const key = refKey(about)
    if (this.told.get(key) !== said) {
      this.told.set(key, said)
      this.cancel(key)
      this.look(key)
      return
    }
    if (this.later.has(key)) return
    const timer = setTimeout(() => {
      this.later.delete(key)
      this.look(key)
    }, BACKLOG_EVERY_MS).unref()
    this.later.set(key, timer)
  }

  /** Whether anything was told of it: before that, what is known of it is only that nobody has looked yet. */
  hasTold(about: ResourceRef): boolean {
    return this.told.has(refKey(about))
  }

  forget(about: ResourceRef): void {
    this.told.delete(refKey(about))
    this.cancel(refKey(about))
  }

  stop(): void {
    for (const key of [...this.later.keys()]) this.cancel(key)
  }

  private cancel(key: string): void {
    clearTimeout(this.later.get(key))
    this.later.delete(key)
  }
}
