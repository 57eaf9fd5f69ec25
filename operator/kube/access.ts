/**
 * Where the API server is and who we are there. In a pod: the mounted ServiceAccount. Elsewhere: a kubeconfig; one that has to log in somewhere
 * is read by client-node, which knows the many ways and is loaded only then, because it takes 60 MB of memory.
 */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { SecureContextOptions } from 'node:tls'
import { Agent, type Dispatcher, ProxyAgent } from 'undici'
import { KaosError, messageOf } from '../../bus/wire/errors.ts'
import { sha256 } from '../../bus/wire/json.ts'
import { type PlainKubeconfig, plainKubeconfig } from './login/plain-kubeconfig.ts'

export const ACCESS_LIMITS = {
  /** How long headers and keys are used before their files are read again; the kubelet changes a token long before it ends. */
  freshMs: 60_000,
  /** Connections for requests. Watches have others, one each: there are as many as kinds in namespaces. */
  connectionsMax: 64,
  /** Less than a renewal of the lease waits: what is said then is why there is no connection. */
  connectMs: 3_000,
  /** Below the idle limits of load balancers, and of API servers that close what is quiet. */
  keepAliveMs: 30_000,
} as const

/** What a request needs right now. */
export interface Access {
  readonly origin: string
  /** Path below which the API stands, without a slash at its end: empty unless the server is behind a proxy with a prefix. */
  readonly prefix: string
  readonly headers: Readonly<Record<string, string>>
  /** For requests. */
  readonly dispatcher: Dispatcher
  /** For watches, which hold their connections for minutes: no request ever waits for one of them to end. */
  readonly watching: Dispatcher
}

/** How we know the server and it knows us. */
type Keys = Pick<SecureContextOptions, 'ca' | 'cert' | 'key' | 'pfx' | 'passphrase'> & {
  readonly servername?: string
  readonly rejectUnauthorized?: boolean
}

/** Address and credentials as they are declared now; read again whenever they may have changed. */
export interface Credentials {
  readonly server: string
  readonly headers: Readonly<Record<string, string>>
  readonly tls: Keys
  readonly proxyUrl?: string | undefined
}

/** `source` says in messages where it comes from; `namespace` is the one of the context or the pod. */
export interface Cluster {
  readonly source: string
  readonly namespace: string
  readonly load: () => Promise<Credentials>
}

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

/**
 * The cluster that KUBECONFIG names, else the one whose pod this is, else the one of ~/.kube/config. Throws `cluster_settings`: no cluster is
 * named, or its file cannot be used.
 */
export async function findCluster(
  options: { readonly env?: NodeJS.ProcessEnv; readonly home?: string; readonly serviceAccount?: string } = {},
): Promise<Cluster> {
  const { env = process.env, home = homedir(), serviceAccount = SERVICE_ACCOUNT } = options
  if (env.KUBECONFIG) return kubeconfigCluster(env.KUBECONFIG)
  if (env.KUBERNETES_SERVICE_HOST) return inCluster(env, serviceAccount)
  return kubeconfigCluster(join(home, '.kube', 'config'))
}

/** `paths`: one kubeconfig, or several with colons between them, as in KUBECONFIG. Throws `cluster_settings`. */
export async function kubeconfigCluster(paths: string): Promise<Cluster> {
  const failed = (reason: string, cause?: unknown) =>
    new KaosError('cluster_settings', `could not use the kubeconfig "${paths}": ${reason}`, { cause })
  const source = `kubeconfig "${paths}"`
  const plain = paths.includes(':') ? undefined : await plainKubeconfig(paths)
  if (plain) {
    checkServer(plain, failed)
    return { source, namespace: plain.namespace, load: plainLoad(plain, failed) }
  }
  const { KubeConfig } = await import('@kubernetes/client-node')
  const config = new KubeConfig()
  try {
    const [first = '', ...others] = paths.split(':').filter((path) => path !== '')
    config.loadFromFile(first)
    for (const path of others) {
      const other = new KubeConfig()
      other.loadFromFile(path)
      config.mergeConfig(other, true)
    }
  } catch (error) {
    throw failed(messageOf(error), error)
  }
  const cluster = config.getCurrentCluster()
  const user = config.getCurrentUser()
  if (!cluster) throw failed(`its current context "${config.getCurrentContext()}" names no cluster`)
  if (!user) throw failed(`its current context "${config.getCurrentContext()}" names no user`)
  checkServer(cluster, failed)
  const namespace = config.getContextObject(config.getCurrentContext())?.namespace ?? 'default'
  // client-node refuses plain HTTP altogether; what is refused here was decided above.
  const used = new KubeConfig()
  used.loadFromClusterAndUser(cluster.server.startsWith('http:') ? { ...cluster, skipTLSVerify: true } : cluster, user)
  const load = async (): Promise<Credentials> => {
    const request: import('node:https').RequestOptions = {}
    try {
      await used.applyToHTTPSOptions(request)
    } catch (error) {
      throw failed(messageOf(error), error)
    }
    const headers = Object.entries(request.headers ?? {}).map(([name, value]) => [name.toLowerCase(), String(value)])
    if (request.auth) headers.push(['authorization', `Basic ${Buffer.from(request.auth).toString('base64')}`])
    const { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized } = request
    const tls = Object.entries({ ca, cert, key, pfx, passphrase, servername, rejectUnauthorized })
    return {
      server: cluster.server,
      headers: Object.fromEntries(headers),
      tls: Object.fromEntries(tls.filter(([, value]) => value !== undefined)),
      proxyUrl: cluster.proxyUrl,
    }
  }
  return { source, namespace, load }
}

