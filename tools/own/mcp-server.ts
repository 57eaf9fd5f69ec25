/** An MCP server of tools that run in this process: for the runtimes of ours, and for `kaos tools serve`. */
import { randomBytes, randomUUID } from 'node:crypto'
import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js'
import {
  CallToolRequestSchema,
  type CallToolResult,
  ErrorCode,
  ListToolsRequestSchema,
  McpError,
  type ServerNotification,
  type ServerRequest,
  type Tool,
} from '@modelcontextprotocol/sdk/types.js'
import { parseEffectId } from '../../bus/wire/ids.ts'
import { checkSpanName, formatTraceparent, logFieldsOf, parseTraceparent, readableState } from '../../bus/wire/trace.ts'
import type { Logger } from '../../telemetry/log.ts'
import { KEYS } from '../../telemetry/names.ts'
import { noService, type ServiceTelemetry, type SpanParent } from '../../telemetry/telemetry.ts'
import { runUserCode } from '../../telemetry/user/code.ts'
import { MCP_LIMITS } from '../limits.ts'
import { IDEMPOTENCY_KEY, type NetworkTransport, OVERSIZED } from '../runtimes/channel.ts'
import { answerOf, jsonOf, TooLarge } from './answer.ts'
import type { ToolContext } from './define.ts'
import { mistakesIn } from './mistakes.ts'
import type { NamedTool } from './module.ts'
import { runServed } from './served-call.ts'

type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>

/** What a tool refuses to do: told to the model as its error, and nothing for the log. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
}

export interface OwnToolServer {
  readonly server: Server
  /** Resolves when no tool runs. */
  idle(): Promise<void>
}

export interface OwnToolServerOptions {
  readonly log: Logger
  /** Where spans of the tools go. Default: nowhere. */
  readonly telemetry?: ServiceTelemetry
  /** How its clients reach it, where they may be anybody: each call is then a span of this server. Absent: a tool server of ours records it. */
  readonly served?: NetworkTransport
}

/** One server has one client. */
export function ownToolServer(name: string, tools: readonly NamedTool[], options: OwnToolServerOptions): OwnToolServer {
  const { log, telemetry = noService, served } = options
  const server = new Server({ name, version: '1' }, { capabilities: { tools: {} } })
  const byName = new Map(tools.map((named) => [named.name, named]))
  const listed = tools.map(describe)
  const running = new Set<Promise<unknown>>()

  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: listed }))
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, extra) => {
    const named = byName.get(params.name)
    if (!named) throw new McpError(ErrorCode.InvalidParams, `Tool ${params.name} not found`)
    const given = params.arguments ?? {}
    const sent = traceOf(extra)
    const start = (parent: SpanParent | undefined) => runTool(named, given, placeOf(extra, parent, telemetry), { log, telemetry })
    const place = { server: name, transport: served }
    const run = served ? runServed(telemetry, place, { tool: named.name, sent, arguments: given }, start) : start(sent)
    running.add(run)
    try {
      return await run
    } finally {
      running.delete(run)
    }
  })
  return { server, idle: () => Promise.allSettled(running).then(() => {}) }
}

function describe({ name, tool }: NamedTool): Tool {
  const { title, description, inputSchema, outputSchema, hints } = tool
  return {
    name,
    ...(title !== undefined && { title }),
    description,
    inputSchema: inputSchema as Tool['inputSchema'],
    ...(outputSchema && { outputSchema: outputSchema as NonNullable<Tool['outputSchema']> }),
    annotations: { ...hints },
  }
}

/** Rejects only where the result is too large: everything else is an answer of the tool. */
async function runTool(
  { name, tool }: NamedTool,
  given: unknown,
  place: { readonly context: ToolContext; readonly parent: SpanParent },
  { log, telemetry }: Required<Pick<OwnToolServerOptions, 'log' | 'telemetry'>>,
): Promise<CallToolResult> {
  const { context, parent } = place
  const start = (input: unknown) => runUserCode({ tool: name }, () => telemetry.within(parent, () => tool.run(input, context)))
  try {
    const input = await tool.input.safeParseAsync(given)
    if (!input.success) return failed(`the input of tool "${name}" cannot be used: ${mistakesIn(given, input.error.issues)}`)
    return await answer({ name, tool }, await start(input.data))
  } catch (error) {
    if (error instanceof TooLarge) {
      const words = `answered more than ${MCP_LIMITS.resultBytesMax} bytes with its tool "${name}"`
      throw new McpError(ErrorCode.InternalError, words, OVERSIZED)
    }
    if (!(error instanceof Refusal) && !context.signal.aborted)
      log.warn({ tool: name, ...logFieldsOf(context.traceparent), err: error }, 'a tool threw')
    return failed(error instanceof Error ? error.message : String(error))
  }
}

async function answer({ name, tool }: NamedTool, value: unknown): Promise<CallToolResult> {
  if (!tool.output) {
    try {
      return answerOf(value)
    } catch (error) {
      if (error instanceof TooLarge) throw error
      return failed(`tool "${name}" returned what JSON cannot hold: ${(error as Error).message}`)
    }
  }
  jsonOf(value ?? null) // its size, before the schema makes a copy of it
  const output = await tool.output.safeParseAsync(value)
  if (output.success) return answerOf(output.data)
  return failed(`tool "${name}" broke its own output schema: ${mistakesIn(value, output.error.issues)}`)
}

function failed(words: string): CallToolResult {
  return { isError: true, content: [{ type: 'text', text: words.slice(0, MCP_LIMITS.toolErrorLengthMax) || 'it failed' }] }
}

function placeOf(
  { signal, _meta: meta = {} }: Extra,
  sent: SpanParent | undefined,
  telemetry: ServiceTelemetry,
): { readonly context: ToolContext; readonly parent: SpanParent } {
  const key = meta[IDEMPOTENCY_KEY]
  const idempotencyKey = typeof key === 'string' && key !== '' ? key : randomUUID()
  const position = parseEffectId(idempotencyKey)
  const { traceparent, tracestate } = sent ?? { traceparent: newTraceparent() }
  const trace = { traceparent, ...(tracestate && { tracestate }) }
  // A caller of ours gives the effect as the key.
  const parent = { ...trace, ...(position && { attributes: { [KEYS.task]: position.task, [KEYS.effect]: idempotencyKey } }) }
  const span = <T>(name: string, work: () => T) => telemetry.span(checkSpanName(name), parent, work)
  return { context: { idempotencyKey, signal, ...trace, span }, parent }
}

/** The trace context of a call; what stands in `_meta` goes before HTTP headers. Undefined where the client sent none. */
function traceOf({ _meta: meta = {}, requestInfo }: Extra): SpanParent | undefined {
  const sent = (name: string): string | undefined => {
    const value = meta[name] ?? requestInfo?.headers[name]
    return typeof value === 'string' ? value : undefined
  }
  const parsed = parseTraceparent(sent('traceparent') ?? '')
  if (!parsed) return undefined
  const traceparent = formatTraceparent(parsed.traceId, parsed.parentSpanId!, parsed.flags)
  return { traceparent, tracestate: readableState(sent('tracestate')) }
}

function newTraceparent(): string {
  return formatTraceparent(randomBytes(16).toString('hex'), randomBytes(8).toString('hex'), 1)
}
