/** Puts an agent's card into the catalog: at start, and again until it worked, for a host may be there before its broker is ready. */
import type { Catalog } from '../../bus/contracts.ts'
import type { AgentCard } from '../../bus/wire/catalog.ts'
import type { Logger } from '../../telemetry/log.ts'

export interface Announcing {
  stop(): void
}

const RETRY_MS = 1_000
const RETRY_MAX_MS = 30_000

export function announceAgent(options: {
  readonly card: AgentCard
  readonly catalog: Pick<Catalog, 'announceAgent'>
  readonly log: Logger
  /** Before the second try; doubled before each further one. Default 1 s. */
  readonly retryMs?: number
}): Announcing {
  const { card, catalog, log } = options
  let isStopped = false
  let retry: NodeJS.Timeout | undefined

  async function announce(waitMs: number): Promise<void> {
    try {
      await catalog.announceAgent(card)
    } catch (error) {
      if (isStopped) return
      log.warn({ agent: card.name, err: error, retryMs: waitMs }, 'could not announce the agent, trying again')
      retry = setTimeout(() => void announce(Math.min(RETRY_MAX_MS, waitMs * 2)), waitMs).unref()
    }
  }

  void announce(options.retryMs ?? RETRY_MS)
  return {
    stop() {
      isStopped = true
      clearTimeout(retry)
    },
  }
}
