/** What a process has started, to be stopped at its end in the other order. */
import type { Logger } from '../../telemetry/log.ts'

export class Stopping {
  private readonly log: Logger
  private readonly parts: (() => Promise<unknown>)[] = []

  constructor(log: Logger) {
    this.log = log
  }

  add(stop: () => Promise<unknown>): void {
    this.parts.push(stop)
  }

  /** Never rejects. */
  async all(): Promise<void> {
    for (let stop = this.parts.pop(); stop; stop = this.parts.pop()) {
      await stop().catch((error: unknown) => this.log.warn({ err: error }, 'a part did not stop cleanly'))
    }
  }
}
