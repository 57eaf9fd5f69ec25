/** Reads the index of traces in the order in which it was written: whatever ended longest ago comes first. */
import { AckPolicy, DeliverPolicy, type JetStreamManager, jetstream } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { refusing } from '../streams.ts'
import { OUTCOME_STATES } from '../wire/entry.ts'
import { RETENTION_LIMITS } from '../wire/limits.ts'
import { ALL_TRACES, parseTraceSubject, streamNames, subjectsOf } from '../wire/subjects.ts'

/** One actor of a trace, as the index has it. */
export interface IndexRecord {
  readonly namespace: string
  readonly traceId: string
  readonly agent: string
  readonly task: string
  readonly hasEnded: boolean
  /** When it was written, epoch ms of the broker. */
  readonly at: number
}

/** A fetch ends so soon where nothing comes any more. */
const FETCH_MS = 1_000
/** The broker drops a reader that has not asked for so long. A trace of very many actors takes its time. */
const READER_IDLE_MS = 600_000

/**
 * Records that were written before `until`, oldest first, page by page. What nobody of ours can have written is left out. Throws
 * `broker_unreachable`, `access_denied` or `stream_refused`.
 */
export async function* readIndex(
  connection: NatsConnection,
  manager: JetStreamManager,
  options: { readonly namespaces?: readonly string[] | undefined; readonly until: number; readonly signal: AbortSignal },
): AsyncGenerator<IndexRecord> {
  const { namespaces, until, signal } = options
  const filters = namespaces?.map((namespace) => subjectsOf(namespace).traces()) ?? [ALL_TRACES]
  if (filters.length === 0) return
  const failed = refusing('read the index of traces')
  const { name, num_pending } = await manager.consumers
    .add(streamNames.traces, {
      ack_policy: AckPolicy.None,
      deliver_policy: DeliverPolicy.All,
      filter_subjects: filters,
      inactive_threshold: READER_IDLE_MS * 1e6,
      mem_storage: true,
      num_replicas: 1,
    })
    .catch(failed)
  try {
    const consumer = await jetstream(connection).consumers.get(streamNames.traces, name).catch(failed)
    for (let pending = num_pending; pending > 0 && !signal.aborted; ) {
      const page: { readonly subject: string; readonly text: string; readonly at: number }[] = []
      // No more than there are, or it would be waited for the rest.
      const max_messages = Math.min(pending, RETENTION_LIMITS.pageMax)
      const messages = await consumer.fetch({ max_messages, expires: FETCH_MS }).catch(failed)
      for await (const message of messages) {
        page.push({ subject: message.subject, text: message.string(), at: Number(message.timestampNanos / 1_000_000n) })
        pending = message.info.pending
      }
      // What was removed meanwhile still counted as pending.
      if (page.length === 0) return
      for (const { subject, text, at } of page) {
        if (at >= until) return
        const record = toRecord(subject, text, at)
        if (record) yield record
      }
    }
  } finally {
    await manager.consumers.delete(streamNames.traces, name).catch(() => {}) // it goes by itself
  }
}

export function toRecord(subject: string, text: string, at: number): IndexRecord | undefined {
  const place = parseTraceSubject(subject)
  return place && { ...place, at, hasEnded: hasEnded(text) }
}

/** What cannot be read has not ended. */
function hasEnded(text: string): boolean {
  try {
    const { state } = JSON.parse(text) as { readonly state?: unknown }
    return OUTCOME_STATES.some((ended) => ended === state)
  } catch {
    return false
  }
}
