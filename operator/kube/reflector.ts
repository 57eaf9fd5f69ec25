/**
 * Keeps a store like the cluster: list once, watch from there, and go on whatever happens. A watch that ends is resumed where it was; only a
 * version that has expired, or a watch that fails again and again, costs a new list.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { KaosError, messageOf } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { isExpired, isForbidden } from './api-error.ts'
import type { KubeClient, Selection } from './client.ts'
import { type KubeObject, keyOf, type Resource } from './object.ts'
import { type Change, type Indexer, Store } from './store.ts'
import { watchEvents } from './watch.ts'

export const REFLECTOR_LIMITS = {
  /** The server ends each watch after a time between these two, so that not all begin again at once. */
  watchMinMs: 240_000,
  watchMaxMs: 480_000,
  /** Bookmarks come every minute. */
  idleMs: 90_000,
  /** Waiting after a failure doubles from the first to the last of these; half of it is by chance. */
  backOffMs: 200,
  backOffMaxMs: 5_000,
  /** The last of these where the server says that we may not: an API server that has just begun says so too, and is ready a moment later. */
  deniedBackOffMaxMs: 60_000,
  /** What the server may ask us to wait. */
  retryAfterMaxMs: 30_000,
  /** Watches that fail one after the other before the next try is a list. */
  watchFailuresMax: 3,
  /** A watch that ends sooner and says nothing counts as failed, or it would be opened in a circle. */
  watchShortMs: 1_000,
  /** After so long what ends a watch is no failure in a row: a proxy that cuts what is quiet shall not make us wait longer and longer. */
  watchSteadyMs: 10_000,
} as const

type ReflectorLimits = Readonly<Record<keyof typeof REFLECTOR_LIMITS, number>>

/** Why a watch began again: `ended` by the server, `expired` version (a list follows), `failed` in any other way. */
export type Restart = 'ended' | 'expired' | 'failed'

export interface ReflectorOptions {
  readonly client: KubeClient
  readonly resource: Resource
  /** Namespaces to look at; absent: the whole cluster. */
  readonly namespaces?: readonly string[] | undefined
  /**
   * Whether one of `namespaces` that we may not read counts as read, and empty, so that nobody waits for it. It is asked for again and again, and
   * stands in `denied` meanwhile; what was read of it before stays. Default: it has to be read.
   */
  readonly canBeDenied?: boolean
  readonly selection?: Omit<Selection, 'namespace'>
  readonly indexers?: Readonly<Record<string, Indexer>>
  /** What is kept of an object. Default: all but managed fields and the copy that kubectl leaves in an annotation. */
  readonly trim?: (object: KubeObject) => KubeObject
  readonly log: Logger
  readonly onRestart?: (why: Restart) => void
  readonly limits?: Partial<ReflectorLimits>
}

export class Reflector {
  readonly resource: Resource
  readonly store: Store
  readonly #options: ReflectorOptions
  readonly #limits: ReflectorLimits
  readonly #scopes: readonly (string | undefined)[]
  readonly #trim: (object: KubeObject) => KubeObject
  readonly #handlers = new Set<(change: Change) => void>()
  readonly #stopping = new AbortController()
  readonly #synced = Promise.withResolvers<void>()
  readonly #unsynced: Set<string | undefined>
  readonly #denied = new Set<string>()
  /** Those of them that stand in the log. */
  readonly #told = new Set<string>()
  #running: Promise<unknown> = Promise.resolve()
  #isStarted = false
  #failure: unknown

