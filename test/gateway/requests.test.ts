/** What the HTTP door takes and refuses, byte by byte, and what becomes of work whose caller has left. */
import { once } from 'node:events'
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { HTTP_LIMITS } from '../../gateway/limits.ts'
import { eventsOf, NASTY, type Stand, says, startStand } from './stand.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const messages = says('hello')

let stand: Stand
beforeAll(async () => {
  const refusal = { kind: 'status', status: 400, body: { error: { message: 'no such model' } } } as const
  stand = await startStand([
    { when: { text: 'nasty' }, reply: { text: NASTY } },
    { when: { text: 'no model' }, reply: { fault: refusal } },
    { reply: { text: 'told' } },
  ])
})
afterAll(() => stand[Symbol.asyncDispose]())

async function errorOf(response: Response) {
  const { error } = (await response.json()) as { error: Record<string, unknown> }
  return { status: response.status, ...error }
}

const answered = (request: ClientRequest) => once(request, 'response') as Promise<[IncomingMessage]>

describe('a request', () => {
  it.each([
    ['no JSON', '{"messages": ', {}],
    ['no object', '[]', {}],
    ['nested too deep', `${'['.repeat(300)}${']'.repeat(300)}`, {}],
    ['no messages', { model: 'teller' }, { param: 'messages', message: 'the field "messages" is missing' }],
    ['messages that are none', { model: 'teller', messages: [] }, { param: 'messages' }],
    ['a message without a role', { model: 'teller', messages: [{ content: 'hello' }] }, { param: 'messages[0].role' }],
    ['content that is no text', { model: 'teller', messages: [{ role: 'user', content: 4 }] }, { param: 'messages[0].content' }],
    [
      'two answers wanted',
      { model: 'teller', messages, n: 2 },
      { param: 'n', message: 'the field "n" is wrong: an agent gives one answer' },
    ],
    ['a stream that is neither', { model: 'teller', messages, stream: 'yes' }, { param: 'stream' }],
    ['no model where there are several agents', { messages }, { param: 'model' }],
  ])('is refused with 400: %s', async (_what, body, told) => {
    const response = await stand.post(body)

    expect(response.headers.get('x-should-retry')).toBe('false')
    expect(await errorOf(response)).toMatchObject({ status: 400, type: 'invalid_request_error', code: 'bad_message', ...told })
  })

  it('is refused when it is not UTF-8', async () => {
    const response = await fetch(`${stand.url}/v1/chat/completions`, { method: 'POST', body: new Uint8Array([0x22, 0xff, 0x22]) })

    expect(await errorOf(response)).toMatchObject({ status: 400, message: 'the body is not UTF-8' })
  })

  it('may be what curl sends without a word about its type', async () => {
    const response = await stand.post(
      { model: 'teller', messages },
      { headers: { 'content-type': 'application/x-www-form-urlencoded' } },
    )

    expect(response.status).toBe(200)
  })

  it('is refused when a page of another site sends it without asking first', async () => {
    const headers = { origin: 'https://elsewhere.example', 'content-type': 'text/plain' }

    const response = await stand.post({ model: 'teller', messages }, { headers })

    expect(await errorOf(response)).toMatchObject({ status: 415 })
  })

  it('is refused under a name that is not of this machine', async () => {
    const [response] = await answered(httpRequest(`${stand.url}/v1/models`, { headers: { host: 'rebound.example' } }).end())
    response.resume()

    expect(response.statusCode).toBe(403)
  })

  it('may call this machine by any of its own numbers', async () => {
    const [response] = await answered(httpRequest(`${stand.url}/health`, { headers: { host: '127.0.0.2:80' } }).end())

    expect(response.statusCode).toBe(200)
  })

  it('is refused in the same form when not even its address can be read', async () => {
    const [response] = await answered(httpRequest(`${stand.url}/health`, { headers: { host: 'no host/at all' } }).end())

    expect(response.statusCode).toBe(400)
    expect(JSON.parse((await response.toArray()).join(''))).toMatchObject({ error: { code: 'bad_message', param: null } })
  })

  it('is refused when it is compressed, and told so', async () => {
    const headers = { 'content-encoding': 'gzip' }

    const response = await stand.post({ model: 'teller', messages }, { headers })

    expect(await errorOf(response)).toMatchObject({ status: 415, message: expect.stringContaining('content encoding') })
  })

  it('is told which routes and methods there are', async () => {
    const nowhere = await fetch(`${stand.url}/v1/completions`, { method: 'POST' })
    const wrong = await fetch(`${stand.url}/v1/chat/completions`)

    expect(await errorOf(nowhere)).toMatchObject({ status: 404, code: 'not_found' })
    expect(wrong.headers.get('allow')).toBe('POST')
    expect(await errorOf(wrong)).toMatchObject({ status: 405 })
  })

  it('may have 8 MiB and not more, said before it is read', async () => {
    const body = (characters: number) => JSON.stringify({ model: 'teller', messages: says('x'.repeat(characters)) })
    const room = HTTP_LIMITS.bodyBytesMax - body(0).length - 1_024

    const large = await stand.post(body(room))
    const tooLarge = await stand.post(body(HTTP_LIMITS.bodyBytesMax))

    expect(large.status).toBe(200)
    expect(await errorOf(tooLarge)).toMatchObject({ status: 413, code: 'payload_too_large' })
  })

  it('may have 8 MiB and not more, also when its length is not said', async () => {
    const body = new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(1_000_000).fill(0x20))
      },
    })

    const sent = fetch(`${stand.url}/v1/chat/completions`, { method: 'POST', body, duplex: 'half' } as RequestInit)

    const told = await sent.then(errorOf, (error: Error) => ({ cut: error.name }))
    expect([{ cut: 'TypeError' }, expect.objectContaining({ status: 413 })]).toContainEqual(told)
  })

  it('has bounded headers', async () => {
    const response = await stand.post(
      { model: 'teller', messages },
      { headers: { 'x-long': 'x'.repeat(HTTP_LIMITS.headerBytesMax) } },
    )

    expect(response.status).toBe(431)
  })

  it('has an Idempotency-Key that can be a header again', async () => {
    const long = await stand.post({ model: 'teller', messages }, { headers: { 'idempotency-key': 'k'.repeat(257) } })
    const foreign = await stand.post({ model: 'teller', messages }, { headers: { 'idempotency-key': 'clé' } })

    for (const response of [long, foreign])
      expect(await errorOf(response)).toMatchObject({ status: 400, param: 'idempotency-key' })
  })

  it('leaves nothing behind when it breaks off', async () => {
    const socket = connect(Number(new URL(stand.url).port), '127.0.0.1')
    socket.write('POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"mess')
    await once(socket, 'connect')
    socket.destroy()
    await once(socket, 'close')

    expect((await stand.post({ model: 'teller', messages })).status).toBe(200)
  })
})

