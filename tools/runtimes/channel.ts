/** What a runtime gives to a session: a way to one MCP server, open for one MCP client. */
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import type { Logger } from '../../telemetry/log.ts'
import type { ServiceTelemetry } from '../../telemetry/telemetry.ts'

/** How an MCP server is reached, as `network.transport` says it: `pipe` is stdio, `tcp` HTTP; undefined in this process. */
export type NetworkTransport = 'pipe' | 'tcp' | undefined

export interface Channel {
  readonly transport: Transport
  /** Values that were configured for this server and may stand in what it says: nothing of it is shown without concealing them. */
  readonly secrets: readonly string[]
  /** What the server said last, for messages; empty if nothing. */
  lastWords(): string
  /** Judges an error of sending a request. */
  judge(error: unknown): SendFailure
  /** Ends politely, and by force within `MCP_LIMITS.closeStepMs` per step. Never rejects. */
  end(): Promise<void>
}

export interface SendFailure {
  /** False proves that the server did not begin the request; true means that nobody knows. */
  readonly sent: boolean
  readonly message: string
}

export interface ChannelOptions {
  readonly log: Logger
  /** Where the safe part of a child's environment comes from. */
  readonly env: NodeJS.ProcessEnv
  /** Where spans of tools that run in this process go. */
  readonly telemetry: ServiceTelemetry
  /** The server is not what it was: what is under way may end, what is new needs a new channel. */
  onStale(): void
}

/**
 * `data` of the error that answers a request whose answer was too large, and was dropped before it stood in memory. Its message continues a
 * sentence about the server.
 */
export const OVERSIZED: unique symbol = Symbol('oversized')

/** Field of `_meta` of a call: the same when the call is repeated. */
export const IDEMPOTENCY_KEY = 'kaos.tools/idempotency-key'
