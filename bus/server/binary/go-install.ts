/** Builds the pinned nats-server with the Go toolchain on PATH. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { cacheFolder, inWorkFolder, moveIntoCache } from './cache.ts'
import { askServerVersion, SERVER_VERSION_PINNED } from './version.ts'

const BUILD_MS = 600_000
const PROGRESS_MS = 5_000
const OUTPUT_CHARS_KEPT = 2_000
export const GO_PACKAGE = `github.com/nats-io/nats-server/v2@v${SERVER_VERSION_PINNED}`

export interface GoInstallOptions {
  readonly env: NodeJS.ProcessEnv
  readonly say: (line: string) => void
  readonly signal?: AbortSignal
  readonly progressMs?: number
}

/** Returns the path of the binary in the cache. The first build takes a minute or two, later ones seconds. */
export async function installWithGo(options: GoInstallOptions): Promise<string> {
  return inWorkFolder(options.env, async (folder) => {
    options.say(`building it: go install ${GO_PACKAGE} (into ${cacheFolder(options.env)}; a minute or two the first time)`)
    await runGo(folder, options)
    const fresh = join(folder, 'nats-server')
    await askServerVersion(fresh, options.signal)
    return moveIntoCache(fresh, options.env)
  })
}

function runGo(folder: string, { env, say, signal, progressMs }: GoInstallOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const startedAt = Date.now()
    const seconds = () => Math.round((Date.now() - startedAt) / 1_000)
    const child = spawn('go', ['install', GO_PACKAGE], {
      // A go.mod or go.work around the current folder must not take part.
      cwd: folder,
      // Distributions pin GOTOOLCHAIN to the Go they ship, which may be older than the server needs; "auto" lets go fetch a newer one.
      env: { ...env, GOBIN: folder, GOTOOLCHAIN: env.GOTOOLCHAIN ?? 'auto' },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: BUILD_MS,
      killSignal: 'SIGKILL',
      ...(signal ? { signal } : {}),
    })
    let output = ''
    const keep = (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-OUTPUT_CHARS_KEPT)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    const ticker = setInterval(() => say(`building nats-server with go, ${seconds()} s so far`), progressMs ?? PROGRESS_MS)
    child.once('error', (error: NodeJS.ErrnoException) => {
      clearInterval(ticker)
      reject(error.code === 'ENOENT' ? new Error('there is no go on PATH') : error)
    })
    child.once('close', (code, killed) => {
      clearInterval(ticker)
      if (code === 0) return resolve()
      const end = killed ? `was ended by ${killed} after ${seconds()} s` : `ended with code ${code}`
      reject(new Error(`"go install ${GO_PACKAGE}" ${end}: ${lastLines(output)}`))
    })
  })
}

function lastLines(output: string): string {
  return output.trim().split('\n').slice(-4).join(' / ') || 'it printed nothing'
}
