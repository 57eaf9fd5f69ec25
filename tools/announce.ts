/** Puts a tool server's list into the catalog: at start, when the server says that it changed, and again until it worked. */
import type { Catalog } from '../bus/contracts.ts'
import type { Logger } from '../telemetry/log.ts'
import type { ToolSession } from './session.ts'
import { toolListOf } from './tool-list.ts'

export interface Announcing {
  stop(): void
}

const RETRY_MS = 1_000
const RETRY_MAX_MS = 30_000

export function announceTools(options: {
  readonly server: string
  readonly session: ToolSession
  readonly catalog: Pick<Catalog, 'announceTools'>
  readonly log: Logger
}): Announcing {
  const { server, session, catalog, log } = options
  const stopping = new AbortController()
  let announced = ''
  let retry: NodeJS.Timeout | undefined
  let isListing = false
  let isStale = false

  async function announce(waitMs: number): Promise<void> {
    if (stopping.signal.aborted) return
    if (isListing) {
      isStale = true
      return
    }
    isListing = true
    isStale = false
    clearTimeout(retry)
    try {
      const list = toolListOf(server, await session.list(stopping.signal))
      if (list.hash !== announced) {
        await catalog.announceTools(list)
        announced = list.hash
        log.debug({ server, tools: list.tools.map(({ name }) => name) }, 'announced tools')
      }
    } catch (error) {
      if (stopping.signal.aborted) return
      log.warn({ server, err: error, retryMs: waitMs }, 'could not list the tools of a server; agents that use it wait')
      retry = setTimeout(() => void announce(Math.min(RETRY_MAX_MS, waitMs * 2)), waitMs).unref()
    } finally {
      isListing = false
    }
    if (isStale) await announce(RETRY_MS)
  }

  const unsubscribe = session.onListChanged(() => void announce(RETRY_MS))
  void announce(RETRY_MS)
  return {
    stop() {
      stopping.abort()
      clearTimeout(retry)
      unsubscribe()
    },
  }
}
