/** What clients read: results of root tasks, the index of traces, and journals of whole trees. */
import { JetStreamApiError, jetstreamManager, type StreamState } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '../telemetry/log.ts'
import { guarded, watchStatus } from './connection.ts'
import type { Blobs } from './contracts.ts'
import { type Reader, ReadRefused, type StoredMessage } from './read.ts'
import { KaosError } from './wire/errors.ts'
import { parseBlobBody } from './wire/message.ts'
import { type Subjects, streamNames } from './wire/subjects.ts'

export interface Results {
  /** The stored result, as JSON text; undefined while there is none. */
  get(agent: string, key: string): Promise<string | undefined>
  /**
   * Waits for the result, also while the broker is away. Undefined at the deadline or when aborted, after one more look of at most a second.
   * Throws `body_missing`, and `read_failed` once the connection is closed for good.
   */
  wait(
    agent: string,
    key: string,
    options: { readonly deadlineMs: number; readonly signal?: AbortSignal },
  ): Promise<string | undefined>
}

/** One record of the index: an actor of a trace. */
export interface Indexed {
  readonly traceId: string
  readonly agent: string
  readonly task: string
  readonly text: string
  readonly sequence: number
}

export interface TraceIndex {
  /** All actors of a trace, in the order in which they were last written. */
  actors(traceId: string): Promise<readonly Indexed[]>
  /** The most recently written records, newest first. */
  latest(count: number): Promise<readonly Indexed[]>
}

/** Between two looks at a result that nobody announces: at first, and at most; twice as long after each. */
const POLL_MS = { first: 1_000, max: 8_000 } as const
/** How long the last look may take, after the deadline. */
const LAST_LOOK_MS = 1_000
/** The longest that a timer of Node takes; a longer one would fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1
/** JetStream's error code. */
const STREAM_NOT_FOUND = 10059

export function createResults(
  connection: NatsConnection,
  reader: Reader,
  blobs: Blobs,
  subjects: Subjects,
  log: Logger,
): Results {
  async function withBody(text: string): Promise<string> {
    const ref = parseBlobBody(text)
    return ref ? await blobs.read(ref.owner, ref.to, ref.task, ref.sha) : text
  }
  async function get(agent: string, key: string): Promise<string | undefined> {
    const message = await reader.getLast(streamNames.results, subjects.result(agent, key))
    return message && withBody(message.text)
  }
  // What was announced while the connection was lost is found by looking.
  const waiting = new Set<() => void>()
  const lookAgain = () => {
    for (const look of waiting) look()
  }
  watchStatus(connection, { onReconnect: lookAgain, onClose: lookAgain })

  return {
    get,
    async wait(agent, key, { deadlineMs, signal }) {
      let wake: () => void = () => {}
      const look = () => wake()
      let isOver = signal?.aborted ?? false
      const late = Promise.withResolvers<undefined>()
      let lastLook: NodeJS.Timeout | undefined
      const end = () => {
        isOver = true
        wake()
        lastLook ??= setTimeout(() => late.resolve(undefined), LAST_LOOK_MS).unref()
      }
      const deadline = setTimeout(end, Math.min(deadlineMs, TIMER_MS_MAX)).unref()
      signal?.addEventListener('abort', end)
      if (isOver) end()
      waiting.add(look)
      const subscription = connection.subscribe(subjects.result(agent, key), { callback: guarded(look, log) })
      try {
        for (let pollMs: number = POLL_MS.first; ; pollMs = Math.min(POLL_MS.max, pollMs * 2)) {
          // The subscription is only a hint: a message that came before it, or was lost with a connection, is found by looking.
          const news = new Promise<void>((resolve) => {
            wake = resolve
          })
          const wasOver = isOver
          const text = await Promise.race([get(agent, key).catch(unlessAway), late.promise])
          if (text !== undefined || wasOver) return text
          const poll = setTimeout(look, pollMs).unref()
          await news
          clearTimeout(poll)
        }
      } finally {
        clearTimeout(deadline)
        clearTimeout(lastLook)
        signal?.removeEventListener('abort', end)
        waiting.delete(look)
        subscription.unsubscribe()
      }
    },
  }

  function unlessAway(error: unknown): undefined {
    if (error instanceof KaosError && error.code === 'read_failed' && !connection.isClosed()) return undefined
    throw error
  }
}

export function createTraceIndex(connection: NatsConnection, reader: Reader, subjects: Subjects): TraceIndex {
  return {
    async actors(traceId) {
      const subject = subjects.tracesOf(traceId)
      const messages = await reader.get(streamNames.traces, { multi_last: [subject] }).catch((error: unknown) => {
        if (!((error as KaosError).cause instanceof ReadRefused)) throw error
        // More than 1,024 actors: page by page, which scans the stream but finds them all.
        return reader.getAll(streamNames.traces, subject, 1)
      })
      return messages.map(toIndexed).sort((a, b) => a.sequence - b.sequence)
    },
    async latest(count) {
      const state = await stateOf(connection)
      if (!state) return []
      const found: Indexed[] = []
      for (let end = state.last_seq; end >= state.first_seq && end > 0 && found.length < count; end -= count) {
        const from = Math.max(state.first_seq, end - count + 1)
        const page = await reader.get(streamNames.traces, { seq: from, next_by_subj: subjects.traces(), batch: count })
        const inRange = page.map(toIndexed).filter((record) => record.sequence >= from && record.sequence <= end)
        found.push(...inRange.reverse())
      }
      return found.slice(0, count)
    },
  }
}

/** Undefined where nothing ever ran: the stream comes with the first `kaos up`. */
async function stateOf(connection: NatsConnection): Promise<StreamState | undefined> {
  try {
    const manager = await jetstreamManager(connection)
    return (await manager.streams.info(streamNames.traces)).state
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === STREAM_NOT_FOUND) return undefined
    throw error
  }
}

function toIndexed(message: StoredMessage): Indexed {
  const [, , , traceId = '', agent = '', task = ''] = message.subject.split('.')
  return { traceId, agent, task, text: message.text, sequence: message.sequence }
}
