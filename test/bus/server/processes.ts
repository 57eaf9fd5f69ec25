/** Processes of a test: their output line by line, and whether they are gone. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const LINE_MS = 10_000

export interface Script {
  readonly child: ChildProcess
  readonly exited: Promise<unknown>
  /** The next line that it prints; rejects when none comes in time. */
  nextLine(): Promise<string>
}

/** Runs a TypeScript file of this folder with Node, in a process group of its own. */
export function runScript(file: string, args: readonly string[]): Script {
  const path = fileURLToPath(new URL(file, import.meta.url))
  const child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'inherit'], detached: true })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  return {
    child,
    exited: once(child, 'exit'),
    async nextLine() {
      const late = Promise.withResolvers<never>()
      const timer = setTimeout(() => late.reject(new Error(`no line from ${file} within ${LINE_MS} ms`)), LINE_MS)
      try {
        const { value, done } = await Promise.race([lines.next(), late.promise])
        if (done) throw new Error(`${file} ended without another line`)
        return value
      } finally {
        clearTimeout(timer)
      }
    },
  }
}

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
