/**
 * `POST /v1/chat/completions`: puts a task into the agent's mail and waits for its result. Whoever stops waiting stops nothing but the waiting,
 * and finds the task again by its Idempotency-Key.
 */
import { KaosError } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { DoorAgent } from '../agents.ts'
import type { Door, ProgressEvent, TaskBody, TaskEnd, Ticket } from '../door.ts'
import { TaskProblem, type Told, tell } from '../problem.ts'
import { chunksOf, completion, headOf, outputText, piecesOf } from './completion.ts'
import { taskText } from './conversation.ts'
import { EventStream } from './event-stream.ts'
import { LiveText } from './live-text.ts'
import { ProgressRecords } from './progress.ts'
import type { ChatRequest } from './request.ts'

/** One chat request at the door. */
export interface Visit {
  readonly agent: DoorAgent
  readonly request: ChatRequest
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
    const headers = headersOf(ticket, session)
    let isSent = false
    try {
      const body: TaskBody = { input: taskText(request.messages), ...(session !== undefined && { session }) }
      isSent = true
      if (request.isStreamed) return await this.stream(visit, ticket, body, headers)
      await this.send(visit, ticket, body)
      const end = await this.end(visit, ticket, body)
      const answer = completion(headOf(ticket, request.model, Date.now()), outputText(end.output), end.usage)
      return { status: 200, headers: { ...headers, 'kaos-trace': end.trace }, body: answer }
    } catch (error) {
      const told = this.told(error, visit, ticket, isSent)
      return { ...told, headers: { ...headers, ...told.headers } }
    }
  }

  /** Streams once the task is in the mail; rejects before that, so that an error has a status of its own. */
  private async stream(visit: Visit, ticket: Ticket, body: TaskBody, headers: Readonly<Record<string, string>>): Promise<Answer> {
    const events = new EventStream()
    const watching = new Watching(events, visit, ticket)
    const unwatch = this.door.watch(ticket, (event) => watching.take(event))
    try {
      await this.send(visit, ticket, body)
      // A task that was begun by another body is refused before a word of its answer.
      if (visit.request.id !== undefined) await this.door.proveSame(ticket, body)
    } catch (error) {
      unwatch()
      events.close()
      throw error
    }
    watching.begin()
    const gone = AbortSignal.any([visit.gone, events.left])
    void this.end({ ...visit, gone }, ticket, body)
      .then((end) => watching.finish(end))
      .catch((error: unknown) => {
        if (!gone.aborted) events.send(this.told(error, visit, ticket, true).body)
      })
      .finally(() => {
        unwatch()
        events.close()
      })
    return { status: 200, headers, body: events }
  }

  /** Stops waiting for a broker that does not answer when the request's time is over. */
  private async send({ request, deadline, gone, shutting }: Visit, ticket: Ticket, body: TaskBody): Promise<void> {
    const signal = AbortSignal.any([gone, shutting, AbortSignal.timeout(leftMs(deadline))])
    const { promise: late, reject } = Promise.withResolvers<never>()
    const give = () => reject(unfinished(ticket, shutting))
    if (signal.aborted) give()
    else signal.addEventListener('abort', give, { once: true })
    const sending = this.door.send(ticket, body, request.carrier)
    sending.catch(() => undefined) // nobody may be left to hear of it
    await Promise.race([sending, late])
  }

  /** Rejects with TaskProblem, `result_timeout`, `not_ready`, `key_conflict`, `read_failed`. */
  private async end({ request, deadline, gone, shutting }: Visit, ticket: Ticket, body: TaskBody) {
    const signal = AbortSignal.any([gone, shutting])
    const end = await this.door.wait(ticket, { deadlineMs: leftMs(deadline), signal })
    if (!end) throw unfinished(ticket, shutting)
    // What was rejected never began.
    if (request.id !== undefined && end.state !== 'rejected') await this.door.proveSame(ticket, body)
    if (end.state !== 'completed') throw new TaskProblem(end)
    return end
  }

  private told(error: unknown, { request }: Visit, ticket: Ticket, isSent: boolean): Told {
    const told = tell(error, { ticket, isSent, isKeyed: request.id !== undefined })
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

function headersOf({ task, traceId, id }: Ticket, session: string | undefined): Record<string, string> {
  return {
    'kaos-task': task,
    'kaos-trace': traceId,
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
