/** The kaos command as a user runs it: a process in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const MAIN = join(import.meta.dirname, '..', '..', 'cli', 'kaos.js')
export const SAMPLE = join(import.meta.dirname, '..', '..', 'manifests', 'samples', 'research-team.yaml')

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Variables of the machine that would change what a test sees. */
const UNSET = [
  'NATS_URL',
  'NATS_CREDS',
  'NATS_CONTEXT',
  'KUBERNETES_SERVICE_HOST',
  'MODEL_API_URL',
  'MODEL_NAME',
  'OPENAI_API_KEY',
  'OPENAI_BASE_URL',
  'OPENAI_MODEL',
  'LOG_LEVEL',
  'KAOS_CRASH_AT',
  'TRACEPARENT',
  'TRACESTATE',
  'BAGGAGE',
  'KAOS_BAGGAGE_KEYS',
  'KAOS_TRACE_URL_TEMPLATE',
]

export function cleanEnv(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const env = { ...process.env }
  for (const name of Object.keys(env)) if (UNSET.includes(name) || name.startsWith('OTEL_')) delete env[name]
  return { ...env, NO_COLOR: '1', ...more }
}

export class Folder {
  readonly path: string
  private readonly children: ChildProcess[] = []

  private constructor(path: string) {
    this.path = path
  }

  static async create(): Promise<Folder> {
    return new Folder(await mkdtemp(join(tmpdir(), 'kaos-cli-')))
  }

  /** Runs a command to its end. */
  kaos(
    args: readonly string[],
    options: { readonly env?: Readonly<Record<string, string>>; readonly input?: string; readonly deadlineMs?: number } = {},
  ): Promise<Finished> {
    const child = this.spawn(args, options.env)
    child.stdin!.on('error', () => {}) // it may refuse what it is given before it has read it all
    child.stdin!.end(options.input ?? '')
    const { promise, resolve, reject } = Promise.withResolvers<Finished>()
    let stdout = ''
    let stderr = ''
    child.stdout!.on('data', (chunk: Buffer) => {
      stdout += chunk
    })
    child.stderr!.on('data', (chunk: Buffer) => {
      stderr += chunk
    })
    const late = setTimeout(
      () => reject(new Error(`kaos ${args.join(' ')} did not end\n${stdout}\n${stderr}`)),
      options.deadlineMs ?? 25_000,
    )
    child.on('close', (code) => {
      clearTimeout(late)
      resolve({ code, stdout, stderr })
    })
    return promise
  }

  /** Starts a command that stays, and resolves when it has printed `ready`. */
  async start(args: readonly string[], ready: string, env?: Readonly<Record<string, string>>): Promise<Started> {
    const child = this.spawn(args, env)
    const started = new Started(child)
    await started.waitFor(ready)
    return started
  }

  async remove(): Promise<void> {
    await Promise.all(
      this.children.map((child) => {
        if (child.exitCode !== null || child.signalCode !== null) return undefined
        const gone = new Promise((resolve) => child.once('close', resolve))
        child.kill('SIGKILL')
        return gone
      }),
    )
    await rm(this.path, { recursive: true, force: true, maxRetries: 5 })
  }

  private spawn(args: readonly string[], env?: Readonly<Record<string, string>>): ChildProcess {
    const child = spawn(process.execPath, [MAIN, ...args], {
      cwd: this.path,
      env: cleanEnv(env),
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.children.push(child)
    return child
  }
}

export class Started {
  readonly child: ChildProcess
  output = ''
  private readonly waiting = new Set<() => void>()

  constructor(child: ChildProcess) {
    this.child = child
    const add = (chunk: Buffer) => {
      this.output += chunk
      for (const look of this.waiting) look()
    }
    child.stdout!.on('data', add)
    child.stderr!.on('data', add)
    child.on('close', () => {
      for (const look of this.waiting) look()
    })
  }

  get pid(): number {
    return this.child.pid!
  }

  waitFor(text: string, deadlineMs = 20_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void) => {
        clearTimeout(late)
        this.waiting.delete(look)
        settle()
      }
      const look = () => {
        if (this.output.includes(text)) done(resolve)
        else if (this.child.exitCode !== null) done(() => reject(new Error(`ended before it said "${text}":\n${this.output}`)))
      }
      const late = setTimeout(
        () => done(() => reject(new Error(`did not say "${text}" in ${deadlineMs} ms:\n${this.output}`))),
        deadlineMs,
      )
      this.waiting.add(look)
      look()
    })
  }

  /** Until it dies of a signal of its own. */
  async untilDead(deadlineMs = 20_000): Promise<void> {
    const { child } = this
    if (child.signalCode !== null) return
    await once(child, 'close', { signal: AbortSignal.timeout(deadlineMs) })
  }

  async end(signal: NodeJS.Signals = 'SIGINT'): Promise<number | null> {
    const closed = new Promise<number | null>((resolve) => this.child.once('close', (code) => resolve(code)))
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode
    this.child.kill(signal)
    return closed
  }
}
