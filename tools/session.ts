/**
 * A session with one MCP server: opened when it is first needed, shared by all calls, opened again when its server is gone. The server may
 * be a process, a URL or a runtime of ours; all speak the same protocol through the official SDK.
 */

import type { ToolDescription } from '../bus/wire/catalog.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { isObject, type JsonObject } from '../bus/wire/json.ts'
import { logFieldsOf } from '../bus/wire/trace.ts'
import { allowedBaggage } from '../telemetry/baggage.ts'
import type { Logger } from '../telemetry/log.ts'
import { noService, type ServiceTelemetry } from '../telemetry/telemetry.ts'
import { Connection, serverError } from './connection.ts'
import { MCP_LIMITS } from './limits.ts'
import { type KnownTools, Listing } from './listing.ts'
import { Reopening } from './reopening.ts'
import { IDEMPOTENCY_KEY, type NetworkTransport } from './runtimes/channel.ts'
import type { ResolvedRuntime } from './runtimes/open.ts'
import { readResult, type ToolResult } from './tool-result.ts'

export interface ToolCall {
  readonly tool: string
  readonly arguments: JsonObject
  /** For everything, also for opening the server. Progress that a tool reports does not extend it. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
  /** Sent as `_meta['kaos.tools/idempotency-key']`: the same when the call is repeated. */
  readonly idempotencyKey: string
  /** Sent in `_meta` and, where there is HTTP, as headers; empty where there is no trace. */
  readonly traceparent: string
  readonly tracestate?: string | undefined
  /** As it came: what of it leaves, the session's `baggageKeys` say. */
  readonly baggage?: string | undefined
}

export interface ToolSession {
  readonly transport: NetworkTransport
  /** All tools, read anew. Tools that cannot be offered are left out and logged. Rejects as `call`. */
  list(signal?: AbortSignal): Promise<readonly ToolDescription[]>
  /**
   * Calls a tool. A tool that says that it failed is a result with `isError`. Rejects with `unknown_tool`, `tool_timeout`, `aborted`,
   * `payload_too_large`, `tool_failed` (the server refused, or broke its own output schema) or `tool_server_lost`. `details.sent` of these is
   * false where the request provably never reached the server; true means that whether the tool ran is unknown. A request that was refused
   * because the HTTP session had ended is sent once more over a new one.
   */
  call(call: ToolCall): Promise<ToolResult>
  /** The list may have changed: the server said so, or came back after a loss. While somebody listens a lost server is opened again at once. */
  onListChanged(listener: () => void): () => void
  /** Calls under way end with `aborted`; the server ends within a few seconds. Never rejects. */
  close(): Promise<void>
}

export interface SessionOptions {
  /** The server's name, for messages. Default: the runtime. */
  readonly name?: string
  readonly log: Logger
  readonly openTimeoutMs?: number
  /** For opening the server and all pages of its list. */
  readonly listTimeoutMs?: number
  /** Where the safe part of a child's environment comes from. Default: `process.env`. */
  readonly env?: NodeJS.ProcessEnv
  /** Which baggage the server is sent, by key. Default none. */
  readonly baggageKeys?: readonly string[]
  /** Where spans of tools that run in this process go. Default: nowhere. */
  readonly telemetry?: ServiceTelemetry
}

const TRANSPORTS: { readonly [R in ResolvedRuntime['runtime']]?: NetworkTransport } = { stdio: 'pipe', url: 'tcp' }

export function openSession(runtime: ResolvedRuntime, options: SessionOptions): ToolSession {
  return new McpSession(runtime, options)
}

class McpSession implements ToolSession {
  readonly transport: NetworkTransport
  private readonly name: string
  private readonly log: Logger
  private readonly listTimeoutMs: number
  private readonly baggageKeys: readonly string[]
  private readonly reopening: Reopening
  private readonly listing: Listing
  private readonly listeners = new Set<() => void>()
  /** Also those that take no new requests any more but have calls under way. */
  private readonly connections = new Set<Connection>()
  private settling: NodeJS.Timeout | undefined

  constructor(runtime: ResolvedRuntime, options: SessionOptions) {
    const {
      name = runtime.runtime,
      log,
      openTimeoutMs = MCP_LIMITS.openMs,
      listTimeoutMs = MCP_LIMITS.listMs,
      env = process.env,
      baggageKeys = [],
      telemetry = noService,
    } = options
    this.transport = TRANSPORTS[runtime.runtime]
    this.baggageKeys = baggageKeys
    this.name = name
    this.log = log
    this.listTimeoutMs = listTimeoutMs
    this.listing = new Listing(name, log, listTimeoutMs)
    this.reopening = new Reopening({
      open: async (signal) => {
        const connection = await Connection.open(runtime, {
          name,
          log,
          env,
          telemetry,
          signal,
          timeoutMs: openTimeoutMs,
          onListChanged: () => this.changed(),
          onRetired: (retired) => this.reopening.lost(retired),
          onEnded: (ended) => this.connections.delete(ended),
        })
        this.connections.add(connection)
        return connection
      },
      onReopened: () => this.changed(),
      isWatched: () => this.listeners.size > 0,
    })
  }

