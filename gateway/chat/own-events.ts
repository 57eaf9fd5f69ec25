/**
 * What happens in a task whose key others may use at the same moment: kept back until it is known with whose body the task was begun, and
 * never shown to anybody else.
 */
import type { ProgressEvent } from '../door.ts'
import { HTTP_LIMITS } from '../limits.ts'

export class OwnEvents {
  private readonly task: string
  private readonly pass: (event: ProgressEvent) => void
  private readonly prove: () => Promise<boolean>
  private state: 'closed' | 'open' | 'lost' = 'closed'
  private held: ProgressEvent[] = []

  /**
   * @param pass Gets the events in their order once they are known to be the caller's, all or none.
   * @param prove Whether they are. Asked when the task is seen to begin; a rejection is a no.
   */
  constructor(task: string, options: { readonly pass: (event: ProgressEvent) => void; readonly prove: () => Promise<boolean> }) {
    this.task = task
    this.pass = options.pass
    this.prove = options.prove
  }

  take(event: ProgressEvent): void {
    if (this.state === 'open') this.pass(event)
    if (this.state !== 'closed') return
    this.held.push(event)
    if (this.held.length > HTTP_LIMITS.unsentEventsMax) this.lose()
    else if (event.kind === 'entry' && event.task === this.task && event.n === 0)
      void this.prove().then(
        (isOwn) => (isOwn ? this.open() : this.lose()),
        () => this.lose(),
      )
  }

  /** It is known by other means. */
  open(): void {
    if (this.state !== 'closed') return
    this.state = 'open'
    for (const event of this.held) this.pass(event)
    this.held = []
  }

  private lose(): void {
    if (this.state === 'open') return
    this.state = 'lost'
    this.held = []
  }
}
