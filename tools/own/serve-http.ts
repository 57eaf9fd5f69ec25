/** Serves tools of the user's own over Streamable HTTP on the loopback. Nobody is asked who they are, hence no other address. */
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { LRUCache } from 'lru-cache'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { noService, type ServiceTelemetry } from '../../telemetry/telemetry.ts'
import { MCP_LIMITS } from '../limits.ts'
import { ownToolServer } from './mcp-server.ts'
import type { NamedTool } from './module.ts'

export interface HttpServing {
  readonly url: string
  /** Aborts what runs and ends all connections. */
  close(): Promise<void>
}

export interface HttpServingOptions {
  readonly name: string
  readonly tools: readonly NamedTool[]
  readonly log: Logger
  /** An address of the loopback, or "localhost". */
  readonly host: string
  /** 0 for any free one. */
  readonly port: number
  /** Default: off. */
  readonly telemetry?: ServiceTelemetry
}

const PATH = '/mcp'
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/

/** Throws `usage` for an address that others can reach, and `port_taken`. */
export async function serveOverHttp(options: HttpServingOptions): Promise<HttpServing> {
  const { host, log, telemetry = noService } = options
  if (!LOOPBACK.test(host)) {
    throw new KaosError(
      'usage',
      `could not serve tools at "${host}": it asks nobody who they are, so it listens on the loopback only (127.0.0.1, ::1, localhost)`,
    )
  }
  const sessions = new LRUCache<string, StreamableHTTPServerTransport>({
    max: MCP_LIMITS.servedSessionsMax,
    dispose: (transport) => void transport.close().catch(() => {}), // the client is gone or begins anew
  })
  const http = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      log.warn({ err: error }, 'an MCP request failed')
      if (!response.headersSent) response.writeHead(500)
      response.end()
    })
  })
  http.maxConnections = MCP_LIMITS.servedConnectionsMax
  const { port } = await listen(http, options)
  const names = [...new Set(['127.0.0.1', 'localhost', '[::1]', urlHost(host)])]
  const allowedHosts = names.flatMap((name) => (port === 80 ? [name, `${name}:80`] : [`${name}:${port}`]))

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.url?.split('?')[0] !== PATH) return void response.writeHead(404).end()
    const id = request.headers['mcp-session-id']
    const known = typeof id === 'string' ? sessions.get(id) : undefined
    // As MCP wants it: a client whose session is not known begins a new one.
    if (id !== undefined && !known) return void response.writeHead(404).end()
    await (known ?? (await open())).handleRequest(request, response)
  }

  /** Becomes a session when its first request is the handshake; anything else is refused by the transport and forgotten. */
  async function open(): Promise<StreamableHTTPServerTransport> {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
      // Else any page in a browser could reach it under a name of its own that leads to the loopback.
      enableDnsRebindingProtection: true,
      allowedHosts,
      allowedOrigins: allowedHosts.map((name) => `http://${name}`),
      maxRequestBodySize: MCP_LIMITS.messageBytesMax,
    })
    const { server } = ownToolServer(options.name, options.tools, { log, telemetry, served: 'tcp' })
    server.onerror = (error) => log.debug({ reason: error.message.slice(0, MCP_LIMITS.wordsLengthMax) }, 'MCP protocol error')
    await server.connect(transport as Transport)
    return transport
  }

  return {
    url: `http://${urlHost(host)}:${port}${PATH}`,
    close: async () => {
      sessions.clear()
      const closed = new Promise((resolve) => http.close(resolve))
      http.closeAllConnections()
      await closed
    },
  }
}

async function listen(http: ReturnType<typeof createServer>, { host, port }: HttpServingOptions): Promise<AddressInfo> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  http.once('error', reject)
  http.listen(port, host, resolve)
  await promise.catch((error: unknown) => {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error)
    throw new KaosError('port_taken', `could not listen on ${urlHost(host)}:${port}: ${reason}`, { cause: error })
  })
  http.off('error', reject)
  return http.address() as AddressInfo
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}
