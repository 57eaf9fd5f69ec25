/**
 * One run of retention: finished traces whose youngest record is old enough go, each as a whole. The index is only the queue: that an actor has
 * ended is believed of its journal alone. A trace's records of the index go last, so that a run which dies in the middle is taken up by the next.
 */
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { LRUCache } from 'lru-cache'
import type { Logger } from '../../telemetry/log.ts'
import { Reader, ReadRefused } from '../read.ts'
import { type Entry, openEntry } from '../wire/entry.ts'
import { KaosError, messageOf } from '../wire/errors.ts'
import { depthOf, isRootTask, parseRootTask } from '../wire/ids.ts'
import { READ_LIMITS, RETENTION_LIMITS, STREAM_LIMITS } from '../wire/limits.ts'
import { streamNames, subjectsOf } from '../wire/subjects.ts'
import { type IndexRecord, readIndex, toRecord } from './index-queue.ts'
import { infoOf, Stores } from './stores.ts'

export interface RetentionRun {
  /** What was removed. */
  readonly traces: number
  readonly tasks: number
  /** Entries, bodies, results and records of the index. */
  readonly messages: number
  /** Traces that could not be looked at, or only in part; they are met again. */
  readonly failed: number
  /** It ended at a limit of its own, and there may be more. */
  readonly isCut: boolean
}

export interface RunOptions {
  /** Absent: those of all namespaces. */
  readonly namespaces?: readonly string[] | undefined
  /** So old the youngest record of a trace is when the trace goes, in ms. */
  readonly ageMs: number
  /** Epoch ms; default: as the broker has it, whose times are compared. */
  readonly now?: number | undefined
  /** What may be stored so much later than the end that it belongs to, in ms; default an hour. */
  readonly settleMs?: number
  readonly inboxPrefix: string
  readonly signal: AbortSignal
  readonly log: Logger
}

/**
 * Needs a connection of its own: a reader of it lasts as long as the connection. Throws `broker_unreachable`, `access_denied`, `stream_refused` or
 * `read_failed`. Again, and several at once, are harmless.
 */
export async function removeEnded(connection: NatsConnection, options: RunOptions): Promise<RetentionRun> {
  const begunAt = performance.now()
  const { namespaces, ageMs, signal, log } = options
  const done = { traces: 0, tasks: 0, messages: 0, failed: 0 }
  const manager = await jetstreamManager(connection, { checkAPI: false, timeout: RETENTION_LIMITS.requestMs })
  const brokerNow = await indexTime(manager)
  if (brokerNow === undefined) return { ...done, isCut: false }
  const now = options.now ?? brokerNow
  const until = now - ageMs
  const removal = new Removal(connection, manager, { ...options, now, until })
  const seen = new LRUCache<string, true>({ max: RETENTION_LIMITS.seenMax })
  const isOver = () => done.traces >= RETENTION_LIMITS.tracesMax || performance.now() - begunAt > RETENTION_LIMITS.runMs
  for await (const { namespace, traceId, hasEnded } of readIndex(connection, manager, { namespaces, until, signal })) {
    if (signal.aborted) break
    if (isOver()) return { ...done, isCut: true }
    const trace = `${namespace} ${traceId}`
    if (seen.has(trace)) continue
    seen.set(trace, true)
    // One that works is enough to keep the trace.
    if (!hasEnded) continue
    try {
      const removed = await removal.remove(namespace, traceId)
      if (!removed) continue
      done.traces++
      done.tasks += removed.tasks
      done.messages += removed.messages
    } catch (error) {
      if (signal.aborted) break
      done.failed++
      const fields = { namespace, trace: traceId, reason: messageOf(error) }
      // The next ones have the same reason, as a rule.
      log[done.failed === 1 ? 'warn' : 'debug'](fields, 'an old trace could not be removed; it is tried again')
    }
  }
  return { ...done, isCut: false }
}

/** The broker's time. Undefined: there is no index yet. */
async function indexTime(manager: JetStreamManager): Promise<number | undefined> {
  const info = await infoOf(manager, streamNames.traces)
  return info && Date.parse(info.ts)
}

/** Decides about one trace after the other, and removes those that may go. */
class Removal {
  private readonly stores: Stores
  private readonly reader: Reader
  private readonly settleMs: number
  private readonly options: RunOptions & { readonly now: number; readonly until: number }

