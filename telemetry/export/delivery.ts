/**
 * Brings batches of one signal to one receiver: one at a time, with tries that are bounded in number and in time. The gRPC exporter of the SDK
 * tries once and never again. What does not arrive is counted as lost; nothing here rejects.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { context, ROOT_CONTEXT } from '@opentelemetry/api'
import { type ExportResult, ExportResultCode, suppressTracing } from '@opentelemetry/core'
import type { Logger } from '../log.ts'
import { redact } from '../redact.ts'
import type { Signal } from '../settings/endpoint.ts'
import { readAnswer } from './answers.ts'
import type { Losses, LossReason } from './losses.ts'

export const RETRY = {
  triesMax: 8,
  /** Of an export with all its tries, whatever the timeout of exports says. */
  totalMsMax: 20_000,
  firstDelayMs: 250,
  delayMsMax: 5_000,
  /** How much the delay varies, so that processes do not come back all at once. */
  jitter: 0.25,
} as const
/** While the process leaves: a receiver that is away is not waited for. */
const LAST = { triesMax: 3, delayMsMax: 200 } as const

interface Exporter<Batch> {
  export(batch: Batch, done: (result: ExportResult) => void): void
  shutdown(): Promise<void>
}

export interface DeliveryOptions<Batch> {
  readonly signal: Signal
  /** As the log names it. */
  readonly to: string
  /** Makes an exporter; `n` counts them from 1. */
  readonly connect: (n: number) => Exporter<Batch>
  /** How many items are lost with a batch. */
  readonly count: (batch: Batch) => number
  /** Two parts of a batch that is too large to be taken at once; absent: it cannot be parted. */
  readonly part?: (batch: Batch, itemsMax: number) => readonly [Batch, Batch]
  /** Of an export with all its tries. */
  readonly timeoutMs: number
  readonly losses: Losses
  readonly log: Logger
}

/** How a try ended. */
type Ended = ExportResult | 'stopped' | 'late'

export class Delivery<Batch> {
  readonly #options: DeliveryOptions<Batch>
  readonly #stopped = new AbortController()
  #pause = new AbortController()
  #isLeaving = false
  #isOff = false
  /** Halved when the receiver finds a batch too large, and doubled again when it takes as many. */
  #itemsMax = Number.POSITIVE_INFINITY
  #last: Promise<void> = Promise.resolve()
  #exporter: Exporter<Batch>
  #connections = 1

  constructor(options: DeliveryOptions<Batch>) {
    this.#options = options
    this.#exporter = options.connect(1)
  }

  /** The receiver does not take this signal: nothing is sent, and nothing counts as lost. */
  get isOff(): boolean {
    return this.#isOff
  }

  /** Resolves when the batch has arrived or is lost, after those before it. */
  deliver(batch: Batch): Promise<void> {
    this.#last = this.#last.then(() => this.#send(batch))
    return this.#last
  }

  /** From now on a receiver that is away is given up soon. */
  leave(): void {
    this.#isLeaving = true
    this.#pause.abort()
  }

  /** What has not arrived by now is lost. Resolves at once, when all of it is counted. */
  abandon(): Promise<void> {
    this.#stopped.abort()
    this.#pause.abort()
    return this.#last
  }

  async #send(batch: Batch): Promise<void> {
    const { count, part } = this.#options
    if (part && count(batch) > this.#itemsMax) return this.#sendParts(part(batch, this.#itemsMax))
    const until = performance.now() + Math.min(this.#options.timeoutMs, RETRY.totalMsMax)
    let why: unknown
    for (let tries = 1; ; tries++) {
      if (this.#isOff) return
      if (this.#stopped.signal.aborted) return this.#lose(batch, 'stopped', why)
      const ended = await this.#try(batch, until - performance.now())
      if (ended === 'stopped') return this.#lose(batch, 'stopped', why)
      if (ended === 'late') return this.#lose(batch, 'export_failed', why ?? 'the receiver did not answer')
      if (ended.code === ExportResultCode.SUCCESS) {
        if (count(batch) >= this.#itemsMax) this.#itemsMax *= 2
        return
      }
      why = ended.error
      const answer = readAnswer(ended.error)
      if (answer.kind === 'unsupported') return this.#switchOff(why)
      if (answer.kind === 'too-large' && part && count(batch) > 1) {
        this.#itemsMax = Math.ceil(count(batch) / 2)
        return this.#sendParts(part(batch, this.#itemsMax))
      }
      if (answer.kind === 'retry' && (await this.#pauseBefore(tries + 1, until, answer.afterMs))) continue
      if (answer.kind === 'retry') this.#connectAnew()
      return this.#lose(batch, 'export_failed', why)
    }
  }

  async #sendParts(parts: readonly Batch[]): Promise<void> {
    for (const part of parts) await this.#send(part)
  }

  #try(batch: Batch, ms: number): Promise<Ended> {
    const { promise, resolve } = Promise.withResolvers<Ended>()
    const timer = setTimeout(() => resolve('late'), ms)
    timer.unref()
    const stop = () => resolve('stopped')
    this.#stopped.signal.addEventListener('abort', stop, { once: true })
    // The exporter's own requests make no spans.
    context.with(suppressTracing(ROOT_CONTEXT), () => {
      try {
        this.#exporter.export(batch, resolve)
      } catch (error) {
        resolve({ code: ExportResultCode.FAILED, error: error as Error })
      }
    })
    return promise.finally(() => {
      clearTimeout(timer)
      this.#stopped.signal.removeEventListener('abort', stop)
    })
  }

  /** False when no more tries are left, or no time for one. */
  async #pauseBefore(next: number, until: number, afterMs = 0): Promise<boolean> {
    const limits = this.#isLeaving ? LAST : RETRY
    if (next > limits.triesMax) return false
    const grown = Math.min(RETRY.firstDelayMs * 2 ** (next - 2), limits.delayMsMax)
    const delayMs = Math.max(afterMs, grown * (1 - RETRY.jitter + 2 * RETRY.jitter * Math.random()))
    if (performance.now() + delayMs > until) return false
    if (this.#stopped.signal.aborted) return true
    if (!this.#isLeaving) this.#pause = new AbortController()
    await wait(delayMs, undefined, { ref: false, signal: this.#isLeaving ? this.#stopped.signal : this.#pause.signal }).catch(
      () => undefined, // Ended early: the next try finds out why.
    )
    return true
  }

  /**
   * A gRPC connection that was away for long is tried again only every two minutes: a new one finds a receiver that is back within seconds (after
   * a minute's outage 37 s with the old one, 5 s with new ones).
   */
  #connectAnew(): void {
    void this.#exporter.shutdown().catch(() => undefined) // It has nothing left to send.
    this.#exporter = this.#options.connect(++this.#connections)
  }

  #switchOff(why: unknown): void {
    this.#isOff = true
    const { signal, to, log } = this.#options
    log.warn({ signal, to, reason: words(why) }, 'the receiver does not take this signal, its export is switched off')
  }

  #lose(batch: Batch, reason: LossReason, why: unknown): void {
    const { signal, count, losses } = this.#options
    losses.add(signal, reason, count(batch), words(why))
  }
}

function words(why: unknown): string | undefined {
  if (why === undefined) return undefined
  return redact(why instanceof Error ? why.message || why.name : String(why))
}
