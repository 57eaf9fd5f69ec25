/**
 * What waits to be exported: bounded, in batches, in order. The SDK's batch processors drop without a word when they are full, and hand all batches to
 * the exporter at once when they are flushed; here each item that does not leave is counted.
 */

import type { Signal } from '../settings/endpoint.ts'
import type { QueueSettings } from '../settings.ts'
import type { Delivery } from './delivery.ts'
import type { Losses } from './losses.ts'

/** Texts of all items, in characters: with prompts and results in them, as many as are allowed could be gigabytes. */
const QUEUE_CHARS_MAX = 128 * 1_024 * 1_024
/** Of one batch: receivers take messages of 4 MiB. */
const BATCH_CHARS_MAX = 3 * 1_024 * 1_024

export class ExportQueue<Item> {
  readonly #signal: Signal
  readonly #delivery: Delivery<Item[]>
  readonly #settings: QueueSettings
  readonly #losses: Losses
  readonly #charsOf: (item: Item) => number
  #items: Item[] = []
  /** Of each item. */
  #chars: number[] = []
  #charsInAll = 0
  /** How many have ever been taken in, and how many of them must leave without waiting for more. */
  #accepted = 0
  #urgent = 0
  #leaving: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  /** @param charsOf About how many characters of text an item has. */
  constructor(
    signal: Signal,
    delivery: Delivery<Item[]>,
    settings: QueueSettings,
    losses: Losses,
    charsOf: (item: Item) => number,
  ) {
    this.#signal = signal
    this.#delivery = delivery
    this.#settings = settings
    this.#losses = losses
    this.#charsOf = charsOf
  }

  /** Never throws and never waits; what finds no room is lost. */
  add(item: Item): void {
    if (this.#delivery.isOff) return
    if (this.#isClosed) {
      this.#losses.add(this.#signal, 'stopped', 1)
      return
    }
    const chars = this.#charsOf(item)
    if (this.#items.length >= this.#settings.itemsMax || this.#charsInAll + chars > QUEUE_CHARS_MAX) {
      this.#losses.add(this.#signal, 'queue_full', 1)
      return
    }
    this.#items.push(item)
    this.#chars.push(chars)
    this.#charsInAll += chars
    this.#accepted++
    if (this.#isBatch()) this.#start()
    else this.#startLater()
  }

  /** Resolves when all that has been taken in so far has arrived or is lost. */
  flush(): Promise<void> {
    this.#urgent = this.#accepted
    return this.#start()
  }

  leave(): void {
    this.#delivery.leave()
  }

  /** Ends: what has not arrived is lost, and so is what comes later. Resolves at once, when all of it is counted. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    if (!this.#delivery.isOff) this.#losses.add(this.#signal, 'stopped', this.#items.length)
    this.#items = []
    this.#chars = []
    this.#charsInAll = 0
    await this.#delivery.abandon()
  }

  /** Never rejects. */
  #start(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#isDue()) this.#leaving ??= this.#run()
    return this.#leaving ?? Promise.resolve()
  }

  #startLater(): void {
    if (this.#timer || this.#leaving) return
    this.#timer = setTimeout(() => {
      this.#urgent = Math.max(this.#urgent, this.#accepted)
      this.#start()
    }, this.#settings.delayMs)
    this.#timer.unref()
  }

  /** One at a time. It looks at the queue once more in the same turn in which it ends, so that nobody waits for a run that is over. */
  async #run(): Promise<void> {
    while (this.#isDue()) await this.#delivery.deliver(this.#takeBatch())
    this.#leaving = undefined
    if (this.#items.length > 0) this.#startLater()
  }

  #isDue(): boolean {
    const handed = this.#accepted - this.#items.length
    return this.#items.length > 0 && (this.#isBatch() || handed < this.#urgent)
  }

  #isBatch(): boolean {
    return this.#items.length >= this.#settings.batchMax || this.#charsInAll >= BATCH_CHARS_MAX
  }

  /** At least one item, however large it is. */
  #takeBatch(): Item[] {
    let count = 0
    let chars = 0
    while (count < this.#items.length && count < this.#settings.batchMax) {
      if (count > 0 && chars + this.#chars[count]! > BATCH_CHARS_MAX) break
      chars += this.#chars[count++]!
    }
    this.#charsInAll -= chars
    this.#chars.splice(0, count)
    return this.#items.splice(0, count)
  }
}
