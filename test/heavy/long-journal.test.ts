/** A task of thousands of entries: how long it takes to take it up elsewhere, and that this does not grow with its age. */
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { assign, setup } from 'xstate'
import type { LocalEffect } from '../../actors/effects/effect.ts'
import { toolEffect } from '../../actors/effects/tool.ts'
import { effectSource, registerMachine } from '../../actors/machine.ts'
import type { AgentRuntime } from '../../actors/runtime.ts'
import { serveAgent } from '../../actors/service.ts'
import { neverCrash } from '../../actors/turn/crash.ts'
import { systemClock } from '../../bus/contracts.ts'
import { HOST_LIMITS } from '../../bus/wire/limits.ts'
import { checkJournal } from '../support/journal-check.ts'
import { identity } from '../support/memory-system.ts'
import { startNatsPlaces } from '../support/places.ts'
import { System } from '../support/system.ts'

const ENTRIES = 5_000
const AFTER = 100
/** The rounds whose effect is answered by mail: every answer is a delivery of its own. The others run in the host. */
const MAIL_EVERY = 5
const SNAPSHOT_CHARS_MAX = 32_000
const LONGEST_MS = 60_000

interface Context {
  readonly count: number
  readonly until: number
}

/** Counts, one effect after the other, and keeps nothing but the count. */
const counter = registerMachine({
  name: 'counter',
  toInput: ({ input }) => ({ until: input }),
  logic: setup({
    types: {} as { context: Context; input: { until: number }; output: number },
    actors: { tick: effectSource<number, { n: number }>(), tool: effectSource<string, object>() },
    guards: {
      isDone: ({ context }) => context.count >= context.until,
      isByMail: ({ context }) => context.count % MAIL_EVERY === 0,
    },
    actions: { count: assign({ count: ({ context }) => context.count + 1 }) },
  }).createMachine({
    context: ({ input }) => ({ count: 1, until: input.until }),
    initial: 'deciding',
    output: ({ context }) => context.count,
    states: {
      deciding: { always: [{ guard: 'isDone', target: 'done' }, { guard: 'isByMail', target: 'asking' }, { target: 'ticking' }] },
      ticking: {
        invoke: {
          src: 'tick',
          id: 'tick',
          input: ({ context }) => ({ n: context.count }),
          onDone: { target: 'deciding', actions: 'count' },
        },
      },
      asking: {
        invoke: {
          src: 'tool',
          id: 'tool',
          input: ({ context }) => ({ server: 'echo', tool: 'echo', arguments: { text: `${context.count}` } }),
          onDone: { target: 'deciding', actions: 'count' },
        },
      },
      done: { type: 'final' },
    },
  }),
})

let nats: Awaited<ReturnType<typeof startNatsPlaces>>
beforeAll(async () => {
  nats = await startNatsPlaces()
})
afterAll(() => nats[Symbol.asyncDispose]())

it(
  `a journal of ${ENTRIES} entries is taken up by another host from its last snapshot, and the log says how long that took`,
  async () => {
    await using place = await nats.open()
    const tick: LocalEffect = { kind: 'local', run: async ({ input }) => ({ value: (input as { n: number }).n }) }
    const runtime: AgentRuntime = {
      name: 'counter',
      machine: counter,
      effects: { tick, tool: toolEffect(place.subjects) },
      definition: async () => null,
      withoutTools: () => null,
    }
    const agents = [{ name: 'counter', tools: ['echo'], runtime: () => runtime }]
    const system = await System.start(place, { agents, tools: ['echo'], model: () => ({ text: '' }) })
    await system.startTools('echo')
    const dead = Promise.withResolvers<void>()
    let appends = 0
    const dies = (die: () => Promise<void>) => (at: string) => {
      if (at !== 'after-append' || ++appends < ENTRIES) return undefined
      dead.resolve()
      return die()
    }
    await system.startHost({ crash: dies as never })
    await system.send('counter', 'long', `{"input":${ENTRIES + AFTER}}`)
    await dead.promise

    const lines: { readonly msg: string; readonly ms: number; readonly entries: number; readonly read: number }[] = []
    const { bus } = await place.connect()
    const log = pino({ level: 'debug' }, { write: (line) => void lines.push(JSON.parse(line)) })
    serveAgent({ bus, agent: runtime, identity: identity(), clock: systemClock, log, crash: neverCrash })
    const result = await system.waitForResult('counter', 'long')

    expect(result).toMatchObject({ state: 'completed', output: ENTRIES + AFTER })
    const [activation] = lines.filter(({ msg }) => msg === 'read a task from its journal')
    expect(activation!.entries).toBeGreaterThanOrEqual(ENTRIES)
    expect(activation!.read).toBeLessThanOrEqual(HOST_LIMITS.snapshotEvery)
    await system.waitForQuiet()
    const stored = await place.journal('counter', 'counter_long')
    const startedAt = performance.now()
    const readBlob = (sha: string) => place.readBlob('counter', 'counter_long', sha)
    const { entries } = await checkJournal('counter', 'counter_long', stored, readBlob, counter)
    const wholeMs = Math.round(performance.now() - startedAt)
    const beside = entries.flatMap(({ blobs = {} }) => Object.values(blobs))
    const sizes = stored.map(({ text }) => text.length)
    console.log(
      `${activation!.entries} entries: taken up in ${activation!.ms} ms from the last ${activation!.read}, in ${wholeMs} ms from the first; ` +
        `an entry has ${Math.round(sizes.reduce((sum, size) => sum + size) / sizes.length)} bytes, with a snapshot at most ${Math.max(...sizes)}`,
    )
    expect(entries.filter(({ input }) => input.kind !== 'resumed')).toHaveLength(ENTRIES + AFTER)
    // As large as 250 entries after the start: nothing in it grows with the age of the task.
    expect(Math.max(...sizes)).toBeLessThan(SNAPSHOT_CHARS_MAX)
    expect(beside).toEqual([])
    expect(new Set(entries.flatMap(({ input }) => (input.kind === 'resumed' ? [input] : []))).size).toBeLessThanOrEqual(1)
  },
  LONGEST_MS,
)
