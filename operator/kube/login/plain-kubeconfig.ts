/**
 * A kubeconfig whose user stands in it with token, certificate or password: all that has to be done is to read it. What has to log in somewhere
 * (exec, auth-provider), or says a word that is not known here, is left to client-node, which costs a process 60 MB of memory.
 */
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { parse } from 'yaml'

export interface PlainKubeconfig {
  readonly server: string
  readonly namespace: string
  readonly proxyUrl: string | undefined
  /** Reads the files that it names, anew each time. */
  readonly load: () => Promise<{
    readonly headers: Readonly<Record<string, string>>
    readonly tls: Readonly<{ ca?: Buffer; cert?: Buffer; key?: Buffer; servername?: string; rejectUnauthorized?: false }>
  }>
}

interface Named {
  readonly name?: unknown
  readonly [content: string]: unknown
}
type Fields = Readonly<Record<string, unknown>>

const CLUSTER_FIELDS = [
  'server',
  'certificate-authority',
  'certificate-authority-data',
  'insecure-skip-tls-verify',
  'tls-server-name',
  'proxy-url',
]
const USER_FIELDS = [
  'token',
  'client-certificate',
  'client-certificate-data',
  'client-key',
  'client-key-data',
  'username',
  'password',
]

/** Undefined: it cannot be used as it stands here, for whatever reason; client-node has the words for that. */
export async function plainKubeconfig(path: string): Promise<PlainKubeconfig | undefined> {
  try {
    return plainIn(parse(await readFile(path, 'utf8')), dirname(resolve(path)))
  } catch {
    return undefined
  }
}

function plainIn(file: unknown, folder: string): PlainKubeconfig | undefined {
  if (!isFields(file)) return undefined
  const context = contentOf(file.contexts, file['current-context'], 'context')
  const cluster = context && contentOf(file.clusters, context.cluster, 'cluster')
  const user = context && contentOf(file.users, context.user, 'user')
  if (!cluster || !user || !hasOnly(cluster, CLUSTER_FIELDS) || !hasOnly(user, USER_FIELDS)) return undefined
  const server = textOf(cluster.server)
  if (server === undefined) return undefined
  const read = async (fields: Fields, name: string) => {
    const path = textOf(fields[name])
    if (path !== undefined) return await readFile(resolve(folder, path))
    const data = textOf(fields[`${name}-data`])
    return data === undefined ? undefined : Buffer.from(data, 'base64')
  }
  return {
    server,
    namespace: textOf(context.namespace) ?? 'default',
    proxyUrl: textOf(cluster['proxy-url']),
    async load() {
      const [ca, cert, key] = await Promise.all([
        read(cluster, 'certificate-authority'),
        read(user, 'client-certificate'),
        read(user, 'client-key'),
      ])
      const servername = textOf(cluster['tls-server-name'])
      return {
        headers: headersOf(user),
        tls: {
          ...(ca && { ca }),
          ...(cert && { cert }),
          ...(key && { key }),
          ...(servername !== undefined && { servername }),
          ...(cluster['insecure-skip-tls-verify'] === true && { rejectUnauthorized: false as const }),
        },
      }
    },
  }
}

function headersOf({ token, username, password }: Fields): Readonly<Record<string, string>> {
  if (textOf(username) !== undefined)
    return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }
  return textOf(token) === undefined ? {} : { authorization: `Bearer ${token}` }
}

function contentOf(list: unknown, name: unknown, what: string): Fields | undefined {
  const found = Array.isArray(list) ? list.find((each: Named) => each?.name === name) : undefined
  return isFields(found?.[what]) ? found[what] : undefined
}

/** A token of digits without quotes is a number to YAML: how others take that is not ours to guess. */
function hasOnly(fields: Fields, known: readonly string[]): boolean {
  return Object.entries(fields).every(([name, value]) => {
    if (name === 'extensions') return true
    return known.includes(name) && typeof value === (name === 'insecure-skip-tls-verify' ? 'boolean' : 'string')
  })
}

/** Undefined also for an empty one, which says nothing. */
function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
