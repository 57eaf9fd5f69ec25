/** The acknowledgement of one append is lost on its way to the host, which cannot know whether its entry stands. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkBroker, repeated } from '../support/check-broker.ts'
import { eventually } from '../support/mcp-calls.ts'
import { ProcessSystem, type Rig, startRig, TEST_MS } from '../support/process-system.ts'
import { type Frame, startTcpProxy } from '../support/tcp-proxy.ts'

/** Three turns of mail: the task and two replies of the tool. Entries: start, model, note, model, note, model. */
const ENTRIES = 6
const note = (text: string) => ({ name: 'note', arguments: { text } })
const script = {
  rules: [
    { when: { turn: 0 }, reply: { calls: [note('{{input}}.a')] } },
    { when: { turn: 1 }, reply: { calls: [note('{{input}}.b')] } },
    { reply: { text: '{{results}}' } },
  ],
}

let rig: Rig
beforeAll(async () => {
  rig = await startRig(script)
})
afterAll(() => rig[Symbol.asyncDispose]())

/** Loses the answers to publishes: `isChosen` is told the subject and how often something was published on it before. */
function loseAnswers(isChosen: (subject: string, before: number) => boolean) {
  const published = new Map<string, number>()
  const awaited = new Set<string>()
  const lost: unknown[] = []
  return {
    lost,
    onSent: ({ subject, reply }: Frame) => {
      const before = published.get(subject) ?? 0
      published.set(subject, before + 1)
      if (reply !== '' && isChosen(subject, before)) awaited.add(reply)
    },
    loses: ({ subject, body }: Frame) => {
      if (!awaited.delete(subject)) return false
      lost.push(JSON.parse(body))
      return true
    },
  }
}

describe.concurrent('a task survives the loss of an acknowledgement', { timeout: TEST_MS }, () => {
  for (let k = 0; k < ENTRIES; k++) {
    it(`of entry ${k}`, async () => {
      await using system = await ProcessSystem.create(rig, `entry-${k}`)
      const journal = system.bus.subjects.journal('worker1', 'worker1_order')
      const loss = loseAnswers((subject, before) => subject === journal && before === k)
      await using proxy = await startTcpProxy({ port: rig.broker.port, ...loss })
      await system.startTools()
      await system.startHost({ only: ['worker1'], natsUrl: proxy.url })
      const task = await system.send('worker1', 'order')

      const result = await system.waitForResult(task)

      expect(loss.lost).toMatchObject([{ seq: k + 1 }])
      expect(result).toMatchObject({ state: 'completed', output: 'R(order.a)\nR(order.b)' })
      const findings = await checkBroker(system)
      expect(findings).toMatchObject({ tasks: 1, entries: ENTRIES, takeovers: 0 })
      expect(findings.modelRequests).toHaveLength(3)
      expect(findings.toolRuns).toHaveLength(2)
    })
  }

  for (const [k, what] of ['claim', 'reply'].entries()) {
    it(`of a tool's ${what}`, async () => {
      await using system = await ProcessSystem.create(rig, `tool-${what}`)
      const done = system.bus.subjects.done('desk', 'worker1_order_1-0')
      const loss = loseAnswers((subject, before) => subject === done && before === k)
      await using proxy = await startTcpProxy({ port: rig.broker.port, ...loss })
      await system.startTools({ natsUrl: proxy.url })
      await system.startHost({ only: ['worker1'] })
      const task = await system.send('worker1', 'order')

      const result = await system.waitForResult(task)

      expect(loss.lost).toMatchObject([{ seq: k + 1 }])
      expect(result).toMatchObject({ state: 'completed', output: 'R(order.a)\nR(order.b)' })
      const findings = await checkBroker(system)
      expect(findings).toMatchObject({ tasks: 1, entries: ENTRIES, takeovers: 0 })
      expect(repeated(findings.toolRuns).size).toBe(0)
    })
  }

  it('of every message that is no entry', async () => {
    await using system = await ProcessSystem.create(rig, 'messages')
    const sends = /\.(call|trace|result)\./
    const loss = loseAnswers((subject, before) => sends.test(subject) && before === 0)
    await using proxy = await startTcpProxy({ port: rig.broker.port, ...loss })
    await system.startTools()
    await system.startHost({ only: ['worker1'], natsUrl: proxy.url })
    const task = await system.send('worker1', 'order')
    // The result is the last of them, and its answer is lost as well.
    await system.waitForResult(task)
    await eventually(() => loss.lost.length === 4)

    const findings = await checkBroker(system)

    expect(findings).toMatchObject({ tasks: 1, entries: ENTRIES, takeovers: 0 })
    expect(findings.modelRequests).toHaveLength(3)
    expect(findings.toolRuns).toHaveLength(2)
  })
})
