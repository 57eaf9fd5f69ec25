/** Makes sure that a replay reaches nothing: while it runs, every way out of this process throws. */
import dgram from 'node:dgram'
import dns from 'node:dns'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'
import tls from 'node:tls'
import { KaosError } from '../bus/wire/errors.ts'

type Functions = { [name: string]: unknown }

/** HTTP clients, undici and the NATS client all connect through the first of these, in the same tick in which they are asked. */
const WAYS_OUT: readonly (readonly [string, object, readonly string[]])[] = [
  ['a connection', net.Socket.prototype, ['connect']],
  ['a TLS connection', tls, ['connect']],
  ['a datagram', dgram.Socket.prototype, ['send', 'connect', 'bind']],
  ['a name', dns, functionsOf(dns)],
  ['a name', dns.promises, functionsOf(dns.promises)],
  ['a name', dns.Resolver.prototype, functionsOf(dns.Resolver.prototype)],
  ['a name', dns.promises.Resolver.prototype, functionsOf(dns.promises.Resolver.prototype)],
  ['a request', globalThis, ['fetch', 'WebSocket', 'EventSource']],
]

/**
 * Runs `work`, in which any use of the network throws `replay_network`. It holds for the whole process and therefore only for work that is
 * synchronous; sockets that are open already stay open.
 */
export function withoutNetwork<T>(work: () => T): T {
  const restore = WAYS_OUT.map(([what, owner, names]) => block(what, owner as Functions, names))
  syncBuiltinESMExports()
  try {
    const result = work()
    if (result instanceof Promise) throw new KaosError('internal', 'work without network must be synchronous')
    return result
  } finally {
    for (const undo of restore) undo()
    syncBuiltinESMExports()
  }
}

function block(what: string, owner: Functions, names: readonly string[]): () => void {
  const before = names.map((name) => [name, Object.getOwnPropertyDescriptor(owner, name)] as const)
  for (const [name] of before) {
    // A declared function, because some of these are called with `new`.
    function refuse(): never {
      throw new KaosError('replay_network', `the replay asked for ${what} ("${name}")`)
    }
    Object.defineProperty(owner, name, { value: refuse, configurable: true, writable: true, enumerable: true })
  }
  return () => {
    for (const [name, descriptor] of before) {
      if (descriptor) Object.defineProperty(owner, name, descriptor)
      else delete owner[name]
    }
  }
}

/** All that asks a server; what only reads or sets may stay. */
function functionsOf(owner: object): readonly string[] {
  return Object.getOwnPropertyNames(owner).filter((name) => /^(lookup|resolve|reverse)/.test(name))
}
