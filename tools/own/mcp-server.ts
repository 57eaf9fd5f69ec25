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
import { formatTraceparent, parseTraceparent } from '../../bus/wire/trace.ts'
import type { Logger } from '../../telemetry/log.ts'
import { runUserCode } from '../../telemetry/user-code.ts'
import { MCP_LIMITS } from '../limits.ts'
import { IDEMPOTENCY_KEY, OVERSIZED } from '../runtimes/channel.ts'
import { answerOf, jsonOf, TooLarge } from './answer.ts'
import type { ToolContext } from './define.ts'
import { mistakesIn } from './mistakes.ts'
import type { NamedTool } from './module.ts'

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

/** One server has one client. */
export function ownToolServer(name: string, tools: readonly NamedTool[], log: Logger): OwnToolServer {
  const server = new Server({ name, version: '1' }, { capabilities: { tools: {} } })
  const byName = new Map(tools.map((named) => [named.name, named]))
  const listed = tools.map(describe)
  const running = new Set<Promise<unknown>>()

  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: listed }))
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, extra) => {
    const named = byName.get(params.name)
    if (!named) throw new McpError(ErrorCode.InvalidParams, `Tool ${params.name} not found`)
    const run = runTool(named, params.arguments ?? {}, contextOf(extra), log)
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
async function runTool({ name, tool }: NamedTool, given: unknown, context: ToolContext, log: Logger): Promise<CallToolResult> {
  try {
    const input = await tool.input.safeParseAsync(given)
    if (!input.success) return failed(`the input of tool "${name}" cannot be used: ${mistakesIn(given, input.error.issues)}`)
    return await answer({ name, tool }, await runUserCode({ tool: name }, () => tool.run(input.data, context)))
  } catch (error) {
    if (error instanceof TooLarge) {
      const words = `answered more than ${MCP_LIMITS.resultBytesMax} bytes with its tool "${name}"`
      throw new McpError(ErrorCode.InternalError, words, OVERSIZED)
    }
    if (!(error instanceof Refusal) && !context.signal.aborted) log.warn({ tool: name, err: error }, 'a tool threw')
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

function contextOf({ signal, _meta: meta = {}, requestInfo }: Extra): ToolContext {
  const key = meta[IDEMPOTENCY_KEY]
  const sent = (name: string): string | undefined => {
    const value = meta[name] ?? requestInfo?.headers[name]
    return typeof value === 'string' ? value : undefined
  }
  const traceparent = sent('traceparent')
  const tracestate = sent('tracestate')
  const isTraced = traceparent !== undefined && parseTraceparent(traceparent) !== undefined
  return {
    idempotencyKey: typeof key === 'string' && key !== '' ? key : randomUUID(),
    signal,
    traceparent: isTraced ? traceparent : newTraceparent(),
    ...(isTraced && tracestate && { tracestate }),
  }
}

function newTraceparent(): string {
  return formatTraceparent(randomBytes(16).toString('hex'), randomBytes(8).toString('hex'), 1)
}
