/** Gets the release archive of nats-server and checks it against the SHA256SUMS file published beside it. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { sha256 } from '../../wire/json.ts'
import { reasonOf } from '../reason.ts'
import { inWorkFolder, moveIntoCache } from './cache.ts'
import { readTarFile } from './tar.ts'
import { askServerVersion, SERVER_VERSION_PINNED } from './version.ts'

export const RELEASES_URL = `https://github.com/nats-io/nats-server/releases/download/v${SERVER_VERSION_PINNED}`

const CONNECT_MS = 3_000
const SILENCE_MS = 15_000
const DOWNLOAD_MS = 300_000
const PROGRESS_MS = 2_000
const SUMS_BYTES_MAX = 1_000_000
const ARCHIVE_BYTES_MAX = 100_000_000
const BINARY_BYTES_MAX = 200_000_000

export interface ArchiveOptions {
  readonly env: NodeJS.ProcessEnv
  readonly say: (line: string) => void
  readonly signal?: AbortSignal
  /** Folder that holds the archive and SHA256SUMS. */
  readonly releases?: string
  readonly connectMs?: number
}

/** `linux-amd64` and the like, as the archives are named. Throws where none is published as tar.gz. */
export function archivePlatform(platform: string = process.platform, arch: string = process.arch): string {
  const system = { linux: 'linux', darwin: 'darwin', freebsd: 'freebsd' }[platform]
  const processor = { x64: 'amd64', arm64: 'arm64', arm: 'arm7', ia32: '386' }[arch]
  if (!system || !processor) throw new Error(`no archive is published for "${platform}" on "${arch}"`)
  return `${system}-${processor}`
}

/** Returns the path of the binary in the cache. A wrong checksum is an error and nothing of the archive is kept. */
export async function fetchArchive(options: ArchiveOptions): Promise<string> {
  const releases = options.releases ?? RELEASES_URL
  const name = `nats-server-v${SERVER_VERSION_PINNED}-${archivePlatform()}.tar.gz`
  options.say(`downloading ${releases}/${name}`)
  const { archive, sums } = await download(releases, name, options)
  const expected = sumOf(sums, name)
  const actual = sha256(archive)
  if (actual !== expected) {
    throw new Error(`refused "${name}": its sha256 is "${actual}", SHA256SUMS says "${expected}"`)
  }
  const tar = await promisify(gunzip)(archive, { maxOutputLength: BINARY_BYTES_MAX })
  const binary = readTarFile(tar, 'nats-server')
  if (!binary) throw new Error(`"${name}" holds no file "nats-server"`)
  return inWorkFolder(options.env, async (folder) => {
    const fresh = join(folder, 'nats-server')
    await writeFile(fresh, binary, { mode: 0o755 })
    await askServerVersion(fresh, options.signal)
    return moveIntoCache(fresh, options.env)
  })
}

async function download(releases: string, name: string, options: ArchiveOptions) {
  // Loaded only here: a start from PATH or the cache should not pay for an HTTP client.
  const { EnvHttpProxyAgent, fetch } = await import('undici')
  const { env } = options
  const dispatcher = new EnvHttpProxyAgent({
    connect: { timeout: options.connectMs ?? CONNECT_MS },
    headersTimeout: SILENCE_MS,
    bodyTimeout: SILENCE_MS,
    httpProxy: env.http_proxy ?? env.HTTP_PROXY ?? '',
    httpsProxy: env.https_proxy ?? env.HTTPS_PROXY ?? '',
    noProxy: env.no_proxy ?? env.NO_PROXY ?? '',
  })
  const deadline = AbortSignal.timeout(DOWNLOAD_MS)
  const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline
  const get = async (url: string, bytesMax: number, say?: (line: string) => void): Promise<Uint8Array> => {
    try {
      const response = await fetch(url, { dispatcher, signal })
      if (!response.ok || !response.body) throw new Error(`HTTP status ${response.status}`)
      return await readBody(response.body, Number(response.headers.get('content-length')) || undefined, bytesMax, say)
    } catch (error) {
      throw new Error(`could not download "${url}": ${reasonOf(error)}`, { cause: error })
    }
  }
  try {
    // The small file first: where nothing answers, it says so before anything large is asked for.
    const sums = await get(`${releases}/SHA256SUMS`, SUMS_BYTES_MAX)
    const archive = await get(`${releases}/${name}`, ARCHIVE_BYTES_MAX, options.say)
    return { archive, sums: new TextDecoder().decode(sums) }
  } finally {
    await dispatcher.destroy()
  }
}

async function readBody(
  body: AsyncIterable<Uint8Array>,
  total: number | undefined,
  bytesMax: number,
  say: ((line: string) => void) | undefined,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  let saidAt = Date.now()
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > bytesMax) throw new Error(`it is larger than ${bytesMax} bytes`)
    chunks.push(chunk)
    if (Date.now() - saidAt < PROGRESS_MS) continue
    saidAt = Date.now()
    say?.(`downloaded ${megabytes(bytes)}${total ? ` of ${megabytes(total)}` : ''} MB`)
  }
  return Buffer.concat(chunks)
}

/** Lines are `<hex>  <file>`, or `<hex> *<file>` for binary mode. */
function sumOf(sums: string, name: string): string {
  for (const line of sums.split('\n')) {
    const match = /^([0-9a-f]{64}) [ *](.+)$/i.exec(line.trim())
    if (match?.[1] && match[2] === name) return match[1].toLowerCase()
  }
  throw new Error(`refused "${name}": SHA256SUMS does not name it`)
}

const megabytes = (bytes: number): string => (bytes / 1_000_000).toFixed(1)
