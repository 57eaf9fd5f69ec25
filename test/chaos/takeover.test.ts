/** Several processes for the same mail: they race, one sleeps while another does its work, and wakes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Entry, openEntry } from '../../bus/wire/entry.ts'
import { agentParty } from '../../bus/wire/subjects.ts'
import { checkBroker, repeated } from '../support/check-broker.ts'
import { eventually } from '../support/mcp-calls.ts'
import { ProcessSystem, type Rig, startRig, TEST_MS } from '../support/process-system.ts'

const FAN_OUT = 12
const TOOL_MS = 300
/** Time enough to wake a host and see what it does with what it had in hand. */
const SLOW_MS = 2_500
const ANSWERED = 'done: {{results}}'

const notes = (round: string) =>
  Array.from({ length: FAN_OUT }, (_, n) => ({ name: 'note', arguments: { text: `${round}${n}` } }))
const script = {
  rules: [
    { when: { text: 'charge', turn: 0 }, reply: { calls: [{ name: 'charge', arguments: { text: '5 EUR', ms: TOOL_MS } }] } },
    { when: { text: 'note', turn: 0 }, reply: { calls: [{ name: 'note', arguments: { text: 'it', ms: TOOL_MS } }] } },
    { when: { text: 'many', turn: 0 }, reply: { calls: notes('a') } },
    { when: { text: 'many', turn: 1 }, reply: { calls: notes('b') } },
    { when: { text: 'slow' }, reply: { text: 'done', delayMs: SLOW_MS } },
    { reply: { text: ANSWERED, delayMs: 200 } },
  ],
}
const manyNotes = ['a', 'b'].flatMap((round) => notes(round).map((note) => `R(${note.arguments.text})`))

let rig: Rig
beforeAll(async () => {
  rig = await startRig(script)
})
afterAll(() => rig[Symbol.asyncDispose]())

describe.concurrent('two processes for the same mail', { timeout: TEST_MS }, () => {
  it('race the replies of one actor, each with a cache that the others make stale', async () => {
    await using system = await ProcessSystem.create(rig, 'race')
    await system.startTools()
    const hosts = await Promise.all([1, 2, 3].map(() => system.startHost({ only: ['worker1'] })))
    const ids = await Promise.all(hosts.map((host) => host.untilReady()))

    const task = await system.send('worker1', 'many')
    const result = await system.waitForResult(task)

    expect(result).toMatchObject({ state: 'completed', output: `done: ${manyNotes.join('\n')}` })
    const findings = await checkBroker(system)
    expect(findings).toMatchObject({ tasks: 1, entries: 1 + 3 + 2 * FAN_OUT, takeovers: 0 })
    expect(findings.modelRequests).toHaveLength(3)
    expect(findings.toolRuns).toHaveLength(2 * FAN_OUT)
    const writers = (await system.bus.journal.read('worker1', task.task, 0)).map(({ writer }) => writer.split('.')[0]!)
    expect(ids).toEqual(expect.arrayContaining(writers))
    expect(new Set(writers).size).toBeGreaterThan(1)
  })

  it('a host that sleeps through its ack_wait wakes, and what it had in hand is no longer its own', async () => {
    await using system = await ProcessSystem.create(rig, 'asleep')
    await system.startTools()
    const sleeper = await system.startHost({ only: ['worker1'] })
    const asked = system.untilAsked('worker1_plain_0-0')
    const task = await system.send('worker1', 'plain')
    await asked
    sleeper.freeze()
    const other = await system.startHost({ only: ['worker1'] })
    await system.waitForResult(task)

    sleeper.wake() // to the model's answer
    await other.stop()
    const later = await system.waitForResult(await system.send('worker1', 'later'))

    expect(later).toMatchObject({ state: 'completed' })
    const findings = await checkBroker(system)
    expect(findings).toMatchObject({ tasks: 2, entries: 2 + 1 + 2, takeovers: 1, late: [] })
    expect([...repeated(findings.modelRequests)]).toEqual([['worker1_plain_0-0', 2]])
    expect((await sleeper.stop()) === 0 && sleeper.stderr).not.toContain('"level":"error"')
  })

  it('a host that wakes while another does its work leaves the mail alone, so that it comes again if that one dies', async () => {
    await using system = await ProcessSystem.create(rig, 'awake')
    await system.startTools()
    const sleeper = await system.startHost({ only: ['worker1'] })
    const sleeperId = await sleeper.untilReady()
    const asked = system.untilAsked('worker1_slow_0-0')
    const task = await system.send('worker1', 'slow')
    await asked
    sleeper.freeze()
    const askedAgain = system.untilAsked('worker1_slow_0-0')
    const other = await system.startHost({ only: ['worker1'] })
    await askedAgain

    sleeper.wake() // to the answer of a model call that is not its own any more
    const { delivery } = await entry0(system, task.task)
    await eventually(async () => (await askHost(system, sleeperId, delivery)) === 'free')
    await other.kill()
    const result = await system.waitForResult(task)

    expect(result).toMatchObject({ state: 'completed', output: 'done' })
    const findings = await checkBroker(system)
    expect(findings).toMatchObject({ tasks: 1, entries: 2 + 2, takeovers: 2, late: [] })
    expect(findings.modelRequests.map(({ host }) => host)).toEqual([sleeper, other, sleeper])
  })

  for (const { tool, runs, output } of [
    { tool: 'note', runs: 2, output: 'done: R(it)' },
    { tool: 'charge', runs: 1, output: expect.stringContaining('"code":"indeterminate"') },
  ] as const) {
    it(`a tool server sleeps while it runs "${tool}"`, async () => {
      await using system = await ProcessSystem.create(rig, `asleep-${tool}`)
      await system.startHost({ only: ['worker1'] })
      const sleeper = await system.startTools()
      const task = await system.send('worker1', tool)
      await eventually(() => system.toolRuns().length === 1)
      sleeper.freeze()
      await system.startTools()
      const result = await system.waitForResult(task)

      sleeper.wake() // to the tool's answer

      expect(result).toMatchObject({ state: 'completed', output })
      expect(await sleeper.stop()).toBe(0)
      const findings = await checkBroker(system)
      expect(findings).toMatchObject({ tasks: 1, entries: 4, takeovers: 0, late: [] })
      expect(findings.toolRuns).toHaveLength(runs)
      expect(findings.modelRequests).toHaveLength(2)
    })
  }
})

async function entry0({ bus }: ProcessSystem, task: string): Promise<Entry> {
  const [first] = await bus.journal.read('worker1', task, 0)
  return openEntry(first!.text, undefined, 'entry 0').entry
}

/** "held" or "free": whether a host has a delivery in hand, as hosts ask each other. */
async function askHost({ bus }: ProcessSystem, hostId: string, delivery: string): Promise<string> {
  const answer = await bus.connection.request(bus.subjects.host(agentParty('worker1'), hostId), delivery, { timeout: 2_000 })
  return answer.string()
}
