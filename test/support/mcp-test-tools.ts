/** An MCP server whose tools do what a test needs: count, sleep, hang, die, fail, answer much. Served by mcp-stdio-server and mcp-http-server. */
import { setTimeout as delay } from 'node:timers/promises'
import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import { Protocol } from '@modelcontextprotocol/sdk/shared/protocol.js'
import {
  CallToolRequestSchema,
  ErrorCode,
  ListToolsRequestSchema,
  McpError,
  type ServerNotification,
  type ServerResult,
} from '@modelcontextprotocol/sdk/types.js'

export interface TestToolsOptions {
  /** Gets a line for each execution (`ran <tool>`) and for what happens to it (`canceled <tool>`). */
  readonly ledger: (line: string) => void
  readonly pageSize?: number
}

interface Tool {
  readonly description?: string
  readonly inputSchema?: unknown
  readonly outputSchema?: unknown
  readonly annotations?: unknown
  readonly execution?: unknown
  readonly run: (args: { readonly [key: string]: unknown }, extra: Extra) => unknown
}

type Extra = {
  readonly signal: AbortSignal
  readonly _meta?: unknown
  readonly sendNotification: (notification: ServerNotification) => Promise<void>
}

const anything = { type: 'object', properties: {} }
const numberResult = { type: 'object', properties: { count: { type: 'number' } }, required: ['count'] }

export function createTestServer({ ledger, pageSize = 5 }: TestToolsOptions): Server {
  const server = new Server({ name: 'test', version: '1' }, { capabilities: { tools: { listChanged: true } } })
  let count = 0
  const tools: Record<string, Tool> = {
    count: {
      description: 'Counts its calls.',
      annotations: { destructiveHint: false },
      run: () => text(String(++count)),
    },
    pid: { annotations: { readOnlyHint: true, idempotentHint: true }, run: () => text(String(process.pid)) },
    meta: { run: (_args, extra) => ({ content: [], structuredContent: { meta: extra._meta ?? null } }) },
    env: { run: () => ({ content: [], structuredContent: { ...process.env } }) },
    sleep: {
      run: async ({ ms }, { signal }) => {
        await delay(Number(ms), undefined, { signal }).catch(() => ledger('canceled sleep'))
        return text('slept')
      },
    },
    /** Over stdio: reads no more of its input. */
    deaf: { run: () => process.stdin.pause() && text('what?') },
    hang: { run: () => new Promise(() => {}) },
    die: { run: () => process.kill(process.pid, 'SIGKILL') && new Promise(() => {}) },
    fail: { run: () => ({ ...text('the disk is full'), isError: true }) },
    refuse: {
      run: () => {
        throw new McpError(ErrorCode.InternalError, 'not today')
      },
    },
    structured: { outputSchema: numberResult, run: () => ({ ...text('{"count":7}'), structuredContent: { count: 7 } }) },
    broken: { outputSchema: numberResult, run: () => ({ ...text('?'), structuredContent: { count: 'seven' } }) },
    missing: { outputSchema: numberResult, run: () => text('7') },
    nothing: { run: () => ({ content: [] }) },
    lines: { run: () => ({ content: ['a', 'b'].map((line) => ({ type: 'text', text: line })) }) },
    picture: {
      run: () => ({
        content: [
          { type: 'text', text: 'a dot' },
          { type: 'image', mimeType: 'image/png', data: Buffer.alloc(30).toString('base64') },
          { type: 'resource', resource: { uri: 'file:///a', mimeType: 'text/plain', text: 'in full' } },
          { type: 'hologram', depth: 3 },
        ],
      }),
    },
    big: { run: ({ bytes }) => text('x'.repeat(Number(bytes))) },
    grow: {
      run: async () => {
        tools.grown = { run: () => text('grown') }
        await server.sendToolListChanged()
        return text('done')
      },
    },
    /** Over HTTP: so many events before the answer. */
    chunks: {
      run: async ({ count: chunks }, { sendNotification }) => {
        const method = 'notifications/progress' as const
        for (let progress = 0; progress < Number(chunks); progress++)
          await sendNotification({ method, params: { progressToken: 'nobody', progress } })
        return text('whole')
      },
    },
    'a.b/c': { run: () => text('odd name') },
    'needs-task': { execution: { taskSupport: 'required' }, run: () => text('never') },
    'bad-schema': { inputSchema: { type: 'string' }, run: () => text('never') },
  }

  server.setRequestHandler(ListToolsRequestSchema, ({ params }) => {
    const from = Number(params?.cursor ?? 0)
    const page = Object.entries(tools).slice(from, from + pageSize)
    const next = from + pageSize < Object.keys(tools).length ? { nextCursor: String(from + pageSize) } : {}
    const listed = page.map(([name, { run: _run, ...rest }]) => ({ name, inputSchema: anything, ...rest }))
    return { tools: listed, ...next } as unknown as ServerResult
  })
  // As any server may: without the SDK's check of results.
  Protocol.prototype.setRequestHandler.call(server, CallToolRequestSchema, async ({ params }, extra) => {
    const tool = tools[params.name]
    if (!tool) throw new McpError(ErrorCode.InvalidParams, `Tool ${params.name} not found`)
    ledger(`ran ${params.name}`)
    return (await tool.run(params.arguments ?? {}, extra)) as ServerResult
  })
  return server
}

function text(value: string) {
  return { content: [{ type: 'text', text: value }] }
}
