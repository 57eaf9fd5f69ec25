/** A broker that goes away again and again while a hundred tasks are under way: killed, and stopped in good order. */
import { expect, it } from 'vitest'
import { checkBroker } from '../support/check-broker.ts'
import { until } from '../support/memory-system.ts'
import { ProcessSystem, startRig, TEAM_WORK, teamAnswer, teamScript } from '../support/process-system.ts'

const TASKS = 100
const LONGEST_MS = 120_000

it(
  'a broker killed and restarted under load loses nothing, and every task has one result',
  async () => {
    await using rig = await startRig(teamScript({ modelMs: 20, toolMs: 10 }))
    await using system = await ProcessSystem.create(rig, 'load')
    await Promise.all([system.startTools(), system.startHost(), system.startHost()])
    const sent = await Promise.all(Array.from({ length: TASKS }, (_, n) => system.send('coordinator', `order-${n}`)))
    const untilAsked = (calls: number) =>
      until(() => rig.requests.length >= calls || undefined, `${calls} model calls\n${system.said()}`, LONGEST_MS)

    for (const part of [0.15, 0.3, 0.45, 0.6]) {
      await untilAsked(part * TASKS * TEAM_WORK.modelCalls)
      // Odd times without a warning, else as an administrator does it.
      if (part === 0.15 || part === 0.45) await rig.broker.kill()
      await rig.broker.restart()
    }
    const late = await system.send('coordinator', 'after')

    const results = await Promise.all([...sent, late].map((task) => system.waitForResult(task, LONGEST_MS / 2)))
    expect(results.map((result) => result.state === 'completed' && result.output)).toEqual(
      [...sent, late].map(({ key }) => teamAnswer(key)),
    )
    const findings = await checkBroker(system)
    expect(findings.tasks).toBe((TASKS + 1) * 3)
    console.log(
      `${TASKS} tasks over four restarts: ${findings.takeovers} takeovers, ` +
        `${findings.modelRequests.length - (TASKS + 1) * TEAM_WORK.modelCalls} model calls and ` +
        `${findings.toolRuns.length - (TASKS + 1) * TEAM_WORK.toolCalls} tool calls made again`,
    )
  },
  LONGEST_MS,
)
