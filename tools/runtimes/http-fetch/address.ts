/** Which addresses and hosts a tool may reach. Pure. */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** All that the internet routes today; what ipaddr.js calls unicast holds old and local ranges besides. */
const GLOBAL_IPV6 = ipaddr.IPv6.parseCIDR('2000::/3')

/**
 * True for an address of the public internet. Loopback, private, link-local, carrier-grade NAT, multicast and reserved ranges are not, nor
 * are IPv6 addresses that stand for an IPv4 address behind a translator. Text that is no address is not public.
 */
export function isPublicAddress(text: string): boolean {
  if (isIP(text) === 0) return false // ipaddr.js reads odd notations too, and perhaps otherwise than the system
  const address = ipaddr.process(text) // an IPv4 address that is written as IPv6 becomes itself
  if (address.range() !== 'unicast') return false
  return address.kind() === 'ipv4' || (address as ipaddr.IPv6).match(GLOBAL_IPV6)
}

/** The address that stands in a URL instead of a name; undefined for a name. URLs normalise other notations, such as 0x7f.1. */
export function literalAddress(hostname: string): string | undefined {
  const text = hostname.replace(/^\[(.*)\]$/, '$1')
  return isIP(text) === 0 ? undefined : text
}

/**
 * Whether an allow-list names the host of a URL: "api.example.org", "*.example.org" for all below it but not itself, each with ":port"
 * where it is not the port of the scheme.
 */
export function isListed(url: URL, hosts: readonly string[]): boolean {
  const port = url.port === '' ? '' : `:${url.port}`
  return hosts.some((entry) => {
    if (!entry.startsWith('*.')) return entry === `${url.hostname}${port}`
    const [, domain = '', wanted = ''] = /^\*(\..*?)(:\d+)?$/.exec(entry) ?? []
    return wanted === port && url.hostname.endsWith(domain) && url.hostname.length > domain.length
  })
}