  constructor(options: ReflectorOptions) {
    this.#options = options
    this.#limits = { ...REFLECTOR_LIMITS, ...options.limits }
    this.resource = options.resource
    this.store = new Store(options.indexers)
    this.#scopes = options.namespaces ?? [undefined]
    this.#unsynced = new Set(this.#scopes)
    this.#trim = options.trim ?? trimmed
    if (this.#unsynced.size === 0) this.#synced.resolve()
  }

  start(): void {
    if (this.#isStarted) return
    this.#isStarted = true
    this.#running = Promise.all(this.#scopes.map((namespace) => this.#follow(namespace)))
  }

  /** Ends all watches. What the store holds stays. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  get isSynced(): boolean {
    return this.#unsynced.size === 0
  }

  /** Those of the namespaces that we may not read at the moment. */
  get denied(): ReadonlySet<string> {
    return this.#denied
  }

  /** The store holds what the cluster held at one moment after the start. Throws `cluster_unreachable` when the time is over. */
  async whenSynced(deadlineMs: number): Promise<void> {
    const { promise: late, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => {
      const { plural } = this.resource
      const why = this.#failure === undefined ? 'no answer' : messageOf(this.#failure)
      const cause = this.#failure
      reject(new KaosError('cluster_unreachable', `could not read ${plural} within ${deadlineMs} ms: ${why}`, { cause }))
    }, deadlineMs)
    try {
      await Promise.race([this.#synced.promise, late])
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * Hands every change to `handler`, first all objects that are there, as added. What it throws is logged and concerns nobody else. Returns
   * how to end it.
   */
  subscribe(handler: (change: Change) => void): () => void {
    this.#handlers.add(handler)
    for (const object of this.store.list()) this.#hand(handler, { type: 'added', object })
    return () => this.#handlers.delete(handler)
  }

  /** The loop of one namespace, or of all. */
  async #follow(namespace: string | undefined): Promise<void> {
    const { signal } = this.#stopping
    let position: string | undefined
    let failures = 0
    while (!signal.aborted) {
      let openedAt = Number.POSITIVE_INFINITY
      const onOpen = () => {
        openedAt = performance.now()
        if (namespace !== undefined && this.#allow(namespace)) failures = 0
      }
      try {
        position ??= await this.#list(namespace)
        for await (const next of this.#watch(namespace, position, onOpen)) {
          position = next
          if (failures > 1) this.#options.log.info({ kind: this.resource.kind, namespace }, 'watching again')
          failures = 0
        }
        failures = 0
        this.#options.onRestart?.('ended')
      } catch (error) {
        if (signal.aborted) return
        if (performance.now() - openedAt >= this.#limits.watchSteadyMs) failures = 0
        failures++
        if (this.#options.canBeDenied && isForbidden(error)) this.#deny(namespace)
        if (isExpired(error)) position = undefined
        else if (failures % this.#limits.watchFailuresMax === 0) position = undefined
        await this.#pause(error, failures, namespace)
      }
    }
  }

  async #list(namespace: string | undefined): Promise<string> {
    const { client, selection } = this.#options
    const { items, resourceVersion } = await client.list(
      this.resource,
      { ...selection, namespace },
      { signal: this.#stopping.signal, keep: this.#trim },
    )
    this.#tell(this.store.replace(items, namespace))
    this.#noteSynced(namespace)
    return resourceVersion
  }

  /** Whether it was denied before. */
  #allow(namespace: string): boolean {
    if (this.#told.delete(namespace)) this.#options.log.info({ kind: this.resource.kind, namespace }, 'may read a namespace')
    return this.#denied.delete(namespace)
  }

  #noteSynced(namespace: string | undefined): void {
    this.#unsynced.delete(namespace)
    if (this.isSynced) this.#synced.resolve()
  }

  /** The whole cluster is not denied: then there is nothing to do without it. */
  #deny(namespace: string | undefined): void {
    if (namespace === undefined) return
    this.#denied.add(namespace)
    this.#noteSynced(namespace)
  }

  /** Yields the position after each event. */
  async *#watch(namespace: string | undefined, position: string, onOpen: () => void): AsyncGenerator<string, void> {
    const { client, selection } = this.#options
    const { watchMinMs, watchMaxMs, idleMs, watchShortMs } = this.#limits
    const startedAt = performance.now()
    let events = 0
    const options = {
      resourceVersion: position,
      seconds: Math.ceil((watchMinMs + Math.random() * (watchMaxMs - watchMinMs)) / 1_000),
      idleMs,
      onOpen,
      signal: this.#stopping.signal,
    }
    for await (const { type, object } of watchEvents(client, this.resource, { ...selection, namespace }, options)) {
      events++
      if (type === 'DELETED') this.#tell(this.store.remove(keyOf(object), this.#trim(object)))
      else if (type !== 'BOOKMARK') this.#tell(this.store.put(this.#trim(object)))
      yield object.metadata.resourceVersion ?? position
    }
    if (events === 0 && performance.now() - startedAt < watchShortMs) {
      throw new KaosError('cluster_unreachable', `could not watch ${this.resource.plural}: the watch ended at once`)
    }
  }

  async #pause(error: unknown, failures: number, namespace: string | undefined): Promise<void> {
    const { log, onRestart } = this.#options
    const { backOffMs, backOffMaxMs, deniedBackOffMaxMs, retryAfterMaxMs } = this.#limits
    const isDenied = namespace !== undefined && this.#denied.has(namespace)
    this.#failure = error
    onRestart?.(isExpired(error) ? 'expired' : 'failed')
    const fields = { err: error, kind: this.resource.kind, namespace, failures }
    if (isExpired(error)) log.debug(fields, 'the watch has expired, listing again')
    else if (failures === 1) log.debug(fields, 'a watch broke, going on')
    else if (isDenied && this.#told.has(namespace)) log.debug(fields, 'still may not read a namespace')
    else if (isDenied) {
      // Once: it is asked for as long as the right is missing, which may be for ever.
      this.#told.add(namespace)
      log.warn(
        { kind: this.resource.kind, namespace, reason: messageOf(error) },
        'may not read a namespace: nothing is done there until it may',
      )
    } else log.warn(fields, 'cannot watch, trying again')
    const asked = error instanceof KaosError ? Math.min(error.retryAfterMs ?? 0, retryAfterMaxMs) : 0
    const backOff =
      Math.min(isDenied ? deniedBackOffMaxMs : backOffMaxMs, backOffMs * 2 ** Math.min(failures - 1, 20)) *
      (0.5 + Math.random() / 2)
    await sleep(Math.max(asked, backOff), undefined, { signal: this.#stopping.signal }).catch(() => {})
  }

  #tell(changes: readonly Change[]): void {
    for (const change of changes) for (const handler of this.#handlers) this.#hand(handler, change)
  }

  #hand(handler: (change: Change) => void, change: Change): void {
    try {
      handler(change)
    } catch (error) {
      this.#options.log.error({ err: error, kind: this.resource.kind, key: keyOf(change.object) }, 'a handler of changes failed')
    }
  }
}

const KUBECTL_COPY = 'kubectl.kubernetes.io/last-applied-configuration'

function trimmed(object: KubeObject): KubeObject {
  const { managedFields, annotations, ...metadata } = object.metadata
  if (!annotations) return { ...object, metadata }
  const { [KUBECTL_COPY]: _copy, ...others } = annotations
  return { ...object, metadata: { ...metadata, annotations: others } }
}
