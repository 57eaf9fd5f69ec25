/**
 * The test tools over Streamable HTTP, in this process (`startMcpHttpServer`) or as one of its own that can be killed (`spawnMcpHttpServer`,
 * which runs this file).
 */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { createTestServer } from './mcp-test-tools.ts'

export interface McpHttpOptions {
  readonly port?: number
  /** Answers with JSON bodies instead of event streams. */
  readonly json?: boolean
}

export interface McpHttpServer {
  readonly url: string
  readonly ledger: readonly string[]
  /** Headers of all requests, oldest first. */
  readonly requests: readonly { readonly method: string; readonly headers: IncomingHttpHeaders }[]
  connectionCount(): number
  openConnections(): Promise<number>
  /** From now on every session is unknown: 404, as after a restart. */
  forgetSessions(): void
  /** Answers the next requests with this status and nothing else. */
  refuseWith(status: number | undefined): void
  close(): Promise<void>
}

export async function startMcpHttpServer(
  options: McpHttpOptions & { readonly note?: (line: string) => void } = {},
): Promise<McpHttpServer> {
  const sessions = new Map<string, StreamableHTTPServerTransport>()
  const ledger: string[] = []
  const requests: { method: string; headers: IncomingHttpHeaders }[] = []
  let connections = 0
  let refusal: number | undefined
  const note = (line: string) => {
    ledger.push(line)
    options.note?.(line)
  }

  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    requests.push({ method: request.method ?? '', headers: request.headers })
    if (refusal !== undefined) return response.writeHead(refusal).end()
    const id = request.headers['mcp-session-id']
    const known = typeof id === 'string' ? sessions.get(id) : undefined
    if (id !== undefined && !known) return response.writeHead(404).end()
    await (known ?? (await open())).handleRequest(request, response)
  }
  const open = async () => {
    note('session')
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      enableJsonResponse: options.json ?? false,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => {
        note('session closed')
        sessions.delete(id)
      },
    })
    await createTestServer({ ledger: note }).connect(transport as Transport)
    return transport
  }

  const http = createServer((request, response) => void answer(request, response))
  http.on('connection', () => connections++)
  http.listen(options.port ?? 0, '127.0.0.1')
  await once(http, 'listening')
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`,
    ledger,
    requests,
    connectionCount: () => connections,
    openConnections: () => new Promise((resolve) => http.getConnections((_error, count) => resolve(count))),
    forgetSessions: () => sessions.clear(),
    refuseWith: (status) => {
      refusal = status
    },
    close: async () => {
      http.closeAllConnections()
      await new Promise((resolve) => http.close(resolve))
    },
  }
}

export interface McpHttpProcess {
  readonly url: string
  readonly port: number
  kill(): Promise<void>
}

/** LEDGER in `env` names a file that gets a line per execution. */
export async function spawnMcpHttpServer(env: {
  readonly LEDGER?: string
  readonly PORT?: string
  readonly JSON?: string
}): Promise<McpHttpProcess> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const [url] = (await once(createInterface(child.stdout), 'line')) as [string]
  const exited = once(child, 'exit')
  return {
    url,
    port: Number(new URL(url).port),
    kill: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { LEDGER, PORT = '0', JSON: json } = process.env
  const note = (line: string) => {
    if (LEDGER) appendFileSync(LEDGER, `${line}\n`)
  }
  const { url } = await startMcpHttpServer({ port: Number(PORT), json: json !== undefined, note })
  process.stdin.on('end', () => process.exit(0)).resume() // ends with the test
  process.stdout.write(`${url}\n`)
}
