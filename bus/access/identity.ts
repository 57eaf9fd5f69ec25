/** How an identity proves itself to the server, and how it is named to people. */
import { readFileSync } from 'node:fs'
import {
  type Authenticator,
  type ConnectionOptions,
  credsAuthenticator,
  jwtAuthenticator,
  nkeyAuthenticator,
} from '@nats-io/transport-node'
import { type Identity, seedIn } from './credentials.ts'

/** What the client needs to connect as this identity. */
export function authentication(identity: Identity): ConnectionOptions {
  switch (identity.kind) {
    case 'none':
      return {}
    case 'user':
      return { user: identity.user, pass: identity.password }
    case 'token':
      return { token: identity.token }
    case 'nkey':
      return { authenticator: nkeyAuthenticator(new TextEncoder().encode(identity.seed)) }
    case 'jwt': {
      const seed = identity.seed === undefined ? undefined : new TextEncoder().encode(identity.seed)
      return { authenticator: jwtAuthenticator(identity.jwt, seed) }
    }
    case 'nkey-file':
      return { authenticator: fromFile(identity.file, (text) => nkeyAuthenticator(new TextEncoder().encode(seedIn(text) ?? ''))) }
    case 'creds':
      return { authenticator: fromFile(identity.file, (text) => credsAuthenticator(new TextEncoder().encode(text))) }
  }
}

/** Reads the file at each connection. One that cannot be read at that moment must not throw, or the client would close for good. */
function fromFile(file: string, authenticatorOf: (text: string) => Authenticator): Authenticator {
  let last: Authenticator | undefined
  return (nonce) => {
    try {
      const fresh = authenticatorOf(readFileSync(file, 'utf8'))
      const answer = fresh(nonce)
      last = fresh
      return answer
    } catch (error) {
      if (last) return last(nonce)
      throw error
    }
  }
}

/** Names an identity in a message without its secret. */
export function nameOf(identity: Identity): string {
  switch (identity.kind) {
    case 'none':
      return 'nobody (no credentials are set)'
    case 'user':
      return `user "${identity.user}"`
    case 'token':
      return "a token's holder" // "token: …" would be taken for a secret and redacted
    case 'nkey':
      return 'the holder of an nkey'
    case 'jwt':
      return 'the holder of a user JWT'
    case 'nkey-file':
    case 'creds':
      return `the identity in "${identity.file}"`
  }
}
