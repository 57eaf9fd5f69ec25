/** Tools that answer with too much or do not stop when they are told to, as the tasks that call them see it. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { HostProcess } from '../support/host-process.ts'
import { callTool, inMiB, memoryOf, type RawModel, Stand, say } from './stand.ts'

const GROWTH_MIB_MAX = 100
const server = join(import.meta.dirname, '..', 'support', 'mcp-stdio-server.ts')

/** By the text of the task: the call that the model asks for. What the tool says is the model's answer. */
const calls: Readonly<Record<string, RawModel>> = {
  'fifty megabytes': callTool('big', { bytes: 50_000_000 }),
  'seven mebibytes': callTool('big', { bytes: 7 * 1024 * 1024 }),
  'sleep on': callTool('hang', {}),
  'answer late': callTool('sleep', { ms: 3_000 }),
  count: callTool('count', {}),
}
const model: RawModel = (text, response, request) =>
  (calls[text] ?? say((told) => (told.length > 1_000 ? `${told.length} characters` : `told ${told}`)))(text, response, request)

let stand: Stand
let host: HostProcess
beforeAll(async () => {
  const params = JSON.stringify({ command: process.execPath, args: [server] })
  stand = await Stand.start({ model, tools: { shaky: { runtime: 'stdio', params } } })
  host = await stand.startHost()
  expect(await stand.nextTask('count')).toBe('completed: told 1')
})
afterAll(() => stand[Symbol.asyncDispose]())

it('a tool result of 50 MB is refused with its reason, the host grows by less than 100 MB, and the next task completes', async () => {
  const before = memoryOf(host).now

  const became = [await stand.nextTask('fifty megabytes'), await stand.nextTask('fifty megabytes')]

  for (const text of became) expect(text).toMatch(/^completed: told .*payload_too_large/)
  expect(await stand.nextTask('count')).toBe('completed: told 2')
  const grown = inMiB(memoryOf(host).peak - before)
  console.log(`two tool results of 50 MB: the host grew by at most ${grown} MiB`)
  expect(grown).toBeLessThan(GROWTH_MIB_MAX)
  expect(await stand.deadLetters()).toEqual([])
})

it('five tool results of 50 MB at once are refused too', async () => {
  const before = memoryOf(host).now

  const became = await Promise.all(Array.from({ length: 5 }, () => stand.nextTask('fifty megabytes')))

  for (const text of became) expect(text).toMatch(/^completed: told .*payload_too_large/)
  expect(await stand.nextTask('count')).toBe('completed: told 3')
  expect(inMiB(memoryOf(host).peak - before)).toBeLessThan(GROWTH_MIB_MAX)
})

it('a tool result below the limit goes through whole', async () => {
  expect(await stand.nextTask('seven mebibytes')).toBe(`completed: ${7 * 1024 * 1024} characters`)
})

it('a tool that never ends and ignores its abort costs its task the time it was given, and the next call works', async () => {
  await stand.publish(JSON.stringify({ input: 'sleep on', limits: { seconds: 1 } }), { 'Nats-Msg-Id': 'limited' })

  const result = await stand.resultOf('limited')

  expect(result).toMatchObject({ state: 'failed', failure: { code: 'time_limit' } })
  expect(await stand.nextTask('count')).toBe('completed: told 4')
  await stand.untilNoMail()
})

it('an answer that comes after its task has ended changes nothing', async () => {
  await stand.publish(JSON.stringify({ input: 'answer late', limits: { seconds: 1 } }), { 'Nats-Msg-Id': 'late' })

  const result = await stand.resultOf('late')
  await stand.untilNoMail()
  const entries = await stand.bus.journal.read('worker', result.task, 0)

  expect(result).toMatchObject({ state: 'failed', failure: { code: 'time_limit' } })
  expect(await stand.nextTask('answer late')).toBe('completed: told slept')
  expect(await stand.bus.journal.read('worker', result.task, 0)).toHaveLength(entries.length)
  expect(await stand.resultOf('late')).toEqual(result)
  expect(await stand.deadLetters()).toEqual([])
})
