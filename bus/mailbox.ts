/**
 * Takes mail from work queues by raw pulls, holds it with a sign of life every second, and answers the question whether this process holds a
 * message. A message delivered again while it is in hand replaces its handle; nobody takes a second turn for it.
 */
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '../telemetry/log.ts'
import { guarded, watchStatus } from './connection.ts'
import type { Delivery, Liveness, Mailbox, MailConsumer, Subscription } from './contracts.ts'
import type { Writer } from './publish/writer.ts'
import { DELIVERY_LIMITS } from './wire/limits.ts'
import type { Incoming } from './wire/message.ts'
import { type Party, partyText, type Subjects, streamNames } from './wire/subjects.ts'

const decoder = new TextDecoder('utf-8', { fatal: true })
const lenientDecoder = new TextDecoder()
/** A pull whose end was never told, because its leader died: asked again this long after it should have ended. */
const PULL_LOST_MS = 600
const TICK_MS = 300
/** How long the broker has to answer that it heard of the end of a pull. */
const STOP_MS = 1_000
/** A pull whose consumer has not answered yet: its end is the answer of an idle one. */
const BINDING_PULL_MS = 100

export interface NatsMailbox extends Mailbox {
  /** Open consumers that have not answered a pull since the connection was made, or whose last pull was lost. */
  unbound(): readonly string[]
}

export function createMailbox(
  connection: NatsConnection,
  writer: Writer,
  inboxPrefix: string,
  subjects: Subjects,
  log: Logger,
): NatsMailbox {
  const pulls = new Set<Pull>()
  const silence = new Silence(connection)
  const beat = setInterval(() => {
    silence.end()
    for (const pull of pulls) pull.sayWorking()
  }, DELIVERY_LIMITS.workingEveryMs).unref()
  watchStatus(connection, { onClose: () => clearInterval(beat) })
  let counter = 0
  return {
    open(consumer, slots, receive) {
      const inbox = `${inboxPrefix}.m${(counter++).toString(36)}.${Math.random().toString(36).slice(2, 10)}`
      const pull = new Pull({
        connection,
        writer,
        inbox,
        silence,
        api: apiSubject(subjects, consumer),
        kind: consumer.kind,
        party: partyOf(consumer),
        slots,
        receive,
        log,
      })
      pulls.add(pull)
      return { stop: () => pull.stop(), backlog: () => pull.backlog }
    },
    holds(party, delivery) {
      for (const pull of pulls) if (partyText(pull.party) === partyText(party) && pull.holds(delivery)) return true
      return false
    },
    unbound: () => [...pulls].filter((pull) => pull.isUnbound).map((pull) => pull.name),
  }
}

export function createLiveness(connection: NatsConnection, subjects: Subjects, log: Logger): Liveness {
  return {
    async asks(party, hostId, delivery) {
      try {
        const answer = await connection.request(subjects.host(party, hostId), delivery, { timeout: DELIVERY_LIMITS.livenessMs })
        return answer.string() === 'held'
      } catch {
        return false // nobody there (503), or silent for too long
      }
    },
    serve(party, hostId, holds): Subscription {
      const callback = guarded((_error, message) => void message.respond(holds(message.string()) ? 'held' : 'free'), log)
      const subscription = connection.subscribe(subjects.host(party, hostId), { callback })
      return { stop: async () => subscription.unsubscribe() }
    },
  }
}

function apiSubject({ namespace }: Subjects, consumer: MailConsumer): string {
  const stream =
    consumer.kind === 'call' ? streamNames.toolMail(namespace, consumer.tool) : streamNames.agentMail(namespace, consumer.agent)
  return `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer.kind}`
}

function partyOf(consumer: MailConsumer): Party {
  return consumer.kind === 'call' ? { kind: 'tool', name: consumer.tool } : { kind: 'agent', name: consumer.agent }
}

/**
 * Whether this process was stopped, or busy, for so long that the broker took it for dead. What it is then handed may have lain in its socket
 * meanwhile, and be somebody else's: all that comes before the broker's answer to a ping.
 */
class Silence {
  private readonly connection: NatsConnection
  private beatAt = Date.now()
  private isAsking = false

  constructor(connection: NatsConnection) {
    this.connection = connection
  }

