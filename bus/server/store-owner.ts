/**
 * Makes sure that no other nats-server works on a store. The server takes no lock, and two of them would ruin it: after kill -9 the one of
 * the last run may still be shutting down when the next begins.
 */
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { KaosError } from '../wire/errors.ts'

const FILE = 'nats-server.pid'

/** Waits for the end of a server that works on this store. Throws `broker_failed` if it still does at the deadline: it is somebody's. */
export async function waitUntilStoreIsFree(storeDir: string, config: string, deadlineMs: number): Promise<void> {
  const pid = Number(await readFile(join(storeDir, FILE), 'utf8').catch(() => ''))
  if (!Number.isSafeInteger(pid) || pid <= 0) return
  const deadline = Date.now() + deadlineMs
  while (await isServerOf(config, pid)) {
    if (Date.now() > deadline) {
      throw new KaosError(
        'broker_failed',
        `could not start nats-server on the store "${storeDir}": the server with pid ${pid} works on it`,
      )
    }
    await delay(20)
  }
}

export async function recordServer(storeDir: string, pid: number): Promise<void> {
  await writeFile(join(storeDir, FILE), `${pid}\n`)
}

/** By its command line: the pid alone may have been given to another program since. */
async function isServerOf(config: string, pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  return (await commandLineOf(pid)).includes(config)
}

async function commandLineOf(pid: number): Promise<string> {
  if (process.platform === 'linux') return readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  const ps = await promisify(execFile)('ps', ['-ww', '-o', 'command=', '-p', String(pid)]).catch(() => ({ stdout: '' }))
  return ps.stdout
}
