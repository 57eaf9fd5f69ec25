/** The streams of agents and tool servers, which the operator alone creates in a cluster: ensured again and again, removed with their owner. */
import type { NatsConnection } from '../../bus/connection.ts'
import { createSharedStreams, createStreamsOf, type Replicas, removeStreamsOf } from '../../bus/streams.ts'
import type { BrokerLink } from './link.ts'
import { type Owner, ownerKey } from './owner.ts'

/**
 * Everything may be asked for again and is harmless then. Throws `broker_unreachable`, `access_denied` or `stream_refused`, the first within seconds:
 * whoever holds a finalizer for `remove` looks at `BrokerLink.unreachableMs` to see how long that has lasted.
 */
export class StreamKeeper {
  private readonly link: BrokerLink
  private readonly replicas: Replicas
  /** What was ensured on this connection: a reconcile that finds nothing new asks nothing of the broker. */
  private readonly ensured = new Set<string>()
  private shared: Promise<void> | undefined

  constructor(link: BrokerLink, options: { readonly replicas: Replicas }) {
    this.link = link
    this.replicas = options.replicas
    // It may be another broker, or the same with less on its disk.
    link.onConnect(() => this.forgetAll())
  }

  /** Creates what is missing and changes what differs; never deletes, so that no message is lost. */
  async ensure(owner: Owner): Promise<void> {
    if (this.ensured.has(ownerKey(owner))) return
    const { connection } = this.link
    await this.ensureShared(connection)
    await createStreamsOf(connection, owner.namespace, owner, this.replicas)
    this.ensured.add(ownerKey(owner))
  }

  /** The next `ensure` looks again. For streams that somebody else has removed, and for a resync now and then. */
  forget(owner: Owner): void {
    this.ensured.delete(ownerKey(owner))
  }

  forgetAll(): void {
    this.ensured.clear()
    this.shared = undefined
  }

  /** Mail and what waits in it, its wake-up calls and its record in the catalog go; journals and recorded replies stay until their retention ends. */
  async remove(owner: Owner): Promise<void> {
    this.forget(owner)
    await removeStreamsOf(this.link.connection, owner.namespace, owner)
  }

  private ensureShared(connection: NatsConnection): Promise<void> {
    if (this.shared) return this.shared
    const creating = createSharedStreams(connection, this.replicas)
    this.shared = creating
    creating.catch(() => {
      if (this.shared === creating) this.shared = undefined
    })
    return creating
  }
}
