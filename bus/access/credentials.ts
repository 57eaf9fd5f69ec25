/** Reads credentials where a variable or a field of a context says they are. No error shows a secret. */
import { accessSync, constants, readFileSync } from 'node:fs'
import { KaosError } from '../wire/errors.ts'

const SEED = /^S[UAOCNX][A-Z2-7]{56}$/
const CREDS = /-----BEGIN NATS USER JWT-----\s+(\S+)\s+-+END NATS USER JWT-+[\s\S]+-----BEGIN USER NKEY SEED-----\s+(\S+)/

/** Who connects. Files are read again at each connection, so that renewed credentials are picked up. */
export type Identity =
  | { readonly kind: 'none' }
  | { readonly kind: 'creds'; readonly file: string }
  | { readonly kind: 'nkey-file'; readonly file: string }
  | { readonly kind: 'nkey'; readonly seed: string }
  | { readonly kind: 'jwt'; readonly jwt: string; readonly seed?: string }
  | { readonly kind: 'user'; readonly user: string; readonly password: string }
  | { readonly kind: 'token'; readonly token: string }

/** The seed in the text of a key file. */
export function seedIn(text: string): string | undefined {
  return text.split(/\s+/).find((word) => SEED.test(word))
}

/** @param from What named the file, for messages: a variable, or a field of a context. */
export function credsFile(from: string, file: string): Identity {
  if (file.includes('\n')) throw new KaosError('bad_setting', `${from} must be the name of a file, not what it holds`)
  if (!CREDS.test(readText(from, file))) {
    throw badSetting(from, file, 'is no credentials file', 'name a .creds file with a user JWT and its seed')
  }
  return { kind: 'creds', file }
}

/** @param text What a credentials file holds. */
export function credsText(from: string, text: string): Identity {
  const [, jwt, seed] = CREDS.exec(text) ?? []
  if (jwt && seed) return { kind: 'jwt', jwt, seed }
  throw new KaosError(
    'bad_setting',
    `${from} holds no credentials: it must be the text of a .creds file, a user JWT and its seed`,
  )
}

/** The nats command takes a file here; a seed itself is understood too, and must then never be shown. */
export function nkeyIn(from: string, value: string): Identity {
  if (SEED.test(value)) return { kind: 'nkey', seed: value }
  if (value.startsWith('S') && !/[./]/.test(value) && value.length > 40) throw damagedSeed(from, ', or the name of a file')
  const text = readText(from, value)
  if (!seedIn(text)) throw badSetting(from, value, 'holds no seed', 'name a file with the seed of a user, which begins with SU')
  return { kind: 'nkey-file', file: value }
}

/** @param text A seed, or what a key file holds. */
export function nkeyText(from: string, text: string): Identity {
  const seed = seedIn(text)
  if (!seed) throw damagedSeed(from)
  return { kind: 'nkey', seed }
}

/** Without a seed the server has to take the JWT for a bearer token. */
export function jwtOf(from: string, jwt: string, seed?: { readonly from: string; readonly text: string }): Identity {
  if (jwt.split('.').length !== 3) {
    throw new KaosError('bad_setting', `${from} is no JWT: it must be three parts separated by dots`)
  }
  if (!seed) return { kind: 'jwt', jwt }
  const found = seedIn(seed.text)
  if (!found) throw damagedSeed(seed.from)
  return { kind: 'jwt', jwt, seed: found }
}

/** The name of the file, if it may be read. */
export function readable(from: string, file: string): string {
  try {
    accessSync(file, constants.R_OK)
    return file
  } catch (error) {
    throw unreadable(from, file, error)
  }
}

export function readText(from: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw unreadable(from, file, error)
  }
}

export function badSetting(from: string, value: string, what: string, cure: string): KaosError {
  return new KaosError('bad_setting', `${from} "${value}" ${what}: ${cure}`)
}

function damagedSeed(from: string, orElse = ''): KaosError {
  return new KaosError('bad_setting', `${from} is a damaged seed: it must be 58 characters from A-Z and 2-7${orElse}`)
}

function unreadable(from: string, file: string, error: unknown): KaosError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  return badSetting(from, file, `cannot be read (${code})`, 'name a file that exists and may be read')
}
