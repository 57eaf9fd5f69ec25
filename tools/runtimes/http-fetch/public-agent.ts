/** Connections to public addresses only. The address that is checked is the one that is connected to, so a name that changes its mind gains nothing. */
import { type LookupAddress, type LookupOptions, lookup as systemLookup } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { Agent, buildConnector } from 'undici'
import { Refusal } from '../../own/mcp-server.ts'
import { isPublicAddress } from './address.ts'
import { FETCH_LIMITS } from './limits.ts'

export type Lookup = (
  hostname: string,
  options: LookupOptions & { readonly all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

export function fetchAgent(options: { readonly allowPrivate: boolean; readonly lookup?: Lookup }): Agent {
  const { allowPrivate, lookup = systemLookup } = options
  const connect = buildConnector({
    timeout: FETCH_LIMITS.connectMs,
    lookup: checkedLookup(lookup, allowPrivate),
  } as buildConnector.BuildOptions)
  return new Agent({
    connections: FETCH_LIMITS.connectionsMax,
    headersTimeout: FETCH_LIMITS.timeoutMs,
    bodyTimeout: FETCH_LIMITS.timeoutMs,
    maxHeaderSize: FETCH_LIMITS.headerBytesMax,
    connect: (target, callback) =>
      connect(target, (error, socket) => {
        if (error) return callback(error, null)
        const { remoteAddress = '' } = socket
        if (allowPrivate || isPublicAddress(remoteAddress)) return callback(null, socket)
        socket.destroy()
        callback(privateAddress(target.hostname, remoteAddress), null)
      }),
  })
}

export function privateAddress(host: string, address: string): Refusal {
  return new Refusal(
    `host "${host}" has the address ${address || 'of nobody'}, which is not public, and params do not set allowPrivate`,
  )
}

/** One address that is not public refuses the name: a public name has no business with it. */
function checkedLookup(lookup: Lookup, allowPrivate: boolean): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, [])
      const inside = allowPrivate ? undefined : addresses.find(({ address }) => !isPublicAddress(address))
      if (inside) return callback(privateAddress(hostname, inside.address), [])
      if (options.all) return callback(null, addresses)
      callback(null, addresses[0]!.address, addresses[0]!.family)
    })
  }
}
