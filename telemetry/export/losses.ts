/** Tells of what was lost: in a metric at once, in the log at most once a minute. */
import type { Logger } from '../log.ts'
import { redact } from '../redact.ts'
import type { Signal } from '../settings/endpoint.ts'

/**
 * `queue_full`: the receiver was too slow or away; `export_failed`: it did not take it in the end; `stopped`: the process left;
 * `unreadable`: it is not what a span may be.
 */
export type LossReason = 'queue_full' | 'export_failed' | 'stopped' | 'unreadable'

const LOG_INTERVAL_MS = 60_000
/** Losses come in bursts: the line waits for the rest of the burst. */
const GATHER_MS = 1_000
const WHY_CHARS_MAX = 300

interface Loss {
  readonly signal: Signal
  readonly reason: LossReason
  sinceLogged: number
  inAll: number
  why: string | undefined
}

export class Losses {
  readonly #log: Logger
  readonly #count: (signal: Signal, reason: LossReason, items: number) => void
  readonly #losses = new Map<string, Loss>()
  #loggedAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined

  constructor(log: Logger, count: (signal: Signal, reason: LossReason, items: number) => void) {
    this.#log = log
    this.#count = count
  }

  add(signal: Signal, reason: LossReason, items: number, why?: string): void {
    if (items === 0) return
    this.#count(signal, reason, items)
    const key = `${signal} ${reason}`
    const loss = this.#losses.get(key) ?? { signal, reason, sinceLogged: 0, inAll: 0, why: undefined }
    this.#losses.set(key, loss)
    loss.sinceLogged += items
    loss.inAll += items
    loss.why = why ?? loss.why
    if (this.#timer) return
    const waitMs = Math.max(GATHER_MS, this.#loggedAt + LOG_INTERVAL_MS - performance.now())
    this.#timer = setTimeout(() => this.tell(), waitMs)
    this.#timer.unref()
  }

  /** Logs what was not logged yet. */
  tell(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const loss of this.#losses.values()) {
      if (loss.sinceLogged === 0) continue
      const { signal, reason, sinceLogged: dropped, inAll, why } = loss
      const words = why === undefined ? {} : { why: redact(why).slice(0, WHY_CHARS_MAX) }
      this.#log.warn({ signal, reason, dropped, inAll, ...words }, 'telemetry was dropped')
      loss.sinceLogged = 0
      this.#loggedAt = performance.now()
    }
  }
}
