/**
 * Which keys are to be reconciled, and when. A key waits at most once and never runs twice at the same time; added while it runs, it runs again
 * afterwards. What fails comes back later and later.
 */
import { KaosError } from '../bus/wire/errors.ts'
import type { Logger } from '../telemetry/log.ts'

export const QUEUE_LIMITS = {
  /** Keys that wait. Past it keys are dropped, and all are asked for again once half of them are done. */
  keysMax: 50_000,
  /** Keys that run at the same time. */
  concurrency: 4,
  /** One run. Then its signal aborts. */
  deadlineMs: 120_000,
  /** After the deadline a run that goes on all the same loses its place; its key stays taken until it ends. */
  graceMs: 10_000,
  /** Waiting after a failure doubles with each, from the first to the last of these. */
  backOffMs: 5,
  backOffMaxMs: 60_000,
  /** The same while the API server or the broker does not answer at all: when it is back, nobody may still be waiting for a minute. */
  outageBackOffMaxMs: 5_000,
  /** Tries after a failure, of all keys together. */
  retriesPerSecond: 10,
  retriesBurst: 100,
  /** Runs of one key in a row, and so many a second after that: somebody who undoes again and again what a run has done makes no storm. */
  runsBurst: 50,
  runsPerSecond: 5,
} as const

type QueueLimits = Readonly<Record<keyof typeof QUEUE_LIMITS, number>>

/** `afterMs`: run again then, also if nothing happens. */
// biome-ignore lint/suspicious/noConfusingVoidType: a reconcile that has nothing to add returns nothing
export type Outcome = { readonly afterMs?: number | undefined } | void

/** The first of these times, of which each may be absent. */
export function soonest(...timesMs: readonly (number | undefined)[]): Outcome {
  const given = timesMs.filter((ms) => ms !== undefined)
  return given.length === 0 ? undefined : { afterMs: Math.min(...given) }
}

export interface QueueOptions {
  /** In the log. */
  readonly name: string
  /** Brings one key to what it should be. The signal aborts at the deadline and when the queue is stopped for good. */
  readonly run: (key: string, signal: AbortSignal) => Promise<Outcome>
  /** There was no room for some keys, and now there is: add all again. */
  readonly onRoom?: () => void
  /** For metrics: a run ended. `waitedMs`: from being due until it began. */
  readonly onRun?: (run: { readonly ms: number; readonly waitedMs: number; readonly failed: boolean }) => void
  readonly log: Logger
  readonly limits?: Partial<QueueLimits>
}

export class WorkQueue {
  readonly #options: QueueOptions
  readonly #limits: QueueLimits
  /** Keys that are due, in order, with the moment since when. */
  readonly #due = new Map<string, number>()
  readonly #running = new Map<string, AbortController>()
  /** Due again, but still running. */
  readonly #again = new Set<string>()
  readonly #later = new Map<string, { readonly at: number; readonly timer: NodeJS.Timeout }>()
  readonly #failures = new Map<string, number>()
  readonly #paces = new Map<string, TokenBucket>()
  readonly #bucket: TokenBucket
  #slots: number
  #hasOverflowed = false
  #isStopped = false
  #onIdle: (() => void) | undefined

  constructor(options: QueueOptions) {
    this.#options = options
    this.#limits = { ...QUEUE_LIMITS, ...options.limits }
    this.#bucket = new TokenBucket(this.#limits.retriesPerSecond, this.#limits.retriesBurst)
    this.#slots = this.#limits.concurrency
  }

  /** Keys that are due now. */
  get depth(): number {
    return this.#due.size + this.#again.size
  }

  get running(): number {
    return this.#running.size
  }

  /** Keys that failed and are to be tried again. */
  get failing(): number {
    return this.#failures.size
  }

  /** How long the key that is due for the longest time has waited; 0 if none is. */
  get waitedMs(): number {
    const [first] = this.#due.values()
    return first === undefined ? 0 : performance.now() - first
  }

