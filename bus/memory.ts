/**
 * The bus in memory, with the faults of a real one: processes that die or freeze, mail that is delivered again, acks that come too late.
 * For tests and simulations; it passes the same conformance suite as the bus on NATS.
 */
import type {
  Append,
  Blobs,
  Bus,
  BusState,
  Catalog,
  Claims,
  Delivery,
  Journal,
  Liveness,
  Mailbox,
  MailConsumer,
  MailSubscription,
  Post,
  Progress,
  Stored,
} from './contracts.ts'
import { withoutOverflow } from './publish/overflow.ts'
import type { AgentCard, ToolList } from './wire/catalog.ts'
import { KaosError } from './wire/errors.ts'
import { sha256 } from './wire/json.ts'
import { HEADERS, type Incoming, type Outgoing } from './wire/message.ts'
import { type Party, parseCallSubject, parseMailSubject, partyText, type Subjects, subjectsOf } from './wire/subjects.ts'

interface Queued {
  readonly sequence: number
  readonly message: Incoming
  count: number
  holder: MemoryBus | undefined
  /** When the broker hands it out again, if its holder gives no sign of life. */
  expiresAt: number
}

interface Consumer {
  readonly bus: MemoryBus
  readonly slots: number
  readonly held: Map<number, MemoryDelivery>
  readonly receive: (delivery: Delivery) => void
  stopped: boolean
}

/** The broker: what outlives every process. */
export class MemoryBroker {
  readonly namespace: string
  readonly subjects: Subjects
  readonly ackWaitMs: number
  readonly records = new Map<string, Stored[]>()
  readonly sent: Outgoing[] = []
  readonly progress: { readonly subject: string; readonly event: object }[] = []
  readonly tools = new Map<string, ToolList>()
  readonly agents = new Map<string, AgentCard>()
  readonly hosts = new Map<string, { readonly bus: MemoryBus; readonly holds: (delivery: string) => boolean }>()
  private readonly queues = new Map<string, Queued[]>()
  private readonly consumers = new Map<string, Consumer[]>()
  private readonly timer: NodeJS.Timeout
  private sequence = 0

  constructor(options: { readonly namespace?: string; readonly ackWaitMs?: number } = {}) {
    this.namespace = options.namespace ?? 'default'
    this.subjects = subjectsOf(this.namespace)
    this.ackWaitMs = options.ackWaitMs ?? 100
    this.timer = setInterval(() => this.redeliver(), Math.max(2, this.ackWaitMs / 10))
  }

  close(): void {
    clearInterval(this.timer)
  }

  declareAgent(agent: string): void {
    this.queues.set(`task.${agent}`, [])
    this.queues.set(`mail.${agent}`, [])
  }

  declareTool(tool: string): void {
    this.queues.set(`call.${tool}`, [])
  }

  connect(): MemoryBus {
    return new MemoryBus(this)
  }

  /** Messages of one queue that are waiting or in hand. */
  waiting(key: string): number {
    return this.queues.get(key)?.length ?? 0
  }

  /** Messages that are waiting or in hand, over all queues. */
  get backlog(): number {
    let count = 0
    for (const queue of this.queues.values()) count += queue.length
    return count
  }

  store(
    subject: string,
    record: { readonly text: string; readonly writer: string; readonly expected?: number | undefined },
  ): number | 'lost' {
    const stored = this.records.get(subject) ?? []
    const last = stored.at(-1)?.sequence ?? 0
    if (record.expected !== undefined && record.expected !== last) return 'lost'
    const sequence = ++this.sequence
    this.records.set(subject, [...stored, { text: record.text, writer: record.writer, sequence }])
    return sequence
  }

  /** A message as any NATS client would publish it. */
  publish(subject: string, body: string, headers: Readonly<Record<string, string>> = {}): void {
    const mail = parseMailSubject(subject)
    const tool = parseCallSubject(subject) && subject.split('.')[3]
    const key = tool ? `call.${tool}` : mail ? `${mail.kind === 'task' ? 'task' : 'mail'}.${mail.agent}` : undefined
    const queue = key === undefined ? undefined : this.queues.get(key)
    if (!queue) throw new KaosError('stream_missing', `no stream takes subject "${subject}"`)
    const sequence = ++this.sequence
    const sentAt = Date.now()
    const message: Incoming = { subject, body, header: (name) => headers[name], delivery: `${sequence}-${sentAt}000000`, sentAt }
    queue.push({ sequence, message, count: 0, holder: undefined, expiresAt: 0 })
    this.pump(key!)
  }

