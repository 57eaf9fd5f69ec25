/**
 * The operator's connection to the broker: made in the background and again for ever, because the broker may come after the operator. Whoever
 * needs it is answered at once, with the connection or with an error.
 */
import type { BrokerSettings } from '../../bus/access/settings.ts'
import { connectBroker, type NatsConnection, watchStatus } from '../../bus/connection.ts'
import { KaosError, messageOf } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'

const LINK_LIMITS = {
  /** Between two tries to connect, growing from the first to the second. */
  retryMinMs: 500,
  retryMaxMs: 10_000,
} as const

/** Where answers to the operator go. */
export const OPERATOR_INBOX = '_INBOX.kaos.operator'

export interface BrokerLinkOptions {
  readonly settings: BrokerSettings
  readonly log: Logger
}

export class BrokerLink {
  private readonly options: BrokerLinkOptions
  private readonly ended = new AbortController()
  private readonly listeners = new Set<() => void>()
  private open: NatsConnection | undefined
  private isConnected = false
  private lostAt = performance.now()
  private reason = 'no answer yet'

  constructor(options: BrokerLinkOptions) {
    this.options = options
    // `dial` never rejects.
    void this.dial()
  }

  /** For who needs a connection of its own. */
  get settings(): BrokerSettings {
    return this.options.settings
  }

  /** Throws `broker_unreachable` while there is none, or while the client reconnects. */
  get connection(): NatsConnection {
    if (this.open && this.isConnected) return this.open
    const seconds = Math.round(this.unreachableMs() / 1_000)
    const servers = this.options.settings.servers.join(', ')
    throw new KaosError('broker_unreachable', `could not use the broker at "${servers}", gone for ${seconds} s: ${this.reason}`)
  }

  /** How long there has been no connection; 0 while there is one. Whoever waits to remove something may give up after some minutes of it. */
  unreachableMs(): number {
    return this.isConnected ? 0 : performance.now() - this.lostAt
  }

  /**
   * Calls back at each connection that is made, the first and those after a loss; at once if there is one. What was pushed in between did not
   * arrive. Returns what ends it.
   */
  onConnect(listener: () => void): () => void {
    this.listeners.add(listener)
    if (this.isConnected) listener()
    return () => this.listeners.delete(listener)
  }

  async close(): Promise<void> {
    this.ended.abort()
    this.listeners.clear()
    await this.open?.close()
  }

  private async dial(): Promise<void> {
    const { settings, log } = this.options
    for (let pauseMs: number = LINK_LIMITS.retryMinMs; !this.ended.signal.aborted; ) {
      try {
        const connection = await connectBroker(settings, { name: 'kaos operator', inboxPrefix: OPERATOR_INBOX, log })
        if (this.ended.signal.aborted) return await connection.close()
        return this.use(connection)
      } catch (error) {
        // Also a refusal: credentials are rotated while the operator runs.
        if (this.reason !== messageOf(error)) log.warn({ err: error }, 'no broker; trying again')
        this.reason = messageOf(error)
        await this.pause(pauseMs)
        pauseMs = Math.min(LINK_LIMITS.retryMaxMs, pauseMs * 2)
      }
    }
  }

  private use(connection: NatsConnection): void {
    this.open = connection
    watchStatus(connection, {
      onDisconnect: () => this.noteLoss('the connection was lost'),
      onReconnect: () => this.noteConnection(),
      // The server refused the identity twice: the client gives up, we do not.
      onClose: () => {
        this.open = undefined
        this.noteLoss('the connection was closed')
        void this.dial()
      },
    })
    this.noteConnection()
  }

  private noteConnection(): void {
    this.isConnected = true
    for (const listener of [...this.listeners]) listener()
  }

  private noteLoss(reason: string): void {
    if (this.isConnected) this.lostAt = performance.now()
    this.isConnected = false
    this.reason = reason
  }

  private pause(ms: number): Promise<void> {
    const { signal } = this.ended
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms)
      function done() {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
      signal.addEventListener('abort', done)
    })
  }
}
