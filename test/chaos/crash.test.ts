/** One death at each named instant, of a process of its own on a real broker. Another one, started after it, carries on. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { CRASH_POINTS } from '../../actors/turn/crash.ts'
import type { TOOL_CRASH_POINTS } from '../../tools/server.ts'
import { checkBroker, type Findings, inFlightAt, repeated } from '../support/check-broker.ts'
import type { HostProcess } from '../support/host-process.ts'
import { ProcessSystem, type Rig, startRig, TEAM_WORK, TEST_MS, teamAnswer, teamScript } from '../support/process-system.ts'

/** Long enough to die before the answer. */
const MODEL_MS = 30

let rig: Rig
beforeAll(async () => {
  rig = await startRig(teamScript({ modelMs: MODEL_MS }))
})
afterAll(() => rig[Symbol.asyncDispose]())

/** Sends a task, waits until `dying` is dead, starts the next process, and looks at everything once the task has its answer. */
async function survive(system: ProcessSystem, dying: HostProcess, restart: () => Promise<HostProcess>): Promise<Findings> {
  const task = await system.send('coordinator', 'order')
  expect((await dying.untilExit()).signal).toBe('SIGKILL')
  await restart()

  const result = await system.waitForResult(task)

  expect(result).toMatchObject({ state: 'completed', output: teamAnswer('order') })
  const findings = await checkBroker(system)
  expect(findings.tasks).toBe(3)
  expect(findings.entries).toBe(TEAM_WORK.entries + findings.takeovers)
  expect(findings.late).toEqual([])
  return findings
}

/** Only what was in flight when the process died was done again. */
function expectOnlyOpenRepeats(dead: HostProcess, findings: Findings): void {
  for (const deeds of [findings.modelRequests, findings.toolRuns]) {
    const open = inFlightAt(dead.exitedAt!, deeds, findings)
    expect([...repeated(deeds).keys()].filter((effect) => !open.has(effect))).toEqual([])
  }
}

/**
 * Hits are counted over the coordinator and both workers, which share the process. All of these lie in the middle of the task: the second
 * note is answered (entry 3 of the coordinator), its second model call is made, the first worker ends. `again` is how many model requests
 * were in flight and must, or where both workers are at it may, be made again.
 */
const HOST_DEATHS: readonly { at: (typeof CRASH_POINTS)[number]; hit: number; again: readonly [min: number, max: number] }[] = [
  { at: 'after-pull', hit: 3, again: [0, 0] },
  { at: 'before-append', hit: 4, again: [0, 0] },
  { at: 'after-append', hit: 4, again: [0, 0] },
  { at: 'after-send', hit: 2, again: [0, 0] },
  { at: 'effect-in-flight', hit: 2, again: [0, 0] }, // it dies with the request in its hand
  { at: 'after-effect', hit: 2, again: [1, 1] }, // it dies with the answer in its hand
  { at: 'before-conclude', hit: 1, again: [0, 1] },
  { at: 'after-conclude', hit: 1, again: [0, 1] },
  { at: 'before-ack', hit: 3, again: [0, 2] },
]

describe.concurrent('a task survives the death of its agent host', { timeout: TEST_MS }, () => {
  for (const { at, hit, again } of HOST_DEATHS) {
    it(`${at} ${hit}`, async () => {
      await using system = await ProcessSystem.create(rig, at)
      await system.startTools()
      const dying = await system.startHost({ crashAt: `${at}:${hit}` })

      const findings = await survive(system, dying, () => system.startHost())

      expectOnlyOpenRepeats(dying, findings)
      expect(findings.modelRequests.length - TEAM_WORK.modelCalls).toBeGreaterThanOrEqual(again[0])
      expect(findings.modelRequests.length - TEAM_WORK.modelCalls).toBeLessThanOrEqual(again[1])
      expect(findings.toolRuns).toHaveLength(TEAM_WORK.toolCalls)
    })
  }

  it('while the model works', async () => {
    await using system = await ProcessSystem.create(rig, 'model-works')
    await system.startTools()
    const dying = await system.startHost()
    const fatal = 'coordinator_order_3-0'
    void system.untilAsked(fatal).then(() => dying.kill())

    const findings = await survive(system, dying, () => system.startHost())

    expect([...repeated(findings.modelRequests)]).toEqual([[fatal, 2]])
    expect(findings.takeovers).toBe(1)
    expect(findings.toolRuns).toHaveLength(TEAM_WORK.toolCalls)
  })
})

const TOOL_DEATHS: readonly (typeof TOOL_CRASH_POINTS)[number][] = [
  'before-run',
  'after-begun',
  'after-run',
  'after-done',
  'after-reply',
]

describe.concurrent('a task survives the death of its tool server', { timeout: TEST_MS }, () => {
  // The second hit: two notes are written at once, so that one of them may be anywhere.
  for (const at of TOOL_DEATHS) {
    it(`${at} 2`, async () => {
      await using system = await ProcessSystem.create(rig, at)
      await system.startHost()
      const dying = await system.startTools({ crashAt: `${at}:2` })

      const findings = await survive(system, dying, () => system.startTools())

      expectOnlyOpenRepeats(dying, findings)
      expect(findings.modelRequests).toHaveLength(TEAM_WORK.modelCalls)
      expect(findings.takeovers).toBe(0)
      expect(findings.toolRuns.length).toBeLessThanOrEqual(TEAM_WORK.toolCalls + 2)
      if (at === 'after-run') expect(repeated(findings.toolRuns).size).toBeGreaterThanOrEqual(1)
    })
  }

  for (const { at, runs } of [
    { at: 'after-begun', runs: 0 },
    { at: 'after-run', runs: 1 },
  ] as const) {
    it(`${at}, and tells the model what it cannot know where the tool may not run twice`, async () => {
      await using system = await ProcessSystem.create(rig, `charge-${at}`)
      await system.startHost()
      const dying = await system.startTools({ crashAt: `${at}:1` })
      const task = await system.send('worker1', 'charge 5 EUR')
      await dying.untilExit()
      await system.startTools()

      const result = await system.waitForResult(task)

      const failure = { code: 'indeterminate', message: expect.stringContaining('died while effect') }
      const findings = await checkBroker(system)
      expect(findings.journals.get(task.task)![2]!.input).toMatchObject({ kind: 'error', failure })
      expect(result).toMatchObject({ state: 'completed', output: expect.stringContaining('"code":"indeterminate"') })
      expect(findings.toolRuns).toHaveLength(runs)
      expect(findings.modelRequests).toHaveLength(2)
    })
  }
})
