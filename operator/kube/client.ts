/**
 * What can be asked of the API server: raw JSON in and out, never typed objects, whose serializer drops what is newer than itself. Watches are
 * only opened here; `watch.ts` reads them.
 */
import type { ClusterAccess } from './access.ts'
import { isExpired, isNotFound, isOtherUid } from './api-error.ts'
import { type KubeObject, keyOf, type Resource } from './object.ts'
import { type Call, type CallOptions, Transport, type TransportOptions } from './transport.ts'

export const CLIENT_LIMITS = {
  /** One page of a list: a large one takes the server seconds. */
  listDeadlineMs: 30_000,
  /** Until a watch has its headers. */
  watchOpenMs: 15_000,
  /** Objects per page of a list. With 100 the pages of all kinds at once cost a process with 1,000 agents 20 MB more, and no less time. */
  pageObjectsMax: 50,
} as const

export interface WriteOptions extends CallOptions {
  /** The server does everything but store. */
  readonly isDryRun?: boolean
}

export interface Place {
  readonly namespace?: string | undefined
  readonly name: string
}

export interface Selection {
  /** Absent: all namespaces. */
  readonly namespace?: string | undefined
  readonly labelSelector?: string | undefined
  readonly fieldSelector?: string | undefined
  /** Names, labels and owners alone: for kinds whose content must not stand in this process, such as Secrets. */
  readonly isMetadataOnly?: boolean | undefined
}

export interface ListOptions extends CallOptions {
  readonly keep?: ((object: KubeObject) => KubeObject) | undefined
}

export interface ObjectList {
  readonly resourceVersion: string
  readonly items: readonly KubeObject[]
}

/** A stored object, and what the server warned of (Pod Security does that on a Deployment). */
export interface Written {
  readonly object: KubeObject
  readonly warnings: readonly string[]
}

/**
 * All methods reject with ApiError (the server said no), `cluster_unreachable` (no connection, no answer in time), `cluster_settings`
 * (credentials) or `aborted` (the caller's signal).
 */
export class KubeClient {
  readonly #transport: Transport

  private constructor(transport: Transport) {
    this.#transport = transport
  }

  static over(access: ClusterAccess, options: TransportOptions = {}): KubeClient {
    return new KubeClient(new Transport(access, options))
  }

