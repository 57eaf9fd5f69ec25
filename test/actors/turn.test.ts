import { afterEach, describe, expect, it } from 'vitest'
import { CRASH_POINTS } from '../../actors/turn/crash.ts'
import { TOOL_CRASH_POINTS } from '../../tools/server.ts'
import { checkJournal } from '../support/journal-check.ts'
import { MemorySystem, type ScriptedModel } from '../support/memory-system.ts'

/** A coordinator asks a tool twice and two workers once; each worker asks the tool once. */
const model: ScriptedModel = ({ agent, messages, turn }) => {
  const task = messages.find(({ role }) => role === 'user')!.content!
  const results = messages.filter(({ role }) => role === 'tool').map(({ content }) => content)
  if (agent === 'coordinator') {
    if (turn === 0) return { calls: ['a', 'b'].map((x) => ({ name: 'echo', arguments: { text: `${task}.${x}` } })) }
    if (turn === 1)
      return { calls: ['worker1', 'worker2'].map((w) => ({ name: `delegate_to_${w}`, arguments: { task: `${task}.${w}` } })) }
    return { text: [task, ...results].join('|') }
  }
  const last = messages.findLast(({ role }) => role === 'user')!.content!
  return turn === messages.filter(({ role }) => role === 'assistant').length && results.length > countBefore(messages)
    ? { text: `${agent}:${last}=${results.at(-1)}` }
    : { calls: [{ name: 'echo', arguments: { text: `${last}.t` } }] }
}

/** Tool results that were handed over with the conversation, before the last user message. */
function countBefore(messages: readonly { role: string }[]): number {
  const lastUser = messages.findLastIndex(({ role }) => role === 'user')
  return messages.slice(0, lastUser).filter(({ role }) => role === 'tool').length
}

const agents = [
  { name: 'coordinator', tools: ['echo'], peers: ['worker1', 'worker2'] },
  { name: 'worker1', tools: ['echo'] },
  { name: 'worker2', tools: ['echo'] },
]
const expected = (task: string) =>
  [task, `R(${task}.a)`, `R(${task}.b)`, ...['worker1', 'worker2'].map((w) => `${w}:${task}.${w}=R(${task}.${w}.t)`)].join('|')

let system: MemorySystem
afterEach(() => system.close())

async function checkAll(keys: readonly string[]): Promise<number> {
  await system.waitForQuiet()
  let entries = 0
  for (const [subject, stored] of system.broker.records) {
    const [, , , agent, area, task] = subject.split('.')
    if (area !== 'journal') continue
    const readBlob = async (sha: string) =>
      system.broker.records.get(`kaos.default.agent.${agent}.blob.agent.${agent}.${task}.${sha}.0`)![0]!.text
    entries += (await checkJournal(agent!, task!, stored, readBlob)).entries.length
  }
  for (const key of keys) expect(system.result('coordinator', key)).toMatchObject({ state: 'completed', output: expected(key) })
  return entries
}

describe('a turn', () => {
  it('answers a task over tools and delegations', async () => {
    system = new MemorySystem({ agents, tools: ['echo'], model })
    system.startHost()
    system.startTools('echo')

    system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1' })
    await system.waitForResult('coordinator', 'k1')

    expect(await checkAll(['k1'])).toBe(8 + 4 + 4)
    expect(system.modelRuns).toHaveLength(3 + 2 + 2)
    expect(system.toolRuns).toHaveLength(4)
  })

  for (const point of CRASH_POINTS) {
    for (const hit of point.endsWith('conclude') ? [1, 2, 3] : [1, 2, 5]) {
      it(`survives a death ${point}, hit ${hit}`, async () => {
        system = new MemorySystem({ agents, tools: ['echo'], model })
        let hits = 0
        system.startHost({ crash: (die) => (at) => (at === point && ++hits === hit ? die() : undefined) })
        system.startTools('echo')
        system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1' })
        await new Promise((resolve) => setTimeout(resolve, 20))
        system.startHost()

        await system.waitForResult('coordinator', 'k1')

        await checkAll(['k1'])
        expect(hits).toBeGreaterThanOrEqual(hit)
        // Only what was in flight at the death may run again.
        expect(system.modelRuns.length).toBeLessThanOrEqual(7 + 2)
        expect(system.toolRuns).toHaveLength(4)
      })
    }
  }

  for (const point of TOOL_CRASH_POINTS) {
    it(`survives a tool server's death ${point}`, async () => {
      system = new MemorySystem({ agents, tools: ['echo'], model })
      system.startHost()
      let hits = 0
      system.startTools('echo', { crash: (die) => (at) => (at === point && ++hits === 2 ? die() : undefined) })
      system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1' })
      await new Promise((resolve) => setTimeout(resolve, 20))
      system.startTools('echo')

      await system.waitForResult('coordinator', 'k1')

      await checkAll(['k1'])
      expect(system.modelRuns).toHaveLength(7)
      expect(hits).toBeGreaterThanOrEqual(2)
    })
  }
})
