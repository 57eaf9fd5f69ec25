/** One container as a process: started, probed, started again as the restart policy says, ended with its grace period. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Guard } from '../guard.ts'
import { ContainerConfigError, type ContainerSpec } from './environment.ts'
import { askHttp, runProbes } from './probes.ts'
import { type ContainerReport, type ContainerState, kubeTime } from './status.ts'

const CONFIG_RETRY_MS = 500
const BACKOFF_STEPS_MAX = 4
/** What Kubernetes gives a container whose command cannot be started. */
const START_ERROR_CODE = 128
/** So much remains after a preStop hook that took the whole grace period. */
const GRACE_MIN_MS = 2_000

export interface Launch {
  readonly command: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly workingDir: string
}

export interface ContainerPlace {
  readonly podIp: string
  readonly logFile: string
  readonly guard: Guard
  readonly restartPolicy: 'Always' | 'OnFailure' | 'Never'
  /** Of the pod: what a container has that failed its liveness probe. */
  readonly graceMs: number
  /** Before the second restart; doubled up to 16 times that. The first is at once. */
  readonly backoffMs: number
  /** Asked before each start. Undefined: there is no such image. Rejects with ContainerConfigError for what is missing. */
  readonly prepare: () => Promise<Launch | undefined>
  /** Called when `report` has changed. */
  readonly onChange: () => void
}

export class Container {
  readonly spec: ContainerSpec
  private readonly place: ContainerPlace
  private readonly ending = new AbortController()
  private state: ContainerState = { waiting: { reason: 'ContainerCreating' } }
  private lastState: ContainerState | undefined
  private restartCount = 0
  private isReady = false
  private isStarted = false
  private child: ChildProcess | undefined
  private launch: Launch | undefined
  private exited: Promise<void> = Promise.resolve()

  constructor(spec: ContainerSpec, place: ContainerPlace) {
    this.spec = spec
    this.place = place
  }

  get pid(): number | undefined {
    return this.child?.pid
  }

  get logFile(): string {
    return this.place.logFile
  }

  report(): ContainerReport {
    const { name, image } = this.spec
    const { state, lastState, restartCount, isReady, isStarted } = this
    return { name, image, state, restartCount, ready: isReady, started: isStarted, ...(lastState ? { lastState } : {}) }
  }

  /** Resolves with the last exit code when it will not start again; undefined if it never ran. */
  async run(): Promise<number | undefined> {
    let code: number | undefined
    for (let starts = 0; !this.ending.signal.aborted; starts++) {
      if (starts > 0 && !(await this.backOff(starts))) break
      const launch = await this.prepared()
      if (!launch || this.ending.signal.aborted) break
      this.launch = launch
      code = await this.runOnce(launch)
      if (this.place.restartPolicy === 'Never' || (this.place.restartPolicy === 'OnFailure' && code === 0)) break
    }
    return code
  }

  /** To the process alone, as a container runtime does. False if it does not run. */
  kill(signal: NodeJS.Signals): boolean {
    return this.child?.kill(signal) ?? false
  }

  /** preStop, SIGTERM, and SIGKILL when the grace period is over. Resolves when the process is gone; it does not start again. */
  async stop(graceMs: number): Promise<void> {
    this.ending.abort()
    if (!this.child) return this.exited
    const deadline = Date.now() + graceMs
    const { preStop } = this.spec.lifecycle ?? {}
    if (preStop && graceMs > 0) await this.runHook(preStop, AbortSignal.timeout(graceMs))
    const remaining = graceMs > 0 ? Math.max(deadline - Date.now(), GRACE_MIN_MS) : 0
    this.kill(remaining > 0 ? 'SIGTERM' : 'SIGKILL')
    const timer = setTimeout(() => this.kill('SIGKILL'), remaining)
    await this.exited
    clearTimeout(timer)
  }

  /** Runs a command beside the process, in its environment. Resolves with its exit code; it is killed on the signal. */
  readonly execute = (command: readonly string[], signal: AbortSignal): Promise<number> => {
    const [program = '', ...args] = command
    return new Promise((resolve, reject) => {
      const child = spawn(program, args, {
        cwd: this.launch!.workingDir,
        env: this.launch!.environment,
        stdio: 'ignore',
        signal,
        killSignal: 'SIGKILL',
      })
      child.once('error', reject)
      child.once('exit', (code) => resolve(code ?? START_ERROR_CODE))
    })
  }

