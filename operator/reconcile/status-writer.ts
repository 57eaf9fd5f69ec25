/** Writes statuses, and tells Events of what changed in them. */
import { LRUCache } from 'lru-cache'
import type { Applier } from '../kube/apply.ts'
import type { EventRecorder } from '../kube/events.ts'
import type { KubeObject, Resource } from '../kube/object.ts'
import type { Moment } from '../status/conditions.ts'
import { pausedStatus } from '../status/paused.ts'
import { unreadableStatus } from '../status/ready.ts'
import { type AnyStatus, transitions } from '../status/transitions.ts'

/** Statuses that are remembered until they come back from the API server. */
const WRITTEN_MAX = 10_000

interface Written {
  readonly resourceVersion: number
  readonly status: AnyStatus
}

export class StatusWriter {
  private readonly applier: Applier
  private readonly recorder: Pick<EventRecorder, 'tell'>
  private readonly now: () => Date
  private readonly written = new LRUCache<string, Written>({ max: WRITTEN_MAX })

  constructor(options: { readonly applier: Applier; readonly recorder: Pick<EventRecorder, 'tell'>; readonly now?: () => Date }) {
    this.applier = options.applier
    this.recorder = options.recorder
    this.now = options.now ?? (() => new Date())
  }

  /**
   * Writes what `compose` makes of the status that was written last, which is `before`, and tells of what has changed; nothing where nothing
   * differs.
   */
  async write<Status extends AnyStatus>(
    resource: Resource,
    object: KubeObject,
    compose: (before: Status | undefined, moment: Moment) => Status,
    signal: AbortSignal,
  ): Promise<void> {
    const seen = this.latest(object)
    const before = seen.status as Status | undefined
    const status = compose(before, this.moment(object))
    const { object: stored } = await this.applier.applyStatus(resource, seen, status, { signal })
    if (!stored) return
    const { uid = '', resourceVersion } = stored.metadata
    this.written.set(uid, { resourceVersion: Number(resourceVersion), status: stored.status as AnyStatus })
    for (const notice of transitions(before, status)) this.recorder.tell(object, notice)
  }

  /** `problem`: why its definition refuses it. */
  async writeUnreadable(resource: Resource, object: KubeObject, problem: string, signal: AbortSignal): Promise<void> {
    await this.write(resource, object, (before, moment) => unreadableStatus(problem, before, moment), signal)
  }

  async writePaused(resource: Resource, object: KubeObject, signal: AbortSignal): Promise<void> {
    await this.write(resource, object, pausedStatus, signal)
  }

  /** The object with the status that was written last, if that has not come back yet: else what is so since a moment ago would begin anew. */
  private latest(object: KubeObject): KubeObject {
    const { uid = '', resourceVersion } = object.metadata
    const own = this.written.get(uid)
    if (own && Number(resourceVersion) < own.resourceVersion) return { ...object, status: own.status }
    this.written.delete(uid)
    return object
  }

  private moment({ metadata }: KubeObject): Moment {
    return { generation: metadata.generation ?? 0, now: `${this.now().toISOString().slice(0, 19)}Z` }
  }
}
