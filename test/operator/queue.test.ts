import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { KaosError } from '../../bus/wire/errors.ts'
import { QUEUE_LIMITS, type QueueOptions, WorkQueue } from '../../operator/queue.ts'
import { silentLog } from '../../telemetry/log.ts'

/** A queue whose runs end when they are told to. */
function held(options: Partial<QueueOptions> = {}) {
  const begun: string[] = []
  const signals: AbortSignal[] = []
  const open: { readonly key: string; readonly end: (error?: unknown) => void }[] = []
  const queue = new WorkQueue({
    name: 'test',
    run: (key, signal) => {
      begun.push(key)
      signals.push(signal)
      return new Promise<void>((resolve, reject) => {
        open.push({ key, end: (error) => (error === undefined ? resolve() : reject(error)) })
      })
    },
    log: silentLog(),
    ...options,
  })
  const end = async (key: string, error?: unknown) => {
    const at = open.findIndex((run) => run.key === key)
    open.splice(at, 1)[0]!.end(error)
    await vi.advanceTimersByTimeAsync(0)
  }
  return { queue, begun, signals, open, end }
}

/** A queue whose runs do what `run` says, and when each began. */
function timed(run: QueueOptions['run'], options: Partial<QueueOptions> = {}) {
  const begun: { readonly key: string; readonly at: number }[] = []
  const startedAt = performance.now()
  const queue = new WorkQueue({
    name: 'test',
    run: (key, signal) => {
      begun.push({ key, at: Math.round(performance.now() - startedAt) })
      return run(key, signal)
    },
    log: silentLog(),
    ...options,
  })
  return { queue, begun, times: () => begun.map(({ at }) => at) }
}

