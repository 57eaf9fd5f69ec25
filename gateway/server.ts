/** The HTTP server of a gateway: where it listens, what it takes of a connection, and how it ends. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, isIP } from 'node:net'
import { getRequestListener, RequestError } from '@hono/node-server'
import { KaosError } from '../bus/wire/errors.ts'
import type { Gateway } from './app.ts'
import { HTTP_LIMITS } from './limits.ts'
import { badRequest, tell } from './problem.ts'

export interface GatewayServer {
  /** Without a path. */
  readonly url: string
  /** Cuts what is still open. */
  stop(): Promise<void>
}

/** Throws `port_taken` when the address cannot be listened on. */
export async function listen(
  gateway: Gateway,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<GatewayServer> {
  // The adapter would put its own Request and Response in the place of Node's, for the whole process.
  const listener = getRequestListener(gateway.app.fetch, {
    overrideGlobalObjects: false,
    errorHandler: (error) => refusal(error),
  })
  const server = createServer(
    {
      headersTimeout: HTTP_LIMITS.headersMs,
      requestTimeout: HTTP_LIMITS.receiveMs,
      connectionsCheckingInterval: HTTP_LIMITS.headersMs / 2,
      keepAliveTimeout: HTTP_LIMITS.idleMs,
      maxHeaderSize: HTTP_LIMITS.headerBytesMax,
    },
    (incoming, outgoing) => void listener(incoming, outgoing),
  )
  server.maxConnections = HTTP_LIMITS.connectionsMax
  const shown = isIP(host) === 6 ? `[${host}]` : host
  server.listen(port, host)
  await once(server, 'listening').catch((cause: Error) => {
    throw new KaosError('port_taken', `--http could not listen on ${shown}:${port}: ${cause.message}`, { cause })
  })
  server.unref()
  return {
    url: `http://${shown}:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** Of what cannot even be given to a route. */
function refusal(error: unknown): Response {
  const { status, headers, body } = tell(
    error instanceof RequestError ? badRequest('the path or the header Host of the request cannot be read') : error,
  )
  return new Response(JSON.stringify(body), { status, headers: { ...headers, 'content-type': 'application/json' } })
}

/** Whether nobody but this machine can connect. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host)
}
