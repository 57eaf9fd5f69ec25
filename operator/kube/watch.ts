/** One watch, read line by line until the server ends it. Says what went wrong; going on from there is the business of `reflector.ts`. */
import { StringDecoder } from 'node:string_decoder'
import { KaosError } from '../../bus/wire/errors.ts'
import { ApiError, type ApiStatus } from './api-error.ts'
import { type KubeClient, objectIn, type Selection } from './client.ts'
import type { KubeObject, Resource } from './object.ts'

/** etcd takes 1.5 MiB at most; a line beyond this is no object. */
const LINE_CHARS_MAX = 16 * 1024 * 1024

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: KubeObject }
  | { readonly type: 'BOOKMARK'; readonly object: KubeObject }

export interface WatchOptions {
  /** Where to go on. */
  readonly resourceVersion: string
  /** After so long the server ends the watch. */
  readonly seconds: number
  /** A watch that says nothing for so long, not even a bookmark, which comes every minute, is frozen. */
  readonly idleMs: number
  /** The server has accepted it. */
  readonly onOpen?: () => void
  readonly signal: AbortSignal
}

/**
 * Returns at a clean end, also at one in the middle of a line: what is lost there comes again. Throws ApiError (410: the version has
 * expired), `cluster_unreachable` (no connection, silence, a line that cannot be read) or `aborted`.
 */
export async function* watchEvents(
  client: KubeClient,
  resource: Resource,
  selection: Selection,
  { resourceVersion, seconds, idleMs, onOpen, signal }: WatchOptions,
): AsyncGenerator<WatchEvent, void> {
  const attempt = `watch ${resource.plural}`
  const ending = new AbortController()
  const end = () => ending.abort()
  let isIdle = false
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  let timer: NodeJS.Timeout | undefined
  try {
    const body = await client.openWatch(resource, selection, { resourceVersion, seconds, signal: ending.signal })
    onOpen?.()
    timer = setTimeout(() => {
      isIdle = true
      end()
    }, idleMs)
    for await (const line of linesOf(body, () => timer?.refresh())) yield eventIn(line, attempt, resource)
  } catch (error) {
    if (signal.aborted) throw new KaosError('aborted', `stopped: ${attempt}`, { cause: error })
    if (isIdle)
      throw new KaosError('cluster_unreachable', `could not ${attempt}: nothing came for ${idleMs} ms`, { cause: error })
    if (error instanceof KaosError) throw error
    throw new KaosError('cluster_unreachable', `could not ${attempt}: the connection broke`, { cause: error })
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', end)
    end()
  }
}

async function* linesOf(body: AsyncIterable<Uint8Array>, onChunk: () => void): AsyncGenerator<string, void> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  for await (const chunk of body) {
    onChunk()
    const lines = (rest + decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))).split('\n')
    rest = lines.pop()!
    if (rest.length > LINE_CHARS_MAX) throw new Error(`a line is longer than ${LINE_CHARS_MAX} characters`)
    for (const line of lines) if (line !== '') yield line
  }
}

function eventIn(line: string, attempt: string, resource: Resource): WatchEvent {
  let event: { readonly type?: unknown; readonly object?: unknown }
  try {
    event = JSON.parse(line)
  } catch (cause) {
    throw new KaosError('cluster_unreachable', `could not ${attempt}: a line is no JSON: "${line.slice(0, 200)}"`, { cause })
  }
  switch (event.type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
    case 'BOOKMARK':
      return { type: event.type, object: objectIn(event.object, resource) }
    case 'ERROR': {
      const status = event.object as ApiStatus
      throw new ApiError(attempt, { ...status, code: status.code ?? 500 })
    }
    default:
      throw new KaosError('cluster_unreachable', `could not ${attempt}: unknown event "${String(event.type)}"`)
  }
}