  /** The same connections, and a check before each write. */
  withGuard(guard: () => void): KubeClient {
    return new KubeClient(this.#transport.withGuard(guard))
  }

  /** Ends all requests and watches. */
  async close(): Promise<void> {
    await this.#transport.close()
  }

  /** Undefined: there is none. */
  async get(resource: Resource, place: Place, options: CallOptions = {}): Promise<KubeObject | undefined> {
    const attempt = `read ${nameOf(resource, place)}`
    try {
      const { body } = await this.#transport.send({
        ...options,
        verb: 'get',
        kind: resource.kind,
        attempt,
        path: pathOf(resource, place),
      })
      return objectIn(body, resource)
    } catch (error) {
      if (isNotFound(error)) return undefined
      throw error
    }
  }

  /** All pages. A list whose first page has expired before the last is read once more from its beginning. `keep`: what is kept of each object. */
  async list(resource: Resource, selection: Selection = {}, options: ListOptions = {}): Promise<ObjectList> {
    try {
      return await this.#pages(resource, selection, options)
    } catch (error) {
      if (!isExpired(error)) throw error
      return await this.#pages(resource, selection, options)
    }
  }

  async #pages(resource: Resource, selection: Selection, { keep, ...options }: ListOptions): Promise<ObjectList> {
    const items: KubeObject[] = []
    let next: string | undefined
    let resourceVersion = ''
    do {
      const { body } = await this.#transport.send({
        deadlineMs: CLIENT_LIMITS.listDeadlineMs,
        ...options,
        verb: 'list',
        kind: resource.kind,
        attempt: `list ${resource.plural}${selection.namespace === undefined ? '' : ` of namespace "${selection.namespace}"`}`,
        path: pathOf(resource, { namespace: selection.namespace }),
        query: { ...selectorsOf(selection), limit: String(CLIENT_LIMITS.pageObjectsMax), continue: next },
        isMetadataOnly: selection.isMetadataOnly,
      })
      const page = body as { items?: KubeObject[] | null; metadata?: { resourceVersion?: string; continue?: string } }
      for (const item of page.items ?? []) items.push(keep ? keep(objectIn(item, resource)) : objectIn(item, resource))
      resourceVersion = page.metadata?.resourceVersion ?? ''
      next = page.metadata?.continue || undefined
    } while (next !== undefined)
    return { resourceVersion, items }
  }

  async create(resource: Resource, object: KubeObject, options: WriteOptions & { fieldManager?: string } = {}): Promise<Written> {
    const { namespace } = object.metadata
    return this.#write(resource, {
      ...options,
      verb: 'create',
      attempt: `create ${resource.kind} "${keyOf(object)}"`,
      path: pathOf(resource, { namespace }),
      query: { dryRun: options.isDryRun ? 'All' : undefined, fieldManager: options.fieldManager },
      body: object,
    })
  }

  /** With the object's resourceVersion: 409 if somebody was faster. */
  async replace(
    resource: Resource,
    object: KubeObject,
    options: WriteOptions & { fieldManager?: string } = {},
  ): Promise<Written> {
    return this.#write(resource, {
      ...options,
      verb: 'replace',
      attempt: `replace ${nameOf(resource, object.metadata)}`,
      path: pathOf(resource, object.metadata),
      query: { dryRun: options.isDryRun ? 'All' : undefined, fieldManager: options.fieldManager },
      body: object,
    })
  }

  /** Server-side apply: creates the object or makes our fields as given. `object` is the whole intent, its name included. */
  async apply(
    resource: Resource,
    object: KubeObject,
    options: WriteOptions & {
      readonly fieldManager: string
      readonly isForced?: boolean
      readonly subresource?: 'status' | 'scale'
    },
  ): Promise<Written> {
    const { subresource } = options
    return this.#write(resource, {
      ...options,
      verb: 'apply',
      attempt: `apply ${subresource === undefined ? '' : `${subresource} of `}${nameOf(resource, object.metadata)}`,
      path: pathOf(resource, object.metadata, subresource),
      query: {
        fieldManager: options.fieldManager,
        force: options.isForced ? 'true' : undefined,
        dryRun: options.isDryRun ? 'All' : undefined,
      },
      body: object,
    })
  }

  /** JSON merge patch: for finalizers, annotations and other single fields. */
  async patch(
    resource: Resource,
    place: Place,
    patch: object,
    options: WriteOptions & { readonly fieldManager?: string; readonly subresource?: 'status' | 'scale' } = {},
  ): Promise<Written> {
    const { subresource } = options
    return this.#write(resource, {
      ...options,
      verb: 'patch',
      attempt: `patch ${subresource === undefined ? '' : `${subresource} of `}${nameOf(resource, place)}`,
      path: pathOf(resource, place, subresource),
      query: { fieldManager: options.fieldManager, dryRun: options.isDryRun ? 'All' : undefined },
      body: patch,
    })
  }

  /** Whether there was one. With `uid` another object of the same name is left alone, which counts as none. */
  async delete(
    resource: Resource,
    place: Place,
    options: WriteOptions & {
      readonly uid?: string | undefined
      readonly propagation?: 'Background' | 'Foreground' | 'Orphan'
    } = {},
  ): Promise<boolean> {
    const { uid, propagation = 'Background', isDryRun } = options
    try {
      await this.#transport.send({
        ...options,
        verb: 'delete',
        kind: resource.kind,
        attempt: `delete ${nameOf(resource, place)}`,
        path: pathOf(resource, place),
        body: {
          apiVersion: 'v1',
          kind: 'DeleteOptions',
          propagationPolicy: propagation,
          ...(uid === undefined ? {} : { preconditions: { uid } }),
          ...(isDryRun ? { dryRun: ['All'] } : {}),
        },
      })
      return true
    } catch (error) {
      if (isNotFound(error)) return false
      if (uid !== undefined && isOtherUid(error)) return false
      throw error
    }
  }

  /**
   * The body of a watch, one JSON text per line. `signal` ends it. Asked for are bookmarks, and that the server ends it by itself after
   * `seconds`.
   */
  async openWatch(
    resource: Resource,
    selection: Selection,
    options: { readonly resourceVersion: string; readonly seconds: number; readonly signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array>> {
    return this.#transport.open({
      verb: 'watch',
      kind: resource.kind,
      attempt: `watch ${resource.plural}`,
      path: pathOf(resource, { namespace: selection.namespace }),
      query: {
        ...selectorsOf(selection),
        watch: '1',
        allowWatchBookmarks: 'true',
        resourceVersion: options.resourceVersion,
        timeoutSeconds: String(options.seconds),
      },
      isMetadataOnly: selection.isMetadataOnly,
      signal: options.signal,
      deadlineMs: CLIENT_LIMITS.watchOpenMs,
    })
  }

  async #write(resource: Resource, call: Omit<Call, 'kind'>): Promise<Written> {
    const { body, warnings } = await this.#transport.send({ ...call, kind: resource.kind })
    return { object: objectIn(body, resource), warnings }
  }
}

/** `/apis/apps/v1/namespaces/default/deployments/agent-a/status` */
export function pathOf(resource: Resource, place: Partial<Place>, subresource?: string): string {
  const { apiVersion, plural, namespaced } = resource
  const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
  const namespace = namespaced && place.namespace !== undefined ? `/namespaces/${encodeURIComponent(place.namespace)}` : ''
  const name = place.name === undefined ? '' : `/${encodeURIComponent(place.name)}`
  return `${root}${namespace}/${plural}${name}${subresource === undefined ? '' : `/${subresource}`}`
}

function nameOf(resource: Resource, place: Place): string {
  return `${resource.kind} "${keyOf({ metadata: place.namespace === undefined ? { name: place.name } : { ...place, namespace: place.namespace } })}"`
}

function selectorsOf({ labelSelector, fieldSelector }: Selection): Record<string, string | undefined> {
  return { labelSelector, fieldSelector }
}

/** Items of a list have no kind of their own, and metadata alone is of the kind PartialObjectMetadata. */
export function objectIn(body: unknown, { apiVersion, kind }: Resource): KubeObject {
  const object = body as KubeObject
  return object.kind === kind && object.apiVersion === apiVersion ? object : { ...object, apiVersion, kind }
}
