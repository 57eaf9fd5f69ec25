/**
 * Which NATS server to use and as whom: the NATS_* variables, else a context of the `nats` command that is named, else the run file of a
 * "kaos up". Every mistake is an error that names the variable or field and its value, except where the value is a secret.
 */
import { KaosError } from '../wire/errors.ts'
import { type NatsContext, readContext } from './context.ts'
import { badSetting, credsFile, type Identity, jwtOf, nkeyIn, readable } from './credentials.ts'

const PORT_DEFAULT = 4222

/** Paths of PEM files. An empty object asks for TLS with the system's certificate authorities. */
export interface TlsFiles {
  readonly caFile?: string
  readonly certFile?: string
  readonly keyFile?: string
  /** TLS begins before the server's greeting; the server must be set up for it. */
  readonly handshakeFirst?: true
}

/** Plain data: may be handed to another process. Holds secrets: never log it. */
export interface BrokerSettings {
  /** `nats://host:port`, at least one, without user, password or token. */
  readonly servers: readonly string[]
  /** What named the servers, for messages. */
  readonly source: 'NATS_URL' | 'run file' | 'embedded' | `context "${string}"`
  /** The context that completes what the variables do not name. */
  readonly context?: string
  readonly identity: Identity
  readonly tls?: TlsFiles
}

export interface BrokerSources {
  /** A context of the `nats` command, by name; `NATS_CONTEXT` if absent or empty. */
  readonly context?: string | undefined
  /** Of a "kaos up" that runs here. */
  readonly runFile?: { readonly url: string } | undefined
}

/**
 * As natscli merges them: NATS_* variables before the fields of the context, and if any of them names an identity, none is taken from the
 * context. Undefined if nothing names a server: "kaos up" then starts one. Throws `bad_setting` for anything that cannot be meant.
 * An empty variable counts as absent.
 */
export function brokerSettings(
  env: NodeJS.ProcessEnv,
  { context: asked, runFile }: BrokerSources = {},
): BrokerSettings | undefined {
  const context = contextOf(env, asked)
  const url = env.NATS_URL || context?.url || runFile?.url
  if (!url) return undefined
  const source = env.NATS_URL ? 'NATS_URL' : context ? (`context "${context.name}"` as const) : 'run file'
  const from = source.startsWith('context') ? `url of ${source}` : source
  const addresses = url.split(',').map((part) => readAddress(part.trim(), from))
  const inAddresses = addresses.flatMap(({ identity }) => (identity ? [{ from, identity }] : []))
  const fromVariables = identitiesOf(env, context)
  if (env.NATS_URL) fromVariables.unshift(...inAddresses)
  const identity = onlyOne(fromVariables.length > 0 ? fromVariables : [...inAddresses, ...(context?.identities() ?? [])])
  const tls = tlsOf(env, context) ?? (addresses.some(({ isTls }) => isTls) ? {} : undefined)
  const servers = addresses.map(({ server }) => server)
  return { servers, source, ...(context && { context: context.name }), identity, ...(tls && { tls }) }
}

function contextOf(env: NodeJS.ProcessEnv, asked: string | undefined): NatsContext | undefined {
  if (asked) return readContext(asked, '--context', env)
  return env.NATS_CONTEXT ? readContext(env.NATS_CONTEXT, 'NATS_CONTEXT', env) : undefined
}

/** As `brokerSettings`, for commands that need a broker that runs already. Throws `broker_unreachable` if none is named. */
export function requiredBrokerSettings(env: NodeJS.ProcessEnv, sources: BrokerSources = {}): BrokerSettings {
  const settings = brokerSettings(env, sources)
  if (settings) return settings
  throw new KaosError(
    'broker_unreachable',
    'could not find a broker: NATS_URL is not set, no context is named, and no "kaos up" runs in this folder',
  )
}

interface Address {
  readonly server: string
  readonly identity: Identity | undefined
  readonly isTls: boolean
}

