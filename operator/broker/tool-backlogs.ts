/** How many calls wait for each tool server, for its status: looked at as often as the mail of agents, with one list for all, if there is any. */
import { messageOf } from '../../bus/wire/errors.ts'
import { ALL_CALLS, streamNames } from '../../bus/wire/subjects.ts'
import type { Logger } from '../../telemetry/log.ts'
import { type Backlog, listBacklogs } from './backlog.ts'
import type { BrokerLink } from './link.ts'
import { type ResourceRef, refKey } from './owner.ts'

const TOOL_BACKLOG_LIMITS = {
  /** Between two looks. */
  lookEveryMs: 5_000,
  /** From the first that is to be watched to a look, for there may be many. */
  soonMs: 200,
} as const

export interface ToolBacklogsOptions {
  readonly link: Pick<BrokerLink, 'connection'>
  readonly log: Logger
  /** Another one than before; undefined: not known any more. */
  readonly onChange: (server: ResourceRef, backlog: number | undefined) => void
  /** It has no stream for calls, though the broker could be asked; at each look. */
  readonly onMissing?: (server: ResourceRef) => void
  readonly onForgotten?: (server: ResourceRef) => void
}

interface Watched {
  readonly server: ResourceRef
  hasBeenLookedAt: boolean
  backlog: number | undefined
}

export class ToolBacklogs {
  private readonly options: ToolBacklogsOptions
  private readonly watched = new Map<string, Watched>()
  private readonly every: NodeJS.Timeout
  private soon: NodeJS.Timeout | undefined
  private looking: Promise<void> | undefined

  constructor(options: ToolBacklogsOptions) {
    this.options = options
    this.every = setInterval(() => void this.look(), TOOL_BACKLOG_LIMITS.lookEveryMs).unref()
  }

  /** To be called at every reconcile; without a change it costs nothing. */
  watch(server: ResourceRef): void {
    const key = refKey(server)
    if (this.watched.has(key)) return
    this.watched.set(key, { server, hasBeenLookedAt: false, backlog: undefined })
    this.soon ??= setTimeout(() => {
      this.soon = undefined
      void this.look()
    }, TOOL_BACKLOG_LIMITS.soonMs).unref()
  }

  forget(server: ResourceRef): void {
    if (this.watched.delete(refKey(server))) this.options.onForgotten?.(server)
  }

  /** Undefined: not known. `before`: what was known by whoever looked before us. */
  of(server: ResourceRef, before?: number): number | undefined {
    const watched = this.watched.get(refKey(server))
    return watched?.hasBeenLookedAt ? watched.backlog : before
  }

  /** For metrics: those that are known. */
  *all(): Generator<readonly [ResourceRef, number]> {
    for (const { server, backlog } of this.watched.values()) if (backlog !== undefined) yield [server, backlog]
  }

  /** Looks at all, once at a time. Never rejects. */
  look(): Promise<void> {
    this.looking ??= this.lookAtAll().finally(() => {
      this.looking = undefined
    })
    return this.looking
  }

  close(): void {
    clearInterval(this.every)
    clearTimeout(this.soon)
    this.watched.clear()
  }

  private async lookAtAll(): Promise<void> {
    if (this.watched.size === 0) return
    const asked = [...this.watched.values()]
    const backlogIn = await this.list()
    for (const watched of asked) {
      const { server } = watched
      if (this.watched.get(refKey(server)) !== watched) continue
      const found = backlogIn?.(streamNames.toolMail(server.namespace, server.name))
      const backlog = typeof found === 'number' ? found : undefined
      const isNew = !watched.hasBeenLookedAt || watched.backlog !== backlog
      watched.hasBeenLookedAt = true
      watched.backlog = backlog
      if (isNew) this.options.onChange(server, backlog)
      if (found === 'absent') this.options.onMissing?.(server)
    }
  }

  private async list(): Promise<((stream: string) => Backlog) | undefined> {
    const { link, log } = this.options
    try {
      return await listBacklogs(link.connection, ALL_CALLS)
    } catch (error) {
      // The scaler, which asks the same broker, says so.
      log.debug({ reason: messageOf(error) }, 'backlogs of tool servers cannot be seen')
      return undefined
    }
  }
}