function plainLoad({ server, proxyUrl, load }: PlainKubeconfig, failed: (reason: string, cause?: unknown) => KaosError) {
  return async (): Promise<Credentials> => {
    try {
      return { server, proxyUrl, ...(await load()) }
    } catch (error) {
      throw failed(messageOf(error), error)
    }
  }
}

async function inCluster(env: NodeJS.ProcessEnv, folder: string): Promise<Cluster> {
  const host = env.KUBERNETES_SERVICE_HOST ?? ''
  const server = `https://${host.includes(':') ? `[${host}]` : host}:${env.KUBERNETES_SERVICE_PORT || '443'}`
  const read = async (name: string) => {
    try {
      return (await readFile(join(folder, name), 'utf8')).trim()
    } catch (error) {
      const why = `could not read the ServiceAccount of this pod: ${messageOf(error)}`
      throw new KaosError('cluster_settings', why, { cause: error })
    }
  }
  const load = async (): Promise<Credentials> => {
    const [token, ca] = await Promise.all([read('token'), read('ca.crt')])
    return { server, headers: { authorization: `Bearer ${token}` }, tls: { ca } }
  }
  await load()
  return { source: 'the ServiceAccount of this pod', namespace: await read('namespace'), load }
}

/** A token over plain HTTP is read by whoever is on the way. */
function checkServer(
  { server, proxyUrl }: { readonly server: string; readonly proxyUrl?: string | undefined },
  failed: (reason: string) => KaosError,
): void {
  if (proxyUrl?.startsWith('socks')) throw failed(`field "proxy-url" is "${proxyUrl}": SOCKS proxies are not supported`)
  if (!URL.canParse(server)) throw failed(`field "server" is "${server}", which is no URL`)
  const { protocol, hostname } = new URL(server)
  if (protocol === 'https:') return
  if (protocol !== 'http:') throw failed(`field "server" is "${server}": only https is supported`)
  if (!/^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)) {
    throw failed(`field "server" is "${server}": plain HTTP is allowed to this machine only`)
  }
}

/** Keeps the credentials fresh, and one pool of connections for as long as the keys are the same. */
export class ClusterAccess {
  readonly cluster: Cluster
  #access: Access | undefined
  #keys = ''
  #readAt = 0
  #reading: Promise<Access> | undefined
  #isClosed = false

  constructor(cluster: Cluster) {
    this.cluster = cluster
  }

  /** Throws `cluster_settings`; a file that cannot be read for a moment is no error while the access read before is at hand. */
  async get(): Promise<Access> {
    if (this.#access && performance.now() - this.#readAt < ACCESS_LIMITS.freshMs) return this.#access
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined
    })
    return this.#reading
  }

  /** The server did not know us: what was read is read again at the next request. */
  forget(): void {
    this.#readAt = Number.NEGATIVE_INFINITY
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([this.#access?.dispatcher.destroy(), this.#access?.watching.destroy()])
  }

  async #read(): Promise<Access> {
    let credentials: Credentials
    try {
      credentials = await this.cluster.load()
    } catch (error) {
      if (!this.#access) throw error
      this.#readAt = performance.now()
      return this.#access
    }
    const { server, headers, tls, proxyUrl } = credentials
    const { origin, pathname } = new URL(server)
    const keys = sha256(JSON.stringify([origin, proxyUrl, Object.entries(tls).map(([name, value]) => [name, String(value)])]))
    const before = this.#access
    const isSame = before !== undefined && keys === this.#keys
    const dispatcher = isSame ? before.dispatcher : dispatcherOf(tls, proxyUrl, ACCESS_LIMITS.connectionsMax)
    const watching = isSame ? before.watching : dispatcherOf(tls, proxyUrl, null)
    // Requests under way end with the connections that they have.
    if (!isSame) for (const pool of [before?.dispatcher, before?.watching]) void pool?.close().catch(() => {})
    this.#keys = keys
    this.#readAt = performance.now()
    this.#access = { origin, prefix: pathname.replace(/\/+$/, ''), headers, dispatcher, watching }
    if (this.#isClosed) await this.close()
    return this.#access
  }
}

/**
 * HTTP/1.1: with HTTP/2 all watches and requests share one connection, and one that freezes takes all of them with it. No time-outs of
 * undici's own: each request has a deadline, each watch a limit of silence.
 */
function dispatcherOf(tls: Keys, proxyUrl: string | undefined, connections: number | null): Dispatcher {
  const { connectMs, keepAliveMs } = ACCESS_LIMITS
  const connect = { ...tls, timeout: connectMs, keepAlive: true, keepAliveInitialDelay: keepAliveMs }
  const shared = { allowH2: false, connections, pipelining: 1, headersTimeout: 0, bodyTimeout: 0 } as const
  if (proxyUrl) return new ProxyAgent({ ...shared, uri: proxyUrl, requestTls: connect })
  return new Agent({ ...shared, connect })
}