describe('a task', () => {
  it('is the same under the same key, whoever asks and in which form', async () => {
    const headers = { 'idempotency-key': 'Order No. 17!'.replaceAll(' ', '_') }
    const before = stand.model.count()

    const first = await stand.post({ model: 'teller', messages }, { headers })
    const again = await stand.post({ model: 'teller', messages }, { headers })
    const streamed = await stand.post({ model: 'teller', messages, stream: true }, { headers })
    const events = eventsOf(await streamed.text())

    const [one, two] = (await Promise.all([first.json(), again.json()])) as { id: string; choices: unknown }[]
    expect(two!.choices).toEqual(one!.choices)
    expect(two!.id).toBe(one!.id)
    expect(events.at(-1)).toBe('[DONE]')
    expect(events.slice(0, -1).map((event) => JSON.parse(event).id)).toEqual(Array(events.length - 1).fill(one!.id))
    expect(first.headers.get('idempotency-key')).toBe('Order_No._17!')
    expect(stand.model.count()).toBe(before + 1)
  })

  it('under a key of another one is refused, in both forms', async () => {
    const headers = { 'idempotency-key': 'taken' }
    await (await stand.post({ model: 'teller', messages }, { headers })).text()

    const other = await stand.post({ model: 'teller', messages: says('else') }, { headers })
    const streamed = await stand.post({ model: 'teller', messages: says('else'), stream: true }, { headers })

    for (const response of [other, streamed]) expect(await errorOf(response)).toMatchObject({ status: 422, code: 'key_conflict' })
  })

  it.each([false, true])("is a part of the caller's trace, streamed: %s", async (stream) => {
    const headers = { traceparent: `00-${TRACE}-00f067aa0ba902b7-01`, tracestate: 'a=b' }

    const response = await stand.post({ model: 'teller', messages, stream }, { headers })
    await response.text()

    expect(response.headers.get('kaos-trace')).toBe(TRACE)
    expect(stand.model.requests.at(-1)!.headers.traceparent).toMatch(
      new RegExp(`^00-${TRACE}-(?!00f067aa0ba902b7)[0-9a-f]{16}-01$`),
    )
    expect(stand.model.requests.at(-1)!.headers.tracestate).toBe('a=b')
  })

  it.each([false, true])('keeps the trace in which it was begun, whoever asks again, streamed: %s', async (stream) => {
    const headersOf = (trace: string) => ({
      'idempotency-key': `traced-${stream}`,
      traceparent: `00-${trace.repeat(32)}-00f067aa0ba902b7-01`,
    })
    await (await stand.post({ model: 'teller', messages }, { headers: headersOf('a') })).text()

    const again = await stand.post({ model: 'teller', messages, stream }, { headers: headersOf('b') })
    await again.text()

    expect(again.headers.get('kaos-trace')).toBe('a'.repeat(32))
  })

  it('that failed is told with the trace in which it was begun', async () => {
    const headersOf = (trace: string) => ({
      'idempotency-key': 'failed',
      traceparent: `00-${trace.repeat(32)}-00f067aa0ba902b7-01`,
    })
    await (await stand.post({ model: 'teller', messages: says('no model') }, { headers: headersOf('a') })).text()

    const again = await stand.post({ model: 'teller', messages: says('no model') }, { headers: headersOf('b') })

    expect(again.headers.get('kaos-trace')).toBe('a'.repeat(32))
    expect(await errorOf(again)).toMatchObject({ code: 'model_failed', trace: 'a'.repeat(32) })
  })

  it('begins a trace of its own where the header is none', async () => {
    const response = await stand.post({ model: 'teller', messages }, { headers: { traceparent: 'nonsense' } })

    expect(response.status).toBe(200)
    expect(response.headers.get('kaos-trace')).toMatch(/^[0-9a-f]{32}$/)
  })

  it('belongs to the session of the header, else of the body', async () => {
    const byHeader = await stand.post({ model: 'teller', messages, session_id: 'b' }, { headers: { 'x-session-id': 'a' } })
    const byBody = await stand.post({ model: 'teller', messages, session_id: 'b' })
    const [entry] = await stand.system.bus.journal.read('teller', byBody.headers.get('kaos-task')!, 0)

    expect(byHeader.headers.get('x-session-id')).toBe('a')
    expect(byBody.headers.get('x-session-id')).toBe('b')
    expect(JSON.parse(entry!.text)).toMatchObject({ input: { session: 'b', input: 'hello' } })
  })

  it('that begins like JSON is a text all the same', async () => {
    const response = await stand.post({ model: 'teller', messages: says('{"input": ') })

    expect(response.status).toBe(200)
    expect(stand.model.requests.at(-1)!.body.messages).toContainEqual({ role: 'user', content: '{"input": ' })
  })

  it('is streamed in events that any reader of lines can read', async () => {
    const response = await stand.post({ model: 'teller', messages: says('nasty'), stream: true })
    const raw = await response.text()

    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    // Where Python ends a line.
    const lines = raw.split(/\r\n|[\n\r\u0085\u2028\u2029]/)
    expect(lines.filter((line) => line !== '' && !line.startsWith('data: '))).toEqual([])
    const chunks = eventsOf(raw)
      .slice(0, -1)
      .map((event) => JSON.parse(event))
    expect(chunks.map(({ choices }) => choices[0].delta.content ?? '').join('')).toBe(NASTY)
  })
})

