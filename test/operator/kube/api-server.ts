/**
 * An API server in this process: collections of raw objects with versions, lists in pages, watches with history, and any fault a test asks
 * for. It knows nothing of schemas; the real one is in test/cluster.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { ClusterAccess } from '../../../operator/kube/access.ts'
import { KubeClient } from '../../../operator/kube/client.ts'
import type { KubeObject, Resource } from '../../../operator/kube/object.ts'
import type { TransportOptions } from '../../../operator/kube/transport.ts'

export const AGENTS: Resource = { apiVersion: 'kaos.tools/v1alpha1', kind: 'Agent', plural: 'agents', namespaced: true }

export interface Asked {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
  readonly isWatch: boolean
}

/** Takes the request over, whatever it does with the response. */
type Fault = (response: ServerResponse, asked: Asked) => void

const COLLECTION = /^\/(api\/[^/]+|apis\/[^/]+\/[^/]+)(\/namespaces\/[^/]+)?\/[^/]+$/

interface History {
  readonly version: number
  readonly path: string
  readonly line: string
}

export class ScriptedApiServer implements AsyncDisposable {
  readonly asked: Asked[] = []
  readonly watches = new Set<{ readonly response: ServerResponse; readonly path: string }>()
  pageObjects = 500
  readonly #server = createServer((request, response) => void this.#serve(request, response))
  readonly #sockets = new Set<Socket>()
  readonly #objects = new Map<string, KubeObject>()
  readonly #faults: { readonly matches: (asked: Asked) => boolean; readonly fault: Fault }[] = []
  readonly #waiting = new Set<() => void>()
  readonly #accesses: ClusterAccess[] = []
  #history: History[] = []
  #compacted = 0
  #version = 100
  #port = 0

  static async start(): Promise<ScriptedApiServer> {
    const server = new ScriptedApiServer()
    server.#server.on('connection', (socket) => {
      server.#sockets.add(socket)
      socket.on('close', () => server.#sockets.delete(socket)).on('error', () => {})
    })
    await server.listen()
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  client(options: TransportOptions = {}): KubeClient {
    const load = async () => ({ server: this.url, headers: { authorization: 'Bearer t' }, tls: {} })
    const access = new ClusterAccess({ source: 'the test', namespace: 'default', load })
    this.#accesses.push(access)
    return KubeClient.over(access, options)
  }

  /** The next request that matches gets this instead of an answer. */
  once(matches: (asked: Asked) => boolean, fault: Fault): void {
    this.#faults.push({ matches, fault })
  }

  /** Resolves when so many requests that match have come, also those from before. */
  async whenAsked(matches: (asked: Asked) => boolean, times = 1): Promise<Asked> {
    while (true) {
      const found = this.asked.filter(matches)
      if (found.length >= times) return found[times - 1]!
      await this.#changed()
    }
  }

  async whenWatched(times = 1): Promise<void> {
    while (this.watches.size < times) await this.#changed()
  }

