/** A Python with nats-py, made once in the project's cache. */
import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cacheFolder } from '../../bus/server/binary/cache.ts'

const NATS_PY = '2.16.0'
const INSTALL_MS = 180_000
const run = promisify(execFile)

/** The interpreter of a virtual environment with nats-py. Throws with what to install where Python is not there. */
export async function findPython(): Promise<string> {
  const cache = cacheFolder(process.env)
  const folder = join(cache, `python-nats-py-${NATS_PY}`)
  const python = join(folder, 'bin', 'python')
  if (await exists(python)) return python
  await mkdir(cache, { recursive: true })
  const work = await mkdtemp(join(cache, '.fetch-python-'))
  try {
    await run('python3', ['-m', 'venv', work], { timeout: INSTALL_MS }).catch((error: unknown) => {
      throw new Error('no virtual environment: install python3 (3.9 or newer) with its venv module (Debian: python3-venv)', {
        cause: error,
      })
    })
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `nats-py==${NATS_PY}`]
    await run(join(work, 'bin', 'python'), pip, { timeout: INSTALL_MS }).catch((error: unknown) => {
      throw new Error(`nats-py ${NATS_PY} is not there: pip must reach a package index once to install it`, { cause: error })
    })
    await rename(work, folder).catch((error: unknown) => {
      // Another test was faster.
      if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
  return python
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
