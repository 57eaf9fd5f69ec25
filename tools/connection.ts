/** One MCP handshake and the requests over it. It ends with its server; opening the next one is the session's part. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { ErrorCode as McpCode, McpError, ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js'
import { z } from 'zod'
import type { ErrorCode } from '../bus/wire/error-codes.ts'
import { KaosError } from '../bus/wire/errors.ts'
import type { Logger } from '../telemetry/log.ts'
import type { ServiceTelemetry } from '../telemetry/telemetry.ts'
import { type Channel, OVERSIZED } from './runtimes/channel.ts'
import { conceal } from './runtimes/conceal.ts'
import { type Flight, flights } from './runtimes/flight.ts'
import { openChannel, type ResolvedRuntime } from './runtimes/open.ts'

export interface ConnectionOptions {
  /** The server's name, for messages. */
  readonly name: string
  readonly log: Logger
  readonly env: NodeJS.ProcessEnv
  readonly telemetry: ServiceTelemetry
  readonly timeoutMs: number
  /** Stops an opening. */
  readonly signal: AbortSignal
  onListChanged(): void
  /** The connection takes no new requests any more. Called once. */
  onRetired(connection: Connection): void
  /** Nothing of it is left. */
  onEnded(connection: Connection): void
}

export interface RequestOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
  /** HTTP headers of this request, where there is HTTP. */
  readonly headers?: Readonly<Record<string, string>>
}

/** Whatever a server answers; the SDK's own schema refuses a whole answer for one content block of a kind that it does not know. */
const anyResult = z.looseObject({})
/** The SDK has a time-out of its own, 60 s by default, which must not come before ours. */
const SDK_TIMEOUT_MS = 2 ** 31 - 1

export class Connection {
  private readonly client: Client
  private readonly channel: Channel
  private readonly options: ConnectionOptions
  private readonly inFlight = new Set<Flight>()
  private isRetired = false
  /** The server is gone: what is under way has no answer. */
  private isLost = false
  private ending: Promise<void> | undefined

  private constructor(client: Client, channel: Channel, options: ConnectionOptions) {
    this.client = client
    this.channel = channel
    this.options = options
  }

  /** Starts or reaches the server and shakes hands. Rejects with `tool_server_lost` and `sent: false`, or with `tool_module`. */
  static open(runtime: ResolvedRuntime, options: ConnectionOptions): Promise<Connection> {
    return flights.exit(() => Connection.shakeHands(runtime, options))
  }

  private static async shakeHands(runtime: ResolvedRuntime, options: ConnectionOptions): Promise<Connection> {
    const { name, log, env, telemetry } = options
    const client = new Client({ name: 'kaos-actors', version: '1' }, { capabilities: {} })
    let connection: Connection | undefined
    const channel = await openChannel(runtime, { log, env, telemetry, onStale: () => connection?.retire() })
    client.onclose = () => connection?.lose()
    client.onerror = (error) =>
      log.debug({ server: name, reason: conceal(error.message.slice(0, 1_000), channel.secrets) }, 'MCP protocol error')
    client.setNotificationHandler(ToolListChangedNotificationSchema, () => options.onListChanged())
    try {
      await client.connect(channel.transport, { timeout: options.timeoutMs, signal: options.signal })
      if (!client.transport) throw new Error('it ended after the handshake')
    } catch (error) {
      await channel.end()
      throw openFailure(name, error, channel)
    }
    connection = new Connection(client, channel, options)
    return connection
  }

