/** Runtime `url`: a remote MCP server over Streamable HTTP, by the SDK's transport on a fetch of ours. */
import { StreamableHTTPClientTransport, StreamableHTTPError } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { Agent } from 'undici'
import { MCP_LIMITS } from '../limits.ts'
import type { Channel, ChannelOptions, SendFailure } from './channel.ts'
import { mcpFetch } from './mcp-fetch.ts'

export interface UrlRuntime {
  readonly runtime: 'url'
  readonly url: string
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** Errors of making a connection: the request never left. A reset or a closed socket is not among them. */
const NEVER_LEFT =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL|UND_ERR_CONNECT_TIMEOUT|ERR_TLS_.*|CERT_.*|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_.*|UNABLE_TO_.*)$/

export function openUrl(runtime: UrlRuntime, options: ChannelOptions): Channel {
  const { url, headers } = withoutCredentials(runtime)
  // A tool may take as long as its own limit; the deadlines are those of the session.
  const agent = new Agent({ connections: MCP_LIMITS.httpConnectionsMax, headersTimeout: 0, bodyTimeout: 0 })
  const transport = new StreamableHTTPClientTransport(url, {
    fetch: mcpFetch({ agent, onStale: options.onStale }),
    requestInit: { headers },
    reconnectionOptions: {
      initialReconnectionDelay: MCP_LIMITS.httpResumeDelayMs,
      maxReconnectionDelay: MCP_LIMITS.httpResumeDelayMs,
      reconnectionDelayGrowFactor: 1,
      maxRetries: MCP_LIMITS.httpResumesMax,
    },
  })
  return {
    transport,
    secrets: [...Object.values(headers), ...url.searchParams.values()],
    lastWords: () => '',
    judge,
    end: () => end(transport, agent),
  }
}

/** fetch refuses a URL with a user in it and repeats it in its error, password included; it goes into a header instead. */
function withoutCredentials(runtime: UrlRuntime): { url: URL; headers: Record<string, string> } {
  const url = new URL(runtime.url)
  const headers: Record<string, string> = { ...runtime.headers }
  if (url.username || url.password) {
    const user = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`
    headers.authorization ??= `Basic ${Buffer.from(user).toString('base64')}`
    url.username = url.password = ''
  }
  return { url, headers }
}

function judge(error: unknown): SendFailure {
  if (error instanceof StreamableHTTPError) {
    // A status of 4xx refuses the request before anything runs: 404 and, from many servers, 400 mean that the session is gone.
    const refused = error.code !== undefined && error.code >= 400 && error.code < 500
    return { sent: !refused, message: `HTTP ${error.code}: ${error.message.slice(0, 1_000)}` }
  }
  const codes = [...causes(error)].map(codeOf).filter((code) => code !== undefined)
  const cause = [...causes(error)].at(-1)
  const words = cause instanceof Error && cause.message ? cause.message : String(error)
  return { sent: !codes.some((code) => NEVER_LEFT.test(code)), message: words }
}

function* causes(error: unknown): Generator<unknown> {
  for (let at = error, depth = 0; at !== undefined && depth < 8; depth++) {
    yield at
    at = at instanceof Error ? at.cause : undefined
  }
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' ? code : undefined
}

async function end(transport: StreamableHTTPClientTransport, agent: Agent): Promise<void> {
  const late = Promise.withResolvers<void>()
  const timer = setTimeout(late.resolve, MCP_LIMITS.closeStepMs)
  await Promise.race([transport.terminateSession().catch(() => {}), late.promise])
  clearTimeout(timer)
  await transport.close().catch(() => {})
  await agent.destroy().catch(() => {})
}
