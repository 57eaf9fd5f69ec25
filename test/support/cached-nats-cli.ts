/** The nats command for the documents' blocks that use it: built once in an exact version, where nats-server is cached too. */
import { execFile } from 'node:child_process'
import { mkdir, rename } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { cacheFolder, inWorkFolder, isExecutable } from '../../bus/server/binary/cache.ts'

const VERSION = '0.5.1'
const GO_PACKAGE = `github.com/nats-io/natscli/nats@v${VERSION}`
const BUILD_MS = 600_000

/** Path of the command. The first build takes a minute or two; without Go the one on PATH will do. Rejects with what go said. */
export async function cachedNatsCli(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const path = join(cacheFolder(env), `natscli-${VERSION}`, 'nats')
  if (await isExecutable(path)) return path
  try {
    await build(path, env)
    return path
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    for (const folder of (env.PATH ?? '').split(delimiter)) {
      const found = join(folder, 'nats')
      if (folder !== '' && (await isExecutable(found))) return found
    }
    throw new Error(`could not get the nats command: there is no Go for "go install ${GO_PACKAGE}", and no nats on PATH`)
  }
}

async function build(path: string, env: NodeJS.ProcessEnv): Promise<void> {
  await inWorkFolder(env, async (folder) => {
    // A go.mod around the current folder must not take part, and distributions pin GOTOOLCHAIN to the Go that they ship.
    const options = {
      cwd: folder,
      env: { ...env, GOBIN: folder, GOTOOLCHAIN: env.GOTOOLCHAIN ?? 'auto' },
      timeout: BUILD_MS,
    }
    await promisify(execFile)('go', ['install', GO_PACKAGE], options)
    await mkdir(dirname(path), { recursive: true })
    await rename(join(folder, 'nats'), path)
  })
}
