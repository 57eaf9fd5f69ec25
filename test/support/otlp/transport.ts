/** How OTLP requests come in: as gRPC or as HTTP with protobuf. What to answer is the caller's. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js'
import type { Signal } from './decode.ts'

export type Protocol = 'grpc' | 'http/protobuf'

export interface Incoming {
  readonly signal: Signal
  /** Names in lower case. */
  readonly headers: { readonly [name: string]: string }
  readonly body: Buffer
  /** True once the client no longer waits for the answer. */
  isGone(): boolean
}

/** A gRPC status code; 0 is success. */
export type Answer = (incoming: Incoming) => Promise<number>

export interface Listener {
  readonly port: number
  close(): Promise<void>
}

const SERVICES: { readonly [signal in Signal]: string } = {
  traces: 'opentelemetry.proto.collector.trace.v1.TraceService',
  metrics: 'opentelemetry.proto.collector.metrics.v1.MetricsService',
  logs: 'opentelemetry.proto.collector.logs.v1.LogsService',
}

/** How a collector with the HTTP receiver says the same. */
const HTTP_STATUSES: { readonly [code: number]: number } = {
  [status.OK]: 200,
  [status.INVALID_ARGUMENT]: 400,
  [status.UNAUTHENTICATED]: 401,
  [status.PERMISSION_DENIED]: 403,
  [status.UNIMPLEMENTED]: 404,
  [status.RESOURCE_EXHAUSTED]: 429,
  [status.UNAVAILABLE]: 503,
}

export function listen(protocol: Protocol, port: number, answer: Answer): Promise<Listener> {
  return protocol === 'grpc' ? listenGrpc(port, answer) : listenHttp(port, answer)
}

/** Takes requests of up to 4 MiB, as a collector with its default settings. */
async function listenGrpc(port: number, answer: Answer): Promise<Listener> {
  const server = new Server()
  const asIs = (bytes: Buffer) => bytes
  for (const [signal, service] of Object.entries(SERVICES) as [Signal, string][]) {
    const Export = {
      path: `/${service}/Export`,
      requestStream: false,
      responseStream: false,
      requestDeserialize: asIs,
      requestSerialize: asIs,
      responseDeserialize: asIs,
      responseSerialize: asIs,
    }
    server.addService(
      { Export },
      {
        Export: async (call: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => {
          const headers = Object.fromEntries(Object.entries(call.metadata.getMap()).map(([name, value]) => [name, String(value)]))
          const code = await answer({ signal, headers, body: call.request, isGone: () => call.cancelled })
          if (code === status.OK) reply(null, Buffer.alloc(0))
          else reply({ code, details: `refused by the test: ${status[code]}` })
        },
      },
    )
  }
  const bound = await new Promise<number>((resolve, reject) =>
    server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  )
  return {
    port: bound,
    close: async () => {
      // Sessions are cut first: `tryShutdown` alone waits for requests that hang.
      server.forceShutdown()
    },
  }
}

async function listenHttp(port: number, answer: Answer): Promise<Listener> {
  const take = async (request: IncomingMessage, response: ServerResponse) => {
    const signal = /^\/v1\/(traces|metrics|logs)$/.exec(request.url ?? '')?.[1] as Signal | undefined
    if (request.method !== 'POST' || !signal) return response.writeHead(404).end()
    const bytes = await buffer(request)
    const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes
    const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]))
    const code = await answer({ signal, headers, body, isGone: () => response.destroyed })
    response.writeHead(HTTP_STATUSES[code] ?? 500, { 'content-type': 'application/x-protobuf' }).end()
  }
  const server = createServer((request, response) => {
    take(request, response).catch(() => response.destroy())
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}