  get isOld(): boolean {
    return this.isAsking || Date.now() - this.beatAt > DELIVERY_LIMITS.ackWaitMs
  }

  end(): void {
    if (this.isOld && !this.isAsking) {
      this.isAsking = true
      const done = () => {
        this.isAsking = false
      }
      this.connection.flush().then(done, done) // a connection that is lost hands out nothing old
    }
    this.beatAt = Date.now()
  }
}

interface PullOptions {
  readonly connection: NatsConnection
  readonly silence: Silence
  readonly writer: Writer
  readonly inbox: string
  readonly api: string
  readonly kind: MailConsumer['kind']
  readonly party: Party
  readonly slots: number
  readonly receive: (delivery: Delivery) => void
  readonly log: Logger
}

/** One standing pull: never asks for more than there are free slots, and asks again when half of them are used. */
class Pull {
  readonly party: Party
  private readonly options: PullOptions
  private readonly held = new Map<string, HeldMessage>()
  private readonly timer: NodeJS.Timeout
  private readonly subscription: { drain(): Promise<void> }
  /** Messages asked for and not come yet. */
  private asked = 0
  private askedAt = 0
  private isAnswered = true
  /** Messages that wait, as the broker said with the last one. */
  private pending = 0
  private isConnected = true
  /** The broker has answered for this consumer since the connection was made. */
  private isBound = false
  private isStopped = false

  constructor(options: PullOptions) {
    this.options = options
    this.party = options.party
    this.subscription = options.connection.subscribe(options.inbox, {
      callback: guarded((_error, message) => this.onMessage(message), options.log),
    })
    // Pulls in flight die with their leader or connection, and nobody says so.
    this.timer = setInterval(() => {
      if (Date.now() - this.askedAt > DELIVERY_LIMITS.pullExpiresMs + PULL_LOST_MS) {
        if (this.asked > 0) this.isBound = false
        this.asked = 0
      }
      this.ask()
    }, TICK_MS).unref()
    watchStatus(options.connection, {
      onDisconnect: () => {
        this.isConnected = false
        this.isBound = false
      },
      onReconnect: () => {
        this.isConnected = true
        this.asked = 0
        this.ask()
      },
    })
    this.ask()
  }

  get name(): string {
    return `${this.party.kind} ${this.party.name} ${this.options.kind}`
  }

  get isUnbound(): boolean {
    return !this.isBound && !this.isStopped
  }

  get backlog(): number {
    return this.held.size + this.pending
  }

  holds(delivery: string): boolean {
    return this.held.has(delivery)
  }

  sayWorking(): void {
    if (!this.isConnected) return // nobody would hear it
    for (const message of this.held.values()) message.working()
  }

  async stop(): Promise<void> {
    this.isStopped = true
    clearInterval(this.timer)
    // The broker ends a pull whose inbox nobody listens to. What it handed out before it heard of that comes before its answer, and is handed
    // back: once, because it is not handed to us again.
    if (!this.isConnected) return
    const late = new Promise<void>((resolve) => setTimeout(resolve, STOP_MS).unref())
    await Promise.race([this.subscription.drain().catch(() => {}), late])
  }

  private ask(): void {
    if (this.isStopped || this.options.connection.isClosed()) return
    const free = this.options.slots - this.held.size
    const batch = free - this.asked
    if (batch <= 0 || this.asked > free / 2) return
    this.asked += batch
    this.askedAt = Date.now()
    const expiresMs = this.isBound ? DELIVERY_LIMITS.pullExpiresMs : BINDING_PULL_MS
    const request = JSON.stringify({ batch, expires: expiresMs * 1e6 })
    this.options.writer.publish(this.options.api, request, { reply: this.options.inbox })
  }

  private onMessage(message: Msg): void {
    if (!message.reply?.startsWith('$JS.ACK.')) {
      this.onStatus(message)
      return
    }
    this.noteAnswer(true)
    this.isBound = true
    this.asked = Math.max(0, this.asked - 1)
    const info = parseAck(message.reply)
    this.pending = info.pending
    const isOld = this.options.silence.isOld
    const inHand = this.held.get(info.delivery)
    if (inHand) {
      inHand.replace(message.reply, info.count, isOld)
      return
    }
    if (this.isStopped) {
      this.options.writer.publish(message.reply, '-NAK')
      return
    }
    const held = new HeldMessage(this.options.writer, toIncoming(message, info), message.reply, info.count, isOld, () => {
      this.held.delete(info.delivery)
      this.ask()
    })
    this.held.set(info.delivery, held)
    this.options.receive(held)
    this.ask()
  }

