/** An address to listen on, as people type it: "8080", "localhost:8080", "[::1]:8080", or "*:8080" for every address of this machine. */
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'

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
  return { host: bracketed ?? (name === '*' ? everyAddress() : name) ?? '127.0.0.1', port: Number(digits) }
}

/** All that this machine has, IPv4 and IPv6: pods may have only one of them. Without any IPv6 address the first form may be refused. */
export function everyAddress(interfaces = networkInterfaces()): '::' | '0.0.0.0' {
  const hasV6 = Object.values(interfaces).some((addresses) => addresses?.some(({ family }) => family === 'IPv6'))
  return hasV6 ? '::' : '0.0.0.0'
}
