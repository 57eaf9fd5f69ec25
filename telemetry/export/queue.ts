/**
 * What waits to be exported: bounded, in batches, in order. The SDK's batch processors drop without a word when they are full, and hand all batches to
 * the exporter at once when they are flushed; here each item that does not leave is counted.
 */

import type { Signal } from '../settings/endpoint.ts'
import type { QueueSettings } from '../settings.ts'
import type { Delivery } from './delivery.ts'
import type { Losses } from './losses.ts'

export class ExportQueue<Item> {
  readonly #signal: Signal
  readonly #delivery: Delivery<Item[]>
  readonly #settings: QueueSettings
  readonly #losses: Losses
  #items: Item[] = []
  /** How many have ever been taken in, and how many of them must leave without waiting for more. */
  #accepted = 0
  #urgent = 0
  #leaving: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(signal: Signal, delivery: Delivery<Item[]>, settings: QueueSettings, losses: Losses) {
    this.#signal = signal
    this.#delivery = delivery
    this.#settings = settings
    this.#losses = losses
  }

  /** Never throws and never waits; what finds no room is lost. */
  add(item: Item): void {
    if (this.#delivery.isOff) return
    if (this.#isClosed) {
      this.#losses.add(this.#signal, 'stopped', 1)
    } else if (this.#items.length >= this.#settings.itemsMax) {
      this.#losses.add(this.#signal, 'queue_full', 1)
    } else {
      this.#items.push(item)
      this.#accepted++
      if (this.#items.length >= this.#settings.batchMax) this.#start()
      else this.#startLater()
    }
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
    while (this.#isDue()) await this.#delivery.deliver(this.#items.splice(0, this.#settings.batchMax))
    this.#leaving = undefined
    if (this.#items.length > 0) this.#startLater()
  }

  #isDue(): boolean {
    const handed = this.#accepted - this.#items.length
    return this.#items.length > 0 && (this.#items.length >= this.#settings.batchMax || handed < this.#urgent)
  }
}
