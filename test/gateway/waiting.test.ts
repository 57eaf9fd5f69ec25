/** Requests that wait: for how long, how many, and what happens when one side leaves. `sleeper` is answered by the test, or by nobody. */
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { serveHttp } from '../../cli/running/gateway.ts'
import type { ErrorBody } from '../../gateway/problem.ts'
import { silentLog } from '../../telemetry/log.ts'
import { until } from '../support/memory-system.ts'
import { eventsOf, type Stand, says, startStand } from './stand.ts'

const messages = says('hello')

let stand: Stand
afterEach(() => stand[Symbol.asyncDispose]())

const waitingAtDoor = async () => {
  const unread = await stand.system.bus.reader.get('kaos_default_agent_sleeper_mail', {
    seq: 1,
    next_by_subj: 'kaos.default.agent.sleeper.task',
    batch: 100,
  })
  return unread.length
}
const untilWaiting = (count: number) =>
  until(async () => (await waitingAtDoor()) === count || undefined, `${count} tasks at the door of sleeper`)

/** What the program that answers for `sleeper` would store. */
function answerFor(task: string, output: string) {
  const [agent, key] = task.split('_')
  const usage = { inputTokens: 1, outputTokens: 2, modelCalls: 1, toolCalls: 0 }
  const record = { state: 'completed', output, task, agent, trace: 'f'.repeat(32), startedAt: 1, endedAt: 2, usage }
  return stand.system.bus.publisher.publish(`kaos.default.result.${agent}.${key}`, JSON.stringify(record), [])
}

async function errorOf(response: Response) {
  const { error } = (await response.json()) as { error: ErrorBody['error'] }
  return { status: response.status, again: response.headers.get('x-should-retry'), ...error }
}

describe('a request whose time is over', () => {
  it('is told the task, and finds its result under the same key', async () => {
    stand = await startStand([], { waitMs: 300 })

    const late = await stand.post({ model: 'sleeper', messages })
    const told = await errorOf(late)
    await answerFor(told.task!, 'awake')
    const found = await stand.post({ model: 'sleeper', messages }, { headers: { 'idempotency-key': told.idempotency_key! } })

    expect(told).toMatchObject({ status: 504, code: 'result_timeout', again: 'false' })
    expect(told.message).toContain(`"Idempotency-Key: ${told.idempotency_key}"`)
    expect(told.message).toContain(`"kaos task get ${told.task}"`)
    expect(await found.json()).toMatchObject({ id: `chatcmpl-${told.task}`, choices: [{ message: { content: 'awake' } }] })
  })

  it('may be repeated by a client that has a key, and is told so', async () => {
    stand = await startStand([], { waitMs: 100 })

    const late = await stand.post({ model: 'sleeper', messages }, { headers: { 'idempotency-key': 'k' } })

    expect(await errorOf(late)).toMatchObject({ status: 504, again: 'true' })
    expect(late.headers.get('retry-after')).toBe('1')
  })

  it('ends as an error of the stream where it was streamed', async () => {
    stand = await startStand([], { waitMs: 200 })

    const late = await stand.post({ model: 'sleeper', messages, stream: true })
    const events = eventsOf(await late.text())

    expect(late.status).toBe(200)
    expect(JSON.parse(events.at(-1)!)).toMatchObject({ error: { code: 'result_timeout', task: late.headers.get('kaos-task') } })
  })

  it('does not wait longer for a broker that is silent', async () => {
    stand = await startStand([], { waitMs: 500 })
    process.kill(stand.broker.pid, 'SIGSTOP')

    const response = await stand.post({ model: 'sleeper', messages })
    process.kill(stand.broker.pid, 'SIGCONT')

    expect(await errorOf(response)).toMatchObject({ status: 504, code: 'result_timeout' })
  })
})

describe('a caller who leaves', () => {
  it.each([false, true])('stops nothing but the waiting, streamed: %s', async (stream) => {
    stand = await startStand([], { requestsMax: 1 })
    const leaving = new AbortController()
    const headers = { 'idempotency-key': 'left' }
    const asked = stand.post({ model: 'sleeper', messages, stream }, { headers, signal: leaving.signal }).then((r) => r.text())
    await untilWaiting(1)

    leaving.abort()
    await expect(asked).rejects.toThrow()
    await answerFor('sleeper_left', 'awake')

    // Its place is free again as soon as the server knows that it has left.
    const found = await until(async () => {
      const response = await stand.post({ model: 'sleeper', messages }, { headers })
      return response.status === 200 ? response : undefined
    }, 'a place at the door')
    expect(await found.json()).toMatchObject({ choices: [{ message: { content: 'awake' } }] })
    expect(await waitingAtDoor()).toBe(1)
  })
})

