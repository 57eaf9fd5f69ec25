/**
 * A minute of chance: every process of a system is killed or frozen again and again, the broker is killed once, and a hundred tasks must come
 * out of it as if nothing had been. KAOS_CHAOS_SEED repeats the choices of a run (their timing is the machine's).
 */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { checkBroker, repeated } from '../support/check-broker.ts'
import type { HostProcess } from '../support/host-process.ts'
import { ProcessSystem, type Rig, startRig, TEAM_WORK, teamAnswer, teamScript } from '../support/process-system.ts'

const CHAOS_MS = 60_000
/** New tasks come for so long; the rest of the chaos finds them half done. */
const SENDING_MS = 50_000
const TASKS = 100
/** One in so many is sent twice. */
const TWICE_EVERY = 12
const FAULT_EVERY_MS = { min: 500, max: 2_000 }
/** Around `ack_wait`: after some of these the process finds its work taken over. */
const FREEZE_MS = { min: 200, max: 7_000 }
const BROKER_DIES_AFTER_MS = 25_000
const BROKER_DOWN_MS = { min: 200, max: 1_500 }
const SETTLE_MS = 20_000

const seed = Number(process.env.KAOS_CHAOS_SEED ?? Date.now() % 2 ** 31)

let rig: Rig
beforeAll(async () => {
  rig = await startRig(teamScript({ modelMs: 150, toolMs: 40 }))
})
afterAll(() => rig[Symbol.asyncDispose]())

it(
  'a hundred tasks survive a minute of kills and freezes',
  async ({ onTestFailed }) => {
    onTestFailed(() => console.log(`KAOS_CHAOS_SEED=${seed}`))
    await using system = await ProcessSystem.create(rig, 'chaos')
    const chance = chanceFrom(seed)
    const starts = [1, 2].flatMap(() => [
      () => system.startTools(),
      () => system.startHost({ only: ['coordinator'] }),
      () => system.startHost({ only: ['worker1', 'worker2'] }),
    ])
    const places = await Promise.all(starts.map(async (start): Promise<Place> => ({ start, host: await start() })))

    const faults = spreadFaults(places, chance)
    const brokerDies = killBroker(chance)
    const [sent, { kills, freezes }] = await Promise.all([sendTasks(system, chance), faults, brokerDies])
    const results = await Promise.all(sent.map((task) => system.waitForResult(task, SETTLE_MS)))

    expect(results.map((result) => result.state === 'completed' && result.output)).toEqual(sent.map(({ key }) => teamAnswer(key)))
    const findings = await checkBroker(system)
    expect(findings.tasks).toBe(TASKS * 3)
    expect(findings.entries).toBe(TASKS * TEAM_WORK.entries + findings.takeovers)
    // What a process that fell asleep had in its hand may come once, when it wakes; the model and the tool know it by its id.
    expect(findings.late.length).toBeLessThanOrEqual(freezes)
    console.log(
      `seed ${seed}: ${kills} kills, ${freezes} freezes, 1 of the broker; ${findings.takeovers} takeovers; ` +
        `${repeated(findings.modelRequests).size} of ${TASKS * TEAM_WORK.modelCalls} model calls and ` +
        `${repeated(findings.toolRuns).size} of ${TASKS * TEAM_WORK.toolCalls} tool calls were made again; ${findings.late.length} came late`,
    )
  },
  CHAOS_MS + SETTLE_MS + 10_000,
)

/** Where a process belongs: when it dies another one starts there. */
interface Place {
  readonly start: () => Promise<HostProcess>
  /** Undefined while the next one starts. */
  host: HostProcess | undefined
}

/** Kills and freezes for the whole time; at the end all processes run. */
async function spreadFaults(places: readonly Place[], chance: Chance): Promise<{ kills: number; freezes: number }> {
  const ends = performance.now() + CHAOS_MS
  const recoveries: Promise<void>[] = []
  const done = { kills: 0, freezes: 0 }
  while (performance.now() < ends) {
    await delay(chance.between(FAULT_EVERY_MS))
    const place = chance.of(places)
    const { host } = place
    if (!host || host.isFrozen) continue
    if (chance.next() < 0.5) {
      done.kills++
      recoveries.push(replace(place, host))
    } else {
      done.freezes++
      host.freeze()
      recoveries.push(delay(chance.between(FREEZE_MS)).then(() => host.wake()))
    }
  }
  await Promise.all(recoveries)
  return done
}

/** As whatever supervises processes does: one that ends, because the broker is away when it starts, is started again. */
async function replace(place: Place, dead: HostProcess): Promise<void> {
  place.host = undefined
  await dead.kill()
  const deadline = performance.now() + SETTLE_MS
  while (!place.host) {
    place.host = await place.start().catch((error: unknown) => {
      if (performance.now() > deadline) throw error
      return undefined
    })
  }
}

async function killBroker(chance: Chance): Promise<void> {
  const downMs = chance.between(BROKER_DOWN_MS)
  await delay(BROKER_DIES_AFTER_MS)
  await rig.broker.kill()
  await delay(downMs)
  await rig.broker.restart()
}

async function sendTasks(system: ProcessSystem, chance: Chance) {
  const begunAt = performance.now()
  const again: Promise<void>[] = []
  for (let n = 0; n < TASKS; n++) {
    await delay(Math.max(0, begunAt + (n * SENDING_MS) / TASKS - performance.now()))
    const text = `order-${n}`
    const task = await system.send('coordinator', text)
    if (n % TWICE_EVERY !== 0) continue
    again.push(delay(chance.between({ min: 0, max: 12_000 })).then(() => system.sendAgain(task, text)))
  }
  await Promise.all(again)
  return system.sent
}

interface Chance {
  /** From 0 up to, but not including, 1. */
  next(): number
  between(range: { readonly min: number; readonly max: number }): number
  of<T>(choices: readonly T[]): T
}

/** Mulberry32. */
function chanceFrom(start: number): Chance {
  let state = start
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    next,
    between: ({ min, max }) => min + next() * (max - min),
    of: (choices) => choices[Math.floor(next() * choices.length)]!,
  }
}
