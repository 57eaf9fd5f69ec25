/** What becomes of mail for a task that has ended and whose record retention has removed. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { connectBroker } from '../../bus/connection.ts'
import { removeEnded } from '../../bus/retention/run.ts'
import { agentParty, userParty } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'
import { type ScriptedModel, until } from '../support/memory-system.ts'
import { type DeadLetter, type Place, startNatsPlaces } from '../support/places.ts'
import { System, TestClock } from '../support/system.ts'

const DAY_MS = 86_400_000
const LATE_MS = 31_000

let nats: Awaited<ReturnType<typeof startNatsPlaces>>
beforeAll(async () => {
  nats = await startNatsPlaces()
})
afterAll(() => nats[Symbol.asyncDispose]())

describe('after the record of a task was removed', () => {
  let place: Place
  let system: System
  let clock: TestClock
  let answer: string
  const model: ScriptedModel = () => ({ text: answer })

  beforeEach(async () => {
    place = await nats.open()
    system = await System.start(place, { agents: [{ name: 'boss' }], model })
    clock = new TestClock()
    answer = 'first'
    await system.startHost({ clock })
    await system.send('boss', 'k', 'x')
    await system.waitForResult('boss', 'k')
    await system.waitForQuiet()
    await removeAll()
    expect(await place.tasks('boss')).toEqual([])
  })
  afterEach(() => place[Symbol.asyncDispose]())

  /** As retention does it a month later. */
  async function removeAll(): Promise<void> {
    const connection = await connectBroker(nats.settings, { name: 'test', log: silentLog() })
    const run = await removeEnded(connection, {
      namespaces: [place.subjects.namespace],
      ageMs: 30 * DAY_MS,
      now: Date.now() + 32 * DAY_MS,
      inboxPrefix: '_INBOX.test',
      signal: new AbortController().signal,
      log: silentLog(),
    })
    await connection.close()
    expect(run).toMatchObject({ traces: 1, failed: 0 })
  }

  /** The first dead letter; the host looks for what it misses for half a minute of its clock. */
  async function deadLetter(): Promise<DeadLetter> {
    const look = async () => {
      clock.forward(LATE_MS)
      return (await place.deadLetters(agentParty('boss')))[0]
    }
    return until(look, 'a dead letter', 15_000)
  }

  it('a late answer becomes a dead letter, and no actor', async () => {
    await system.reply('boss', 'boss_k_1-0', { kind: 'result', value: 'late' })

    const letter = await deadLetter()

    expect(letter.header('Kaos-Dead-Code')).toBe('unknown_effect')
    await system.waitForQuiet()
    expect(await place.tasks('boss')).toEqual([])
  })

  it('a late signal becomes a dead letter, and no actor', async () => {
    await place.publish(place.subjects.signal('boss', 'approve', userParty('ann'), 'boss_k'), '{}', { 'Kaos-Id': 's1' })

    const letter = await deadLetter()

    expect(letter.header('Kaos-Dead-Code')).toBe('unknown_task')
    await system.waitForQuiet()
    expect(await place.tasks('boss')).toEqual([])
  })

  it('a late cancel ends what has not begun, and nothing works', async () => {
    const { length } = system.modelRuns
    await place.publish(place.subjects.signal('boss', 'cancel', userParty('ann'), 'boss_k'), '', { 'Kaos-Id': 'c1' })

    expect(await system.waitForResult('boss', 'k')).toMatchObject({ state: 'canceled' })
    await system.waitForQuiet()
    expect(system.modelRuns).toHaveLength(length)
    expect(await system.entries('boss', 'boss_k')).toHaveLength(1)
  })

  it('a task of the same id is a new one, with an answer of its own', async () => {
    answer = 'second'
    await system.send('boss', 'k', 'x')

    expect(await system.waitForResult('boss', 'k')).toMatchObject({ state: 'completed', output: 'second' })
    expect((await system.finish()).get('boss_k')).toHaveLength(2)
    expect(await place.resultCount('boss', 'k')).toBe(1)
  })
})
