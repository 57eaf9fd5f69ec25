/** An address to listen on, as people type it: "8080", "localhost:8080" or "[::1]:8080". */
import { isIP } from 'node:net'

export interface ListenAddress {
  /** Name or IP address, IPv6 without brackets. */
  readonly host: string
  /** 0: any free one. */
  readonly port: number
}

/** On the loopback unless a host is named; undefined for what is no address. */
export function parseListenAddress(text: string): ListenAddress | undefined {
  const [, bracketed, name, digits = ''] = /^(?:\[([^\]]+)\]:|([^:[\]/\s]+):)?(\d{1,5})$/.exec(text) ?? []
  const isWrongV6 = bracketed !== undefined && isIP(bracketed) !== 6
  if (!digits || Number(digits) > 65_535 || isWrongV6) return undefined
  return { host: bracketed ?? name ?? '127.0.0.1', port: Number(digits) }
}
