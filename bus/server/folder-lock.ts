/**
 * A lock on a folder that the kernel gives back however its holder ends, so that there are no stale locks and nothing to guess from pids.
 * Node has no flock; SQLite, which it carries, takes such a lock for an exclusive transaction on Linux and macOS alike.
 */
import { rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'

/* Two that ask in the same instant may each see the other's attempt: a short wait lets one of them win. */
const WAIT_MS = 250
const SQLITE_BUSY = 5
const SQLITE_NOT_A_DATABASE = 26

/** Unreachable databases are closed by the garbage collector, which would give the lock back. */
const held = new Set<DatabaseSync>()

export interface FolderLock {
  release(): void
}

/** Undefined if somebody else holds the lock. Blocks for at most a quarter of a second. Throws if the file cannot be written. */
export function takeFolderLock(path: string): FolderLock | undefined {
  const database = new DatabaseSync(path, { timeout: WAIT_MS })
  try {
    database.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (codeOf(error) === SQLITE_BUSY) return undefined
    if (codeOf(error) !== SQLITE_NOT_A_DATABASE) throw error
    // Not ours, so nobody holds it.
    rmSync(path)
    return takeFolderLock(path)
  }
  held.add(database)
  return {
    release() {
      if (!held.delete(database)) return
      // The file stays: who removes a lock file can remove the one that the next holder has just locked.
      database.close()
    },
  }
}

function codeOf(error: unknown): number | undefined {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : undefined
}