  private async prepared(): Promise<Launch | undefined> {
    while (!this.ending.signal.aborted) {
      try {
        const launch = await this.place.prepare()
        if (launch) return launch
        this.become({ waiting: { reason: 'ImagePullBackOff', message: `Back-off pulling image "${this.spec.image}"` } })
        return undefined
      } catch (error) {
        // Without an answer of the server it is tried again, too: it may be restarting.
        const reason = error instanceof ContainerConfigError ? 'CreateContainerConfigError' : 'ContainerCreating'
        this.become({ waiting: { reason, message: (error as Error).message } })
        await delay(CONFIG_RETRY_MS, undefined, { signal: this.ending.signal }).catch(() => {})
      }
    }
    return undefined
  }

  private async runOnce(launch: Launch): Promise<number> {
    const startedAt = kubeTime()
    const { promise, resolve } = Promise.withResolvers<{
      readonly code: number
      readonly reason: string
      readonly signal?: number
    }>()
    const over = new AbortController()
    try {
      this.start(launch, resolve)
    } catch {
      resolve({ code: START_ERROR_CODE, reason: 'StartError' })
    }
    this.exited = promise.then(() => {})
    this.become({ running: { startedAt } })
    void this.probe(over.signal)
    const { code, reason, signal } = await promise
    over.abort()
    this.child = undefined
    this.isReady = false
    this.isStarted = false
    const finishedAt = kubeTime()
    this.become({ terminated: { exitCode: code, reason, startedAt, finishedAt, ...(signal === undefined ? {} : { signal }) } })
    return code
  }

  private start(launch: Launch, resolve: (end: { code: number; reason: string; signal?: number }) => void): void {
    const [program = '', ...args] = launch.command
    mkdirSync(dirname(this.place.logFile), { recursive: true })
    const log = openSync(this.place.logFile, 'a')
    // A group of its own: what the process leaves behind ends with it, as in a container.
    const options = { cwd: launch.workingDir, env: launch.environment, stdio: ['ignore', log, log], detached: true } as const
    const child = spawn(program, args, { ...options, stdio: [...options.stdio] })
    closeSync(log)
    const { pid } = child
    child.once('error', () => resolve({ code: START_ERROR_CODE, reason: 'StartError' }))
    if (pid === undefined) return
    this.child = child
    this.place.guard.watch(pid)
    child.once('exit', (code, signal) => {
      killGroup(pid)
      this.place.guard.forget(pid)
      const number = signal ? constants.signals[signal] : undefined
      const exitCode = code ?? 128 + (number ?? 0)
      resolve({
        code: exitCode,
        reason: exitCode === 0 ? 'Completed' : 'Error',
        ...(number === undefined ? {} : { signal: number }),
      })
    })
  }

  private async probe(signal: AbortSignal): Promise<void> {
    const { child } = this
    if (!child) return
    const target = { container: this.spec, podIp: this.place.podIp, execute: this.execute }
    const results = {
      onStarted: () => {
        this.isStarted = true
        this.place.onChange()
      },
      onReady: (isReady: boolean) => {
        this.isReady = isReady
        this.place.onChange()
      },
      onDead: () => void this.killUnhealthy(child),
    }
    await runProbes(target, results, signal)
  }

  /** It gets its grace period before it is started again. */
  private async killUnhealthy(child: ChildProcess): Promise<void> {
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), this.place.graceMs)
    await this.exited
    clearTimeout(timer)
  }

  /** False if it was stopped meanwhile. */
  private async backOff(starts: number): Promise<boolean> {
    this.lastState = this.state
    this.restartCount++
    if (starts > 1) {
      const ms = this.place.backoffMs * 2 ** Math.min(starts - 2, BACKOFF_STEPS_MAX)
      this.become({ waiting: { reason: 'CrashLoopBackOff', message: `back-off ${ms}ms restarting failed container` } })
      await delay(ms, undefined, { signal: this.ending.signal }).catch(() => {})
    }
    if (!this.ending.signal.aborted) return true
    // It ends as it was before the wait.
    this.restartCount--
    this.become(this.lastState)
    return false
  }

  // biome-ignore lint/suspicious/noExplicitAny: a LifecycleHandler
  private async runHook({ exec, httpGet, sleep }: any, limit: AbortSignal): Promise<void> {
    const target = { container: this.spec, podIp: this.place.podIp, execute: this.execute }
    const gone = new AbortController()
    void this.exited.then(() => gone.abort())
    const signal = AbortSignal.any([limit, gone.signal])
    // A hook that fails does not keep the container alive.
    if (sleep) await delay(sleep.seconds * 1_000, undefined, { signal }).catch(() => {})
    else if (exec) await this.execute(exec.command, signal).catch(() => {})
    else if (httpGet) await askHttp(httpGet, target, signal).catch(() => {})
  }

  private become(state: ContainerState): void {
    this.state = state
    this.place.onChange()
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // it left nobody behind
  }
}
