/** What tells Kubernetes and people whether this process lives and whether it takes work: `/health` and `/ready` over HTTP. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, isIP } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { BusState } from '../../bus/contracts.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { everyAddress, type ListenAddress, parseListenAddress } from './address.ts'

const HEALTH_LIMITS = {
  /** Connections beyond these are closed at once; one answer ends each. */
  connectionsMax: 64,
  /** The whole request, headers included. */
  requestMs: 2_000,
  headerBytesMax: 8_192,
} as const

/** The first pulls of a process are answered within a tenth of a second, where their streams are there. */
const READY_LIMITS = { waitMs: 3_000, lookMs: 10 } as const

/** Where a host serves in a pod, where the kubelet comes from outside. */
const POD_PORT = 8_000

export interface Health {
  /** Without a path. */
  readonly url: string
  /** All consumers are open: from now on this process can become ready. */
  watch(bus: { state(): BusState }): void
  /** Resolves when this process is ready, and after 3 s if it is not: its streams may be made later. To be called after `watch`. */
  untilReady(): Promise<void>
  /** Never ready again; alive until `stop`. */
  drain(): void
  /** Open connections are cut, so that nobody who asks keeps this process. */
  stop(): Promise<void>
}

/** What is known of this process, for whoever serves it. */
export interface Probe extends Pick<Health, 'watch' | 'untilReady' | 'drain'> {
  readiness(): Readiness
}

export function createProbe(): Probe {
  let bus: { state(): BusState } | undefined
  let isDraining = false
  const readinessNow = () => readiness(bus?.state(), isDraining)
  return {
    watch(watched) {
      bus = watched
    },
    async untilReady() {
      const deadline = performance.now() + READY_LIMITS.waitMs
      while (!readinessNow().ready && performance.now() < deadline) await delay(READY_LIMITS.lookMs)
    },
    drain() {
      isDraining = true
    },
    readiness: readinessNow,
  }
}

/** The address of `--health [HOST:]PORT` or `--http`; undefined for what is none. */
export function parseHealthAddress(text: string): ListenAddress | 'off' | undefined {
  return text === 'off' ? 'off' : parseListenAddress(text)
}

/** Where a host serves health and HTTP when nobody says: in a pod on port 8000, else nowhere. */
export function defaultHealthAddress(env: NodeJS.ProcessEnv): ListenAddress | undefined {
  return env.KUBERNETES_SERVICE_HOST ? { host: everyAddress(), port: POD_PORT } : undefined
}

/** Throws `port_taken` when the address cannot be listened on. */
export async function serveHealth({ host, port }: ListenAddress): Promise<Health> {
  const { watch, untilReady, drain, readiness } = createProbe()
  const server = createServer(
    {
      headersTimeout: HEALTH_LIMITS.requestMs,
      requestTimeout: HEALTH_LIMITS.requestMs,
      connectionsCheckingInterval: HEALTH_LIMITS.requestMs / 2,
      maxHeaderSize: HEALTH_LIMITS.headerBytesMax,
    },
    (request, response) => {
      const answer = answerTo(request, readiness)
      send(response, answer, request.method === 'HEAD')
    },
  )
  server.maxConnections = HEALTH_LIMITS.connectionsMax
  const shown = isIP(host) === 6 ? `[${host}]` : host
  server.listen(port, host)
  await once(server, 'listening').catch((cause: Error) => {
    throw new KaosError('port_taken', `--health could not listen on ${shown}:${port}: ${cause.message}`, { cause })
  })
  server.unref()
  return {
    url: `http://${shown}:${(server.address() as AddressInfo).port}`,
    watch,
    untilReady,
    drain,
    async stop() {
      server.close()
      server.closeAllConnections()
    },
  }
}

export interface Readiness extends Partial<BusState> {
  readonly ready: boolean
  readonly starting?: true
  readonly draining?: true
}

function readiness(state: BusState | undefined, isDraining: boolean): Readiness {
  if (!state) return { ready: false, starting: true }
  if (isDraining) return { ready: false, draining: true, ...state }
  return { ready: state.broker === 'connected' && state.unbound.length === 0, ...state }
}

interface Answer {
  readonly status: number
  readonly body: object
  readonly headers?: Readonly<Record<string, string>>
}

function answerTo({ method, url = '' }: IncomingMessage, readinessNow: () => Readiness): Answer {
  const path = url.split('?', 1)[0]
  if (path !== '/health' && path !== '/ready') return { status: 404, body: { error: 'there are /health and /ready' } }
  if (method !== 'GET' && method !== 'HEAD') {
    return { status: 405, body: { error: 'only GET and HEAD' }, headers: { allow: 'GET, HEAD' } }
  }
  if (path === '/health') return { status: 200, body: { alive: true } }
  const now = readinessNow()
  return { status: now.ready ? 200 : 503, body: now }
}

function send(response: ServerResponse, { status, body, headers }: Answer, isHead: boolean): void {
  const text = JSON.stringify(body)
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    connection: 'close',
    ...headers,
  })
  response.end(isHead ? undefined : text)
}
