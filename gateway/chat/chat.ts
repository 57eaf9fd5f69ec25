/**
 * `POST /v1/chat/completions`: puts a task into the agent's mail and waits for its result. Whoever stops waiting stops nothing but the waiting,
 * and finds the task again by its Idempotency-Key.
 */
import { KaosError } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { DoorAgent } from '../agents.ts'
import type { Door, Posted, ProgressEvent, TaskBody, TaskEnd, Ticket } from '../door.ts'
import { TaskProblem, type Told, tell, traceOf } from '../problem.ts'
import { chunksOf, completion, headOf, outputText, piecesOf } from './completion.ts'
import { EventStream } from './event-stream.ts'
import { LiveText } from './live-text.ts'
import { OwnEvents } from './own-events.ts'
import { ProgressRecords } from './progress.ts'
import type { ChatRequest } from './request.ts'
import type { Place } from './room.ts'

/** One chat request at the door. */
export interface Visit {
  readonly agent: DoorAgent
  readonly request: ChatRequest
  /** Of the request's body; left as soon as the task is in the mail. */
  readonly place: Pick<Place, 'leave'>
  /** `performance.now()` at which it is answered at the latest. */
  readonly deadline: number
  /** Aborts when the caller is gone. */
  readonly gone: AbortSignal
  /** Aborts when the process is about to end. */
  readonly shutting: AbortSignal
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: object | EventStream
}

export class Chat {
  private readonly door: Door
  private readonly log: Logger

  constructor(door: Door, log: Logger) {
    this.door = door
    this.log = log
  }

  /** Never rejects. */
  async answer(visit: Visit): Promise<Answer> {
    const { agent, request } = visit
    const { id, carrier, session } = request
    const ticket = this.door.open(agent.name, { id, carrier })
    try {
      if (request.isStreamed) return await this.stream(visit, ticket)
      const end = await this.end(visit, await this.post(visit, ticket))
      const answer = completion(headOf(ticket, request.model, Date.now()), outputText(end.output), end.usage)
      return { status: 200, headers: headersOf(ticket, end.trace, session), body: answer }
    } catch (error) {
      const told = this.told(error, visit, ticket)
      return { ...told, headers: { ...headersOf(ticket, traceOf(error) ?? ticket.traceId, session), ...told.headers } }
    }
  }

  /** Streams once the task is in the mail; rejects before that, so that an error has a status of its own. */
  private async stream(visit: Visit, ticket: Ticket): Promise<Answer> {
    const events = new EventStream()
    const watching = new Watching(events, visit, ticket)
    const posting = Promise.withResolvers<Posted>()
    const own = new OwnEvents(ticket.task, {
      pass: (event) => watching.take(event),
      prove: async () => this.isOwn(await posting.promise),
    })
    const watch = (watched: Ticket) => this.door.watch(watched, (event) => own.take(event))
    let unwatch = watch(ticket)
    let posted: Posted
    try {
      posted = await this.post(visit, ticket)
      posting.resolve(posted)
      if (posted.isOwn) own.open()
    } catch (error) {
      unwatch()
      events.close()
      throw error
    }
    if (posted.traceId !== ticket.traceId) {
      unwatch()
      unwatch = watch(posted)
    }
    watching.begin()
    const gone = AbortSignal.any([visit.gone, events.left])
    void this.end({ ...visit, gone }, posted)
      .then((end) => watching.finish(end))
      .catch((error: unknown) => {
        if (!gone.aborted) events.send(this.told(error, visit, posted).body)
      })
      .finally(() => {
        unwatch()
        events.close()
      })
    return { status: 200, headers: headersOf(ticket, posted.traceId, visit.request.session), body: events }
  }

  /**
   * Puts the task into the mail, and lets go of its text. One that was begun with another body is refused before a word of its answer. Stops
   * waiting for a broker that does not answer when the request's time is over.
   */
  private async post(visit: Visit, ticket: Ticket): Promise<Posted> {
    const { request, deadline, gone, shutting, place } = visit
    const { promise: late, reject } = Promise.withResolvers<never>()
    const give = () => reject(unfinished(ticket, shutting))
    const timer = setTimeout(give, leftMs(deadline))
    const leaving = AbortSignal.any([gone, shutting])
    leaving.addEventListener('abort', give)
    if (leaving.aborted) give()
    const posting = this.send(request, ticket)
    void posting.catch(() => undefined).finally(() => place.leave()) // nobody may be left to hear of an error
    try {
      return await Promise.race([posting, late])
    } finally {
      clearTimeout(timer)
      leaving.removeEventListener('abort', give)
    }
  }

