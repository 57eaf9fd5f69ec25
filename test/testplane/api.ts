/** A small client of the Kubernetes API for tests: raw JSON in and out, of its own so that it does not share a mistake with the operator's. */
import { setTimeout as delay } from 'node:timers/promises'
import { Pool } from 'undici'
import type { KubeObject } from '../../operator/kube/object.ts'

const RECONNECT_MS = 100
const WAIT_MS = 30_000
const CONNECTIONS_MAX = 64
const PATCHES = {
  apply: 'application/apply-patch+yaml',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  json: 'application/json-patch+json',
} as const
const WITHOUT_NAMESPACE =
  /^(Namespace|Node|PersistentVolume|CustomResourceDefinition|ClusterRole|ClusterRoleBinding|.*WebhookConfiguration|.*AdmissionPolicy(Binding)?|PriorityClass|.*StorageClass|APIService|TokenReview|SubjectAccessReview)$/

export interface ApiAnswer {
  readonly code: number
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever the server says
  readonly body: any
  /** Texts of the Warning headers. */
  readonly warnings: readonly string[]
}

/** The server said no. The message names the request and holds the server's own words. */
export class ApiError extends Error {
  readonly code: number
  readonly body: unknown

  constructor(request: string, { code, body }: ApiAnswer) {
    super(`${request} was answered with ${code}: ${body?.message ?? JSON.stringify(body)}`)
    this.code = code
    this.body = body
  }
}

export interface ApiClientOptions {
  readonly server: string
  /** PEM. */
  readonly ca: string
  readonly token: string
}

export interface RequestOptions {
  /** Default `application/json`. */
  readonly contentType?: string
  readonly signal?: AbortSignal
}

export interface WaitOptions {
  /** For the error. */
  readonly what: string
  /** Default 30 s. */
  readonly withinMs?: number
}

/** An object with contents of any kind: tests look into spec and status without a type for each kind. */
// biome-ignore lint/suspicious/noExplicitAny: see above
export type AnyObject = KubeObject & { readonly spec?: any; readonly status?: any; readonly data?: any }

/**
 * Gets all objects of the collection by `namespace/name`, and which of them have come, changed or gone since the last call: after a
 * connection was lost, those whose version is another.
 */
export type OnChange = (objects: ReadonlyMap<string, AnyObject>, changed: readonly string[]) => void

export class ApiClient {
  private readonly pool: Pool
  private readonly token: string

  constructor({ server, ca, token }: ApiClientOptions) {
    this.token = token
    // A watch is silent for minutes, which is no fault.
    this.pool = new Pool(server, { connect: { ca }, connections: CONNECTIONS_MAX, bodyTimeout: 0 })
  }

  /** Any request; any status is an answer. Rejects only when there is none. */
  async request(
    method: string,
    path: string,
    body?: unknown,
    { contentType = 'application/json', signal }: RequestOptions = {},
  ): Promise<ApiAnswer> {
    const {
      statusCode,
      headers,
      body: answer,
    } = await this.pool.request({
      method: method as 'GET',
      path,
      headers: this.headers(body === undefined ? undefined : contentType),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    })
    const text = await answer.text()
    const warnings = [headers.warning ?? []]
      .flat()
      .flatMap((line) => [...line.matchAll(/299 - "((?:[^"\\]|\\.)*)"/g)].map((match) => match[1]!))
    return { code: statusCode, body: jsonOr(text), warnings }
  }

  async get(path: string): Promise<AnyObject> {
    return this.must('GET', path)
  }

  /** Undefined if there is no such object. */
  async find(path: string): Promise<AnyObject | undefined> {
    const answer = await this.request('GET', path)
    if (answer.code === 404) return undefined
    if (answer.code > 299) throw new ApiError(`GET ${path}`, answer)
    return answer.body
  }

  async list(path: string): Promise<readonly AnyObject[]> {
    return ((await this.must('GET', path)) as unknown as { items: readonly AnyObject[] }).items
  }

  /** POST to the collection of its kind. */
  async create(object: KubeObject): Promise<AnyObject> {
    return this.must('POST', collectionPath(object), object)
  }

  /** Server-side apply, forced. */
  async apply(object: KubeObject, manager = 'test'): Promise<AnyObject> {
    return this.must('PATCH', `${objectPath(object)}?fieldManager=${manager}&force=true`, object, PATCHES.apply)
  }

  async patch(path: string, body: unknown, type: keyof typeof PATCHES = 'merge'): Promise<AnyObject> {
    return this.must('PATCH', path, body, PATCHES[type])
  }

  /** Resolves when the deletion is accepted; false if there was no such object, or another one of that name than `uid` says. */
  async delete(
    path: string,
    options: { readonly graceSeconds?: number; readonly uid?: string; readonly propagation?: string } = {},
  ): Promise<boolean> {
    const body = {
      ...(options.graceSeconds === undefined ? {} : { gracePeriodSeconds: options.graceSeconds }),
      ...(options.uid === undefined ? {} : { preconditions: { uid: options.uid } }),
      ...(options.propagation === undefined ? {} : { propagationPolicy: options.propagation }),
    }
    const answer = await this.request('DELETE', path, body)
    if (answer.code === 404 || answer.code === 409) return false
    if (answer.code > 299) throw new ApiError(`DELETE ${path}`, answer)
    return true
  }

