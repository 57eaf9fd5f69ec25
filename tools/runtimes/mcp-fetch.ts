/**
 * The fetch below the SDK's HTTP transport. It adds what the transport lacks: headers per request, an end to the HTTP request of a call
 * that is over, a bound on what a server may send, and the news that a server died while its answer was streaming (the transport only
 * logs that, and the call would wait for its time-out).
 */
import type { FetchLike } from '@modelcontextprotocol/sdk/shared/transport.js'
import { type Agent, fetch } from 'undici'
import { MCP_LIMITS } from '../limits.ts'
import { type Flight, flights } from './flight.ts'
import { MessageBound } from './message-bound.ts'

/** What the SDK has read of a stream has reached the call well before this after the stream's end. */
const LAST_MESSAGE_MS = 100
const ANSWER_LOST = 'ended its answer without a result'

interface McpFetchOptions {
  readonly agent: Agent
  readonly onStale: () => void
}

export function mcpFetch({ agent, onStale }: McpFetchOptions): FetchLike {
  const listening = new ResumeCount(onStale)
  const resumes = new WeakMap<Flight, ResumeCount>()

  return async (url, init) => {
    const flight = flights.getStore()
    if (flight?.isOver) throw new Error('nobody waits for this request any more')
    const resume = init?.method === 'GET' ? (flight ? resumesOf(flight) : listening) : undefined
    try {
      const response = await send(url, init, flight, agent)
      resume?.note(response.ok, response.status)
      return bounded(response, flight)
    } catch (error) {
      resume?.note(false)
      throw error
    }
  }

  function resumesOf(flight: Flight): ResumeCount {
    let count = resumes.get(flight)
    if (!count) {
      count = new ResumeCount(() => flight.fail('tool_server_lost', ANSWER_LOST))
      count.note(true)
      resumes.set(flight, count)
    }
    return count
  }
}

/** Counts the failures in a row of taking up an event stream that was open before. The SDK gives up as silently as this many. */
class ResumeCount {
  private readonly onLost: () => void
  private wasOpen = false
  private failures = 0

  constructor(onLost: () => void) {
    this.onLost = onLost
  }

  note(isOpen: boolean, status?: number): void {
    if (isOpen) {
      this.wasOpen = true
      this.failures = 0
    } else if (this.wasOpen) {
      this.failures += status === 405 ? MCP_LIMITS.httpResumesMax : 1
      if (this.failures >= MCP_LIMITS.httpResumesMax) this.onLost()
    }
  }
}

async function send(
  url: string | URL,
  init: RequestInit | undefined,
  flight: Flight | undefined,
  agent: Agent,
): Promise<Response> {
  const headers = new Headers(init?.headers)
  for (const [name, value] of Object.entries(flight?.headers ?? {})) headers.set(name, value)
  const signals = [init?.signal, flight?.hangUp].filter((signal) => signal !== undefined && signal !== null)
  const request = { ...init, headers: [...headers], signal: AbortSignal.any(signals), dispatcher: agent }
  // undici's own fetch is the one of Node, in a version that takes our agent; their types differ only by name.
  return (await fetch(url, request as Parameters<typeof fetch>[1])) as unknown as Response
}

/** The same response with a bounded body, whose end without an answer fails the flight. */
function bounded(response: Response, flight: Flight | undefined): Response {
  if (!response.body) return response
  const { status, statusText, headers } = response
  const isStream = headers.get('content-type')?.startsWith('text/event-stream') ?? false
  const bound = new MessageBound(MCP_LIMITS.messageBytesMax, isStream)
  const reader = response.body.getReader()
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read()
          if (done) {
            controller.close()
            endOfAnswer(flight)
            return
          }
          if (bound.isPassedBy(value)) {
            flight?.fail('payload_too_large', `answered more than ${MCP_LIMITS.messageBytesMax} bytes`)
            controller.error(new Error('the message is too large'))
            void reader.cancel().catch(() => {}) // the rest is not wanted, whatever becomes of it
            return
          }
          controller.enqueue(value)
        } catch (error) {
          endOfAnswer(flight)
          controller.error(error)
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  )
  return new Response(body, { status, statusText, headers })
}

function endOfAnswer(flight: Flight | undefined): void {
  if (!flight) return
  setTimeout(() => {
    if (!flight.isOver && !flight.isResumable) flight.fail('tool_server_lost', ANSWER_LOST)
  }, LAST_MESSAGE_MS).unref()
}
