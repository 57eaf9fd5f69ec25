/** The doors as any NATS client sees them. */
import { headers } from '@nats-io/transport-node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { loadManifests } from '../../manifests/load.ts'
import { silentLog } from '../../telemetry/log.ts'
import { Folder, SAMPLE } from '../support/cli.ts'
import { until } from '../support/memory-system.ts'
import { replayAll } from '../support/replay-all.ts'

let folder: Folder
let bus: NatsBus
beforeAll(async () => {
  folder = await Folder.create()
  const up = await folder.start(['up', '-f', SAMPLE, '--port', '0'], 'Ctrl-C ends it')
  const url = /NATS_URL=(\S+)/.exec(up.output)![1]!
  bus = await openBus(
    { servers: [url], source: 'NATS_URL', identity: { kind: 'none' } },
    { namespace: 'default', as: userParty('test'), log: silentLog() },
  )
})
afterAll(async () => {
  await bus?.close()
  await folder.remove()
})

function head(fields: Record<string, string>) {
  const all = headers()
  for (const [name, value] of Object.entries(fields)) all.set(name, value)
  return all
}

const resultOf = async (agent: string, key: string) => JSON.parse((await bus.results.wait(agent, key, { deadlineMs: 15_000 }))!)
const dead = async (subject: string) => bus.reader.get('kaos_dead', { seq: 1, next_by_subj: subject, batch: 100 })

describe('the task door', () => {
  it('gives a receipt, and the result on its subject', async () => {
    const results = bus.connection.subscribe('kaos.default.result.analyst.>', { max: 1 })
    const receipt = await bus.connection.request('kaos.default.agent.analyst.task', 'what is 6 * 7?')

    expect(receipt.json()).toMatchObject({ stream: 'kaos_default_agent_analyst_mail' })
    for await (const message of results) expect(message.json()).toMatchObject({ state: 'completed' })
  })

  it('takes JSON with limits', async () => {
    const body = JSON.stringify({ input: 'what is 6 * 7?', limits: { toolCalls: 0 } })
    await bus.connection.request('kaos.default.agent.analyst.task', body, {
      timeout: 2_000,
      headers: head({ 'Nats-Msg-Id': 'limited' }),
    })

    expect(await resultOf('analyst', 'limited')).toMatchObject({ state: 'failed', failure: { code: 'tool_call_limit' } })
  })

  it('refuses JSON that cannot be read, and says so in the result and the dead letters', async () => {
    await bus.connection.request('kaos.default.agent.analyst.task', '{"input": ', {
      timeout: 2_000,
      headers: head({ 'Nats-Msg-Id': 'garbled' }),
    })

    expect(await resultOf('analyst', 'garbled')).toMatchObject({ state: 'rejected', failure: { code: 'bad_message' } })
    const letters = await dead('kaos.default.dead.agent.analyst')
    expect(letters.at(-1)).toMatchObject({ text: '{"input": ' })
    expect(letters.at(-1)!.header('Kaos-Dead-Code')).toBe('bad_message')
    expect(letters.at(-1)!.header('Kaos-Key')).toBe('garbled')
  })

  it('takes one id for one task, whoever sends it again', async () => {
    const send = (text: string) =>
      bus.connection.request('kaos.default.agent.analyst.task', text, {
        timeout: 2_000,
        headers: head({ 'Kaos-Key': 'twice', 'Kaos-Id': `m-${Math.random()}` }),
      })
    await send('what is 1 + 1?')
    const first = await resultOf('analyst', 'twice')
    await send('what is 1 + 1?')
    await send('what is 2 + 2?')

    const letters = await until(async () => {
      const found = (await dead('kaos.default.dead.agent.analyst')).filter(
        (letter) => letter.header('Kaos-Dead-Code') === 'key_conflict',
      )
      return found.length > 0 ? found : undefined
    }, 'the dead letter')
    expect(letters).toHaveLength(1)
    expect(letters[0]!.text).toBe('what is 2 + 2?')
    expect(await resultOf('analyst', 'twice')).toEqual(first)
  })

  it('begins a new trace where the given one is unreadable, and joins one that is not', async () => {
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
    const send = (id: string, traceparent: string) =>
      bus.connection.request('kaos.default.agent.analyst.task', 'what is 3 * 3?', {
        timeout: 2_000,
        headers: head({ 'Nats-Msg-Id': id, traceparent }),
      })
    await send('bad-trace', 'nonsense')
    await send('good-trace', `00-${traceId}-00f067aa0ba902b7-01`)

    const [bad, good] = await Promise.all([resultOf('analyst', 'bad-trace'), resultOf('analyst', 'good-trace')])
    expect(bad).toMatchObject({ state: 'completed', trace: expect.stringMatching(/^[0-9a-f]{32}$/) })
    expect(good.trace).toBe(traceId)
    const [entry] = await bus.journal.read('analyst', 'analyst_bad-trace', 0)
    expect(JSON.parse(entry!.text).trace.refused).toBe('nonsense')
  })

  it('tells a request for an unknown agent that nobody is there', async () => {
    await expect(bus.connection.request('kaos.default.agent.nobody.task', 'x')).rejects.toThrow(/no responders/)
  })

  it('refuses a message of a higher version', async () => {
    await bus.connection.request('kaos.default.agent.analyst.task', 'x', {
      timeout: 2_000,
      headers: head({ 'Nats-Msg-Id': 'future', 'Kaos-V': '9' }),
    })

    expect(await resultOf('analyst', 'future')).toMatchObject({ state: 'rejected', failure: { code: 'unsupported_version' } })
  })
})

describe('the ask door', () => {
  it('replies with the answer itself', async () => {
    const reply = await bus.connection.request('kaos.default.ask.analyst', 'what is 6 * 7?', { timeout: 15_000 })

    expect(reply.string()).toContain('42')
    expect(reply.headers?.get('Kaos-State')).toBe('completed')
    expect(reply.headers?.get('Kaos-Trace')).toMatch(/^[0-9a-f]{32}$/)
  })

  it('never gives the answer to another question under an id that was used before', async () => {
    const ask = (text: string) =>
      bus.connection.request('kaos.default.ask.analyst', text, { timeout: 15_000, headers: head({ 'Nats-Msg-Id': 'asked' }) })
    const first = await ask('what is 6 * 7?')

    const [same, other] = await Promise.all([ask('what is 6 * 7?'), ask('what is 2 + 2?')])

    expect(same.string()).toBe(first.string())
    expect(other.headers?.get('Nats-Service-Error-Code')).toBe('key_conflict')
  })

  it('replies with a typed error for a mistake', async () => {
    const [unknown, garbled] = await Promise.all([
      bus.connection.request('kaos.default.ask.analist', 'x', { timeout: 15_000 }),
      bus.connection.request('kaos.default.ask.analyst', '{"x":', { timeout: 15_000 }),
    ])

    expect(unknown.json()).toMatchObject({
      error: { code: 'unknown_agent', message: expect.stringContaining('did you mean "analyst"?') },
    })
    expect(unknown.headers?.get('Nats-Service-Error-Code')).toBe('unknown_agent')
    expect(garbled.json()).toMatchObject({ error: { code: 'bad_message' } })
  })
})

it('replays every task that came through the doors identically', async () => {
  const { traces, wrong } = await replayAll(bus, loadManifests([SAMPLE]))

  expect(wrong).toEqual([])
  expect(traces).toBeGreaterThan(5)
})