  subscribe(key: string, consumer: Consumer): void {
    if (!this.queues.has(key)) throw new KaosError('stream_missing', `no stream for "${key}"`)
    this.consumers.set(key, [...(this.consumers.get(key) ?? []), consumer])
    this.pump(key)
  }

  pump(key: string): void {
    const consumers = this.consumers.get(key) ?? []
    for (const item of this.queues.get(key) ?? []) {
      if (item.holder || item.expiresAt > Date.now()) continue
      const start = item.sequence % Math.max(1, consumers.length)
      const order = [...consumers.slice(start), ...consumers.slice(0, start)]
      const consumer = order.find(
        (candidate) => candidate.bus.isRunning && !candidate.stopped && candidate.held.size < candidate.slots,
      )
      if (!consumer) return
      item.holder = consumer.bus
      item.count++
      item.expiresAt = Date.now() + this.ackWaitMs
      const inHand = consumer.held.get(item.sequence)
      if (inHand) {
        inHand.replace(item)
        continue
      }
      const delivery = new MemoryDelivery(this, key, item, consumer)
      consumer.held.set(item.sequence, delivery)
      queueMicrotask(() => consumer.bus.isDead || consumer.receive(delivery))
    }
  }

  ack(key: string, sequence: number): void {
    const queue = this.queues.get(key)!
    const index = queue.findIndex((item) => item.sequence === sequence)
    if (index >= 0) queue.splice(index, 1)
    queueMicrotask(() => this.pump(key))
  }

  giveBack(key: string, item: Queued, count: number, delayMs: number): void {
    if (item.count !== count) return
    item.holder = undefined
    item.expiresAt = Date.now() + delayMs
    setTimeout(() => this.pump(key), delayMs).unref()
  }

  private redeliver(): void {
    const now = Date.now()
    for (const [key, queue] of this.queues) {
      for (const item of queue) {
        const isHeld =
          item.holder &&
          this.consumers.get(key)?.some((consumer) => consumer.bus === item.holder && consumer.held.has(item.sequence))
        if (item.holder?.isRunning && isHeld) item.expiresAt = now + this.ackWaitMs
        else if (item.holder && item.expiresAt < now) item.holder = undefined
      }
      this.pump(key)
    }
  }
}

class MemoryDelivery implements Delivery {
  readonly message: Incoming
  count: number
  private readonly broker: MemoryBroker
  private readonly key: string
  private readonly consumer: Consumer
  private item: Queued

  constructor(broker: MemoryBroker, key: string, item: Queued, consumer: Consumer) {
    this.broker = broker
    this.key = key
    this.consumer = consumer
    this.item = item
    this.message = item.message
    this.count = item.count
  }

  replace(item: Queued): void {
    this.item = item
    this.count = item.count
  }

  get isStale(): boolean {
    return this.item.holder !== this.consumer.bus || this.item.count !== this.count
  }

  ack(): void {
    this.end(() => this.broker.ack(this.key, this.item.sequence))
  }

  nak(delayMs: number): void {
    this.end(() => this.broker.giveBack(this.key, this.item, this.count, delayMs))
  }

  release(): void {
    this.end(() => {})
  }

  private end(tell: () => void): void {
    this.consumer.held.delete(this.item.sequence)
    void this.consumer.bus.pass().then(() => {
      tell()
      this.broker.pump(this.key)
    })
  }
}

/** One process's connection. `kill` and `freeze` do what SIGKILL and SIGSTOP do to a process, seen from the broker. */
export class MemoryBus implements Bus {
  readonly namespace: string
  readonly journal: Journal
  readonly blobs: Blobs
  readonly post: Post
  readonly mailbox: Mailbox
  readonly liveness: Liveness
  readonly claims: Claims
  readonly catalog: Catalog
  readonly progress: Progress
  isDead = false
  private frozen: Promise<void> | undefined
  private thaw: (() => void) | undefined
  private readonly consumers = new Map<string, Consumer>()
  /** Called before each operation; a test can fail or delay one. */
  before: ((operation: string, subject: string) => Promise<void> | void) | undefined