  constructor(connection: NatsConnection, manager: JetStreamManager, options: RunOptions & { now: number; until: number }) {
    this.options = options
    this.settleMs = options.settleMs ?? RETENTION_LIMITS.settleMs
    this.reader = new Reader(connection, options.inboxPrefix, options.log)
    this.stores = new Stores(connection, manager, { youngestAt: options.until + this.settleMs })
  }

  /** Undefined: the trace is kept. */
  async remove(namespace: string, traceId: string): Promise<{ readonly tasks: number; readonly messages: number } | undefined> {
    const actors = await this.actorsOf(namespace, traceId)
    const youngestAt = actors.reduce((youngest, { at }) => Math.max(youngest, at), 0)
    if (actors.length === 0 || youngestAt >= this.options.until || !actors.every(({ hasEnded }) => hasEnded)) return undefined
    if (await this.hasOldMail(actors, youngestAt)) return undefined
    for (const actor of actors) if (!(await this.mayGo(actor))) return undefined
    let messages = 0
    // Roots first: a trace without them is known to be gone, and not taken for a damaged one.
    for (const actor of actors.toSorted((a, b) => depthOf(a.task) - depthOf(b.task))) messages += await this.removeActor(actor)
    messages += await this.stores.purge(streamNames.traces, subjectsOf(namespace).tracesOf(traceId))
    return { tasks: actors.length, messages }
  }

  private async actorsOf(namespace: string, traceId: string): Promise<readonly IndexRecord[]> {
    const filter = subjectsOf(namespace).tracesOf(traceId)
    const actors: IndexRecord[] = []
    for await (const { subject, text, at } of this.recordsOn(filter)) {
      const record = toRecord(subject, text, at)
      if (record) actors.push(record)
      if (actors.length <= RETENTION_LIMITS.actorsMax) continue
      throw new KaosError('queue_full', `trace "${traceId}" has more than ${RETENTION_LIMITS.actorsMax} actors, and stays`)
    }
    return actors
  }

  /** In one answer, or where these are too many for it page by page, which scans the stream. */
  private async *recordsOn(filter: string) {
    const all = await this.reader.get(streamNames.traces, { multi_last: [filter] }).catch((error: unknown) => {
      if (!(error instanceof KaosError && error.cause instanceof ReadRefused)) throw error
      return undefined
    })
    if (all) return yield* all
    for (let seq = 1; ; ) {
      const page = await this.reader.get(streamNames.traces, { seq, next_by_subj: filter, batch: READ_LIMITS.batch })
      yield* page
      if (page.length < READ_LIMITS.batch) return
      seq = page.at(-1)!.sequence + 1
    }
  }

  /**
   * Whether an agent has mail from before the end of the trace: perhaps the start of one of its tasks, whose ack was lost, and which would begin
   * again. Mail that is too old for every host cannot.
   */
  private async hasOldMail(actors: readonly IndexRecord[], youngestAt: number): Promise<boolean> {
    if (this.options.now - youngestAt > STREAM_LIMITS.taskAgeMs + RETENTION_LIMITS.clockSkewMs) return false
    const streams = new Set(actors.map(({ namespace, agent }) => streamNames.agentMail(namespace, agent)))
    for (const stream of streams) {
      const oldestAt = await this.stores.oldestAt(stream)
      if (oldestAt !== undefined && oldestAt <= youngestAt + this.settleMs) return true
    }
    return false
  }

  /** The journal says that the actor has ended, and nothing in it is too young; or it is gone already. */
  private async mayGo({ namespace, agent, task }: IndexRecord): Promise<boolean> {
    const stream = streamNames.agentJournal(namespace, agent)
    const last = await this.stores.last(stream, subjectsOf(namespace).journal(agent, task))
    if (!last) return true
    return (await this.stores.isOld(stream, last.sequence)) && outcomeIn(last.text, task) !== undefined
  }

  private async removeActor({ namespace, agent, task }: IndexRecord): Promise<number> {
    const subjects = subjectsOf(namespace)
    const journal = streamNames.agentJournal(namespace, agent)
    let messages = 0
    // Before the bodies that a result may refer to. Left behind, it would be the answer to a new task of the same id.
    if (isRootTask(task))
      messages += await this.stores.purge(streamNames.results, subjects.result(agent, parseRootTask(task).key))
    messages += await this.stores.purge(journal, subjects.journal(agent, task))
    messages += await this.stores.purge(journal, subjects.blobsOf(agent, task))
    return messages
  }
}

function outcomeIn(text: string, task: string): Entry['outcome'] {
  return openEntry(text, undefined, `the last entry of task "${task}"`).entry.outcome
}