  /** Later than now only where the key has run too often. */
  add(key: string): void {
    if (this.#isStopped) return
    if (this.#running.has(key)) {
      this.#cancelLater(key)
      this.#again.add(key)
      return
    }
    if (this.#due.has(key)) return
    const paceMs = this.#paces.get(key)?.waitMs ?? 0
    if (paceMs > 0 && this.#later.size < this.#limits.keysMax) {
      this.addAfter(key, paceMs)
      return
    }
    this.#cancelLater(key)
    if (this.#due.size >= this.#limits.keysMax) {
      if (!this.#hasOverflowed)
        this.#options.log.error({ queue: this.#options.name, keys: this.#due.size }, 'the work queue is full')
      this.#hasOverflowed = true
      return
    }
    this.#due.set(key, performance.now())
    this.#begin()
  }

  /** The earlier one counts where the key is to come later already. */
  addAfter(key: string, ms: number): void {
    if (this.#isStopped) return
    if (ms <= 0) {
      this.add(key)
      return
    }
    const at = performance.now() + ms
    const before = this.#later.get(key)
    if (before && before.at <= at) return
    if (!before && this.#later.size >= this.#limits.keysMax) {
      this.add(key)
      return
    }
    this.#cancelLater(key)
    const timer = setTimeout(() => {
      this.#later.delete(key)
      this.add(key)
    }, ms)
    this.#later.set(key, { at, timer })
  }

  /** The key exists no more: nothing is remembered of it. */
  forget(key: string): void {
    this.#failures.delete(key)
    this.#paces.delete(key)
    this.#cancelLater(key)
  }

  /** Begins nothing more and waits for what runs; what still runs after the time is aborted and given the grace time. */
  async stop(drainMs: number): Promise<void> {
    this.#isStopped = true
    this.#due.clear()
    this.#again.clear()
    for (const key of [...this.#later.keys()]) this.#cancelLater(key)
    if (await this.#whenIdle(drainMs)) return
    for (const [key, controller] of this.#running) {
      controller.abort(new KaosError('aborted', `stopped: ${this.#options.name} of "${key}"`))
    }
    await this.#whenIdle(this.#limits.graceMs)
  }

  async #whenIdle(ms: number): Promise<boolean> {
    if (this.#running.size === 0) return true
    return await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), ms)
      this.#onIdle = () => {
        clearTimeout(timer)
        resolve(true)
      }
    })
  }

  #begin(): void {
    while (this.#slots > 0 && this.#due.size > 0 && !this.#isStopped) {
      const [key, since] = this.#due.entries().next().value!
      this.#due.delete(key)
      this.#slots--
      void this.#run(key, since)
    }
    if (this.#hasOverflowed && this.#due.size <= this.#limits.keysMax / 2) {
      this.#hasOverflowed = false
      this.#options.onRoom?.()
    }
  }

  /** Never rejects. */
  async #run(key: string, since: number): Promise<void> {
    const { name, run, onRun, log } = this.#options
    const startedAt = performance.now()
    const controller = new AbortController()
    this.#running.set(key, controller)
    this.#paceOf(key).take()
    let holdsSlot = true
    const giveUpSlot = () => {
      if (holdsSlot) this.#slots++
      holdsSlot = false
    }
    const deadline = setTimeout(() => {
      controller.abort(
        new KaosError('cluster_unreachable', `could not finish ${name} of "${key}" within ${this.#limits.deadlineMs} ms`),
      )
    }, this.#limits.deadlineMs)
    const grace = setTimeout(() => {
      log.error({ queue: name, key }, 'a reconcile does not end when it is told to')
      giveUpSlot()
      this.#begin()
    }, this.#limits.deadlineMs + this.#limits.graceMs)
    let failed = false
    try {
      const outcome = await run(key, controller.signal)
      this.#failures.delete(key)
      if (outcome?.afterMs !== undefined) this.addAfter(key, outcome.afterMs)
    } catch (error) {
      failed = true
      this.#retry(key, error)
    }
    clearTimeout(deadline)
    clearTimeout(grace)
    this.#running.delete(key)
    giveUpSlot()
    onRun?.({ ms: performance.now() - startedAt, waitedMs: startedAt - since, failed })
    if (this.#again.delete(key)) this.add(key)
    this.#begin()
    if (this.#running.size === 0) this.#onIdle?.()
  }

  #retry(key: string, error: unknown): void {
    if (this.#isStopped) return
    const failures = (this.#failures.get(key) ?? 0) + 1
    this.#failures.set(key, failures)
    const { backOffMs, backOffMaxMs, outageBackOffMaxMs } = this.#limits
    const backOff = Math.min(isOutage(error) ? outageBackOffMaxMs : backOffMaxMs, backOffMs * 2 ** Math.min(failures - 1, 30))
    const asked = error instanceof KaosError ? (error.retryAfterMs ?? 0) : 0
    const afterMs = Math.max(backOff, asked, this.#bucket.take())
    const fields = { err: error, queue: this.#options.name, key, failures, afterMs: Math.round(afterMs) }
    // A conflict, or an object that is on its way, is over at once: worth a line only when it lasts.
    if (failures < 3) this.#options.log.debug(fields, 'could not reconcile, trying again')
    else this.#options.log.warn(fields, 'could not reconcile, trying again')
    this.addAfter(key, afterMs)
  }

  #paceOf(key: string): TokenBucket {
    const { runsPerSecond, runsBurst } = this.#limits
    const pace = this.#paces.get(key) ?? new TokenBucket(runsPerSecond, runsBurst)
    this.#paces.set(key, pace)
    return pace
  }

  #cancelLater(key: string): void {
    clearTimeout(this.#later.get(key)?.timer)
    this.#later.delete(key)
  }
}

function isOutage(error: unknown): boolean {
  return error instanceof KaosError && (error.code === 'cluster_unreachable' || error.code === 'broker_unreachable')
}

/** How long to wait for the next token; taking one never fails, it only takes its turn. */
class TokenBucket {
  readonly #perSecond: number
  readonly #burst: number
  #tokens: number
  #at = performance.now()

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#tokens = burst
  }

  take(): number {
    this.#fill()
    this.#tokens--
    return this.#tokens >= 0 ? 0 : (-this.#tokens / this.#perSecond) * 1_000
  }

  /** Until there is a token to take. */
  get waitMs(): number {
    this.#fill()
    return this.#tokens >= 1 ? 0 : ((1 - this.#tokens) / this.#perSecond) * 1_000
  }

  #fill(): void {
    const now = performance.now()
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) / 1_000) * this.#perSecond)
    this.#at = now
  }
}