  constructor(broker: MemoryBroker) {
    const { subjects } = broker
    this.namespace = broker.namespace
    this.journal = {
      read: async (agent, task, sequence) => {
        await this.pass('read', task)
        return (broker.records.get(subjects.journal(agent, task)) ?? []).filter((stored) => stored.sequence > sequence)
      },
      readFromSnapshot: async (agent, task) => {
        await this.pass('read', task)
        const stored = broker.records.get(subjects.journal(agent, task)) ?? []
        const from = stored.findLastIndex(({ text }) => 'snapshot' in (JSON.parse(text) as object))
        return stored.slice(Math.max(0, from))
      },
      append: async (append: Append) => {
        await this.pass('append', append.task)
        const answer = broker.store(subjects.journal(append.agent, append.task), append)
        await this.pass('appended', append.task)
        return answer
      },
    }
    this.blobs = {
      write: async (owner, to, task, sha, body) => {
        await this.pass('blob', task)
        broker.store(subjects.blob(owner, to, task, sha, 0), { text: body, writer: '', expected: 0 })
      },
      read: async (owner, to, task, sha) => {
        await this.pass('read', task)
        const [stored] = broker.records.get(subjects.blob(owner, to, task, sha, 0)) ?? []
        if (!stored || sha256(stored.text) !== sha)
          throw new KaosError('body_missing', `body "${sha}" of task "${task}" is not in the store of ${partyText(owner)}`)
        return stored.text
      },
    }
    this.post = {
      send: async (message) => {
        await this.pass('send', message.subject)
        broker.sent.push(message)
        const body = await withoutOverflow(message, this.blobs)
        const headers = Object.fromEntries((message.headers ?? []).map(([name, value]) => [name, String(value)]))
        const isMail = parseMailSubject(message.subject) ?? parseCallSubject(message.subject)
        if (isMail) broker.publish(message.subject, body, { [HEADERS.version]: '1', [HEADERS.id]: message.id, ...headers })
        else broker.store(message.subject, { text: body, writer: '', expected: message.once ? 0 : undefined })
        await this.pass('sent', message.subject)
      },
    }
    this.mailbox = {
      open: (consumer, slots, receive) => this.consume(broker, consumer, slots, receive),
      holds: (party, delivery) => this.holds(party, delivery),
    }
    this.liveness = {
      asks: async (party, hostId, delivery) => {
        await this.pass('ask', hostId)
        const host = broker.hosts.get(`${partyText(party)}.${hostId}`)
        return host?.bus.isRunning === true && host.holds(delivery)
      },
      serve: (party, hostId, holds) => {
        broker.hosts.set(`${partyText(party)}.${hostId}`, { bus: this, holds })
        return { stop: async () => void broker.hosts.delete(`${partyText(party)}.${hostId}`) }
      },
    }
    this.claims = {
      read: async (tool, effect) => {
        await this.pass('read', effect)
        return broker.records.get(subjects.done(tool, effect))?.at(-1)
      },
      put: async (tool, effect, record) => {
        await this.pass('append', effect)
        return broker.store(subjects.done(tool, effect), record)
      },
    }
    this.catalog = {
      tools: async (server) => broker.tools.get(server),
      agents: async () => [...broker.agents.values()],
      announceTools: async (list) => void broker.tools.set(list.server, list),
      announceAgent: async (card) => void broker.agents.set(card.name, card),
    }
    this.progress = { tell: (subject, event) => void (this.isDead || broker.progress.push({ subject, event })) }
  }

  /** A consumer binds when it is opened, or opening throws. */
  state(): BusState {
    return { broker: this.isDead ? 'closed' : 'connected', unbound: [] }
  }

  get isRunning(): boolean {
    return !this.isDead && !this.frozen
  }

  kill(): void {
    this.isDead = true
  }

  freeze(): void {
    this.frozen ??= new Promise((resolve) => {
      this.thaw = resolve
    })
  }

  wake(): void {
    this.thaw?.()
    this.frozen = undefined
  }

  async close(): Promise<void> {
    this.kill()
  }

  /** An operation begins here: the dead never get past it, the frozen when they wake. */
  async pass(operation = '', subject = ''): Promise<void> {
    if (this.isDead) return new Promise(() => {})
    await this.before?.(operation, subject)
    if (this.frozen) await this.frozen
    if (this.isDead) return new Promise(() => {})
  }

  private consume(
    broker: MemoryBroker,
    mail: MailConsumer,
    slots: number,
    receive: (delivery: Delivery) => void,
  ): MailSubscription {
    const key = `${mail.kind}.${mail.kind === 'call' ? mail.tool : mail.agent}`
    const consumer: Consumer = { bus: this, slots, held: new Map(), receive, stopped: false }
    this.consumers.set(key, consumer)
    broker.subscribe(key, consumer)
    return {
      stop: async () => {
        consumer.stopped = true
      },
      backlog: () => broker.waiting(key),
    }
  }

  private holds(party: Party, delivery: string): boolean {
    for (const [key, { held }] of this.consumers) {
      if (!key.endsWith(`.${party.name}`)) continue
      for (const { message } of held.values()) if (message.delivery === delivery) return true
    }
    return false
  }
}