  /** A pull ended: its time is over, or its server is. What it still owed is not coming. */
  private onStatus(message: Msg): void {
    const code = message.headers?.code ?? 0
    if (code === 100 || code === 0) return
    const owed = Number(message.headers!.get('Nats-Pending-Messages') || 0)
    this.asked = code === 408 && owed > 0 ? Math.max(0, this.asked - owed) : 0
    this.noteAnswer(code !== 503)
    // 408 and 404: an idle consumer. 503: no server has it now. 409: it was deleted, has another leader or too many pulls, which may last:
    // asked again at once it would be asked without end, so that the timer does.
    this.isBound = code === 408 || code === 404
    if (this.isBound) this.pending = 0
    if (this.isBound) this.ask()
  }

  /** Says once that pulls go unanswered, and once that they are answered again. */
  private noteAnswer(isAnswered: boolean): void {
    if (this.isAnswered === isAnswered) return
    this.isAnswered = isAnswered
    const { log, api } = this.options
    const [stream, consumer] = api.split('.').slice(-2)
    if (isAnswered) log.info({ stream, consumer }, 'pulls are answered again')
    else
      log.warn({ stream, consumer }, 'nobody answers a pull: the stream is not created yet, or no server leads it; asking again')
  }
}

class HeldMessage implements Delivery {
  readonly message: Incoming
  count: number
  private readonly writer: Writer
  private readonly forget: () => void
  private reply: string
  private aliveAt = Date.now()
  private wasSilent: boolean
  private isEnded = false

  constructor(writer: Writer, message: Incoming, reply: string, count: number, isOld: boolean, forget: () => void) {
    this.writer = writer
    this.message = message
    this.reply = reply
    this.count = count
    this.wasSilent = isOld
    this.forget = forget
  }

  replace(reply: string, count: number, isOld: boolean): void {
    this.reply = reply
    this.count = count
    this.aliveAt = Date.now()
    this.wasSilent = isOld
  }

  get isStale(): boolean {
    return this.wasSilent || Date.now() - this.aliveAt > DELIVERY_LIMITS.ackWaitMs
  }

  working(): void {
    this.wasSilent = this.isStale
    this.tell('+WPI')
    this.aliveAt = Date.now()
  }

  ack(): void {
    this.end(() => this.tell('+ACK'))
  }

  nak(delayMs: number): void {
    // Somebody else holds it, and our nak would give it to a third.
    const { isStale } = this
    this.end(() => isStale || this.tell(`-NAK {"delay":${Math.round(delayMs * 1e6)}}`))
  }

  release(): void {
    this.end(() => {})
  }

  private end(tell: () => void): void {
    if (this.isEnded) return
    this.isEnded = true
    tell()
    this.forget()
  }

  private tell(what: string): void {
    this.writer.publish(this.reply, what)
  }
}

interface AckInfo {
  readonly pending: number
  readonly count: number
  readonly delivery: string
  readonly sentAt: number
}

/** `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp>.<pending>`, with domain and account before the stream since 2.11 where they are known. */
function parseAck(reply: string): AckInfo {
  const tokens = reply.split('.')
  const offset = tokens.length > 9 ? 2 : 0
  const [count, sequence, , timestamp, pending] = tokens.slice(4 + offset)
  return {
    count: Number(count),
    delivery: `${sequence}-${timestamp}`,
    sentAt: Math.floor(Number(timestamp) / 1e6),
    pending: Number(pending) || 0,
  }
}

function toIncoming(message: Msg, info: AckInfo): Incoming {
  return {
    subject: message.subject,
    ...textOf(message.data),
    header: (name) => message.headers?.get(name) || undefined,
    delivery: info.delivery,
    sentAt: info.sentAt,
  }
}

/** Bytes that are no text stay visible in the dead letters, but nothing is done with them. */
function textOf(data: Uint8Array): Pick<Incoming, 'body' | 'isUtf8'> {
  try {
    return { body: decoder.decode(data) }
  } catch {
    return { body: lenientDecoder.decode(data), isUtf8: false }
  }
}