  /**
   * Sends one request. Rejects with `tool_timeout`, `aborted`, `payload_too_large`, with `tool_server_lost` whose details say whether the
   * request had left (`sent`), or with `tool_failed` where the server refuses the request itself.
   */
  async request(
    method: string,
    params: { readonly [key: string]: unknown },
    options: RequestOptions,
  ): Promise<{ [key: string]: unknown }> {
    const { timeoutMs, signal, headers = {} } = options
    if (signal?.aborted) throw this.failure('aborted', 'is not asked: nobody waits', false)
    if (this.isRetired) throw this.failure('tool_server_lost', 'has ended', false)
    const over = new AbortController()
    const hangUp = new AbortController()
    let failure: KaosError | undefined
    const flight: Flight = {
      headers,
      hangUp: hangUp.signal,
      isResumable: false,
      isOver: false,
      fail: (code, why) => {
        if (flight.isOver) return
        failure = this.failure(code, why, true)
        flight.isOver = true
        // The SDK tells the server that the request is canceled; that message is not part of this flight, which is over.
        flights.exit(() => over.abort(code))
        hangUp.abort()
      },
    }
    const timer = setTimeout(
      () => flight.fail('tool_timeout', `did not answer within ${Math.round(timeoutMs)} ms`),
      Math.min(timeoutMs, SDK_TIMEOUT_MS),
    )
    const onAbort = () => flight.fail('aborted', 'was stopped: nobody waits any more')
    signal?.addEventListener('abort', onAbort, { once: true })
    this.inFlight.add(flight)
    try {
      return await flights.run(flight, () =>
        this.client.request({ method, params }, anyResult, {
          signal: over.signal,
          timeout: SDK_TIMEOUT_MS,
          onresumptiontoken: () => {
            flight.isResumable = true
          },
        }),
      )
    } catch (error) {
      throw failure ?? this.judge(error)
    } finally {
      flight.isOver = true
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      this.inFlight.delete(flight)
      if (this.isRetired && this.inFlight.size === 0) void this.end() // never rejects
    }
  }

  /** Stops what is under way with `aborted` and ends the server. Never rejects. */
  close(): Promise<void> {
    this.retire()
    for (const flight of this.inFlight) flight.fail('aborted', 'is closed')
    return this.end()
  }

  private end(): Promise<void> {
    this.ending ??= flights.exit(() => this.channel.end()).then(() => this.options.onEnded(this))
    return this.ending
  }

  private lose(): void {
    this.isLost = true
    this.retire()
  }

  /** What is under way may end; what is new needs a new connection. */
  private retire(): void {
    if (this.isRetired) return
    this.isRetired = true
    this.options.onRetired(this)
    if (this.inFlight.size === 0) void this.end() // never rejects
  }

  /** The foreign error is no cause of ours: it may hold what must not be shown. */
  private judge(error: unknown): KaosError {
    const { channel } = this
    if (this.isLost) return this.failure('tool_server_lost', `ended while it worked${lastWords(channel)}`, true)
    if (error instanceof McpError) {
      if (error.data === OVERSIZED) {
        return this.failure('payload_too_large', wordsOf(error), true)
      }
      const words = wordsOf(error).slice(0, 2_000)
      const isUnknown = error.code === McpCode.InvalidParams && /\btool\b.*\b(unknown|not found)\b|\bunknown tool\b/i.test(words)
      const why = `refused the request (${error.code}): ${conceal(words, channel.secrets)}`
      return this.failure(isUnknown ? 'unknown_tool' : 'tool_failed', why, true)
    }
    this.retire()
    const { sent, message } = channel.judge(error)
    const why = `${sent ? 'was lost' : 'did not take the request'}: ${conceal(message, channel.secrets)}`
    return this.failure('tool_server_lost', why, sent)
  }

  private failure(code: ErrorCode, why: string, sent: boolean): KaosError {
    return serverError(this.options.name, code, why, sent)
  }
}

/** `sent` tells whether the request had left, so that whether it ran is unknown. */
export function serverError(name: string, code: ErrorCode, why: string, sent: boolean): KaosError {
  return new KaosError(code, `MCP server "${name}" ${why}`, { details: { sent } })
}

/** The SDK puts the code before the message, once on each side. */
function wordsOf(error: McpError): string {
  return error.message.replace(/^(MCP error -?\d+: )+/, '')
}

function openFailure(name: string, error: unknown, channel: Channel): KaosError {
  const isLate = error instanceof McpError && error.code === McpCode.RequestTimeout
  const why = isLate ? 'it did not answer the handshake in time' : conceal(channel.judge(error).message, channel.secrets)
  return serverError(name, 'tool_server_lost', `could not be opened: ${why}${lastWords(channel)}`, false)
}

function lastWords(channel: Channel): string {
  const words = conceal(channel.lastWords(), channel.secrets, 'end')
  return words === '' ? '' : `; it said last: ${words}`
}
