/**
 * Runs in the Node programs of pods before they do (`network.ts` sets NODE_OPTIONS): a server that listens on every address listens on the
 * one of its pod, and names of Services are resolved as the cluster's DNS would.
 */
import dns from 'node:dns'
import { readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'

const { KAOS_TESTPLANE_POD_IP: ip, KAOS_TESTPLANE_NAMES: file, KAOS_TESTPLANE_NAMESPACE: namespace } = process.env
const EVERY_ADDRESS = [undefined, null, '', '0.0.0.0', '::']

if (ip) {
  const { listen } = net.Server.prototype
  net.Server.prototype.listen = function listenOnPod(first, ...rest) {
    const isOptions = typeof first === 'object' && first !== null && 'port' in first
    if (isOptions) {
      return listen.call(this, EVERY_ADDRESS.includes(first.host) ? { ...first, host: ip } : first, ...rest)
    }
    const isPort = typeof first === 'number' || (typeof first === 'string' && /^\d+$/.test(first))
    if (!isPort) return listen.call(this, first, ...rest)
    const hasHost = typeof rest[0] === 'string'
    const others = hasHost ? rest.slice(1) : rest
    return listen.call(this, first, hasHost && !EVERY_ADDRESS.includes(rest[0]) ? rest[0] : ip, ...others)
  }
}

/** Undefined for a name that is not of the cluster; no address where no pod is ready. */
function addressesOf(host) {
  const names = JSON.parse(readFileSync(file, 'utf8'))
  const short = host.replace(/\.$/, '').replace(/\.svc(\.cluster\.local)?$/, '')
  const key = short.includes('.') ? short : `${short}.${namespace}`
  return names[key] ?? (short === host ? undefined : null)
}

function refusal(host, isUnknown) {
  const code = isUnknown ? 'ENOTFOUND' : 'ECONNREFUSED'
  const why = isUnknown ? 'there is no such Service' : 'it has no ready pod'
  return Object.assign(new Error(`getaddrinfo ${code} ${host}: ${why}`), { code, hostname: host, syscall: 'getaddrinfo' })
}

if (file) {
  const { lookup } = dns
  const { lookup: lookupLater } = dns.promises
  /** The answer as `dns.lookup` gives it, an error, or undefined where the system has to be asked. */
  const clusterAnswer = (host, all) => {
    const found = net.isIP(host) ? undefined : addressesOf(host)
    if (found === undefined) return undefined
    if (found === null || found.length === 0) return refusal(host, found === null)
    const first = Math.floor(Math.random() * found.length)
    const answers = [...found.slice(first), ...found.slice(0, first)].map((address) => ({ address, family: 4 }))
    return all ? answers : answers[0]
  }
  dns.lookup = (host, options, callback) => {
    const done = callback ?? options
    const all = typeof options === 'object' && options?.all === true
    const answer = clusterAnswer(host, all)
    if (answer === undefined) return callback ? lookup(host, options, callback) : lookup(host, options)
    process.nextTick(() => {
      if (answer instanceof Error) done(answer)
      else if (all) done(null, answer)
      else done(null, answer.address, answer.family)
    })
    return {}
  }
  dns.promises.lookup = async (host, options) => {
    const answer = clusterAnswer(host, options?.all === true)
    if (answer instanceof Error) throw answer
    return answer ?? lookupLater(host, options)
  }
  syncBuiltinESMExports()
}
