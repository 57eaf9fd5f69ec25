/**
 * Answers to what was published, over one inbox of our own: a token at the end of the reply subject tells whose it is, so that a request costs
 * no subscription and no timer. What is not answered in time, or was under way when the connection was lost, is rejected.
 */
import { randomBytes } from 'node:crypto'
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '../../telemetry/log.ts'
import { guarded, watchStatus } from '../connection.ts'

export interface Awaiting {
  /** Called with the reason when no answer will come. */
  readonly reject: (reason: string) => void
}

const SWEEP_MS = 100

export class Answers<Request extends Awaiting> {
  private readonly inbox: string
  private readonly deadlineMs: number
  private readonly onEnd: () => void
  private readonly open = new Map<string, { readonly request: Request; readonly until: number }>()
  private counter = 0

  /**
   * `take` is given each answer and says whether the request is done with. `onEnd` is called whenever one more request has ended, however it
   * did.
   */
  constructor(
    connection: NatsConnection,
    inboxPrefix: string,
    options: {
      readonly deadlineMs: number
      readonly take: (request: Request, message: Msg) => boolean
      readonly onEnd?: () => void
      readonly log: Logger
    },
  ) {
    this.inbox = `${inboxPrefix}.${randomBytes(8).toString('hex')}`
    this.deadlineMs = options.deadlineMs
    this.onEnd = options.onEnd ?? (() => {})
    const onMessage = (message: Msg) => {
      const token = message.subject.slice(this.inbox.length + 1)
      const entry = this.open.get(token)
      if (entry && options.take(entry.request, message)) this.end(token)
    }
    connection.subscribe(`${this.inbox}.*`, { callback: guarded((_error, message) => onMessage(message), options.log) })
    const sweeper = setInterval(() => this.sweep(), SWEEP_MS).unref()
    watchStatus(connection, {
      onDisconnect: () => this.rejectAll('the connection was lost'),
      // What was sent meanwhile went nowhere.
      onReconnect: () => this.rejectAll('the connection was lost'),
      onClose: () => {
        clearInterval(sweeper)
        this.rejectAll('the connection is closed')
      },
    })
  }

  /** Requests under way. */
  get size(): number {
    return this.open.size
  }

  /** Sends a request; a throw of `send` rejects it, and so does `refuse`, which it may call later. */
  ask(request: Request, send: (reply: string, refuse: (error: unknown) => void) => void): void {
    const token = (this.counter++).toString(36)
    this.open.set(token, { request, until: Date.now() + this.deadlineMs })
    const refuse = (error: unknown) => {
      this.end(token)
      request.reject((error as Error).message)
    }
    try {
      send(`${this.inbox}.${token}`, refuse)
    } catch (error) {
      refuse(error)
    }
  }

  private end(token: string): void {
    if (this.open.delete(token)) this.onEnd()
  }

  /** Oldest first, so the first that has time left ends the look. */
  private sweep(): void {
    const now = Date.now()
    for (const [token, { request, until }] of this.open) {
      if (until > now) return
      this.end(token)
      request.reject(`no answer in ${this.deadlineMs} ms`)
    }
  }

  private rejectAll(reason: string): void {
    for (const [token, { request }] of this.open) {
      this.end(token)
      request.reject(reason)
    }
  }
}
