/** One after the other for each key: what two parts of the operator write to one object must not overtake each other. */
export class Turns {
  private readonly last = new Map<string, Promise<unknown>>()

  /** Runs `work` when all that was asked for before on this key has ended, however it ended. Rejects with what `work` rejects with. */
  async take<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.last.get(key)
    const mine = (before ?? Promise.resolve()).catch(() => {}).then(work)
    this.last.set(key, mine)
    try {
      return await mine
    } finally {
      if (this.last.get(key) === mine) this.last.delete(key)
    }
  }
}