describe('a work queue', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('runs a key that is asked for without end at its pace, and others at once', async () => {
    const limits = { runsBurst: 3, runsPerSecond: 10 }
    const { queue, begun, times } = timed(async () => {}, { limits })
    const ask = async () => {
      queue.add('a')
      await vi.advanceTimersByTimeAsync(1)
    }

    for (let i = 0; i < 350; i++) await ask()
    queue.add('b')
    await vi.advanceTimersByTimeAsync(0)

    expect(begun.map(({ key }) => key)).toEqual(['a', 'a', 'a', 'a', 'a', 'a', 'b'])
    expect(times().slice(0, 6)).toEqual([0, 1, 2, 100, 200, 300])
  })

  it('runs a key once that is added often while it waits', async () => {
    const { queue, begun, end } = held({ limits: { concurrency: 1 } })

    queue.add('a')
    for (let i = 0; i < 3; i++) queue.add('b')
    expect(queue.depth).toBe(1)
    await end('a')

    expect(begun).toEqual(['a', 'b'])
    expect(queue.depth).toBe(0)
  })

  it('runs a key again that is added while it runs, after that run and once', async () => {
    const { queue, begun, end } = held()

    queue.add('a')
    queue.add('a')
    queue.add('a')
    const whileRunning = [...begun]
    await end('a')
    await end('a')

    expect(whileRunning).toEqual(['a'])
    expect(begun).toEqual(['a', 'a'])
    expect(queue.running).toBe(0)
  })

  it('runs at most so many keys at the same time', () => {
    const { queue, begun } = held({ limits: { concurrency: 2 } })

    for (const key of ['a', 'b', 'c']) queue.add(key)

    expect(begun).toEqual(['a', 'b'])
    expect(queue.running).toBe(2)
    expect(queue.depth).toBe(1)
  })

  it('never runs one key twice at once, and every key after its last add', async () => {
    const step = fc.tuple(fc.constantFrom('add', 'later', 'end', 'fail'), fc.constantFrom('a', 'b', 'c'))
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (plan) => {
        let moment = 0
        const addedAt = new Map<string, number>()
        const begunAt = new Map<string, number>()
        const running = new Map<string, (error?: unknown) => void>()
        const run = (key: string) => {
          expect([...running.keys()]).not.toContain(key)
          expect(running.size).toBeLessThan(2)
          begunAt.set(key, ++moment)
          return new Promise<void>((resolve, reject) => {
            running.set(key, (error) => {
              running.delete(key)
              if (error === undefined) resolve()
              else reject(error)
            })
          })
        }
        const queue = new WorkQueue({ name: 'test', run, log: silentLog(), limits: { concurrency: 2 } })

        for (const [what, key] of plan) {
          if (what === 'end') running.get(key)?.()
          else if (what === 'fail') running.get(key)?.(new Error('no'))
          else {
            addedAt.set(key, ++moment)
            if (what === 'add') queue.add(key)
            else queue.addAfter(key, 10)
          }
          await vi.advanceTimersByTimeAsync(0)
        }
        for (let i = 0; i < 20; i++) {
          for (const end of [...running.values()]) end()
          await vi.advanceTimersByTimeAsync(100)
        }

        expect(queue.depth + queue.running + queue.failing).toBe(0)
        for (const [key, at] of addedAt) expect(begunAt.get(key)).toBeGreaterThan(at)
      }),
      { numRuns: 200 },
    )
  })

  it('tries a key again later and later, and at once after a success', async () => {
    let fails = 6
    const { queue, times } = timed(async () => {
      if (fails-- > 0) throw new Error('no')
    })

    queue.add('a')
    await vi.advanceTimersByTimeAsync(1_000)
    expect(times()).toEqual([0, 5, 15, 35, 75, 155, 315])
    fails = 1
    queue.add('a')
    await vi.advanceTimersByTimeAsync(100)

    expect(times().slice(7)).toEqual([1_000, 1_005])
  })

  it('waits for a minute at most after a failure, and 5 s while the API server is away', async () => {
    const unreachable = new KaosError('cluster_unreachable', 'away')
    const { queue, begun } = timed(async (key) => {
      throw key === 'away' ? unreachable : new Error('no')
    })

    queue.add('away')
    queue.add('broken')
    await vi.advanceTimersByTimeAsync(600_000)

    const gaps = (key: string) => {
      const at = begun.filter((run) => run.key === key).map((run) => run.at)
      return at.slice(1).map((time, i) => time - at[i]!)
    }
    expect(Math.max(...gaps('away'))).toBe(5_000)
    expect(Math.max(...gaps('broken'))).toBe(60_000)
  })

  it('waits for as long as the server asked for', async () => {
    let fails = 1
    const { queue, times } = timed(async () => {
      if (fails-- > 0) throw new KaosError('cluster_busy', 'busy', { retryAfterMs: 700 })
    })

    queue.add('a')
    await vi.advanceTimersByTimeAsync(1_000)

    expect(times()).toEqual([0, 700])
  })

  it('tries failed keys at a bounded rate, all together', async () => {
    const failed = new Set<string>()
    const limits = { retriesPerSecond: 10, retriesBurst: 2, concurrency: 10 }
    const { queue, times } = timed(
      async (key) => {
        if (failed.has(key)) return
        failed.add(key)
        throw new Error('no')
      },
      { limits },
    )

    for (const key of ['a', 'b', 'c', 'd', 'e']) queue.add(key)
    await vi.advanceTimersByTimeAsync(1_000)

    expect(times()).toEqual([0, 0, 0, 0, 0, 5, 5, 100, 200, 300])
  })

  it('runs a key at the earliest of the times asked for', async () => {
    const { queue, times } = timed(async () => {})

    queue.addAfter('a', 500)
    queue.addAfter('a', 100)
    queue.addAfter('a', 900)
    await vi.advanceTimersByTimeAsync(2_000)

    expect(times()).toEqual([100])
  })

  it('runs again when the run asks for it', async () => {
    let again = 2
    const { queue, times } = timed(async () => (again-- > 0 ? { afterMs: 50 } : undefined))

    queue.add('a')
    await vi.advanceTimersByTimeAsync(1_000)

    expect(times()).toEqual([0, 50, 100])
  })

  it('aborts a run at its deadline', async () => {
    const { queue, signals } = held()

    queue.add('a')
    await vi.advanceTimersByTimeAsync(QUEUE_LIMITS.deadlineMs)

    expect(signals[0]!.reason).toMatchObject({ code: 'cluster_unreachable' })
  })

  it('goes on without a run that does not end, and does not run its key twice', async () => {
    const { queue, begun } = held({ limits: { concurrency: 1 } })

    for (const key of ['a', 'b']) queue.add(key)
    queue.add('a')
    await vi.advanceTimersByTimeAsync(QUEUE_LIMITS.deadlineMs + QUEUE_LIMITS.graceMs)

    expect(begun).toEqual(['a', 'b'])
    expect(queue.depth).toBe(1)
  })

  it('drops keys when it is full, and asks for all of them when there is room', async () => {
    let asked = 0
    const { queue, begun, end } = held({ limits: { concurrency: 1, keysMax: 2 }, onRoom: () => asked++ })

    for (const key of ['a', 'b', 'c', 'd']) queue.add(key)
    const before = asked
    await end('a')
    await end('b')

    expect(before).toBe(0)
    expect(asked).toBe(1)
    expect(begun).toEqual(['a', 'b', 'c'])
  })

  it('begins nothing once it stops, and waits for what runs', async () => {
    const { queue, begun, end } = held({ limits: { concurrency: 1 } })
    queue.add('a')
    queue.add('b')
    queue.addAfter('c', 10)
    let isStopped = false

    const stopped = queue.stop(1_000).then(() => {
      isStopped = true
    })
    await vi.advanceTimersByTimeAsync(500)
    const early = isStopped
    await end('a')
    await stopped

    expect(early).toBe(false)
    expect(begun).toEqual(['a'])
    expect(vi.getTimerCount()).toBe(0)
  })

  it('aborts what does not end while it stops', async () => {
    const { queue, signals } = held()
    queue.add('a')

    const stopped = queue.stop(1_000)
    await vi.advanceTimersByTimeAsync(1_000)
    const { aborted } = signals[0]!
    await vi.advanceTimersByTimeAsync(QUEUE_LIMITS.graceMs)
    await stopped

    expect(aborted).toBe(true)
  })

  it('tells how long a run took and how long it had waited', async () => {
    const told: unknown[] = []
    const { queue } = timed(() => new Promise((resolve) => setTimeout(resolve, 30)), {
      limits: { concurrency: 1 },
      onRun: (run) => told.push(run),
    })

    queue.add('a')
    queue.add('b')
    await vi.advanceTimersByTimeAsync(60)

    expect(told).toEqual([
      { ms: 30, waitedMs: 0, failed: false },
      { ms: 30, waitedMs: 30, failed: false },
    ])
  })
})
