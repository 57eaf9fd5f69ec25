/** The messages that one turn sent. A failure is kept until the turn judges it, just before the ack. */
export class Sends {
  private readonly all: Promise<unknown>[] = []

  add(...sends: readonly Promise<unknown>[]): void {
    for (const send of sends) {
      send.catch(() => {})
      this.all.push(send)
    }
  }

  /** Rejects with the first failure: the journal holds the message, and the delivery that comes again sends it. */
  async settled(): Promise<void> {
    await Promise.all(this.all)
  }
}
