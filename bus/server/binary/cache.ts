/** Where a fetched nats-server is kept for all projects of one user, and how a file gets there whole or not at all. */
import { access, chmod, constants, mkdir, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { SERVER_VERSION_PINNED } from './version.ts'

const STALE_WORK_MS = 3_600_000
const WORK_PREFIX = '.fetch-'

/** `$XDG_CACHE_HOME/kaos`, else `~/.cache/kaos`. The XDG specification says to ignore a relative path. */
export function cacheFolder(env: NodeJS.ProcessEnv): string {
  const given = env.XDG_CACHE_HOME
  const base = given?.startsWith('/') ? given : join(env.HOME || homedir(), '.cache')
  return join(base, 'kaos')
}

export function cachedServerPath(env: NodeJS.ProcessEnv): string {
  return join(cacheFolder(env), `nats-server-${SERVER_VERSION_PINNED}`, 'nats-server')
}

export async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK)
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}

/**
 * Gives `work` a folder of its own inside the cache (the same file system, so that a rename is atomic) and removes it afterwards.
 * Folders that a killed process left behind an hour ago or longer go too.
 */
export async function inWorkFolder<T>(env: NodeJS.ProcessEnv, work: (folder: string) => Promise<T>): Promise<T> {
  const cache = cacheFolder(env)
  await mkdir(cache, { recursive: true })
  await removeStale(cache)
  const folder = await mkdtemp(join(cache, WORK_PREFIX))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/**
 * Moves a finished binary to its place. Two processes that fetch at once replace each other's equal file, and a server that runs from the
 * replaced one goes on.
 */
export async function moveIntoCache(binary: string, env: NodeJS.ProcessEnv): Promise<string> {
  const path = cachedServerPath(env)
  await chmod(binary, 0o755)
  await flush(binary)
  await mkdir(dirname(path), { recursive: true })
  await rename(binary, path)
  return path
}

/** Without this a power cut after the rename may leave an empty file, which would count as cached for ever. */
async function flush(path: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

async function removeStale(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith(WORK_PREFIX)) continue
    const folder = join(cache, name)
    const age = await stat(folder).then(
      (found) => Date.now() - found.mtimeMs,
      () => 0, // its owner has just removed it
    )
    if (age > STALE_WORK_MS) await rm(folder, { recursive: true, force: true })
  }
}
