/** The local effects of one actor that are under way in this process, by the delivery that owns them. */
import type { Input } from '../../bus/wire/entry.ts'
import type { EffectId } from '../../bus/wire/ids.ts'

/** What an actor is to decide next. A local one is an effect's answer and belongs to the host that ran it. */
export interface Cause {
  readonly id: string
  readonly input: Input
  readonly local: boolean
}

interface Job {
  readonly delivery: string
  readonly abort: AbortController
}

export class Running {
  private readonly jobs = new Map<EffectId, Job>()
  private readonly answers: { readonly delivery: string; readonly cause: Cause }[] = []
  private readonly waiting = new Set<() => void>()

  /** Runs an effect unless it runs already. `run` must not reject: a failure is an answer too. */
  start(id: EffectId, delivery: string, run: (signal: AbortSignal) => Promise<Cause>): void {
    if (this.jobs.has(id)) return
    const job: Job = { delivery, abort: new AbortController() }
    this.jobs.set(id, job)
    void run(job.abort.signal).then((cause) => {
      if (this.jobs.get(id) !== job) return
      this.answers.push({ delivery, cause })
      this.wake()
    })
  }

  /** Effects of a delivery that are running or whose answer was not taken yet. */
  count(delivery: string): number {
    let count = 0
    for (const job of this.jobs.values()) if (job.delivery === delivery) count++
    return count
  }

  /** The next answer of a delivery; undefined once nothing of it is left to wait for. */
  async next(delivery: string): Promise<Cause | undefined> {
    while (this.count(delivery) > 0) {
      const index = this.answers.findIndex((answer) => answer.delivery === delivery)
      if (index >= 0) {
        const [answer] = this.answers.splice(index, 1)
        this.jobs.delete(answer!.cause.id)
        return answer!.cause
      }
      await new Promise<void>((resolve) => {
        this.waiting.add(resolve)
      })
    }
    return undefined
  }

  /** Aborts what is not wanted any more. It leaves at once: a handler that ignores its signal holds nobody up. */
  abortUnless(wanted: (id: EffectId, delivery: string) => boolean): void {
    let aborted = false
    for (const [id, job] of this.jobs) {
      if (wanted(id, job.delivery)) continue
      this.jobs.delete(id)
      job.abort.abort()
      aborted = true
    }
    if (!aborted) return
    for (let i = this.answers.length - 1; i >= 0; i--) if (!this.jobs.has(this.answers[i]!.cause.id)) this.answers.splice(i, 1)
    this.wake()
  }

  private wake(): void {
    const waiting = [...this.waiting]
    this.waiting.clear()
    for (const resolve of waiting) resolve()
  }
}
