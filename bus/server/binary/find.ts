/**
 * Finds a nats-server to run: on PATH, else in the cache, else fetched once as a release archive, else built once with Go. Every way says
 * in one line what it does; when all fail, the error says why each did and what helps on this platform.
 */
import { delimiter, join } from 'node:path'
import { KaosError } from '../../wire/errors.ts'
import { reasonOf } from '../reason.ts'
import { type ArchiveOptions, fetchArchive } from './archive.ts'
import { cachedServerPath, isExecutable } from './cache.ts'
import { GO_PACKAGE, type GoInstallOptions, installWithGo } from './go-install.ts'
import { askServerVersion, isServerVersionEnough, SERVER_VERSION_MIN, SERVER_VERSION_PINNED } from './version.ts'

export interface FoundServer {
  readonly path: string
  readonly version: string
  readonly source: 'path' | 'cache' | 'archive' | 'go'
}

export interface FindOptions extends ArchiveOptions, GoInstallOptions {}

interface Way {
  readonly name: string
  /** Whether it takes no time: then nobody wants to read that it led nowhere, unless it costs somebody a wait. */
  readonly isQuick?: true
  /** Throws an error whose message says why this way leads nowhere. */
  readonly follow: (options: FindOptions) => Promise<FoundServer>
}

const WAYS: readonly Way[] = [
  { name: 'PATH', isQuick: true, follow: searchPath },
  { name: 'cache', isQuick: true, follow: lookIntoCache },
  { name: 'release archive', follow: async (options) => pinned(await fetchArchive(options), 'archive') },
  { name: 'go install', follow: async (options) => pinned(await installWithGo(options), 'go') },
]

/**
 * `say` gets a line for each step, for a person who waits. Throws `broker_not_found` with every way tried, or `aborted` on the signal.
 * Takes milliseconds from PATH or the cache, seconds to minutes where the server has to be fetched.
 */
export async function findServer(options: FindOptions): Promise<FoundServer> {
  const failures: string[] = []
  const untold: string[] = []
  for (const way of WAYS) {
    if (!way.isQuick) for (const line of untold.splice(0)) options.say(line)
    if (options.signal?.aborted) throw new KaosError('aborted', 'stopped looking for a nats-server')
    try {
      const found = await way.follow(options)
      options.say(`nats-server ${found.version} from ${way.name}: ${found.path}`)
      return found
    } catch (error) {
      if (options.signal?.aborted) {
        throw new KaosError('aborted', `stopped getting nats-server by ${way.name}`, { cause: error })
      }
      const reason = error instanceof Error ? error.message : String(error)
      failures.push(`${way.name}: ${reason}`)
      const line = `no nats-server from ${way.name} (${reason}), trying the next way`
      if (way.isQuick) untold.push(line)
      else options.say(line)
    }
  }
  const ways = failures.map((failure) => `\n  ${failure}`).join('')
  throw new KaosError(
    'broker_not_found',
    `could not get a nats-server, ${failures.length} ways were tried:${ways}\n${cureHere(options.env)}`,
  )
}

async function searchPath({ env, say, signal }: FindOptions): Promise<FoundServer> {
  const passedOver: string[] = []
  for (const folder of new Set((env.PATH ?? '').split(delimiter))) {
    const path = join(folder, 'nats-server')
    if (folder === '' || !(await isExecutable(path))) continue
    try {
      const version = await askServerVersion(path, signal)
      if (isServerVersionEnough(version)) return { path, version, source: 'path' }
      passedOver.push(`"${path}" is ${version}, older than ${SERVER_VERSION_MIN}`)
    } catch (error) {
      passedOver.push(`"${path}" does not run: ${reasonOf(error)}`)
    }
    say(`passed over: ${passedOver.at(-1)}`)
  }
  throw new Error(passedOver.join('; ') || 'there is none')
}

/** The folder carries the version and a file gets there only whole, so a start from the cache does not run the binary to ask. */
async function lookIntoCache({ env }: FindOptions): Promise<FoundServer> {
  const path = cachedServerPath(env)
  if (!(await isExecutable(path))) throw new Error(`"${path}" is not there yet`)
  return pinned(path, 'cache')
}

function pinned(path: string, source: FoundServer['source']): FoundServer {
  return { path, version: SERVER_VERSION_PINNED, source }
}

function cureHere(env: NodeJS.ProcessEnv): string {
  const install =
    process.platform === 'darwin' ? '"brew install nats-server"' : `Go from https://go.dev/dl, then "go install ${GO_PACKAGE}"`
  return (
    `What helps: ${install}; or put a nats-server ${SERVER_VERSION_PINNED} at "${cachedServerPath(env)}"; ` +
    `or set NATS_URL to a server ${SERVER_VERSION_MIN} or newer that runs already.`
  )
}
