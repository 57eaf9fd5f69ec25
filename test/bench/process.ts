/** The processes of the bench: started, asked over a line of JSON, measured by what the kernel says of them, ended with the bench. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const READY_MS = 30_000
const ANSWER_MS = 120_000
/** Of utime and stime in /proc/<pid>/stat; the same on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100
const STDERR_CHARS_MAX = 20_000

/** Runs in each process before anything else: it ends when the bench does, however that ends. */
const DIES_WITH_US = 'process.stdin.once("end", () => process.kill(process.pid, "SIGKILL"))'

export interface ProcessOptions {
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

/** A Node process whose first line on stdout says that it is ready. */
export class BenchProcess {
  readonly pid: number
  readonly child: ChildProcess
  /** Its first line. */
  readonly ready: Promise<string>
  private readonly listeners = new Set<(line: string) => void>()
  private readonly waiting: { resolve(line: string): void; reject(error: Error): void }[] = []
  private stderr = ''

  constructor(name: string, { args, env = {}, cwd }: ProcessOptions) {
    const { PATH = '', HOME = '' } = process.env
    this.child = spawn(process.execPath, ['--import', `data:text/javascript,${DIES_WITH_US}`, ...args], {
      env: { PATH, HOME, NO_COLOR: '1', ...env },
      ...(cwd !== undefined && { cwd }),
    })
    this.pid = this.child.pid!
    this.child.stderr!.on('data', (chunk: Buffer) => {
      this.stderr = (this.stderr + chunk.toString()).slice(-STDERR_CHARS_MAX)
    })
    this.ready = this.nextLine(READY_MS, `process "${name}" is not ready`)
    createInterface(this.child.stdout!).on('line', (line) => {
      this.waiting.shift()?.resolve(line)
      for (const listener of this.listeners) listener(line)
    })
    this.child.once('exit', (code) => {
      for (const { reject } of this.waiting) reject(new Error(`process "${name}" ended with ${code}:\n${this.stderr}`))
    })
  }

  /** Sends a line of JSON and resolves with the next line of its answer. One question at a time. */
  async ask<Answer>(question: object, deadlineMs = ANSWER_MS): Promise<Answer> {
    const answer = this.nextLine(deadlineMs, `no answer to ${JSON.stringify(question)}`)
    this.child.stdin!.write(`${JSON.stringify(question)}\n`)
    return JSON.parse(await answer) as Answer
  }

  /** Resolves with the first group of the first line that matches. */
  untilSaid(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`did not say ${pattern}:\n${this.stderr}`)), READY_MS)
      const listener = (line: string) => {
        const match = pattern.exec(line)
        if (!match) return
        clearTimeout(late)
        this.listeners.delete(listener)
        resolve(match[1] ?? '')
      }
      this.listeners.add(listener)
    })
  }

  /** Ends it as a user would, and by force where that takes too long. */
  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const exited = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.kill('SIGTERM')
    const force = setTimeout(() => this.child.kill('SIGKILL'), 10_000)
    await exited
    clearTimeout(force)
  }

  private nextLine(deadlineMs: number, late: string): Promise<string> {
    const line = new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${late} after ${deadlineMs} ms:\n${this.stderr}`)), deadlineMs)
      this.waiting.push({
        resolve: (text) => {
          clearTimeout(timer)
          resolve(text)
        },
        reject: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      })
    })
    line.catch(() => {})
    return line
  }
}

/** Answers every line of JSON on stdin with one on stdout. */
export function answerQuestions<Question>(answer: (question: Question) => Promise<object>): void {
  createInterface(process.stdin).on('line', (line) => {
    answer(JSON.parse(line) as Question).then(
      (reply) => console.log(JSON.stringify(reply)),
      (error: unknown) => {
        console.error(error)
        process.exit(1)
      },
    )
  })
}

/** CPU seconds, user and system, that a process has used so far; exact to a hundredth. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** Resident memory, in MB of 10^6 bytes. */
export function residentMb(pid: number): number {
  const [, kib = '0'] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return (Number(kib) * 1_024) / 1e6
}
