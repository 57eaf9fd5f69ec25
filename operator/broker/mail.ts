/** What the scaler sees of the broker: how much mail each agent has, and a call as soon as mail is stored for one that sleeps. */
import { guarded, type NatsConnection } from '../../bus/connection.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { ALL_DOORS, streamNames, subjectsOf } from '../../bus/wire/subjects.ts'
import type { Logger } from '../../telemetry/log.ts'
import { type Backlog, listBacklogs, readBacklog } from './backlog.ts'
import type { BrokerLink } from './link.ts'
import { type ResourceRef, refKey } from './owner.ts'

/** How long the broker has to confirm that it knows our subscriptions. */
const CONFIRM_MS = 2_000

/** All that asks throws `broker_unreachable`, `access_denied` or `read_failed`. */
export interface Mail {
  /** Messages that wait or are in hand, of all agents. */
  list(): Promise<Backlogs>
  /** The same of one agent, fresh. Undefined: it has no mail stream. */
  read(agent: ResourceRef): Promise<number | undefined>
  /** Calls back once, with the epoch ms at which the broker stored the next message for the agent. Again replaces. */
  listen(agent: ResourceRef, onMail: (storedAt: number) => void): void
  ignore(agent: ResourceRef): void
  /** Resolves when whatever is stored from now on reaches those who listen. */
  confirmed(): Promise<void>
  /** Calls back at each connection that is made: mail may have been stored while nobody could hear of it. Returns what ends it. */
  onConnect(listener: () => void): () => void
}

export interface Backlogs {
  of(agent: ResourceRef): Backlog
}

interface Listening {
  readonly agent: ResourceRef
  readonly onMail: (storedAt: number) => void
  subscription?: { unsubscribe(): void }
}

/** Publish to callback on loopback with two busy cores: p50 0.15 ms, p99 0.4-1.3 ms, 2,000 calls. */
export class BrokerMail implements Mail {
  private readonly link: BrokerLink
  private readonly log: Logger
  private readonly listening = new Map<string, Listening>()
  /** The connection that holds the subscriptions; the client itself takes them over a reconnect. */
  private connection: NatsConnection | undefined

  constructor(link: BrokerLink, log: Logger) {
    this.link = link
    this.log = log
    link.onConnect(() => this.move())
  }

  async list(): Promise<Backlogs> {
    const backlogIn = await listBacklogs(this.link.connection, ALL_DOORS)
    return { of: ({ namespace, name }) => backlogIn(streamNames.agentMail(namespace, name)) }
  }

  async read({ namespace, name }: ResourceRef): Promise<number | undefined> {
    return readBacklog(this.link.connection, streamNames.agentMail(namespace, name))
  }

  listen(agent: ResourceRef, onMail: (storedAt: number) => void): void {
    this.ignore(agent)
    const listening: Listening = { agent, onMail }
    this.listening.set(refKey(agent), listening)
    if (this.connection) this.subscribe(this.connection, listening)
  }

  ignore(agent: ResourceRef): void {
    this.listening.get(refKey(agent))?.subscription?.unsubscribe()
    this.listening.delete(refKey(agent))
  }

  async confirmed(): Promise<void> {
    const { connection } = this.link
    const { promise: late, reject } = Promise.withResolvers<never>()
    const failed = (reason: string) => new KaosError('broker_unreachable', `could not subscribe to stored mail: ${reason}`)
    const timer = setTimeout(() => reject(failed(`no answer within ${CONFIRM_MS} ms`)), CONFIRM_MS)
    try {
      await Promise.race([connection.flush(), late])
    } catch (error) {
      throw error instanceof KaosError ? error : failed((error as Error).message)
    } finally {
      clearTimeout(timer)
    }
  }

  onConnect(listener: () => void): () => void {
    return this.link.onConnect(listener)
  }

  /** To a connection that is new and knows nothing. */
  private move(): void {
    const { connection } = this.link
    if (connection === this.connection) return
    this.connection = connection
    for (const listening of this.listening.values()) this.subscribe(connection, listening)
  }

  private subscribe(connection: NatsConnection, listening: Listening): void {
    const { agent, onMail } = listening
    listening.subscription = connection.subscribe(subjectsOf(agent.namespace).wake(agent.name), {
      // One call wakes; the rest of the mail is found by looking.
      max: 1,
      callback: guarded((_error, message) => {
        if (this.listening.get(refKey(agent)) !== listening) return
        this.listening.delete(refKey(agent))
        onMail(Date.parse(message.headers?.get('Nats-Time-Stamp') ?? '') || Date.now())
      }, this.log),
    })
  }
}
