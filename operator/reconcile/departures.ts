/**
 * How a resource with streams goes: its pods end first, for without streams they could only fail; then its streams are removed, and then it is let
 * go. No step waits for ever.
 */
import { LRUCache } from 'lru-cache'
import type { Owner } from '../broker/owner.ts'
import { HOST_GRACE_SECONDS } from '../desired/pod/pod.ts'
import { ApiError } from '../kube/api-error.ts'
import type { KubeObject, Resource } from '../kube/object.ts'
import type { Outcome } from '../queue.ts'
import { readWorkload } from '../status/workload.ts'
import type { Children } from './children.ts'
import type { ClusterView } from './cluster-view.ts'
import { AGENTS } from './kinds.ts'
import type { LeftBehind, Streams } from './streams.ts'

export const DEPARTURE_LIMITS = {
  /** Beyond their grace period: so long the streams wait for pods that do not end. */
  podsEndMs: 30_000,
  /** Pods that could not be told to end are told again. */
  refusedAgainMs: 5_000,
} as const

/** Resources that are on their way out. One that is forgotten waits anew. */
const LEAVING_MAX = 10_000

/** Of the garbage collector: with `kubectl delete --cascade=orphan` it takes children from their owner and leaves them running. */
const ORPHAN_FINALIZER = 'orphan'

export interface DeparturesOptions {
  readonly streams: Streams
  readonly children: Pick<Children, 'deploymentOf' | 'endPods' | 'isLeftBehind'>
  readonly view: Pick<ClusterView, 'podsOf'>
  readonly onLeft: LeftBehind
  /** A namespace that is deleted, and with it perhaps the right to write there: whoever waits for the pods could come too late. */
  readonly isTerminating: (namespace: string | undefined) => boolean
  readonly now?: () => number
  readonly limits?: Partial<Readonly<Record<keyof typeof DEPARTURE_LIMITS, number>>>
}

export class Departures {
  private readonly options: DeparturesOptions
  private readonly limits: Readonly<Record<keyof typeof DEPARTURE_LIMITS, number>>
  /** By uid: since when its pods are told to end; -Infinity: nobody waits for them any more. */
  private readonly since = new LRUCache<string, number>({ max: LEAVING_MAX })

  constructor(options: DeparturesOptions) {
    this.options = options
    this.limits = { ...DEPARTURE_LIMITS, ...options.limits }
  }

  isLeaving({ metadata }: KubeObject): boolean {
    return metadata.deletionTimestamp !== undefined || this.options.isTerminating(metadata.namespace)
  }

  /** One look: every pod that ends leads to another. Throws while the broker cannot be asked, until that has lasted too long. */
  async carryOut(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<Outcome> {
    const { streams, children } = this.options
    const { namespace = '', name, uid = '', finalizers = [] } = object.metadata
    const isUrgent = this.options.isTerminating(namespace)
    if (!streams.holds(object)) return
    // The finalizer has gone already where nobody looked meanwhile.
    if (finalizers.includes(ORPHAN_FINALIZER) || (!isUrgent && children.isLeftBehind(object))) {
      return streams.leave(resource, object, 'its pods go on without it, so its streams stay on the broker', signal)
    }
    if (!isUrgent) {
      const waitMs = await this.endPods(resource, object, signal)
      if (waitMs > 0) return { afterMs: waitMs }
    }
    const owner: Owner = { kind: resource === AGENTS ? 'agent' : 'tool', namespace, name }
    await streams.release(resource, object, owner, { signal, isUrgent })
    this.since.delete(uid)
  }

  /** How long to wait for them at most; 0: there are none, or they have had their time. */
  private async endPods(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<number> {
    const { children, view, onLeft, now = () => performance.now() } = this.options
    const { uid = '' } = object.metadata
    const pods = view.podsOf(resource === AGENTS ? 'Agent' : 'MCPServer', object)
    if (pods.length === 0 && !mayHavePods(children.deploymentOf(object))) return 0
    const since = this.since.get(uid) ?? now()
    this.since.set(uid, since)
    const { podsEndMs, refusedAgainMs } = this.limits
    const isTold = await children.endPods(object, signal).then(() => true, unlessRefused)
    const leftMs = since + graceMsOf(pods) + podsEndMs - now()
    if (leftMs <= 0 && Number.isFinite(since)) {
      this.since.set(uid, Number.NEGATIVE_INFINITY)
      onLeft(object, 'PodsLeft', `${pods.length} of its pods did not end in time; its streams go all the same`)
    }
    return Math.max(0, isTold ? leftMs : Math.min(leftMs, refusedAgainMs))
  }
}

/** Also one that its controller has yet to see: a pod may be on its way. */
function mayHavePods(deployment: KubeObject | undefined): boolean {
  if (!deployment) return false
  const { wanted, total, isObserved } = readWorkload(deployment)
  return wanted > 0 || total > 0 || !isObserved
}

/** The longest. Pods that nobody has told to end yet will have that of a host, unless they were declared otherwise, which shows later. */
function graceMsOf(pods: readonly KubeObject[]): number {
  const seconds = pods.map(({ metadata }) => metadata.deletionGracePeriodSeconds ?? HOST_GRACE_SECONDS)
  return Math.max(...seconds, 0) * 1_000
}

/** Who may not end them, any more or yet, waits for whoever does. */
function unlessRefused(error: unknown): false {
  if (!(error instanceof ApiError) || ![403, 404].includes(error.status)) throw error
  return false
}
