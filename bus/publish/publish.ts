/**
 * Publishes with acknowledgement, over an inbox of its own: pipelined, bounded, with deadlines. Five times cheaper per message than the
 * client's own `js.publish` (13 against 65 us of client CPU at 256 in flight, nats-server 2.15.2), because it needs no promise chain, no
 * header object and no subscription per request.
 */
import type { Msg, MsgHdrs, NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '../../telemetry/log.ts'
import type { Blobs, Post } from '../contracts.ts'
import { KaosError } from '../wire/errors.ts'
import { PUBLISH_LIMITS } from '../wire/limits.ts'
import { HEADERS, MESSAGE_VERSION, type Outgoing } from '../wire/message.ts'
import { Answers } from './answers.ts'
import { withoutOverflow } from './overflow.ts'
import type { Writer } from './writer.ts'

export type HeaderPairs = readonly (readonly [string, string | number])[]

/** JetStream's error codes that mean something to us (server/errors.json of nats-server 2.15). */
export const JS_CODES = {
  wrongLastSequence: 10071,
  sequenceInProcess: 10164,
  messageIdInProcess: 10158,
  full: 10077,
  tooLarge: 10054,
} as const

/** Why one try brought no sequence. `unknown`: the message may or may not be stored. */
export class PublishFailed extends Error {
  readonly kind: 'refused' | 'no-stream' | 'unknown'
  /** JetStream's error code; 0 where the server said nothing. */
  readonly code: number

  constructor(kind: PublishFailed['kind'], code: number, message: string) {
    super(message)
    this.name = 'PublishFailed'
    this.kind = kind
    this.code = code
  }
}

interface Publish {
  readonly subject: string
  readonly resolve: (sequence: number) => void
  readonly fail: (failure: PublishFailed) => void
  readonly reject: (reason: string) => void
}

const decoder = new TextDecoder()

export class Publisher {
  private readonly connection: NatsConnection
  private readonly writer: Writer
  private readonly answers: Answers<Publish>
  private readonly waiting: (() => void)[] = []
  private readonly gates = new Map<string, Promise<void>>()

  constructor(connection: NatsConnection, writer: Writer, inboxPrefix: string, log: Logger) {
    this.connection = connection
    this.writer = writer
    this.answers = new Answers(connection, inboxPrefix, {
      deadlineMs: PUBLISH_LIMITS.deadlineMs,
      take: (publish, receipt) => takeReceipt(publish, receipt),
      onEnd: () => this.waiting.shift()?.(),
      log,
    })
  }

  /** One try. Resolves with the stream sequence; rejects with PublishFailed. Waits for room when too many are in flight. */
  async publish(subject: string, body: string | Uint8Array, headers: HeaderPairs): Promise<number> {
    const encoded = encodeHeaders(headers)
    while (this.answers.size >= PUBLISH_LIMITS.inFlightMax) await new Promise<void>((resolve) => this.waiting.push(resolve))
    return new Promise((resolve, fail) => {
      const reject = (reason: string) => fail(new PublishFailed('unknown', 0, `no acknowledgement for "${subject}": ${reason}`))
      this.answers.ask({ subject, resolve, fail, reject }, (reply, refuse) =>
        this.writer.publish(subject, body, { reply, headers: encoded }, refuse),
      )
    })
  }

  /**
   * Repeats `attempt` until it answers: at once and alone where a stream is missing (one probes, the others wait), soon where the server was
   * only busy. After about 30 s, and at once when the connection is closed, it gives up with a retryable error. `attempt` answers undefined to
   * be called again.
   */
  async persist<T>(subject: string, attempt: () => Promise<T | undefined>): Promise<T> {
    const deadline = Date.now() + PUBLISH_LIMITS.settleMs
    for (let tries = 0; ; tries++) {
      let failed: PublishFailed | undefined
      try {
        const answer = await attempt()
        if (answer !== undefined) return answer
      } catch (error) {
        if (!(error instanceof PublishFailed)) throw error
        failed = error
      }
      if (failed?.code === JS_CODES.tooLarge) throw new KaosError('payload_too_large', `"${subject}": ${failed.message}`)
      if (this.connection.isClosed())
        throw new KaosError('publish_timeout', `"${subject}" could not be stored: the connection is closed`, { cause: failed })
      if (Date.now() > deadline) throw gaveUp(subject, failed)
      if (failed?.kind === 'no-stream') await this.passGate(subject, tries)
      else await delay(failed?.kind === 'refused' && failed.code === JS_CODES.full ? PUBLISH_LIMITS.gateProbeMaxMs : pause(tries))
    }
  }

  /** While a stream has no leader nothing was stored and there is nothing to read: one asks again, the others wait for it. */
  private async passGate(subject: string, tries: number): Promise<void> {
    const key = subject.split('.', 5).join('.')
    const gate = this.gates.get(key)
    if (gate) return gate
    const wait = delay(Math.min(PUBLISH_LIMITS.gateProbeMaxMs, PUBLISH_LIMITS.gateProbeMinMs * 2 ** Math.min(tries, 8)))
    this.gates.set(key, wait)
    await wait
    this.gates.delete(key)
  }
}

function takeReceipt({ subject, resolve, fail }: Publish, receipt: Msg): true {
  const text = decoder.decode(receipt.data)
  if (receipt.headers?.code === 503) fail(new PublishFailed('no-stream', 503, `no stream takes "${subject}"`))
  else if (text.includes('"error"')) fail(refusalOf(text))
  else resolve(Number.parseInt(text.slice(text.indexOf('"seq":') + 6), 10))
  return true
}

/** Sends messages whose ids make a repetition harmless. */
export function createPost(publisher: Publisher, blobs: Blobs): Post {
  return {
    async send(message: Outgoing): Promise<void> {
      const body = await withoutOverflow(message, blobs)
      const headers: HeaderPairs = [
        [HEADERS.version, MESSAGE_VERSION],
        [HEADERS.id, message.id],
        ...(message.headers ?? []),
        ...(message.once ? [['Nats-Expected-Last-Subject-Sequence', 0] as const] : []),
      ]
      await publisher.persist(message.subject, async () => {
        try {
          return await publisher.publish(message.subject, body, headers)
        } catch (error) {
          if (message.once && (error as PublishFailed).code === JS_CODES.wrongLastSequence) return 0
          throw error
        }
      })
    },
  }
}

/**
 * NATS headers as bytes, encoded once. The client asks them for nothing but `encode`. Values are checked: a line break would add a header.
 * They are UTF-8, as the client reads them; in Latin-1 "\u010a" would become a line break after the check.
 */
export function encodeHeaders(pairs: HeaderPairs): MsgHdrs {
  let text = 'NATS/1.0\r\n'
  for (const [name, value] of pairs) {
    if (typeof value === 'string' && /[\r\n]/.test(value))
      throw new KaosError('bad_message', `header "${name}" has a line break in its value`)
    if (/[\r\n:]/.test(name)) throw new KaosError('bad_message', `"${name}" is no name of a header`)
    text += `${name}: ${value}\r\n`
  }
  const bytes = Buffer.from(`${text}\r\n`)
  return { encode: () => bytes } as unknown as MsgHdrs
}

function refusalOf(receipt: string): PublishFailed {
  const { error } = JSON.parse(receipt) as { error: { err_code?: number; code?: number; description?: string } }
  return new PublishFailed('refused', error.err_code ?? error.code ?? 0, error.description ?? 'no reason given')
}

function gaveUp(subject: string, failed: PublishFailed | undefined): KaosError {
  const seconds = PUBLISH_LIMITS.settleMs / 1_000
  if (failed?.kind === 'no-stream')
    return new KaosError('stream_missing', `no stream took "${subject}" for ${seconds} s`, { cause: failed })
  if (failed?.code === JS_CODES.full) {
    return new KaosError('publish_refused', `the stream of "${subject}" is full: ${failed.message}`, { cause: failed })
  }
  return new KaosError(
    'publish_timeout',
    `"${subject}" could not be stored within ${seconds} s: ${failed?.message ?? 'no answer'}`,
    { cause: failed },
  )
}

/** 10164 and 10158 are gone within milliseconds; what lasts longer is asked less often. */
function pause(tries: number): number {
  return tries < 3 ? 1 + 2 * tries : Math.min(500, 5 * 2 ** Math.min(tries, 8))
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