  async list(signal?: AbortSignal): Promise<readonly ToolDescription[]> {
    const deadline = performance.now() + this.listTimeoutMs
    const { tools } = await this.over(deadline, signal, (connection) =>
      this.wait(this.listing.read(connection), deadline, signal),
    )
    this.reopening.worked()
    return [...tools.values()]
  }

  async call(call: ToolCall): Promise<ToolResult> {
    const deadline = performance.now() + call.timeoutMs
    const about = logFieldsOf(call.traceparent)
    return this.over(deadline, call.signal, (connection) => this.callOver(connection, call, deadline), about)
  }

  onListChanged(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  async close(): Promise<void> {
    clearTimeout(this.settling)
    this.listeners.clear()
    await Promise.all([this.reopening.close(), ...[...this.connections].map((connection) => connection.close())])
  }

  /** Does something over the connection; what provably never arrived is done once more, over a new one. */
  private async over<T>(
    deadline: number,
    signal: AbortSignal | undefined,
    work: (connection: Connection) => Promise<T>,
    about = {},
  ): Promise<T> {
    for (let isRepeat = false; ; isRepeat = true) {
      const connection = await this.wait(this.reopening.open(), deadline, signal)
      try {
        return await work(connection)
      } catch (error) {
        if (isRepeat || !neverArrived(error)) throw error
        this.log.debug({ server: this.name, reason: error.message, ...about }, 'MCP request is repeated over a new connection')
      }
    }
  }

  private async callOver(connection: Connection, call: ToolCall, deadline: number): Promise<ToolResult> {
    const { known, tool } = await this.find(connection, call, deadline)
    const { traceparent, tracestate } = call
    const baggage = allowedBaggage(call.baggage, this.baggageKeys)
    const trace = { ...(traceparent && { traceparent }), ...(tracestate && { tracestate }), ...(baggage && { baggage }) }
    const raw = await connection.request(
      'tools/call',
      { name: tool.name, arguments: call.arguments, _meta: { ...trace, [IDEMPOTENCY_KEY]: call.idempotencyKey } },
      { timeoutMs: remaining(deadline), signal: call.signal, headers: trace },
    )
    this.reopening.worked()
    const mistake = raw.isError === true ? undefined : known.outputs.mistakeIn(tool, raw.structuredContent)
    if (mistake !== undefined)
      throw serverError(this.name, 'tool_failed', `broke the output schema of its tool "${tool.name}": ${mistake}`, true)
    return readResult(tool.name, raw)
  }

  /** A tool that is not in the list is looked for once more, unless the list was read just now. */
  private async find(
    connection: Connection,
    { tool: name, signal }: ToolCall,
    deadline: number,
  ): Promise<{ readonly known: KnownTools; readonly tool: ToolDescription }> {
    // Whatever happens to a list request, the call itself has not left.
    const read = () =>
      this.wait(this.listing.read(connection), deadline, signal).catch((error: unknown) => Promise.reject(asUnsent(error)))
    let known = this.listing.current(connection) ?? (await read())
    if (!known.tools.has(name) && performance.now() - known.readAt > MCP_LIMITS.relistAfterMs) known = await read()
    const tool = known.tools.get(name)
    if (tool) return { known, tool }
    const others = [...known.tools.keys()].slice(0, 20).join(', ') || 'none'
    throw serverError(this.name, 'unknown_tool', `has no tool "${name}"; it has: ${others}`, false)
  }

  private changed(): void {
    this.listing.outdate()
    if (this.listeners.size === 0) return
    this.settling ??= setTimeout(() => {
      this.settling = undefined
      for (const listener of this.listeners) listener()
    }, MCP_LIMITS.changeSettlesMs).unref()
  }

  /** Waits for shared work without ending it. */
  private wait<T>(work: Promise<T>, deadline: number, signal: AbortSignal | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (code: 'aborted' | 'tool_timeout', why: string) => reject(serverError(this.name, code, why, false))
      const onAbort = () => fail('aborted', 'is not asked: nobody waits any more')
      const timer = setTimeout(() => fail('tool_timeout', 'was not ready in time'), remaining(deadline))
      signal?.addEventListener('abort', onAbort, { once: true })
      if (signal?.aborted) onAbort()
      void work.then(resolve, reject).finally(() => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
      })
    })
  }
}

function neverArrived(error: unknown): error is KaosError {
  return (
    error instanceof KaosError && error.code === 'tool_server_lost' && isObject(error.details) && error.details.sent === false
  )
}

function asUnsent(error: unknown): unknown {
  if (!(error instanceof KaosError)) return error
  return new KaosError(error.code, error.message, { cause: error, details: { sent: false } })
}

function remaining(deadline: number): number {
  return Math.max(1, Math.min(deadline - performance.now(), 2 ** 31 - 1))
}
