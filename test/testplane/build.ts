/**
 * The binary of the control plane for tests: Kubernetes and etcd built from their Go modules, once per content of `plane/` and Go version,
 * into the cache where nats-server is kept too. A cold build takes 7 to 15 minutes of two cores, a new link 20 seconds.
 */
import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { cacheFolder, inWorkFolder, isExecutable } from '../../bus/server/binary/cache.ts'
import { takeFolderLock } from '../../bus/server/folder-lock.ts'
import { startGuard } from './guard.ts'

const SOURCES = join(import.meta.dirname, 'plane')
const TAGS = 'controllers'
const BUILD_MS = 3_600_000
const PROGRESS_MS = 15_000
const LOCK_POLL_MS = 1_000
const OUTPUT_CHARS_KEPT = 4_000
/** Without these the binary calls itself v0.0.0-master, and checks of the version in charts fail. */
const VERSION_PACKAGES = ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version']

export interface BuildOptions {
  readonly env?: NodeJS.ProcessEnv
  /** Gets a line for each step, and every 15 s while it takes long. */
  readonly say?: (line: string) => void
}

/**
 * Path of the binary, from the cache or built now; waits while another process builds it. Rejects with what to install when there is no
 * fitting Go, and with what go said when the build fails. `KAOS_TESTPLANE` names a binary to use instead.
 */
export async function planeBinary({ env = process.env, say = () => {} }: BuildOptions = {}): Promise<string> {
  if (env.KAOS_TESTPLANE) return env.KAOS_TESTPLANE
  const goVersion = await askGo(env)
  const version = await kubernetesVersion()
  const flags = linkerFlags(version)
  const path = join(cacheFolder(env), `testplane-${version}-${await keyOf([goVersion, process.arch, TAGS, flags])}`, 'testplane')
  if (await isExecutable(path)) return path
  await mkdir(cacheFolder(env), { recursive: true })
  const lock = await lockBuild(env, say)
  try {
    // Whoever held the lock may have built the same.
    if (!(await isExecutable(path))) await build({ path, version, flags, env, say })
  } finally {
    lock.release()
  }
  return path
}

/** Of the Kubernetes that is built, as `v1.35.4`. */
export async function kubernetesVersion(): Promise<string> {
  const version = /k8s\.io\/kubernetes (v[\d.]+)/.exec(await readFile(join(SOURCES, 'go.mod'), 'utf8'))?.[1]
  if (!version) throw new Error(`"${join(SOURCES, 'go.mod')}" requires no k8s.io/kubernetes`)
  return version
}

/** The version that would build. Rejects with the cure where go is missing or too old. */
async function askGo(env: NodeJS.ProcessEnv): Promise<string> {
  const cure = `install Go 1.25 or newer (https://go.dev/dl) and put it on PATH, or set KAOS_TESTPLANE to a finished binary`
  try {
    const { stdout } = await promisify(execFile)('go', ['env', 'GOVERSION'], { cwd: SOURCES, env: goEnvironment(env) })
    return stdout.trim()
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string }
    if (code === 'ENOENT') throw new Error(`could not build the control plane for tests: there is no go on PATH; ${cure}`)
    throw new Error(`could not build the control plane for tests: ${stderr?.trim() || String(error)}; ${cure}`)
  }
}

/** A toolchain that a distribution pins may be too old: "auto" lets go fetch the one that go.mod asks for. No C compiler is needed. */
function goEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return {
    GOTOOLCHAIN: 'auto',
    // The compiler then collects less often, which saves a tenth of the time for half a gigabyte.
    GOGC: '400',
    ...env,
    CGO_ENABLED: '0',
    GOFLAGS: '',
    GOWORK: 'off',
    GOCACHE: join(cacheFolder(env), 'testplane-gocache'),
  }
}

function linkerFlags(version: string): string {
  const [, major, minor] = /^v(\d+)\.(\d+)/.exec(version)!
  const values = { gitVersion: version, gitMajor: major, gitMinor: minor, gitTreeState: 'clean' }
  const sets = VERSION_PACKAGES.flatMap((name) => Object.entries(values).map(([key, value]) => `-X ${name}.${key}=${value}`))
  return ['-s', '-w', ...sets].join(' ')
}

async function keyOf(parts: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(parts.join('\n'))
  for (const name of (await readdir(SOURCES)).sort()) hash.update(`\n${name}\n`).update(await readFile(join(SOURCES, name)))
  return hash.digest('hex').slice(0, 16)
}

async function lockBuild(env: NodeJS.ProcessEnv, say: (line: string) => void) {
  const path = join(cacheFolder(env), 'testplane.lock')
  const deadline = Date.now() + BUILD_MS
  for (let tries = 0; ; tries++) {
    const lock = takeFolderLock(path)
    if (lock) return lock
    if (Date.now() > deadline)
      throw new Error(`waited ${BUILD_MS / 1_000} s for another build of the control plane, which holds "${path}"`)
    if (tries % (PROGRESS_MS / LOCK_POLL_MS) === 0) say('waiting for another process that builds the control plane')
    await delay(LOCK_POLL_MS)
  }
}

interface Build {
  readonly path: string
  readonly version: string
  readonly flags: string
  readonly env: NodeJS.ProcessEnv
  readonly say: (line: string) => void
}

async function build({ path, version, flags, env, say }: Build): Promise<void> {
  say(`building the control plane for tests: Kubernetes ${version} with go, 7 to 15 minutes the first time`)
  await inWorkFolder(env, async (folder) => {
    const fresh = join(folder, 'testplane')
    const args = ['build', '-mod=readonly', '-buildvcs=false', '-trimpath', '-tags', TAGS, '-ldflags', flags, '-o', fresh, '.']
    await runGo(args, goEnvironment(env), say)
    await mkdir(dirname(path), { recursive: true })
    await rename(fresh, path)
  })
}

async function runGo(args: readonly string[], env: NodeJS.ProcessEnv, say: (line: string) => void): Promise<void> {
  const startedAt = Date.now()
  const seconds = () => Math.round((Date.now() - startedAt) / 1_000)
  const child = spawn('go', args, { cwd: SOURCES, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'], timeout: BUILD_MS })
  // Its compilers would go on after Ctrl-C or a killed runner.
  const guard = startGuard()
  if (child.pid) guard.watch(child.pid)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-OUTPUT_CHARS_KEPT)
    })
  }
  const ticker = setInterval(() => say(`building the control plane, ${seconds()} s so far`), PROGRESS_MS)
  try {
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (...end) => resolve(end))
    })
    const end = signal ? `was ended by ${signal}` : `ended with code ${code}`
    if (code !== 0)
      throw new Error(`"go build" of the control plane ${end} after ${seconds()} s: ${output.trim() || 'it printed nothing'}`)
    say(`built the control plane in ${seconds()} s`)
  } finally {
    clearInterval(ticker)
    guard.leave()
  }
}
