/**
 * Streams of a resource: there before its pods, and gone before the resource is. A finalizer holds the resource for that; it is dropped with a
 * warning when the broker is gone for good, so that nothing hangs.
 */
import { LRUCache } from 'lru-cache'
import { KaosError } from '../../bus/wire/errors.ts'
import type { BrokerLink } from '../broker/link.ts'
import type { Owner } from '../broker/owner.ts'
import type { StreamKeeper } from '../broker/streams.ts'
import type { KubeClient } from '../kube/client.ts'
import type { KubeObject, Resource } from '../kube/object.ts'
import type { StreamsView } from '../status/ready.ts'

export const STREAMS_FINALIZER = 'kaos.tools/streams'

export const STREAMS_LIMITS = {
  /** A resource that is to be deleted waits so long for a broker that is gone, or that refuses each time. */
  brokerGoneMs: 300_000,
  /** Streams that the broker refused are tried again after this. */
  retryMs: 30_000,
} as const

/** Resources on their way out whose streams could not be removed yet. One that is forgotten waits anew. */
const FAILING_MAX = 10_000

/** Tells of what a deleted resource leaves behind, and why. */
export type LeftBehind = (object: KubeObject, reason: 'PodsLeft' | 'StreamsLeft', note: string) => void

export interface StreamsOptions {
  readonly client: KubeClient
  readonly keeper: StreamKeeper
  readonly link: Pick<BrokerLink, 'unreachableMs'>
  readonly onLeft: LeftBehind
  /** Milliseconds that never go back. Default: the process's own. */
  readonly now?: () => number
  readonly limits?: Partial<Readonly<Record<keyof typeof STREAMS_LIMITS, number>>>
}

export class Streams {
  private readonly options: StreamsOptions
  private readonly limits: Readonly<Record<keyof typeof STREAMS_LIMITS, number>>
  /** By uid: since when each try to remove its streams has failed. */
  private readonly failingSince = new LRUCache<string, number>({ max: FAILING_MAX })

  constructor(options: StreamsOptions) {
    this.options = options
    this.limits = { ...STREAMS_LIMITS, ...options.limits }
  }

  /** Holds the resource first, then makes its streams. A broker that cannot be asked is an answer, not an error. */
  async ensure(resource: Resource, object: KubeObject, owner: Owner, signal: AbortSignal): Promise<StreamsView> {
    const { finalizers = [] } = object.metadata
    if (!this.holds(object)) {
      await this.writeFinalizers(resource, object, [...finalizers, STREAMS_FINALIZER], signal)
    }
    try {
      await this.options.keeper.ensure(owner)
      return { is: 'created' }
    } catch (error) {
      if (!(error instanceof KaosError)) throw error
      return { is: 'unknown', message: wordsOf(error) }
    }
  }

  /** When to try again what `ensure` could not do. At a new connection everything is looked at anyway. */
  retryAfterMs(view: StreamsView): number | undefined {
    return view.is === 'created' ? undefined : this.limits.retryMs
  }

  holds({ metadata }: KubeObject): boolean {
    return metadata.finalizers?.includes(STREAMS_FINALIZER) === true
  }

  /**
   * Removes mail, and lets the resource go. Throws while the broker cannot be asked, until that has lasted too long. `isUrgent`: the streams stay
   * where they cannot be removed at once.
   */
  async release(
    resource: Resource,
    object: KubeObject,
    owner: Owner,
    { signal, isUrgent }: { readonly signal: AbortSignal; readonly isUrgent: boolean },
  ): Promise<void> {
    try {
      await this.options.keeper.remove(owner)
    } catch (error) {
      if (!(error instanceof KaosError) || !(isUrgent || this.hasTriedLongEnough(object))) throw error
      return this.leave(resource, object, `its streams stay on the broker: ${wordsOf(error)}`, signal)
    }
    await this.letGo(resource, object, signal)
  }

  /** Lets the resource go without its streams; `note` says why. */
  async leave(resource: Resource, object: KubeObject, note: string, signal: AbortSignal): Promise<void> {
    await this.letGo(resource, object, signal)
    this.options.onLeft(object, 'StreamsLeft', note)
  }

  private async letGo(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<void> {
    const others = object.metadata.finalizers?.filter((name) => name !== STREAMS_FINALIZER) ?? []
    await this.writeFinalizers(resource, object, others, signal)
    this.failingSince.delete(object.metadata.uid ?? '')
  }

  /** How long ago it was deleted does not matter: it may have waited for its pods until now. */
  private hasTriedLongEnough({ metadata }: KubeObject): boolean {
    const { link, now = () => performance.now() } = this.options
    const { uid = '' } = metadata
    const since = this.failingSince.get(uid) ?? now()
    this.failingSince.set(uid, since)
    return Math.max(link.unreachableMs(), now() - since) >= this.limits.brokerGoneMs
  }

  /** With the version that was seen: whoever else writes finalizers is not undone. */
  private async writeFinalizers(
    resource: Resource,
    { metadata }: KubeObject,
    finalizers: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    const { uid, resourceVersion } = metadata
    await this.options.client.patch(resource, metadata, { metadata: { uid, resourceVersion, finalizers } }, { signal })
  }
}

/** Without how long it has lasted, which would be another message every time. */
function wordsOf(error: KaosError): string {
  return error.code === 'broker_unreachable' ? 'the broker does not answer' : error.message
}
