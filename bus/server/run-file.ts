/** `.kaos/run.json`: who runs in a folder and where its broker listens. One `kaos up` at a time; what a killed one left is no obstacle. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { KaosError } from '../wire/errors.ts'
import type { FolderLock } from './folder-lock.ts'
import { reasonOf } from './reason.ts'

const FOLDER = '.kaos'
const FILE = 'run.json'
const LOCK = 'lock'
const LOOKS_MAX = 10
const LOOK_MS = 20

const holderSchema = z.object({ pid: z.number().int().positive(), startedAt: z.string(), url: z.string().optional() })
const runFileSchema = holderSchema.extend({
  url: z.string(),
  namespace: z.string(),
  manifests: z.array(z.string()).readonly(),
  storeDir: z.string().optional(),
})

export type RunFile = Readonly<z.infer<typeof runFileSchema>>

export interface FolderClaim {
  /** Makes the run known to the other commands. May be called again when something changed. */
  publish(run: Omit<RunFile, 'pid' | 'startedAt'>): RunFile
  /** Removes the run file and lets the next one in. The end of the process does the latter too. */
  release(): void
}

/** The run of this folder; undefined if there is none, if it has ended without cleaning up, or if it is still starting. */
export function readRunFile(dir: string): RunFile | undefined {
  const run = runFileSchema.safeParse(readJson(dir))
  return run.success && isAlive(run.data.pid) ? run.data : undefined
}

/** Makes this process the only `kaos up` of the folder. Throws `already_running` with pid and URL of the other one. */
export async function claimFolder(dir: string): Promise<FolderClaim> {
  const folder = join(dir, FOLDER)
  const lock = await tryLock(dir, folder)
  if (!lock) throw await alreadyRunning(dir)
  const file = join(folder, FILE)
  const self = { pid: process.pid, startedAt: new Date().toISOString() }
  // At once, so that a second one can name us, and so that nobody reads the address of a broker that is gone.
  writeWhole(file, self)
  return {
    publish(run) {
      const whole = { ...self, ...run }
      writeWhole(file, whole)
      return whole
    },
    release() {
      // The file goes before the lock: afterwards it would be the next one's.
      rmSync(file, { force: true })
      lock.release()
    },
  }
}

async function tryLock(dir: string, folder: string): Promise<FolderLock | undefined> {
  // SQLite is loaded by who takes the lock, not by the many who read the file.
  const { takeFolderLock } = await import('./folder-lock.ts')
  try {
    mkdirSync(folder, { recursive: true })
    return takeFolderLock(join(folder, LOCK))
  } catch (error) {
    throw new KaosError(
      'folder_unusable',
      `could not lock the folder "${dir}": ${reasonOf(error)}; run kaos where it may write`,
      {
        cause: error,
      },
    )
  }
}

async function alreadyRunning(dir: string): Promise<KaosError> {
  // Between the lock and its first write the holder has no name yet.
  for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
    const holder = holderSchema.safeParse(readJson(dir))
    if (holder.success && isAlive(holder.data.pid)) {
      const { pid, url } = holder.data
      const where = url ? `its NATS server is "${url}"` : 'it is still starting'
      return new KaosError('already_running', `could not start in "${dir}": "kaos up" with pid ${pid} runs there, ${where}`, {
        details: { pid, ...(url ? { url } : {}) },
      })
    }
    await delay(LOOK_MS)
  }
  return new KaosError('already_running', `could not start in "${dir}": another process holds "${join(dir, FOLDER, LOCK)}"`)
}

function readJson(dir: string): unknown {
  try {
    return JSON.parse(readFileSync(join(dir, FOLDER, FILE), 'utf8'))
  } catch {
    return undefined // absent, or broken by hand: it says nothing either way
  }
}

/** Readers see the old file or the new one, never half of one. */
function writeWhole(file: string, content: object): void {
  const fresh = `${file}.${process.pid}`
  writeFileSync(fresh, `${JSON.stringify(content, null, 2)}\n`)
  renameSync(fresh, file)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
