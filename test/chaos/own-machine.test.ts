/** A machine of one's own under the same deaths as the agent: each named instant once, then two hundred tasks at once and hosts that keep dying. */
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Script } from '../../actors/testing/model-script.ts'
import type { CrashPointName } from '../../actors/turn/crash.ts'
import { checkBroker } from '../support/check-broker.ts'
import { ProcessSystem, type Rig, startRig, TEST_MS } from '../support/process-system.ts'

const machine = fileURLToPath(new URL('../support/four-effects.ts', import.meta.url))

/** The worker makes one note; the machine's own question is answered with itself. */
const script: Script = {
  rules: [
    {
      when: { agent: 'worker1', turn: 0 },
      reply: { calls: [{ name: 'note', arguments: { text: '{{input}}.t', ms: 10 } }], delayMs: 20 },
    },
    { reply: { text: '{{input}}:{{results}}', delayMs: 20 } },
  ],
}
/** Of the machine: its start and four answers. Of the worker: its start, two answers of the model and one of a tool. */
const ENTRIES = 5 + 4

function answer(text: string): readonly string[] {
  return [`R(${text}.a)`, `${text}.worker1:R(${text}.worker1.t)`, `${text}.model:(no result)`, `ran ${text}`]
}

let rig: Rig
beforeAll(async () => {
  rig = await startRig(script)
})
afterAll(() => rig[Symbol.asyncDispose]())

/** Hits are counted over the machine and its worker, which share the process. */
const DEATHS: readonly { readonly at: CrashPointName; readonly hit: number }[] = [
  { at: 'after-pull', hit: 2 },
  { at: 'before-append', hit: 1 },
  { at: 'before-append', hit: 5 },
  { at: 'after-append', hit: 1 },
  { at: 'after-append', hit: 7 },
  { at: 'after-send', hit: 1 },
  { at: 'effect-in-flight', hit: 3 },
  { at: 'effect-in-flight', hit: 4 }, // the function
  { at: 'after-effect', hit: 3 },
  { at: 'after-effect', hit: 4 },
  { at: 'before-conclude', hit: 2 },
  { at: 'after-conclude', hit: 2 },
  { at: 'before-ack', hit: 3 },
]

describe.concurrent('a task of a machine survives the death of its host', { timeout: TEST_MS }, () => {
  for (const { at, hit } of DEATHS) {
    it(`${at} ${hit}`, async () => {
      await using system = await ProcessSystem.create(rig, `own-${at}-${hit}`, { machine })
      await system.startTools()
      const dying = await system.startHost({ crashAt: `${at}:${hit}` })
      const task = await system.send('coordinator', 'order')
      expect((await dying.untilExit()).signal).toBe('SIGKILL')
      await system.startHost()

      expect(await system.waitForResult(task)).toMatchObject({ state: 'completed', output: answer('order') })

      const findings = await checkBroker(system)
      expect(findings).toMatchObject({ tasks: 2, entries: ENTRIES + findings.takeovers, late: [] })
      expect(findings.toolRuns).toHaveLength(2)
    })
  }
})

const TASKS = 200
const KILLS = 12

it('two hundred tasks of a machine survive hosts that keep dying', { timeout: 150_000 }, async () => {
  await using system = await ProcessSystem.create(rig, 'own-chaos', { machine })
  await system.startTools()
  const hosts = await Promise.all([system.startHost(), system.startHost()])
  const names = Array.from({ length: TASKS }, (_, i) => `t${i}`)

  const sent = await Promise.all(names.map((name) => system.send('coordinator', name)))
  for (let i = 0; i < KILLS; i++) {
    await delay(100 + Math.random() * 500)
    await hosts[i % 2]!.kill()
    hosts[i % 2] = await system.startHost()
  }
  const results = await Promise.all(sent.map((task) => system.waitForResult(task, 60_000)))

  expect(results.map((result) => (result.state === 'completed' ? result.output : result))).toEqual(
    names.map((name) => answer(name)),
  )
  const findings = await checkBroker(system)
  expect(findings).toMatchObject({ tasks: TASKS * 2, entries: TASKS * ENTRIES + findings.takeovers, late: [] })
})
