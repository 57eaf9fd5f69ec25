/**
 * One kind and all that it depends on: changes become keys, keys become reconciles. What a change was does not matter, only which resource it
 * concerns; each reconcile looks at everything anew.
 */
import type { Logger } from '../telemetry/log.ts'
import { controllerOf, type KubeObject, keyOf } from './kube/object.ts'
import type { Reflector } from './kube/reflector.ts'
import type { Change } from './kube/store.ts'
import { type Outcome, type QUEUE_LIMITS, WorkQueue } from './queue.ts'

export const CONTROLLER_LIMITS = {
  /** Every resource is looked at this often, changed or not; spread over a tenth of it. */
  resyncMs: 600_000,
  /** At the start, for all lists together. */
  syncMs: 120_000,
  /** At the stop, for what runs. */
  drainMs: 10_000,
} as const

/** On a resource with "true": nothing is done for it until it is gone. A resource that is being deleted is looked at all the same. */
export const PAUSED_ANNOTATION = 'kaos.tools/paused'

export interface Watch {
  readonly reflector: Reflector
  /** The resources, by their keys, that a change of this other object concerns. */
  readonly keysOf: (object: KubeObject) => readonly string[]
}

export interface ControllerOptions {
  /** In the log and in metrics: "agents". */
  readonly name: string
  readonly primary: Reflector
  readonly watches?: readonly Watch[]
  /** `object` is undefined once there is none: what remains of it outside the cluster goes. Throws: tried again later. */
  readonly reconcile: (key: string, object: KubeObject | undefined, signal: AbortSignal) => Promise<Outcome>
  /** Instead of `reconcile` while paused: says so in the status. */
  readonly whilePaused?: (key: string, object: KubeObject, signal: AbortSignal) => Promise<Outcome>
  readonly onRun?: (run: { readonly ms: number; readonly waitedMs: number; readonly failed: boolean }) => void
  readonly log: Logger
  readonly limits?: Partial<Readonly<Record<keyof typeof CONTROLLER_LIMITS, number>>>
  readonly queue?: Partial<Readonly<Record<keyof typeof QUEUE_LIMITS, number>>>
}

export class Controller {
  readonly #options: ControllerOptions
  readonly #limits: Readonly<Record<keyof typeof CONTROLLER_LIMITS, number>>
  readonly #queue: WorkQueue
  readonly #unsubscribe: (() => void)[] = []
  #resync: NodeJS.Timeout | undefined

  constructor(options: ControllerOptions) {
    this.#options = options
    this.#limits = { ...CONTROLLER_LIMITS, ...options.limits }
    this.#queue = new WorkQueue({
      name: options.name,
      run: (key, signal) => this.#run(key, signal),
      onRoom: () => this.#addAll(),
      ...(options.onRun ? { onRun: options.onRun } : {}),
      log: options.log,
      ...(options.queue ? { limits: options.queue } : {}),
    })
  }

  /** For metrics: `depth`, `running`, `failing`, `waitedMs`. */
  get queue(): Pick<WorkQueue, 'depth' | 'running' | 'failing' | 'waitedMs'> {
    return this.#queue
  }

  /**
   * Begins once everything that is watched is known: with half of it missing, what is only not read yet would look like gone. Whoever made the
   * reflectors starts them. Throws `cluster_unreachable`.
   */
  async start(): Promise<void> {
    const { primary, watches = [] } = this.#options
    const reflectors = [primary, ...watches.map((watch) => watch.reflector)]
    await Promise.all(reflectors.map((reflector) => reflector.whenSynced(this.#limits.syncMs)))
    this.#unsubscribe.push(primary.subscribe(({ object }) => this.#queue.add(keyOf(object))))
    for (const { reflector, keysOf } of watches) {
      this.#unsubscribe.push(reflector.subscribe((change) => this.#addFor(change, keysOf)))
    }
    this.#scheduleResync()
  }

  /** Something outside the cluster has changed for this resource. */
  add(key: string): void {
    this.#queue.add(key)
  }

  /** Begins no reconcile any more and waits for those that run, at most `drainMs` and the grace time of the queue. */
  async stop(): Promise<void> {
    clearTimeout(this.#resync)
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe()
    await this.#queue.stop(this.#limits.drainMs)
  }

  async #run(key: string, signal: AbortSignal): Promise<Outcome> {
    const { primary, reconcile, whilePaused } = this.#options
    const object = primary.store.get(key)
    if (object && isPaused(object)) return whilePaused?.(key, object, signal)
    const outcome = await reconcile(key, object, signal)
    if (!object) this.#queue.forget(key)
    return outcome
  }

  /** An update concerns also those that it concerned before: a reference that is taken away leaves somebody without it. */
  #addFor(change: Change, keysOf: Watch['keysOf']): void {
    for (const key of keysOf(change.object)) this.#queue.add(key)
    if (change.type === 'updated') for (const key of keysOf(change.before)) this.#queue.add(key)
  }

  #addAll(spreadMs = 0): void {
    for (const key of this.#options.primary.store.keys()) this.#queue.addAfter(key, Math.random() * spreadMs)
  }

  #scheduleResync(): void {
    const { resyncMs } = this.#limits
    this.#resync = setTimeout(
      () => {
        this.#addAll(resyncMs / 10)
        this.#scheduleResync()
      },
      resyncMs * (0.95 + Math.random() / 10),
    )
  }
}

export function isPaused({ metadata }: KubeObject): boolean {
  return metadata.annotations?.[PAUSED_ANNOTATION] === 'true' && metadata.deletionTimestamp === undefined
}

/** For children: the key of the resource of this kind that is their controller. */
export function ownerKeys(kind: string): (object: KubeObject) => readonly string[] {
  return (object) => {
    const owner = controllerOf(object)
    if (owner?.kind !== kind) return []
    const { namespace } = object.metadata
    return [keyOf({ metadata: namespace === undefined ? { name: owner.name } : { name: owner.name, namespace } })]
  }
}