describe('more requests than may wait', () => {
  it('are refused with a word about when to come again, and probes are not', async () => {
    stand = await startStand([], { requestsMax: 2 })
    const waiting = [1, 2].map(() => stand.post({ model: 'sleeper', messages }))
    await untilWaiting(2)

    const third = await stand.post({ model: 'sleeper', messages })
    const health = await fetch(`${stand.url}/health`)
    await stand.http.shut()

    expect(third.headers.get('retry-after')).toBe('1')
    expect(await errorOf(third)).toMatchObject({ status: 503, code: 'queue_full', again: 'true' })
    expect(health.status).toBe(200)
    for (const response of await Promise.all(waiting)) expect(response.status).toBe(503)
    expect(await waitingAtDoor()).toBe(2)
  })
})

describe('large bodies', () => {
  const large = 'x'.repeat(90_000)

  it('have room for so many at one time, and small ones always', async () => {
    stand = await startStand([{ reply: { text: 'told' } }], { largeBodiesBytesMax: 100_000 })
    const half = connect(Number(new URL(stand.url).port), '127.0.0.1')
    half.write(`POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 200000\r\n\r\n${large}`)
    const ask = (text: string) => stand.post({ model: 'teller', messages: says(text) })

    const refused = await until(async () => {
      const response = await ask(large)
      return response.ok ? undefined : response
    }, 'the room to be taken')
    const small = await ask('hello')
    half.destroy()
    const again = await until(async () => ((await ask(large)).ok ? true : undefined), 'the room to be free')

    expect(await errorOf(refused)).toMatchObject({ status: 503, code: 'queue_full', again: 'true' })
    expect([small.status, again]).toEqual([200, true])
  })

  it('take none once the task is in the mail', async () => {
    stand = await startStand([{ reply: { text: 'told' } }], { largeBodiesBytesMax: 100_000 })
    const waiting = stand.post({ model: 'sleeper', messages: says(large) }, { headers: { 'idempotency-key': 'k' } })
    await untilWaiting(1)

    const other = await until(async () => {
      const response = await stand.post({ model: 'teller', messages: says(large) })
      return response.ok || undefined
    }, 'the room to be free')
    await answerFor('sleeper_k', 'awake')

    expect(other).toBe(true)
    expect((await waiting).status).toBe(200)
  })
})

describe('a key that is taken by a task under way', () => {
  it('is refused at once, not when that task has ended', async () => {
    stand = await startStand([{ reply: { text: 'told', delayMs: 500 } }])
    const asked = Promise.withResolvers<void>()
    stand.onRequest = () => asked.resolve()
    const headers = { 'idempotency-key': 'taken' }
    const first = stand.post({ model: 'teller', messages }, { headers })
    await asked.promise

    const second = stand.post({ model: 'teller', messages: says('else') }, { headers })

    expect(await errorOf(await Promise.race([first, second]))).toMatchObject({ status: 422, code: 'key_conflict' })
    expect((await first).status).toBe(200)
  })
})

describe('a full door', () => {
  it('is 429, and nothing was stored', async () => {
    stand = await startStand([])
    const { connection } = stand.system.bus
    const name = 'kaos_default_agent_sleeper_mail'
    const info = (await connection.request(`$JS.API.STREAM.INFO.${name}`)).json<{ config: object }>()
    const config = { ...info.config, max_msgs_per_subject: 1 }
    await connection.request(`$JS.API.STREAM.UPDATE.${name}`, JSON.stringify(config))
    await stand.system.bus.publisher.publish('kaos.default.agent.sleeper.task', 'first', [])

    const response = await stand.post({ model: 'sleeper', messages })

    expect(response.headers.get('retry-after')).toBe('1')
    expect(await errorOf(response)).toMatchObject({ status: 429, code: 'door_full', type: 'rate_limit_error', again: 'true' })
  })
})