/* The client would take digits of a password for the port, so the parts are taken apart here. */
function readAddress(text: string, source: string): Address {
  const withScheme = text.includes('://') ? text : `nats://${text}`
  const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined
  const given = text.replace(/\/\/[^/]*@/, '//…@').replace(/^[^/]*@/, '…@')
  if (!url?.hostname) throw badSetting(source, given, 'is no address', 'write nats://HOST:PORT, several separated by commas')
  if (url.protocol !== 'nats:' && url.protocol !== 'tls:') {
    throw badSetting(source, given, `has the scheme "${url.protocol.slice(0, -1)}"`, 'use nats:// or tls://')
  }
  if (url.pathname.length > 1 || url.search || url.hash)
    throw badSetting(source, given, 'has more than host and port', 'write nats://HOST:PORT')
  const isTls = url.protocol === 'tls:'
  return { server: `nats://${url.hostname}:${url.port || PORT_DEFAULT}`, identity: identityIn(url, source, given), isTls }
}

function identityIn(url: URL, source: string, given: string): Identity | undefined {
  try {
    const user = decodeURIComponent(url.username)
    if (url.password) return { kind: 'user', user, password: decodeURIComponent(url.password) }
    return user ? { kind: 'token', token: user } : undefined
  } catch {
    throw badSetting(source, given, 'has a user or password that is not percent-encoded', 'write % as %25')
  }
}

interface Named {
  readonly from: string
  readonly identity: Identity
}

function identitiesOf(env: NodeJS.ProcessEnv, context: NatsContext | undefined): Named[] {
  const found: Named[] = []
  if (env.NATS_CREDS) found.push({ from: 'NATS_CREDS', identity: credsFile('NATS_CREDS', env.NATS_CREDS) })
  if (env.NATS_NKEY) found.push({ from: 'NATS_NKEY', identity: nkeyIn('NATS_NKEY', env.NATS_NKEY.trim()) })
  if (env.NATS_JWT) {
    const seed = env.NATS_SEED ? { from: 'NATS_SEED', text: env.NATS_SEED } : undefined
    found.push({ from: 'NATS_JWT', identity: jwtOf('NATS_JWT', env.NATS_JWT, seed) })
  }
  if (env.NATS_TOKEN) found.push({ from: 'NATS_TOKEN', identity: { kind: 'token', token: env.NATS_TOKEN } })
  // A context may leave the password of its user to a variable.
  const user = env.NATS_USER || (env.NATS_PASSWORD && context?.user)
  if (user) {
    found.push({ from: 'NATS_USER', identity: { kind: 'user', user, password: env.NATS_PASSWORD ?? '' } })
  } else if (env.NATS_PASSWORD) {
    throw new KaosError('bad_setting', 'NATS_PASSWORD is set and NATS_USER is not: set both, or NATS_TOKEN for a token')
  }
  return found
}

/** Several addresses of one cluster may repeat the same identity; anything else would leave it to chance who connects. */
function onlyOne(found: readonly Named[]): Identity {
  const [first] = found
  if (!first) return { kind: 'none' }
  const other = found.find(({ identity }) => JSON.stringify(identity) !== JSON.stringify(first.identity))
  if (!other) return first.identity
  const both =
    other.from === first.from ? `${first.from} names two identities` : `${first.from} and ${other.from} both name an identity`
  throw new KaosError('bad_setting', `${both}: keep one`)
}

function tlsOf(env: NodeJS.ProcessEnv, context: NatsContext | undefined): TlsFiles | undefined {
  const pick = (variable: 'NATS_CA' | 'NATS_CERT' | 'NATS_KEY', field: string, file: string | undefined) => {
    if (env[variable]) return { from: variable, file: env[variable] }
    return file ? { from: `${field} of context "${context?.name}"`, file } : undefined
  }
  const ca = pick('NATS_CA', 'ca', context?.caFile)
  const cert = pick('NATS_CERT', 'cert', context?.certFile)
  const key = pick('NATS_KEY', 'key', context?.keyFile)
  if (!ca && !cert && !key && !context?.isTlsFirst) return undefined
  if (Boolean(cert) !== Boolean(key)) {
    const [set, unset] = cert ? [cert.from, 'NATS_KEY'] : [key?.from, 'NATS_CERT']
    throw new KaosError('bad_setting', `${set} is set and ${unset} is not: a client certificate needs both`)
  }
  return {
    ...(ca && { caFile: readable(ca.from, ca.file) }),
    ...(cert && key && { certFile: readable(cert.from, cert.file), keyFile: readable(key.from, key.file) }),
    ...(context?.isTlsFirst && { handshakeFirst: true as const }),
  }
}
