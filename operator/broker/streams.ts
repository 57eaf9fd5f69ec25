/** The streams of agents and tool servers, which the operator alone creates in a cluster: ensured again and again, removed with their owner. */
import type { NatsConnection } from '../../bus/connection.ts'
import { createSharedStreams, createStreamsOf, type Replicas, removeStreamsOf } from '../../bus/streams.ts'
import type { BrokerLink } from './link.ts'
import { type Owner, ownerKey } from './owner.ts'

const KEEPER_LIMITS = {
  /** So long what was ensured is taken to be there: less than between two resyncs of a resource, so that each of them looks. */
  ensuredMs: 500_000,
} as const

/**
 * Everything may be asked for again and is harmless then. Throws `broker_unreachable`, `access_denied` or `stream_refused`, the first within seconds:
 * whoever holds a finalizer for `remove` looks at `BrokerLink.unreachableMs` to see how long that has lasted.
 */
export class StreamKeeper {
  private readonly link: BrokerLink
  private readonly replicas: Replicas
  private readonly now: () => number
  /** What was ensured on this connection, and when: a reconcile that finds nothing new asks nothing of the broker. */
  private ensured = new Map<string, number>()
  private shared: { readonly at: number; readonly created: Promise<void> } | undefined

  /** `now`: milliseconds that never go back; default: the process's own. */
  constructor(link: BrokerLink, options: { readonly replicas: Replicas; readonly now?: () => number }) {
    this.link = link
    this.replicas = options.replicas
    this.now = options.now ?? (() => performance.now())
    // It may be another broker, or the same with less on its disk.
    link.onConnect(() => this.forgetAll())
  }

  /** Creates what is missing and changes what differs, also where somebody else did that since; never deletes, so that no message is lost. */
  async ensure(owner: Owner): Promise<void> {
    if (this.isFresh(this.ensured.get(ownerKey(owner)))) return
    const { connection } = this.link
    const { ensured } = this
    const at = this.now()
    await this.ensureShared(connection)
    await createStreamsOf(connection, owner.namespace, owner, this.replicas)
    // Not where the connection is another one by now.
    ensured.set(ownerKey(owner), at)
  }

  /** The next `ensure` looks again. For streams that somebody else is known to have removed. */
  forget(owner: Owner): void {
    this.ensured.delete(ownerKey(owner))
  }

  forgetAll(): void {
    this.ensured = new Map()
    this.shared = undefined
  }

  /** Mail and what waits in it, its wake-up calls and its record in the catalog go; journals and recorded replies stay until their retention ends. */
  async remove(owner: Owner): Promise<void> {
    this.forget(owner)
    await removeStreamsOf(this.link.connection, owner.namespace, owner)
  }

  private ensureShared(connection: NatsConnection): Promise<void> {
    if (this.shared && this.isFresh(this.shared.at)) return this.shared.created
    const creating = { at: this.now(), created: createSharedStreams(connection, this.replicas) }
    this.shared = creating
    creating.created.catch(() => {
      if (this.shared === creating) this.shared = undefined
    })
    return creating.created
  }

  private isFresh(at: number | undefined): boolean {
    return at !== undefined && this.now() - at < KEEPER_LIMITS.ensuredMs
  }
}
