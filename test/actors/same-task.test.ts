/** One task of three agents, their tools and a script, over a real broker, real processes and HTTP: in whatever form calls are made. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ProcessSystem, type Rig, startRig, TEAM_WORK, TEST_MS, teamAnswer } from '../support/process-system.ts'
import { replayAll } from '../support/replay-all.ts'

let rig: Rig
let refusingRig: Rig
beforeAll(async () => {
  rig = await startRig()
  refusingRig = await startRig(undefined, { refusesTools: true })
})
afterAll(async () => {
  await rig[Symbol.asyncDispose]()
  await refusingRig[Symbol.asyncDispose]()
})

describe('the same task has the same outcome, runs each tool once and replays identically', { timeout: TEST_MS }, () => {
  const cases = [
    { mode: 'native', refuses: false, refusals: 0, hasTools: true },
    { mode: 'string', refuses: false, refusals: 0, hasTools: false },
    { mode: 'string', refuses: true, refusals: 0, hasTools: false },
    { mode: 'auto', refuses: false, refusals: 0, hasTools: true },
    // Each of the three agents is refused once, and goes on in texts.
    { mode: 'auto', refuses: true, refusals: 3, hasTools: false },
  ] as const
  for (const { mode, refuses, refusals, hasTools } of cases) {
    it(`in ${mode} mode with a model that ${refuses ? 'refuses' : 'takes'} tools`, async () => {
      await using system = await ProcessSystem.create(refuses ? refusingRig : rig, `mode-${mode}-${refuses}`, {
        toolCallMode: mode,
      })
      await system.startTools()
      await system.startHost()

      const result = await system.waitForResult(await system.send('coordinator', 'order'))

      expect(result).toMatchObject({ state: 'completed', output: teamAnswer('order') })
      const runs = system.toolRuns()
      expect(runs).toHaveLength(TEAM_WORK.toolCalls)
      expect(new Set(runs.map(({ effect }) => effect)).size).toBe(TEAM_WORK.toolCalls)
      const requests = system.modelRequests()
      const answered = requests.filter(({ rule }) => rule !== undefined)
      expect(requests).toHaveLength(TEAM_WORK.modelCalls + refusals)
      expect(answered).toHaveLength(TEAM_WORK.modelCalls)
      expect(answered.every(({ body }) => 'tools' in body === hasTools)).toBe(true)
      expect(await replayAll(system.bus, system.declared)).toEqual({ traces: 1, wrong: [] })
    })
  }
})