describe('a process that ends', () => {
  it('takes nothing new, and goes on with what waits', async () => {
    stand = await startStand([])
    const waiting = stand.post({ model: 'sleeper', messages }, { headers: { 'idempotency-key': 'k' } })
    await untilWaiting(1)

    stand.http.drain()
    const refused = await stand.post({ model: 'sleeper', messages })
    const ready = await fetch(`${stand.url}/ready`)
    await answerFor('sleeper_k', 'awake')

    expect(refused.headers.get('connection')).toBe('close') // who keeps it would ask here again
    expect(await errorOf(refused)).toMatchObject({ status: 503, code: 'not_ready', again: 'true' })
    expect(await ready.json()).toMatchObject({ ready: false, draining: true })
    expect(await (await waiting).json()).toMatchObject({ choices: [{ message: { content: 'awake' } }] })
  })

  it('answers what still waits, in both forms, before it is gone', async () => {
    stand = await startStand([])
    const whole = stand.post({ model: 'sleeper', messages })
    const streamed = stand.post({ model: 'sleeper', messages, stream: true }).then((response) => response.text())
    await untilWaiting(2)

    await stand.http.shut()

    expect(await errorOf(await whole)).toMatchObject({ status: 503, code: 'not_ready', task: expect.stringMatching(/^sleeper_/) })
    expect(JSON.parse(eventsOf(await streamed).at(-1)!)).toMatchObject({ error: { code: 'not_ready' } })
  })

  it('gives a result that is already there instead of an error', async () => {
    stand = await startStand([{ reply: { text: 'told', delayMs: 100 } }])
    const asked = new Promise<void>((resolve) => {
      stand.onRequest = () => resolve()
    })
    const waiting = stand.post({ model: 'teller', messages })
    await asked

    await stand.system.stop(5_000) // hosts first, then the door

    expect(await (await waiting).json()).toMatchObject({ choices: [{ message: { content: 'told' } }] })
  })
})

describe('a process that starts', () => {
  it('is alive and not ready, and says so to who asks for more', async () => {
    stand = await startStand([])
    const http = await serveHttp({ host: '127.0.0.1', port: 0 }, { log: silentLog() })

    const [health, ready, chat] = await Promise.all([
      fetch(`${http.url}/health`),
      fetch(`${http.url}/ready`),
      fetch(`${http.url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify({ messages }) }),
    ])
    await http.stop()

    expect([health.status, ready.status, chat.status]).toEqual([200, 503, 503])
    expect(await ready.json()).toMatchObject({ ready: false, starting: true })
    expect(await errorOf(chat)).toMatchObject({ code: 'not_ready', again: 'true' })
  })
})

describe('a model that breaks off', () => {
  const SLOW = 'one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen'

  it('and answers otherwise in a stream: the caller is told, and finds the answer under the same key', async () => {
    stand = await startStand([{ reply: { text: SLOW, chunkMs: 5, fault: { kind: 'close', times: 1 } } }])
    const headers = { 'idempotency-key': 'broken' }

    const broken = await stand.post({ model: 'teller', messages, stream: true }, { headers })
    const events = eventsOf(await broken.text())
    const calls = stand.model.count()
    const again = await stand.post({ model: 'teller', messages, stream: true }, { headers })
    const chunks = eventsOf(await again.text())

    expect(JSON.parse(events.at(-1)!)).toMatchObject({ error: { code: 'stream_broken', task: 'teller_broken' } })
    expect(chunks.at(-1)).toBe('[DONE]')
    const text = chunks.slice(0, -1).map((event) => JSON.parse(event).choices[0].delta.content ?? '')
    expect(text.join('')).toBe(SLOW)
    expect(stand.model.count()).toBe(calls)
  })
})

describe('a reader that takes nothing', () => {
  it.each([false, true])('is cut off, and its place is free again, streamed: %s', async (stream) => {
    stand = await startStand(
      [{ when: { text: 'long' }, reply: { text: 'word '.repeat(1_400_000) } }, { reply: { text: 'told' } }],
      {
        requestsMax: 1,
        takeMs: 300,
      },
    )
    const body = JSON.stringify({ model: 'teller', messages: says('long'), stream })
    const asked = request(`${stand.url}/v1/chat/completions`, { method: 'POST' }).end(body)
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    response.pause()

    const next = await until(async () => {
      const other = await stand.post({ model: 'teller', messages })
      return other.ok || undefined
    }, 'a place at the door')

    expect(next).toBe(true)
    response.destroy()
  })

  it('gets all of the answer when it reads again', async () => {
    const long = 'word '.repeat(400_000)
    stand = await startStand([{ reply: { text: long } }])
    const body = JSON.stringify({ model: 'teller', messages, stream: true })
    const headers = { 'idempotency-key': 'slow-reader' }
    const asked = request(`${stand.url}/v1/chat/completions`, { method: 'POST', headers }).end(body)
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    response.pause()

    await stand.system.bus.results.wait('teller', 'slow-reader', { deadlineMs: 10_000 })
    const chunks = eventsOf((await response.setEncoding('utf8').toArray()).join('')).slice(0, -1)

    expect(chunks.map((event) => JSON.parse(event).choices[0].delta.content ?? '').join('')).toBe(long)
  })
})
