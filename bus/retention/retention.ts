/** Retention: what has ended is kept for so many days, and then goes. A loop of runs with pauses, in the one process that looks after a broker. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '../../telemetry/log.ts'
import type { BrokerSettings } from '../access/settings.ts'
import { connectBroker } from '../connection.ts'
import { messageOf } from '../wire/errors.ts'
import { RETENTION_LIMITS } from '../wire/limits.ts'
import { type RetentionRun, removeEnded } from './run.ts'

const DAY_MS = 86_400_000

export interface RetentionOptions {
  readonly settings: BrokerSettings
  /** Where answers of the broker go. */
  readonly inboxPrefix: string
  /** Absent: all. */
  readonly namespaces?: readonly string[] | undefined
  /** How many days what has ended is kept, as `isRetentionDays` has it; 0: for ever. */
  readonly days: number
  readonly log: Logger
  /** Told of each run; undefined: it could not be done. */
  readonly onRun?: (run: RetentionRun | undefined, ms: number) => void
  /** Epoch ms; default: as the broker has it. */
  readonly now?: () => number
  /** Before the first run; default about a minute. */
  readonly firstMs?: number
}

export interface Retention {
  /** A run that is under way ends at its next step, and is harmless. */
  stop(): Promise<void>
}

/** Runs soon and then about every hour. Never throws: what cannot be done is logged, and tried again at the next run. */
export function startRetention(options: RetentionOptions): Retention {
  if (options.days === 0) return { stop: async () => {} }
  const stopping = new AbortController()
  const running = loop(options, stopping.signal)
  return {
    async stop() {
      stopping.abort()
      await running
    },
  }
}

async function loop(options: RetentionOptions, signal: AbortSignal): Promise<void> {
  for (let pauseMs: number = options.firstMs ?? vary(RETENTION_LIMITS.firstMs); await pause(pauseMs, signal); ) {
    const begunAt = performance.now()
    const run = await runOnce(options, signal)
    if (signal.aborted) return
    options.onRun?.(run, performance.now() - begunAt)
    pauseMs = vary(run?.isCut ? RETENTION_LIMITS.soonMs : RETENTION_LIMITS.everyMs)
  }
}

async function runOnce(options: RetentionOptions, signal: AbortSignal): Promise<RetentionRun | undefined> {
  const { settings, inboxPrefix, namespaces, days, now, log } = options
  try {
    // Of its own, so that its reads hold up nobody.
    const connection = await connectBroker(settings, { name: 'kaos retention', inboxPrefix, log })
    const close = () => void connection.close()
    signal.addEventListener('abort', close, { once: true })
    try {
      const run = await removeEnded(connection, { namespaces, ageMs: days * DAY_MS, now: now?.(), inboxPrefix, signal, log })
      if (run.traces > 0) log.info({ ...run, days }, 'removed what ended longer ago than is kept')
      return run
    } finally {
      signal.removeEventListener('abort', close)
      await connection.close()
    }
  } catch (error) {
    if (!signal.aborted) log.warn({ reason: messageOf(error) }, 'could not remove what ended long ago; it is tried again')
    return undefined
  }
}

/** False when it was aborted. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  return sleep(ms, true, { signal, ref: false }).catch(() => false)
}

/** So that processes which were started together do not run together. */
function vary(ms: number): number {
  return ms * (1 + RETENTION_LIMITS.jitter * (2 * Math.random() - 1))
}
