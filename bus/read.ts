/**
 * Reads streams by direct get, in batches, over an inbox of its own. On a connection of its own too: a direct get runs in the read loop of
 * its client at the server and holds up every publish of that connection (p99 277 ms against 6).
 */
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '../telemetry/log.ts'
import { Answers } from './publish/answers.ts'
import { KaosError } from './wire/errors.ts'
import { READ_LIMITS } from './wire/limits.ts'

export interface StoredMessage {
  readonly subject: string
  readonly sequence: number
  /** Epoch ms. */
  readonly at: number
  readonly data: Uint8Array
  readonly text: string
  readonly header: (name: string) => string | undefined
}

/** Parts of the server's direct get request that are used. A query without `batch` or `multi_last` is answered by one message and no end mark. */
export type Query =
  | { readonly last_by_subj: string }
  | { readonly seq: number; readonly next_by_subj: string; readonly batch: number }
  | { readonly multi_last: readonly string[]; readonly batch?: number }

/** The server's own no, by its status. */
export class ReadRefused extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.name = 'ReadRefused'
    this.status = status
  }
}

/** 408: the query is malformed; 413: it names more than 1,024 subjects. Asking again changes nothing. */
function isFinal(error: unknown): boolean {
  return error instanceof ReadRefused && (error.status === 408 || error.status === 413)
}

interface Read {
  readonly messages: StoredMessage[]
  readonly isSingle: boolean
  readonly resolve: (messages: StoredMessage[]) => void
  readonly fail: (error: Error) => void
  readonly reject: (reason: string) => void
}

const decoder = new TextDecoder()

export class Reader {
  private readonly connection: NatsConnection
  private readonly answers: Answers<Read>

  constructor(connection: NatsConnection, inboxPrefix: string, log: Logger) {
    this.connection = connection
    this.answers = new Answers(connection, inboxPrefix, { deadlineMs: READ_LIMITS.deadlineMs, take: takeMessage, log })
  }

  /** One answer, asked for during 15 s before it rejects with `read_failed`. */
  get(stream: string, query: Query): Promise<readonly StoredMessage[]> {
    return this.persist(`stream "${stream}"`, () =>
      this.once(`$JS.API.DIRECT.GET.${stream}`, JSON.stringify(query), 'last_by_subj' in query),
    )
  }

  /** All messages of one literal subject from a sequence on, page by page. */
  async getAll(stream: string, subject: string, from: number): Promise<readonly StoredMessage[]> {
    const all: StoredMessage[] = []
    for (let seq = from; ; ) {
      const page = await this.get(stream, { seq, next_by_subj: subject, batch: READ_LIMITS.batch })
      all.push(...page)
      if (page.length < READ_LIMITS.batch) return all
      seq = page.at(-1)!.sequence + 1
    }
  }

  /** The last message of a literal subject. It stands in the request's own subject, where the server can check who may ask. */
  async getLast(stream: string, subject: string): Promise<StoredMessage | undefined> {
    const [message] = await this.persist(`"${subject}"`, () => this.once(`$JS.API.DIRECT.GET.${stream}.${subject}`, '', true))
    return message
  }

  private async persist<T>(what: string, attempt: () => Promise<T>): Promise<T> {
    const deadline = Date.now() + READ_LIMITS.settleMs
    for (let tries = 0; ; tries++) {
      try {
        return await attempt()
      } catch (error) {
        if (isFinal(error) || Date.now() > deadline || this.connection.isClosed())
          throw new KaosError('read_failed', `could not read ${what}: ${(error as Error).message}`, { cause: error })
        await new Promise((resolve) => setTimeout(resolve, Math.min(500, 20 * 2 ** Math.min(tries, 6))))
      }
    }
  }

  private once(apiSubject: string, body: string, isSingle: boolean): Promise<StoredMessage[]> {
    return new Promise((resolve, fail) => {
      const reject = (reason: string) => fail(new Error(reason))
      const read: Read = { messages: [], isSingle, resolve, fail, reject }
      this.answers.ask(read, (reply) => this.connection.publish(apiSubject, body, { reply }))
    })
  }
}

/** One message of an answer, or its end mark; a single one has none. */
function takeMessage(read: Read, message: Msg): boolean {
  const code = message.headers?.code ?? 0
  if (code === 0) {
    read.messages.push(toStored(message))
    if (!read.isSingle) return false
  }
  if (code === 0 || code === 204 || code === 404) read.resolve(read.messages)
  else read.fail(new ReadRefused(code, `the server answered ${code} ${message.headers?.description ?? ''}`))
  return true
}

function toStored(message: Msg): StoredMessage {
  const headers = message.headers!
  return {
    subject: headers.get('Nats-Subject'),
    sequence: Number(headers.get('Nats-Sequence')),
    at: Date.parse(headers.get('Nats-Time-Stamp')),
    data: message.data,
    get text() {
      return decoder.decode(message.data)
    },
    header: (name) => headers.get(name) || undefined,
  }
}
