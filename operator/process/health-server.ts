/** `/livez`, `/readyz` and `/metrics` of an operator, for kubelets and Prometheus. Nothing that it says is secret, and nothing can be changed. */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, isIP } from 'node:net'
import { KaosError } from '../../bus/wire/errors.ts'

const SERVER_LIMITS = {
  /** Open at the same time; one answer ends each. */
  connectionsMax: 64,
  /** The whole request, headers included. */
  requestMs: 2_000,
  headerBytesMax: 8_192,
} as const

export interface OperatorHealth {
  /** False: start this process anew. */
  isAlive(): boolean
  /** Why it is not ready, if it is not. */
  notReady(): string | undefined
  metricsText(): string
}

export interface HealthAddress {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
}

export interface HealthServer {
  /** Without a path. */
  readonly url: string
  /** Open connections are cut. */
  stop(): Promise<void>
}

/** What one address serves: whom a network policy lets reach it decides who sees metrics. */
export type Pages = keyof typeof PATHS

const PATHS = {
  health: ['/livez', '/readyz'],
  metrics: ['/metrics'],
  all: ['/livez', '/readyz', '/metrics'],
} as const satisfies Readonly<Record<string, readonly string[]>>

/** Throws `port_taken` when the address cannot be listened on. */
export async function serveOperatorHealth(
  { host, port }: HealthAddress,
  health: OperatorHealth,
  pages: Pages = 'all',
): Promise<HealthServer> {
  const { connectionsMax, requestMs, headerBytesMax } = SERVER_LIMITS
  const times = { headersTimeout: requestMs, requestTimeout: requestMs, connectionsCheckingInterval: requestMs / 2 }
  const server = createServer({ ...times, maxHeaderSize: headerBytesMax }, (request, response) => {
    const { status, text, type = 'text/plain; charset=utf-8' } = answerTo(request, health, PATHS[pages])
    response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', connection: 'close' })
    response.end(request.method === 'HEAD' ? undefined : text)
  })
  server.maxConnections = connectionsMax
  const shown = isIP(host) === 6 ? `[${host}]` : host
  server.listen(port, host)
  await once(server, 'listening').catch((cause: Error) => {
    throw new KaosError('port_taken', `could not listen on ${shown}:${port}: ${cause.message}`, { cause })
  })
  return {
    url: `http://${shown}:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.close()
      server.closeAllConnections()
    },
  }
}

interface Answer {
  readonly status: number
  readonly text: string
  readonly type?: string
}

function answerTo({ method, url = '' }: IncomingMessage, health: OperatorHealth, paths: readonly string[]): Answer {
  if (method !== 'GET' && method !== 'HEAD') return { status: 405, text: 'only GET and HEAD\n' }
  const path = paths.find((served) => served === url.split('?', 1)[0])
  switch (path) {
    case '/livez':
      return health.isAlive() ? { status: 200, text: 'ok\n' } : { status: 500, text: 'it does not lead any more\n' }
    case '/readyz': {
      const reason = health.notReady()
      return reason === undefined ? { status: 200, text: 'ok\n' } : { status: 503, text: `${reason}\n` }
    }
    case '/metrics':
      return { status: 200, text: health.metricsText(), type: 'text/plain; version=0.0.4; charset=utf-8' }
    default:
      return { status: 404, text: `only ${paths.join(', ')}\n` }
  }
}