  private async send({ takeText, session, id, carrier }: ChatRequest, ticket: Ticket): Promise<Posted> {
    const body: TaskBody = { input: takeText(), ...(session !== undefined && { session }) }
    const hash = id === undefined ? undefined : this.door.hashOf(body)
    await this.door.send(ticket, body, carrier)
    const traceId = hash === undefined ? undefined : await this.door.begun(ticket, hash)
    return { ...ticket, hash, isOwn: hash === undefined || traceId !== undefined, ...(traceId !== undefined && { traceId }) }
  }

  /** Another body may have come first under the same key. */
  private async isOwn(posted: Posted): Promise<boolean> {
    return posted.isOwn || posted.hash === undefined || (await this.door.begun(posted, posted.hash)) !== undefined
  }

  /** Rejects with TaskProblem, `result_timeout`, `not_ready`, `key_conflict`, `read_failed`. */
  private async end({ deadline, gone, shutting }: Visit, posted: Posted) {
    const signal = AbortSignal.any([gone, shutting])
    const end = await this.door.wait(posted, { deadlineMs: leftMs(deadline), signal })
    if (!end) throw unfinished(posted, shutting)
    // What was rejected never began.
    if (posted.hash !== undefined && !posted.isOwn && end.state !== 'rejected') await this.door.begun(posted, posted.hash)
    if (end.state !== 'completed') throw new TaskProblem(end)
    return end
  }

  private told(error: unknown, { request }: Visit, ticket: Ticket): Told {
    const told = tell(error, { ticket, isSent: true, isKeyed: request.id !== undefined })
    if (told.body.error.code === 'internal')
      this.log.error({ err: error, task: ticket.task }, 'a chat request could not be answered')
    return told
  }
}

/** What a stream says while its task is under way, and at its end. */
class Watching {
  private readonly events: EventStream
  private readonly chunks: ReturnType<typeof chunksOf>
  private readonly live: LiveText
  private readonly records = new ProgressRecords()
  private readonly includesUsage: boolean
  private hasBegun = false

  constructor(events: EventStream, { agent, request }: Visit, ticket: Ticket) {
    const { includesUsage, model } = request
    this.events = events
    this.includesUsage = includesUsage
    this.chunks = chunksOf(headOf(ticket, model, Date.now()), { includesUsage })
    this.live = new LiveText(ticket.task, agent)
  }

  take(event: ProgressEvent): void {
    // A reader that lags behind gets the text at the end.
    if (this.events.isCongested) {
      this.live.hold()
      return
    }
    for (const kaos of this.records.of(event)) this.say({ delta: {}, kaos })
    const text = this.live.take(event)
    if (text !== '') this.say({ delta: { content: text } })
  }

  finish(end: Extract<TaskEnd, { readonly state: 'completed' }>): void {
    for (const content of piecesOf(this.live.rest(outputText(end.output)))) this.say({ delta: { content } })
    this.say({ delta: {}, finishReason: 'stop' })
    if (this.includesUsage) this.events.send(this.chunks.usage(end.usage))
    this.events.send('[DONE]')
  }

  /** Says that an answer comes; harmless again. */
  begin(): void {
    if (!this.hasBegun) this.events.send(this.chunks.part({ delta: { role: 'assistant', content: '' } }))
    this.hasBegun = true
  }

  private say(parts: Parameters<typeof this.chunks.part>[0]): void {
    this.begin()
    this.events.send(this.chunks.part(parts))
  }
}

/** Whole milliseconds, as timers of Node want them. */
function leftMs(deadline: number): number {
  return Math.max(0, Math.ceil(deadline - performance.now()))
}

function headersOf({ task, id }: Ticket, trace: string, session: string | undefined): Record<string, string> {
  return {
    'kaos-task': task,
    'kaos-trace': trace,
    'idempotency-key': id,
    ...(session !== undefined && isHeaderText(session) && { 'x-session-id': session }),
  }
}

function isHeaderText(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text)
}

function unfinished({ task, id }: Ticket, shutting: AbortSignal): KaosError {
  const again = `the work goes on, and the same request with the header "Idempotency-Key: ${id}" gives its result`
  if (shutting.aborted) return new KaosError('not_ready', `task "${task}" has not ended, and this process ends: ${again}`)
  return new KaosError(
    'result_timeout',
    `task "${task}" has not ended in the time of the request: ${again}; or "kaos task get ${task}"`,
  )
}