  put(resource: Resource, object: Pick<KubeObject, 'metadata' | 'spec' | 'status'>): KubeObject {
    const path = itemPath(resource, object)
    const before = this.#objects.get(path)
    const uid = object.metadata.uid ?? before?.metadata.uid ?? `uid-${this.#version}`
    const metadata = { ...object.metadata, uid, resourceVersion: String(++this.#version) }
    const stored: KubeObject = { ...object, apiVersion: resource.apiVersion, kind: resource.kind, metadata }
    this.#objects.set(path, stored)
    this.#tell(path, before ? 'MODIFIED' : 'ADDED', stored)
    return stored
  }

  remove(resource: Resource, object: { readonly metadata: KubeObject['metadata'] }): void {
    this.#delete(itemPath(resource, object))
  }

  /** Forgets what has happened, as etcd does. */
  compact(): void {
    this.#history = []
    this.#compacted = this.#version
  }

  /** Cuts all connections and listens no more. */
  async down(): Promise<void> {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.#server, 'close')
  }

  async listen(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const access of this.#accesses) await access.close()
    if (this.#server.listening) await this.down()
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams: query } = new URL(request.url!, this.url)
    let text = ''
    for await (const chunk of request) text += chunk
    const asked: Asked = {
      method: request.method!,
      path: pathname,
      query,
      headers: request.headers,
      body: text === '' ? undefined : JSON.parse(text),
      isWatch: query.has('watch'),
    }
    this.asked.push(asked)
    this.#wake()
    const at = this.#faults.findIndex(({ matches }) => matches(asked))
    if (at >= 0) this.#faults.splice(at, 1)[0]!.fault(response, asked)
    else if (asked.isWatch) this.#watch(asked, response)
    else this.#answer(asked, response)
  }

  #answer(asked: Asked, response: ServerResponse): void {
    const { method, path, body } = asked
    const object = this.#objects.get(path)
    if (method === 'POST') {
      const created = body as KubeObject
      const at = `${path}/${created.metadata.name}`
      if (this.#objects.has(at)) refuse(response, 409, 'AlreadyExists')
      else reply(response, 201, this.#store(at, created))
    } else if (method === 'GET' && COLLECTION.test(path)) {
      this.#list(asked, response)
    } else if (method === 'PATCH' && asked.headers['content-type'] === 'application/apply-patch+yaml') {
      const at = path.replace(/\/status$/, '')
      const before = this.#objects.get(at)
      const uid = (body as KubeObject).metadata.uid
      if (at !== path && !before) refuse(response, 404, 'NotFound')
      else if (uid !== undefined && before?.metadata.uid !== uid)
        refuse(response, 409, 'Conflict', 'Precondition failed: UID in precondition')
      else reply(response, 200, this.#store(at, merged(before ?? {}, body) as KubeObject))
    } else if (!object) {
      refuse(response, 404, 'NotFound')
    } else if (method === 'GET') {
      reply(response, 200, object)
    } else if (method === 'DELETE') {
      this.#delete(path)
      reply(response, 200, { kind: 'Status' })
    } else if (method === 'PUT' && (body as KubeObject).metadata.resourceVersion !== object.metadata.resourceVersion) {
      refuse(response, 409, 'Conflict')
    } else {
      reply(response, 200, this.#store(path, (method === 'PUT' ? body : merged(object, body)) as KubeObject))
    }
  }

  #store(path: string, object: KubeObject): KubeObject {
    const before = this.#objects.get(path)
    const metadata = { ...object.metadata, uid: before?.metadata.uid ?? `uid-${this.#version}` }
    const next = { ...object, metadata: { ...metadata, resourceVersion: before?.metadata.resourceVersion } } as KubeObject
    if (before && JSON.stringify(before) === JSON.stringify(next)) return before
    const stored = { ...next, metadata: { ...metadata, resourceVersion: String(++this.#version) } }
    this.#objects.set(path, stored)
    this.#tell(path, before ? 'MODIFIED' : 'ADDED', stored)
    return stored
  }

  #delete(path: string): void {
    const object = this.#objects.get(path)
    if (!object) return
    this.#objects.delete(path)
    this.#tell(path, 'DELETED', { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } })
  }

  /** Items have no kind of their own, as those of the real one. */
  #list({ path, query }: Asked, response: ServerResponse): void {
    const all = [...this.#objects].filter(([at]) => isIn(path, at)).map(([, { apiVersion: _, kind: __, ...item }]) => item)
    const begin = Number(query.get('continue') ?? 0)
    const next = begin + this.pageObjects < all.length ? String(begin + this.pageObjects) : undefined
    const metadata = { resourceVersion: String(this.#version), ...(next === undefined ? {} : { continue: next }) }
    reply(response, 200, { kind: 'List', metadata, items: all.slice(begin, begin + this.pageObjects) })
  }

  #watch({ path, query }: Asked, response: ServerResponse): void {
    const from = Number(query.get('resourceVersion'))
    response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders()
    if (from < this.#compacted) {
      response.end(
        `${JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' } })}\n`,
      )
      return
    }
    for (const event of this.#history) if (event.version > from && isIn(path, event.path)) response.write(event.line)
    const watch = { response, path }
    this.watches.add(watch)
    response.on('close', () => this.watches.delete(watch))
    this.#wake()
  }

  #tell(path: string, type: string, object: KubeObject): void {
    const line = `${JSON.stringify({ type, object })}\n`
    this.#history.push({ version: Number(object.metadata.resourceVersion), path, line })
    for (const { path: collection, response } of this.watches) {
      if (isIn(collection, path) && !response.writableEnded) response.write(line)
    }
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve))
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}

export function reply(response: ServerResponse, code: number, body: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(code, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

export function refuse(response: ServerResponse, code: number, reason: string, message = `no: ${reason}`): void {
  reply(response, code, { kind: 'Status', status: 'Failure', code, reason, message })
}

function itemPath(resource: Resource, { metadata }: { readonly metadata: KubeObject['metadata'] }): string {
  const root = resource.apiVersion.includes('/') ? `/apis/${resource.apiVersion}` : `/api/${resource.apiVersion}`
  const scope = metadata.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`
  return `${root}${scope}/${resource.plural}/${metadata.name}`
}

/** Whether a collection, of one namespace or of all, holds the item of this path. */
function isIn(collection: string, item: string): boolean {
  const parent = item.slice(0, item.lastIndexOf('/'))
  return collection === parent || collection === parent.replace(/\/namespaces\/[^/]+/, '')
}

function merged(before: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch
  const old = typeof before === 'object' && before !== null && !Array.isArray(before) ? before : {}
  const fields = Object.entries(patch).map(([name, value]) => [name, merged((old as Record<string, unknown>)[name], value)])
  return { ...old, ...Object.fromEntries(fields) }
}
