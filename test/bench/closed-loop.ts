/** A closed loop: so many in flight, each followed by the next. What completes inside the window counts. */
import { cpuSeconds } from './process.ts'

export interface LoopOptions {
  readonly inFlight: number
  /** Before the window opens: the loop runs, and nothing counts. */
  readonly rampMs: number
  readonly windowMs: number
  /** Processes whose CPU counts, by what they are. */
  readonly cpuOf: Readonly<Record<string, number>>
}

/** One round of one load. */
export interface Sample {
  readonly tasks: number
  readonly tasksPerSecond: number
  readonly p50Ms: number
  /** With fewer than 100 tasks the slowest. */
  readonly p99Ms: number
  /** CPU seconds per 1,000 tasks, by process. */
  readonly cpuPer1000: Readonly<Record<string, number>>
}

/** The window is longer than asked for where not even one task ends in it. */
export async function runLoop(options: LoopOptions, work: () => Promise<void>): Promise<Sample> {
  const latencies: number[] = []
  const beginAt = performance.now() + options.rampMs
  const endAt = beginAt + options.windowMs
  let closedAt = 0
  const lane = async () => {
    while (closedAt === 0) {
      const startedAt = performance.now()
      await work()
      const endedAt = performance.now()
      if (endedAt >= beginAt && closedAt === 0) latencies.push(endedAt - startedAt)
    }
  }
  const cpu = () => Object.entries(options.cpuOf).map(([name, pid]) => [name, cpuSeconds(pid)] as const)
  const window = async () => {
    await until(beginAt)
    const before = cpu()
    await until(endAt)
    while (latencies.length === 0) await until(performance.now() + 10)
    closedAt = performance.now()
    const after = new Map(cpu())
    return before.map(([name, seconds]) => [name, after.get(name)! - seconds] as const)
  }
  const [used] = await Promise.all([window(), ...Array.from({ length: options.inFlight }, lane)])
  latencies.sort((a, b) => a - b)
  const tasks = latencies.length
  return {
    tasks,
    tasksPerSecond: (tasks * 1_000) / (closedAt - beginAt),
    p50Ms: latencies[Math.floor(tasks / 2)]!,
    p99Ms: latencies[Math.floor(tasks * 0.99)]!,
    cpuPer1000: Object.fromEntries(used.map(([name, seconds]) => [name, (seconds * 1_000) / tasks])),
  }
}

function until(at: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, at - performance.now())))
}
