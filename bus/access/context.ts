/**
 * A context of the `nats` command: a file of JSON that says which server to use and as whom. Only one that is named is read, never the one that
 * is merely selected. Its fields are those of natscli 0.5; what is not honoured here and would change the meaning is refused.
 */
import { existsSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { closest, distance } from 'fastest-levenshtein'
import { z } from 'zod'
import { KaosError } from '../wire/errors.ts'
import { badSetting, credsFile, credsText, type Identity, jwtOf, nkeyIn, nkeyText, readText } from './credentials.ts'

/** Where natscli connects to when a context has no URL. */
const URL_DEFAULT = 'nats://127.0.0.1:4222'
const KNOWN_NAMED_MAX = 10
const NAME_DISTANCE_MAX = 3

export interface NatsContext {
  readonly name: string
  readonly url: string
  readonly user: string
  /** All that the fields name; more than one is the reader's to refuse. The URL may hold another. */
  identities(): readonly { readonly from: string; readonly identity: Identity }[]
  /** Absent if the field is empty. */
  readonly caFile?: string
  readonly certFile?: string
  readonly keyFile?: string
  readonly isTlsFirst: boolean
}

const text = z
  .string()
  .nullish()
  .transform((value) => value ?? '')

const contextSchema = z.object({
  url: text,
  user: text,
  password: text,
  token: text,
  creds: text,
  nkey: text,
  user_jwt: text,
  user_seed: text,
  cert: text,
  key: text,
  ca: text,
  tls_first: z.boolean().nullish(),
  nsc: text,
  socks_proxy: text,
  jetstream_domain: text,
  jetstream_api_prefix: text,
  inbox_prefix: text,
  windows_cert_store: text,
})
type Fields = z.output<typeof contextSchema>

/** What would have to be done otherwise, and is not. */
const UNSUPPORTED: Readonly<Partial<Record<keyof Fields, string>>> = {
  nsc: 'name the file with the credentials in "creds"',
  socks_proxy: 'there is no way through a proxy',
  jetstream_domain: 'connect to a server of that domain',
  jetstream_api_prefix: 'only "$JS.API" is spoken',
  inbox_prefix: 'inboxes begin with "_INBOX.<namespace>"',
  windows_cert_store: 'name files in "cert", "key" and "ca"',
}

/**
 * Reads a context by its name, or by the name of its file if that ends with ".json". Throws `bad_setting`.
 *
 * @param from What named it, for messages: `--context` or `NATS_CONTEXT`.
 */
export function readContext(name: string, from: string, env: NodeJS.ProcessEnv): NatsContext {
  const fields = readFields(fileOf(name, from, env), name)
  const label = (field: keyof Fields) => `${field} of context "${name}"`
  for (const [field, cure] of Object.entries(UNSUPPORTED)) {
    const value = String(fields[field as keyof Fields])
    if (!value || (field === 'jetstream_api_prefix' && value === '$JS.API')) continue
    throw badSetting(label(field as keyof Fields), value.replace(/\/\/[^/]*@/, '//…@'), 'is not supported', cure)
  }
  const file = (field: 'ca' | 'cert' | 'key') => {
    const ref = referenceIn(fields[field])
    if (ref.scheme) throw badSetting(label(field), `${ref.scheme}:…`, 'is no file', 'name a file')
    return ref.path && expand(ref.path, env)
  }
  const [caFile, certFile, keyFile] = [file('ca'), file('cert'), file('key')]
  return {
    name,
    url: fields.url || URL_DEFAULT,
    user: fields.user,
    identities: () => identitiesIn(fields, label, env),
    ...(caFile && { caFile }),
    ...(certFile && { certFile }),
    ...(keyFile && { keyFile }),
    isTlsFirst: fields.tls_first === true,
  }
}

function fileOf(name: string, from: string, env: NodeJS.ProcessEnv): string {
  if (name.endsWith('.json') && existsSync(name)) return name
  const folder = join(env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'nats', 'context')
  const file = join(folder, `${name}.json`)
  // As natscli: a name is no path.
  const isName = !/[/\\]|\.\./.test(name)
  if (isName && existsSync(file)) return file
  const lead = `could not find the context "${name}" (from ${from})`
  throw new KaosError('bad_setting', isName ? `${lead}: ${knownIn(folder, name)}` : `${lead}: there is no such file with ".json"`)
}

function knownIn(folder: string, name: string): string {
  const known = contextsIn(folder)
  if (known.length === 0) return `there are none in "${folder}"; "nats context save" makes one`
  const nearest = closest(name, known)
  if (distance(name, nearest) <= NAME_DISTANCE_MAX) return `did you mean "${nearest}"?`
  return `there are: ${known.slice(0, KNOWN_NAMED_MAX).join(', ')}${known.length > KNOWN_NAMED_MAX ? ', …' : ''}`
}

function contextsIn(folder: string): string[] {
  try {
    const files = readdirSync(folder).filter((file) => file.endsWith('.json'))
    return files.map((file) => file.slice(0, -'.json'.length)).toSorted()
  } catch {
    return [] // no such folder: nobody has saved a context
  }
}

/* What JSON.parse and zod say is not passed on as it is: the former quotes the text, passwords included. */
function readFields(file: string, name: string): Fields {
  const wrong = (what: string) => new KaosError('bad_setting', `could not read the context "${name}" in "${file}": ${what}`)
  let value: unknown
  try {
    value = JSON.parse(readText(`the file of context "${name}"`, file))
  } catch (error) {
    if (error instanceof KaosError) throw error
    const place = /line \d+ column \d+/.exec(String(error))?.[0]
    throw wrong(`it is no JSON${place ? ` (${place})` : ''}`)
  }
  const parsed = contextSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const field = issue?.path.join('.')
  throw wrong(
    `${field ? `field "${field}"` : 'it'} ${issue?.code === 'invalid_type' ? `must be of type ${issue.expected}` : 'is wrong'}`,
  )
}

function identitiesIn(fields: Fields, label: (field: keyof Fields) => string, env: NodeJS.ProcessEnv) {
  const found: { readonly from: string; readonly identity: Identity }[] = []
  const add = (field: keyof Fields, identity: Identity) => found.push({ from: label(field), identity })
  const secret = (field: 'password' | 'token' | 'user_jwt' | 'user_seed') => resolveSecret(label(field), fields[field], env)

  if (fields.user) add('user', { kind: 'user', user: fields.user, password: secret('password') })
  else if (fields.password) throw new KaosError('bad_setting', `${label('password')} is set and user is not: set both`)
  const creds = referenceIn(fields.creds)
  if (creds.scheme) add('creds', credsText(label('creds'), resolveSecret(label('creds'), fields.creds, env)))
  else if (creds.path) add('creds', credsFile(label('creds'), expand(creds.path, env)))
  const nkey = referenceIn(fields.nkey)
  if (nkey.scheme) add('nkey', nkeyText(label('nkey'), resolveSecret(label('nkey'), fields.nkey, env)))
  else if (nkey.path) add('nkey', nkeyIn(label('nkey'), expand(nkey.path, env)))
  if (fields.user_jwt) {
    const seed = fields.user_seed ? { from: label('user_seed'), text: secret('user_seed') } : undefined
    add('user_jwt', jwtOf(label('user_jwt'), secret('user_jwt').trim(), seed))
  } else if (fields.user_seed) {
    throw new KaosError('bad_setting', `${label('user_seed')} is set and user_jwt is not: set both`)
  }
  if (fields.token) add('token', { kind: 'token', token: secret('token') })
  return found
}

/** What a field refers to: a path, plain or as `file://`, or what only its scheme can tell. */
function referenceIn(value: string): { readonly path?: string; readonly scheme?: string } {
  const scheme = /^(file|env|data|op|nsc):/i.exec(value)?.[1]?.toLowerCase()
  if (scheme === 'file') return { path: value.slice('file:'.length).replace(/^\/\//, '') }
  return scheme ? { scheme } : { path: value }
}

/** As natscli: a secret may stand in a variable (`env://NAME`), a file, or the field as base64 (`data:;base64,…`); all else is the secret. */
function resolveSecret(from: string, value: string, env: NodeJS.ProcessEnv): string {
  const { scheme, path } = referenceIn(value)
  if (path !== undefined) return path === value ? value : trimEnd(readText(from, expand(path, env)))
  if (scheme === 'env') {
    const name = value.slice('env://'.length)
    const found = env[name]
    if (!found) throw badSetting(from, value, 'names a variable that is not set', `set "${name}"`)
    return trimEnd(found)
  }
  if (scheme === 'data') {
    const [head = '', payload] = value.split(',', 2)
    if (payload === undefined || !/;base64$/i.test(head)) {
      throw new KaosError('bad_setting', `${from} begins with "data:" and is not base64: write data:;base64,…`)
    }
    return trimEnd(Buffer.from(payload, 'base64').toString('utf8'))
  }
  throw badSetting(from, `${scheme}://…`, 'is not supported', 'name a file, or a variable as env://NAME')
}

const trimEnd = (secret: string) => secret.replace(/[\r\n]+$/, '')

/** `~` and `$VARIABLE` in a path. */
function expand(path: string, env: NodeJS.ProcessEnv): string {
  const filled = path.replace(
    /\$(?:\{(\w+)\}|(\w+))/g,
    (_all, braced?: string, plain?: string) => env[braced ?? plain ?? ''] ?? '',
  )
  return filled.startsWith('~') ? homedir() + filled.slice(1) : filled
}