  /**
   * Calls `onChange` with all objects of the collection whenever one of them has changed, from the first complete state on, until the
   * signal. Connects again after every end of the watch; what was deleted meanwhile is then missing.
   */
  async follow(path: string, onChange: OnChange, signal: AbortSignal): Promise<void> {
    let known: ReadonlyMap<string, AnyObject> | undefined
    const onState: OnChange = (objects, changed) => {
      const isFirst = known !== objects
      const before = known
      known = objects
      onChange(objects, isFirst ? differences(before, objects) : changed)
    }
    while (!signal.aborted) {
      await this.watchOnce(path, onState, signal).catch((error: unknown) => {
        if (error instanceof CallbackError) throw error.cause
        // Refused or cut off while the server restarts: tried again.
      })
      await delay(RECONNECT_MS, undefined, { signal }).catch(() => {})
    }
  }

  /** Waits until `check` finds something in the collection (or at the one object) at `path`. Rejects at its deadline with the last state. */
  async waitFor<T>(
    path: string,
    check: (objects: readonly AnyObject[]) => T | undefined | false,
    { what, withinMs = WAIT_MS }: WaitOptions,
  ): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const stop = new AbortController()
    let last: readonly AnyObject[] = []
    const timer = setTimeout(
      () => reject(new Error(`waited ${withinMs} ms for ${what}; last seen at "${path}": ${summary(last)}`)),
      withinMs,
    )
    const following = this.follow(
      asCollection(path),
      (objects) => {
        last = [...objects.values()]
        try {
          const found = check(last)
          if (found !== undefined && found !== false) resolve(found)
        } catch (error) {
          reject(error)
        }
      },
      stop.signal,
    )
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      stop.abort()
      await following
    }
  }

  /** Ends its connections; requests under way are aborted. */
  async close(): Promise<void> {
    await this.pool.destroy()
  }

  private async watchOnce(path: string, onChange: OnChange, signal: AbortSignal): Promise<void> {
    // The server sends what there is, then a bookmark that says so: a complete state without a list.
    const query = 'watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true'
    const url = `${path}${path.includes('?') ? '&' : '?'}${query}`
    const { statusCode, body } = await this.pool.request({ method: 'GET', path: url, headers: this.headers(), signal })
    if (statusCode !== 200) {
      await body.dump()
      return
    }
    const objects = new Map<string, AnyObject>()
    let isComplete = false
    for await (const line of linesOf(body)) {
      const { type, object } = JSON.parse(line) as { type: string; object: AnyObject }
      if (type === 'ERROR') return
      const key = `${object.metadata.namespace ?? ''}/${object.metadata.name}`
      if (type === 'BOOKMARK') {
        if (isComplete || object.metadata.annotations?.['k8s.io/initial-events-end'] !== 'true') continue
        isComplete = true
      } else if (type === 'DELETED') objects.delete(key)
      else objects.set(key, object)
      if (!isComplete) continue
      try {
        onChange(objects, type === 'BOOKMARK' ? [] : [key])
      } catch (error) {
        throw new CallbackError('a callback threw', { cause: error })
      }
    }
  }

  private async must(method: string, path: string, body?: unknown, contentType?: string): Promise<AnyObject> {
    const answer = await this.request(method, path, body, contentType ? { contentType } : {})
    if (answer.code > 299) throw new ApiError(`${method} ${path}`, answer)
    return answer.body
  }

  private headers(contentType?: string): Record<string, string> {
    return {
      authorization: `Bearer ${this.token}`,
      accept: 'application/json',
      ...(contentType ? { 'content-type': contentType } : {}),
    }
  }
}

/** Tells a mistake in a test from a lost connection. */
class CallbackError extends Error {}

function differences(before: ReadonlyMap<string, AnyObject> = new Map(), now: ReadonlyMap<string, AnyObject>): readonly string[] {
  const gone = [...before.keys()].filter((key) => !now.has(key))
  const versionOf = (object: AnyObject | undefined) => object?.metadata.resourceVersion
  return [...gone, ...[...now].filter(([key, object]) => versionOf(object) !== versionOf(before.get(key))).map(([key]) => key)]
}

/** `/apis/apps/v1/namespaces/x/deployments` for a Deployment in `x`; without a namespace in the object that of `default`. */
export function collectionPath({ apiVersion, kind, metadata }: Pick<KubeObject, 'apiVersion' | 'kind' | 'metadata'>): string {
  const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
  const place = WITHOUT_NAMESPACE.test(kind) ? '' : `/namespaces/${metadata.namespace ?? 'default'}`
  return `${root}${place}/${pluralOf(kind)}`
}

export function objectPath(object: Pick<KubeObject, 'apiVersion' | 'kind' | 'metadata'>): string {
  return `${collectionPath(object)}/${object.metadata.name}`
}

function pluralOf(kind: string): string {
  const word = kind.toLowerCase()
  if (word === 'endpoints') return word
  if (/[^aeiou]y$/.test(word)) return `${word.slice(0, -1)}ies`
  return /(s|x|ch)$/.test(word) ? `${word}es` : `${word}s`
}

/** A path of one object as the collection that holds only it, because only collections are watched. */
function asCollection(path: string): string {
  if (path.includes('?')) return path
  const [, rest] = /^\/apis?(?:\/[^/]+\/v\w+|\/v1)(?:\/namespaces\/[^/]+(?=\/))?\/(.*)$/.exec(path) ?? []
  if (!rest?.includes('/')) return path
  const slash = path.lastIndexOf('/')
  return `${path.slice(0, slash)}?fieldSelector=metadata.name%3D${path.slice(slash + 1)}`
}

async function* linesOf(body: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop()!
    for (const line of lines) if (line !== '') yield line
  }
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function summary(objects: readonly AnyObject[]): string {
  const short = objects.map(({ metadata, status }) => ({ name: metadata.name, deleted: metadata.deletionTimestamp, status }))
  return JSON.stringify(short).slice(0, 2_000)
}
