/**
 * What retention asks of the streams. Whatever it removes lies before a bound that is found once for each stream: the first message that is
 * younger than what may go. So nothing that is stored while a run goes on is ever removed, be it under the same subject.
 */
import { JetStreamApiError, type JetStreamManager, type StreamInfo } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { LRUCache } from 'lru-cache'
import { refusing } from '../streams.ts'
import { KaosError } from '../wire/errors.ts'
import { RETENTION_LIMITS } from '../wire/limits.ts'

/** The last message of a subject. */
export interface LastMessage {
  readonly text: string
  readonly sequence: number
}

interface Known {
  /** Sequence of the first message that stays; what is before it may go. */
  readonly bound: number
  /** Epoch ms of the oldest message; undefined where there is none. */
  readonly oldestAt: number | undefined
}

const STREAM_NOT_FOUND = 10059
const ABSENT = 'absent'

export class Stores {
  private readonly connection: NatsConnection
  private readonly manager: JetStreamManager
  private readonly youngestAt: number
  /** A stream that cannot be looked at is not asked again: others have their turn. */
  private readonly known = new LRUCache<string, Promise<Known | typeof ABSENT>>({ max: RETENTION_LIMITS.streamsMax })

  /** @param options.youngestAt Epoch ms of the broker: nothing that was stored then or later is removed. */
  constructor(connection: NatsConnection, manager: JetStreamManager, options: { readonly youngestAt: number }) {
    this.connection = connection
    this.manager = manager
    this.youngestAt = options.youngestAt
  }

  /** Epoch ms of the oldest message of a stream; undefined: it has none, or is not there. */
  async oldestAt(stream: string): Promise<number | undefined> {
    const known = await this.look(stream)
    return known === ABSENT ? undefined : known.oldestAt
  }

  /** As the stream's leader knows it; undefined where there is no message, or no stream. */
  async last(stream: string, subject: string): Promise<LastMessage | undefined> {
    if ((await this.look(stream)) === ABSENT) return undefined
    const message = await this.manager.streams
      .getMessage(stream, { last_by_subj: subject })
      .catch(refusing(`read the last message on "${subject}"`))
    return message ? { text: message.string(), sequence: message.seq } : undefined
  }

  /** Whether a message may go for its age. */
  async isOld(stream: string, sequence: number): Promise<boolean> {
    const known = await this.look(stream)
    return known !== ABSENT && sequence < known.bound
  }

  /** Removes what is old enough of the subjects, and says how many messages that were. */
  async purge(stream: string, filter: string): Promise<number> {
    const known = await this.look(stream)
    if (known === ABSENT) return 0
    const { purged } = await this.manager.streams
      .purge(stream, { filter, seq: known.bound })
      .catch(refusing(`remove "${filter}" from stream "${stream}"`))
    return purged
  }

  private look(stream: string): Promise<Known | typeof ABSENT> {
    const found = this.known.get(stream) ?? this.find(stream)
    this.known.set(stream, found)
    return found
  }

  private async find(stream: string): Promise<Known | typeof ABSENT> {
    const info = await infoOf(this.manager, stream)
    if (!info) return ABSENT
    const { messages, first_seq, first_ts, last_seq, last_ts } = info.state
    if (messages === 0) return { bound: last_seq + 1, oldestAt: undefined }
    const oldestAt = Date.parse(first_ts)
    if (Date.parse(last_ts) < this.youngestAt) return { bound: last_seq + 1, oldestAt }
    if (oldestAt >= this.youngestAt) return { bound: first_seq, oldestAt }
    return { bound: (await this.sequenceAt(stream)) ?? first_seq, oldestAt }
  }

  /** Of the first message that stays. Undefined: it is not there any more. */
  private async sequenceAt(stream: string): Promise<number | undefined> {
    const query = { start_time: new Date(this.youngestAt).toISOString(), next_by_subj: '>' }
    const answer = await this.connection
      .request(`$JS.API.STREAM.MSG.GET.${stream}`, JSON.stringify(query), { timeout: RETENTION_LIMITS.requestMs })
      .catch(refusing(`find the first message of stream "${stream}" that stays`))
    const { message, error } = answer.json<{
      readonly message?: { readonly seq: number }
      readonly error?: { readonly code: number; readonly description?: string }
    }>()
    if (message) return message.seq
    if (error?.code === 404) return undefined
    throw new KaosError('read_failed', `could not find the first message of stream "${stream}" that stays: ${error?.description}`)
  }
}

/** Undefined: there is no such stream. `ts` is the broker's time. */
export async function infoOf(
  manager: JetStreamManager,
  stream: string,
): Promise<(StreamInfo & { readonly ts: string }) | undefined> {
  const info = await manager.streams.info(stream).catch((error: unknown) => {
    if (error instanceof JetStreamApiError && error.code === STREAM_NOT_FOUND) return undefined
    return refusing(`look at stream "${stream}"`)(error)
  })
  return info as (StreamInfo & { readonly ts: string }) | undefined
}
