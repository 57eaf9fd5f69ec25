/** Reads where telemetry goes, from a variable or a manifest, and which protocol is spoken there. */

export type Signal = 'traces' | 'metrics' | 'logs'
export const SIGNALS = ['traces', 'metrics', 'logs'] as const satisfies readonly Signal[]

export type Protocol = 'grpc' | 'http/protobuf'

export interface Destination {
  /** As the exporter takes it: for HTTP with the path of the signal. */
  readonly url: string
  readonly protocol: Protocol
}

/** The ports that receivers serve OTLP at, by convention. */
export const HTTP_PORT = '4318'
const GRPC_PORT = '4317'

const HOST_AND_PORT = /^(\[[\da-f:.]+\]|[^\s:/?#@]+)(:\d+)?(\/|$)/i

/** With a scheme; undefined for what is no address. `host:port` is taken as http, as the people who write it mean it. */
export function readEndpoint(text: string, isSecure = false): URL | undefined {
  const asHttp = text.trim().replace(/^grpc(s?):\/\//i, 'http$1://')
  const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(asHttp) ? asHttp : `${isSecure ? 'https' : 'http'}://${asHttp}`
  if (withScheme !== asHttp && !HOST_AND_PORT.test(asHttp)) return undefined
  if (!URL.canParse(withScheme)) return undefined
  const url = new URL(withScheme)
  return /^https?:$/.test(url.protocol) && url.hostname ? url : undefined
}

/**
 * @param protocol What a variable says; else the port decides.
 * @param isWhole The address is that of this signal alone, and is used as it stands.
 */
export function destinationAt(url: URL, signal: Signal, protocol: Protocol | undefined, isWhole = false): Destination {
  const spoken = protocol ?? (url.port === HTTP_PORT ? 'http/protobuf' : 'grpc')
  if (spoken === 'grpc')
    return { url: url.port || url.protocol === 'https:' ? url.origin : `${url.origin}:${GRPC_PORT}`, protocol: spoken }
  if (isWhole) return { url: url.href, protocol: spoken }
  const path = `${url.pathname.replace(/\/$/, '')}/v1/${signal}`
  return { url: new URL(path + url.search, url.origin).href, protocol: spoken }
}
