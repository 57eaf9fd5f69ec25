/**
 * Which NATS server to use and as whom: the NATS_* variables, else the run file of a "kaos up". Every mistake is an error that names the
 * variable and its value, except where the value is a secret.
 */
import { accessSync, constants, readFileSync } from 'node:fs'
import { KaosError } from '../wire/errors.ts'

const PORT_DEFAULT = 4222
const SEED = /^S[UAOCNX][A-Z2-7]{56}$/

/** Who connects. Files are read again at each connection, so that renewed credentials are picked up. */
export type Identity =
  | { readonly kind: 'none' }
  | { readonly kind: 'creds'; readonly file: string }
  | { readonly kind: 'nkey-file'; readonly file: string }
  | { readonly kind: 'nkey'; readonly seed: string }
  | { readonly kind: 'user'; readonly user: string; readonly password: string }
  | { readonly kind: 'token'; readonly token: string }

/** Paths of PEM files. An empty object asks for TLS with the system's certificate authorities. */
export interface TlsFiles {
  readonly caFile?: string
  readonly certFile?: string
  readonly keyFile?: string
}

/** Plain data: may be handed to another process. Holds secrets: never log it. */
export interface BrokerSettings {
  /** `nats://host:port`, at least one, without user, password or token. */
  readonly servers: readonly string[]
  readonly source: 'NATS_URL' | 'run file' | 'embedded'
  readonly identity: Identity
  readonly tls?: TlsFiles
}

/**
 * Undefined if neither NATS_URL nor a run file names a server: "kaos up" then starts one. Throws `usage` for anything that cannot be meant.
 * An empty variable counts as absent.
 */
export function brokerSettings(env: NodeJS.ProcessEnv, runFile?: { readonly url: string }): BrokerSettings | undefined {
  const url = env.NATS_URL || runFile?.url
  if (!url) return undefined
  const source = env.NATS_URL ? 'NATS_URL' : 'run file'
  const addresses = url.split(',').map((part) => readAddress(part.trim(), source))
  const identity = onlyOne([
    ...addresses.flatMap((address) => (address.identity ? [{ from: source, identity: address.identity }] : [])),
    ...identitiesOf(env),
  ])
  const tls = tlsOf(env) ?? (addresses.some((address) => address.isTls) ? {} : undefined)
  const servers = addresses.map((address) => address.server)
  return tls ? { servers, source, identity, tls } : { servers, source, identity }
}

/** As `brokerSettings`, for commands that need a broker that runs already. Throws `broker_unreachable` if none is named. */
export function requiredBrokerSettings(env: NodeJS.ProcessEnv, runFile?: { readonly url: string }): BrokerSettings {
  const settings = brokerSettings(env, runFile)
  if (settings) return settings
  throw new KaosError('broker_unreachable', 'could not find a broker: NATS_URL is not set, and no "kaos up" runs in this folder')
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
  if (!url?.hostname) throw bad(source, given, 'is no address', 'write nats://HOST:PORT, several separated by commas')
  if (url.protocol !== 'nats:' && url.protocol !== 'tls:') {
    throw bad(source, given, `has the scheme "${url.protocol.slice(0, -1)}"`, 'use nats:// or tls://')
  }
  if (url.pathname.length > 1 || url.search || url.hash)
    throw bad(source, given, 'has more than host and port', 'write nats://HOST:PORT')
  const isTls = url.protocol === 'tls:'
  return { server: `nats://${url.hostname}:${url.port || PORT_DEFAULT}`, identity: identityIn(url, source, given), isTls }
}

function identityIn(url: URL, source: string, given: string): Identity | undefined {
  try {
    const user = decodeURIComponent(url.username)
    if (url.password) return { kind: 'user', user, password: decodeURIComponent(url.password) }
    return user ? { kind: 'token', token: user } : undefined
  } catch {
    throw bad(source, given, 'has a user or password that is not percent-encoded', 'write % as %25')
  }
}

interface Named {
  readonly from: string
  readonly identity: Identity
}

function identitiesOf(env: NodeJS.ProcessEnv): Named[] {
  const found: Named[] = []
  if (env.NATS_CREDS) found.push({ from: 'NATS_CREDS', identity: credsIn(env.NATS_CREDS) })
  if (env.NATS_NKEY) found.push({ from: 'NATS_NKEY', identity: nkeyIn(env.NATS_NKEY.trim()) })
  if (env.NATS_TOKEN) found.push({ from: 'NATS_TOKEN', identity: { kind: 'token', token: env.NATS_TOKEN } })
  if (env.NATS_USER) {
    found.push({ from: 'NATS_USER', identity: { kind: 'user', user: env.NATS_USER, password: env.NATS_PASSWORD ?? '' } })
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

function credsIn(file: string): Identity {
  const text = readText('NATS_CREDS', file)
  const isCreds = /-----BEGIN NATS USER JWT-----[\s\S]+-----BEGIN USER NKEY SEED-----/.test(text)
  if (!isCreds) throw bad('NATS_CREDS', file, 'is no credentials file', 'name a .creds file with a user JWT and its seed')
  return { kind: 'creds', file }
}

/** The nats command takes a file here; a seed in the variable itself is understood too, and must then never be shown. */
function nkeyIn(value: string): Identity {
  if (SEED.test(value)) return { kind: 'nkey', seed: value }
  if (value.startsWith('S') && !/[./]/.test(value) && value.length > 40) {
    throw new KaosError(
      'bad_setting',
      'NATS_NKEY is a damaged seed: it must be 58 characters from A-Z and 2-7, or the name of a file',
    )
  }
  const text = readText('NATS_NKEY', value)
  if (!seedIn(text)) throw bad('NATS_NKEY', value, 'holds no seed', 'name a file with the seed of a user, which begins with SU')
  return { kind: 'nkey-file', file: value }
}

/** The seed in the text of a key file. */
export function seedIn(text: string): string | undefined {
  return text.split(/\s+/).find((word) => SEED.test(word))
}

function tlsOf(env: NodeJS.ProcessEnv): TlsFiles | undefined {
  const { NATS_CA, NATS_CERT, NATS_KEY } = env
  if (!NATS_CA && !NATS_CERT && !NATS_KEY) return undefined
  if (Boolean(NATS_CERT) !== Boolean(NATS_KEY)) {
    const [set, unset] = NATS_CERT ? ['NATS_CERT', 'NATS_KEY'] : ['NATS_KEY', 'NATS_CERT']
    throw new KaosError('bad_setting', `${set} is set and ${unset} is not: a client certificate needs both`)
  }
  return {
    ...(NATS_CA ? { caFile: readable('NATS_CA', NATS_CA) } : {}),
    ...(NATS_CERT && NATS_KEY ? { certFile: readable('NATS_CERT', NATS_CERT), keyFile: readable('NATS_KEY', NATS_KEY) } : {}),
  }
}

function readable(variable: string, file: string): string {
  try {
    accessSync(file, constants.R_OK)
    return file
  } catch (error) {
    throw unreadable(variable, file, error)
  }
}

function readText(variable: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw unreadable(variable, file, error)
  }
}

function unreadable(variable: string, file: string, error: unknown): KaosError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  return bad(variable, file, `cannot be read (${code})`, 'name a file that exists and may be read')
}

function bad(variable: string, value: string, what: string, cure: string): KaosError {
  return new KaosError('bad_setting', `${variable} "${value}" ${what}: ${cure}`)
}
