/**
 * Messages of a version that this program does not know: never processed, and never lost. (A task and a delegation of a later version are
 * refused, and their senders told: see doors.test and hard-cases.test.)
 */
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { serveAgent } from '../../actors/service.ts'
import { neverCrash } from '../../actors/turn/crash.ts'
import { systemClock } from '../../bus/contracts.ts'
import { HEADERS } from '../../bus/wire/message.ts'
import { agentParty, toolParty, userParty } from '../../bus/wire/subjects.ts'
import { identity, type ScriptedModel, scriptedRuntime, until } from '../support/memory-system.ts'
import { type Place, startNatsPlaces } from '../support/places.ts'
import { type Hosted, System } from '../support/system.ts'

const WAITS = 'mail waits for a newer host'
const model: ScriptedModel = ({ turn, messages }) =>
  turn === 0 ? { calls: [{ name: 'echo', arguments: { text: 'hello' } }] } : { text: `told ${messages.at(-1)!.content}` }
const boss: Hosted = { name: 'boss', tools: ['echo'] }
const newer = { 'Kaos-V': '2' }

let nats: Awaited<ReturnType<typeof startNatsPlaces>>
let place: Place
let system: System
const said: { readonly msg: string; readonly subject: string; readonly code: string }[] = []
beforeAll(async () => {
  nats = await startNatsPlaces()
})
afterAll(() => nats[Symbol.asyncDispose]())
beforeEach(async () => {
  place = await nats.open()
  system = await System.start(place, { agents: [boss], tools: ['echo'], model })
})
afterEach(async () => {
  await place[Symbol.asyncDispose]()
  said.length = 0
})

/** A host whose log can be read. */
async function startHost(): Promise<void> {
  const { bus } = await place.connect()
  const log = pino({ level: 'debug' }, { write: (line) => void said.push(JSON.parse(line)) })
  const agent = scriptedRuntime(boss, { subjects: place.subjects, model })
  serveAgent({ bus, agent, identity: identity(), clock: systemClock, log, crash: neverCrash })
}

const untilSaid = (msg: string) => until(() => said.find((line) => line.msg === msg), `"${msg}"`)

it('an answer of a later version waits for a host that knows it, and the task is neither failed nor answered', async () => {
  await startHost()
  await system.send('boss', 'k', 'x')
  const before = await system.waitForEntries('boss', 'boss_k', 2)

  const subject = place.subjects.reply('boss', toolParty('echo'), 'boss_k_1-0')
  await place.publish(subject, '{"kind":"result","value":"of the future"}', { 'Kaos-Id': 'boss_k_1-0', ...newer })

  expect(await untilSaid(WAITS)).toMatchObject({ subject, code: 'unsupported_version' })
  expect(await system.entries('boss', 'boss_k')).toEqual(before)
  // The call that nobody serves, and the answer.
  await system.waitForQuiet(2)
  expect(await place.backlog()).toBe(2)
  expect(await place.deadLetters(agentParty('boss'))).toEqual([])
  await system.reply('boss', 'boss_k_1-0', { kind: 'result', value: 'of today' })
  expect(await system.waitForResult('boss', 'k')).toMatchObject({ state: 'completed', output: 'told of today' })
  await system.waitForQuiet(2)
  expect(await place.backlog()).toBe(2)
})

it('a call of a later version is answered with the reason, and its tool does not run', async () => {
  const ran: string[] = []
  await system.startTools('echo', { run: (text) => `${ran.push(text)}` })

  const call = place.subjects.call('echo', 'boss', 'boss_k_1-0')
  await place.publish(call, '{"tool":"echo","arguments":{"text":"hello"}}', { 'Kaos-Id': 'boss_k_1-0', ...newer })
  await system.waitForQuiet(1)
  await startHost()
  await system.send('boss', 'k', 'x')

  const { output } = (await system.waitForResult('boss', 'k')) as { output: string }
  expect(output).toContain('"code":"unsupported_version"')
  expect(ran).toEqual([])
})

it('a signal of a later version is put aside, and its task goes on', async () => {
  await startHost()
  await system.send('boss', 'k', 'x')
  await system.waitForEntries('boss', 'boss_k', 2)

  const cancel = place.subjects.signal('boss', 'cancel', userParty('someone'), 'boss_k')
  await place.publish(cancel, '', { 'Kaos-Id': 'c1', ...newer })

  const [letter] = await until(async () => {
    const letters = await place.deadLetters(agentParty('boss'))
    return letters.length > 0 ? letters : undefined
  }, 'the dead letter')
  expect([letter!.header('Kaos-Dead-Code'), letter!.header('Kaos-Dead-Subject')]).toEqual(['unsupported_version', cancel])
  await system.startTools('echo')
  expect(await system.waitForResult('boss', 'k')).toMatchObject({ state: 'completed' })
})

it('a journal that a newer host has written in is left to newer hosts, and its mail waits', async () => {
  const writer = await place.connect()
  await startHost()
  await system.send('boss', 'k', 'x')
  await system.waitForEntries('boss', 'boss_k', 2)
  const [, last] = await place.journal('boss', 'boss_k')
  await place.publish(place.subjects.journal('boss', 'boss_k'), last!.text.replace('"n":1', '"n":2'), {
    [HEADERS.slot]: 'boss_k_2',
    [HEADERS.snap]: '0',
    [HEADERS.writer]: 'hnewer.1',
    ...newer,
  })

  await system.reply('boss', 'boss_k_1-0', { kind: 'result', value: 'an answer' })

  expect(await untilSaid(WAITS)).toMatchObject({ code: 'unsupported_version' })
  expect(await place.deadLetters(agentParty('boss'))).toEqual([])
  await system.waitForQuiet(2)
  expect(await place.backlog()).toBe(2)
  await expect(writer.bus.journal.read('boss', 'boss_k', 0)).rejects.toMatchObject({
    code: 'unsupported_version',
    message: expect.stringContaining('has version 2'),
  })
})
