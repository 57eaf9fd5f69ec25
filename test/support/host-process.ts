/** `kaos host` as a process of its own, with ways to die, to freeze and to stop. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const KAOS = fileURLToPath(new URL('../../cli/kaos.js', import.meta.url))
const READY_MS = 20_000
const EXIT_MS = 35_000
const STDERR_CHARS_MAX = 200_000

/** Runs in the process before kaos: it dies with the test that started it, whose end closes its stdin, however that ends. */
const DIES_WITH_US = 'process.stdin.once("end", () => process.kill(process.pid, "SIGKILL")).resume().unref()'

export interface HostOptions {
  /** Unique in its system: it names the process where it is seen from outside. */
  readonly name: string
  readonly manifest: string
  /** Agents and tool servers that it hosts. */
  readonly only: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

export class HostProcess {
  readonly name: string
  readonly pid: number
  /** Epoch ms at which it was stopped and went on; without an end while it is frozen. */
  readonly freezes: { readonly from: number; to?: number }[] = []
  /** Resolves when it is gone, whoever ended it. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
  /** Epoch ms. */
  exitedAt: number | undefined
  stderr = ''
  private readonly child: ChildProcess
  private readonly ready: Promise<string>

  constructor({ name, manifest, only, env }: HostOptions) {
    const { PATH = '', HOME = '' } = process.env
    this.name = name
    const child = spawn(
      process.execPath,
      ['--import', `data:text/javascript,${DIES_WITH_US}`, KAOS, 'host', '-f', manifest, '--only', ...only],
      {
        env: { PATH, HOME, ...env },
        stdio: 'pipe',
      },
    )
    this.child = child
    this.pid = child.pid!
    child.stderr.on('data', (chunk: Buffer) => {
      this.stderr = (this.stderr + chunk.toString()).slice(-STDERR_CHARS_MAX)
    })
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.exitedAt = Date.now()
        resolve({ code, signal })
      })
    })
    this.ready = new Promise((resolve) => {
      createInterface(child.stdout).on('line', (line) => line.startsWith('ready ') && resolve(line.slice('ready '.length)))
    })
  }

  get isRunning(): boolean {
    return this.exitedAt === undefined
  }

  get isFrozen(): boolean {
    const last = this.freezes.at(-1)
    return last !== undefined && last.to === undefined
  }

  /** Its host id, once it pulls. Rejects when it ends before that. */
  untilReady(): Promise<string> {
    const ended = this.exited.then(({ code }) => {
      throw new Error(`host "${this.name}" ended with ${code} before it was ready:\n${this.stderr}`)
    })
    return this.inTime(Promise.race([this.ready, ended]), READY_MS, 'is not ready')
  }

  /** Waits for its end; rejects if it lives on. */
  untilExit(withinMs = EXIT_MS): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }> {
    return this.inTime(this.exited, withinMs, 'has not ended')
  }

  /** kill -9. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL')
    this.noteWake()
    await this.exited
  }

  freeze(): void {
    this.freezes.push({ from: Date.now() })
    this.child.kill('SIGSTOP')
  }

  wake(): void {
    this.child.kill('SIGCONT')
    this.noteWake()
  }

  /** SIGTERM; resolves with its exit code. */
  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM')
    return (await this.untilExit()).code
  }

  private noteWake(): void {
    const last = this.freezes.at(-1)
    if (last) last.to ??= Date.now()
  }

  private inTime<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    const { promise: late, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => reject(new Error(`host "${this.name}" ${what} after ${ms} ms:\n${this.stderr}`)), ms)
    return Promise.race([promise, late]).finally(() => clearTimeout(timer))
  }
}
