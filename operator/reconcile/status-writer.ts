/** Writes statuses, and tells Events of what changed in them. */
import { LRUCache } from 'lru-cache'
import type { Applier } from '../kube/apply.ts'
import type { EventRecorder } from '../kube/events.ts'
import type { KubeObject, Resource } from '../kube/object.ts'
import type { Moment } from '../status/conditions.ts'
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

  /** The object with the status that was written last, if that has not come back yet: else what is so since a moment ago would begin anew. */
  latest(object: KubeObject): KubeObject {
    const { uid = '', resourceVersion } = object.metadata
    const own = this.written.get(uid)
    if (own && Number(resourceVersion) < own.resourceVersion) return { ...object, status: own.status }
    this.written.delete(uid)
    return object
  }

  moment({ metadata }: KubeObject): Moment {
    return { generation: metadata.generation ?? 0, now: `${this.now().toISOString().slice(0, 19)}Z` }
  }

  /** `object` as `latest` gave it; nothing is written where nothing differs. */
  async write(resource: Resource, object: KubeObject, status: AnyStatus, signal: AbortSignal): Promise<void> {
    const before = object.status as AnyStatus | undefined
    const { object: stored } = await this.applier.applyStatus(resource, object, status, { signal })
    if (!stored) return
    const { uid = '', resourceVersion } = stored.metadata
    this.written.set(uid, { resourceVersion: Number(resourceVersion), status: stored.status as AnyStatus })
    for (const notice of transitions(before, status)) this.recorder.tell(object, notice)
  }
}
