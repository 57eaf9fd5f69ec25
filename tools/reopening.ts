/** Keeps one connection to a server that may come and go: opens it when it is needed and after a loss, with a growing delay in between. */
import { setTimeout as delay } from 'node:timers/promises'
import { KaosError } from '../bus/wire/errors.ts'
import type { Connection } from './connection.ts'
import { MCP_LIMITS } from './limits.ts'

export interface ReopeningOptions {
  /** Opens a connection; `signal` ends the attempt. */
  open(signal: AbortSignal): Promise<Connection>
  /** The server answers again, and may be another one than before. */
  onReopened(): void
  /** Whether somebody wants to know when the server is back; else it is opened again at the next call. */
  isWatched(): boolean
}

export class Reopening {
  private readonly options: ReopeningOptions
  private readonly closing = new AbortController()
  private current: Connection | undefined
  private opening: Promise<Connection> | undefined
  private restoring: NodeJS.Timeout | undefined
  private isFirst = true
  private failures = 0
  private failedAt = 0

  constructor(options: ReopeningOptions) {
    this.options = options
  }

  /** Concurrent callers share one attempt. Rejects as `Connection.open`, and with `aborted` when the session is closed. */
  open(): Promise<Connection> {
    if (this.current) return Promise.resolve(this.current)
    if (!this.opening) {
      this.opening = this.attempt().finally(() => {
        this.opening = undefined
      })
      this.opening.catch(() => {}) // those who wait are told; perhaps nobody waits any more
    }
    return this.opening
  }

  /** The server answered: the next loss is its first again. */
  worked(): void {
    this.failures = 0
  }

  lost(connection: Connection): void {
    if (this.current !== connection) return
    this.current = undefined
    this.fail()
  }

  /** Opens the connection in the background if somebody watches and it is not open. */
  restore(): void {
    if (this.closing.signal.aborted || this.current || this.opening || this.restoring || !this.options.isWatched()) return
    this.restoring = setTimeout(
      () => {
        this.restoring = undefined
        void this.open().catch(() => {}) // a failure restores again
      },
      backOffMs(this.failures, MCP_LIMITS.restoreMaxMs),
    ).unref()
  }

  async close(): Promise<void> {
    this.closing.abort()
    clearTimeout(this.restoring)
    await this.opening?.catch(() => {})
    await this.current?.close()
  }

  private async attempt(): Promise<Connection> {
    try {
      const wait = this.failedAt + backOffMs(this.failures, MCP_LIMITS.reopenMaxMs) - performance.now()
      if (wait > 0) await delay(wait, undefined, { signal: this.closing.signal, ref: false })
      this.closing.signal.throwIfAborted()
      const connection = await this.options.open(this.closing.signal)
      if (this.closing.signal.aborted) await connection.close()
      this.closing.signal.throwIfAborted()
      this.current = connection
      if (!this.isFirst || this.failures > 0) this.options.onReopened()
      this.isFirst = false
      return connection
    } catch (error) {
      if (this.closing.signal.aborted) throw new KaosError('aborted', 'the session is closed', { cause: error })
      this.fail()
      throw error
    }
  }

  private fail(): void {
    this.failures++
    this.failedAt = performance.now()
    setImmediate(() => this.restore()) // an attempt that fails is still under way here
  }
}

/** None after the first failure, then doubled each time. */
export function backOffMs(failures: number, maxMs: number): number {
  return failures <= 1 ? 0 : Math.min(maxMs, MCP_LIMITS.reopenMinMs * 2 ** (failures - 2))
}