describe('an agent card', () => {
  it.each(['agent-card.json', 'agent.json', 'agent'])('is at /.well-known/%s', async (file) => {
    const response = await fetch(`${stand.url}/helper/.well-known/${file}`)

    expect(await response.json()).toMatchObject({
      name: 'helper',
      url: `${stand.url}/helper`,
      capabilities: { streaming: true, pushNotifications: false },
      skills: [
        { id: 'echo.echo', name: 'echo', tags: ['tool', 'echo'], inputSchema: { type: 'object' } },
        { name: 'delegate_to_teller', description: 'Tells.' },
      ],
    })
  })

  it('has an address that answers', async () => {
    const { url } = (await (await fetch(`${stand.url}/teller/.well-known/agent-card.json`)).json()) as { url: string }

    const response = await fetch(`${url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify({ messages }) })

    expect(response.status).toBe(200)
  })

  it('is of one agent', async () => {
    expect((await fetch(`${stand.url}/.well-known/agent.json`)).status).toBe(400)
    expect((await fetch(`${stand.url}/nobody/.well-known/agent.json`)).status).toBe(404)
  })
})

describe('health', () => {
  it('is served beside it, in words that KAOS has too', async () => {
    const health = await fetch(`${stand.url}/health`)
    const ready = await fetch(`${stand.url}/ready`)

    expect(await health.json()).toMatchObject({ alive: true, status: 'healthy', timestamp: expect.any(Number) })
    expect(await ready.json()).toMatchObject({ ready: true, broker: 'connected', unbound: [], status: 'ready' })
  })
})
