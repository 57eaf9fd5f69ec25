import OpenAI from 'openai'
import type { ChatCompletionTool } from 'openai/resources/chat/completions'
import { afterEach, describe, expect, it } from 'vitest'
import { createModelClient, type ModelCall } from '../../../actors/effects/endpoint.ts'
import type { Fault } from '../../../actors/testing/model-script.ts'
import {
  type ModelServer,
  type ModelServerOptions,
  type RecordedRequest,
  startModelServer,
} from '../../../actors/testing/model-server.ts'
import { KaosError } from '../../../bus/wire/errors.ts'

const cleanups: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

describe("OpenAI's own client", () => {
  const tools: ChatCompletionTool[] = [
    {
      type: 'function',
      function: {
        name: 'calculate',
        description: 'Evaluates an expression',
        parameters: { type: 'object', properties: { expression: { type: 'string' } }, required: ['expression'] },
      },
    },
  ]
  const question = { model: 'some-model', messages: [{ role: 'user' as const, content: 'How much is 6 * 7?' }], tools }

  it('works with the offline model, tool calls and usage included', async () => {
    const openai = await openaiClient()

    const first = await openai.chat.completions.create(question)
    const message = first.choices[0]!.message
    const second = await openai.chat.completions.create({
      ...question,
      messages: [
        ...question.messages,
        message,
        { role: 'tool', tool_call_id: message.tool_calls![0]!.id, content: '{"result":42}' },
      ],
    })

    expect(first).toMatchObject({ object: 'chat.completion', model: 'some-model', choices: [{ finish_reason: 'tool_calls' }] })
    expect(message.tool_calls).toMatchObject([
      { type: 'function', function: { name: 'calculate', arguments: '{"expression":"6 * 7"}' } },
    ])
    expect(second.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: expect.stringContaining('calculate: 42') },
    })
    expect(second.usage!.total_tokens).toBe(second.usage!.prompt_tokens + second.usage!.completion_tokens)
    expect(second.usage!.completion_tokens).toBeGreaterThan(0)
  })

  it('reads the same from a stream', async () => {
    const openai = await openaiClient()

    const stream = openai.chat.completions.stream({ ...question, stream_options: { include_usage: true } })
    const streamed = await stream.finalChatCompletion()
    const whole = await openai.chat.completions.create(question)

    expect(streamed.choices[0]!.message.tool_calls).toMatchObject(whole.choices[0]!.message.tool_calls!)
    expect(streamed.choices[0]!.finish_reason).toBe('tool_calls')
    expect(streamed.usage).toMatchObject(whole.usage!)
  })

  it('puts streamed text together again, whatever is in it', async () => {
    const text = ' Two  lines\n\n\tand "quotes", it\'s 👋 done. \n'
    const openai = await openaiClient({ script: { rules: [{ reply: { text, chunkMs: 1 } }] } })

    const streamed = await openai.chat.completions.stream({ model: 'm', messages: question.messages }).finalContent()
    const whole = await openai.chat.completions.create({ model: 'm', messages: question.messages })

    expect(streamed).toBe(text)
    expect(whole.choices[0]!.message.content).toBe(text)
  })

  it('lists the models, and is told what is wrong', async () => {
    const openai = await openaiClient()

    expect((await openai.models.list()).data).toMatchObject([{ id: 'offline' }])
    await expect(openai.chat.completions.create({ model: 'm', messages: [] })).rejects.toMatchObject({ status: 400 })
    await expect(openai.embeddings.create({ model: 'm', input: 'x' })).rejects.toMatchObject({ status: 404 })
  })

  async function openaiClient(options: ModelServerOptions = {}) {
    const server = await start(options)
    return new OpenAI({ baseURL: server.url, apiKey: 'none', maxRetries: 0 })
  }
})

describe('the record', () => {
  it('counts requests by idempotency key and agent, and keeps what was sent', async () => {
    const server = await start()
    const models = client()

    for (const key of ['a_1-0', 'a_1-0', 'a_2-0']) await models.complete(call(server, { idempotencyKey: key }))

    expect(server.count()).toBe(3)
    expect([...server.countBy('key')]).toEqual([
      ['a_1-0', 2],
      ['a_2-0', 1],
    ])
    expect([...server.countBy('agent')]).toEqual([['analyst', 3]])
    expect(server.requests[2]).toMatchObject({
      agent: 'analyst',
      turn: 0,
      key: 'a_2-0',
      outcome: 'answered',
      body: { seed: 7, temperature: 0.5, stream: true },
      headers: { traceparent: TRACEPARENT },
    })
  })

  it('says when a client left before the answer', async () => {
    const asked = Promise.withResolvers<RecordedRequest>()
    const server = await start({ delayMs: 60_000, onRequest: asked.resolve })
    const stop = new AbortController()
    const failed = failureOf(client().complete(call(server, { signal: stop.signal })))

    const request = await asked.promise
    expect(request.outcome).toBe('open')
    stop.abort()

    expect((await failed).code).toBe('aborted')
    await expect.poll(() => request.outcome, { timeout: 3_000, interval: 5 }).toBe('left')
  })
})

describe('a fault', () => {
  it.each<[Fault, object]>([
    [
      { kind: 'status', status: 418, body: { error: 'a teapot' } },
      { code: 'model_failed', details: { attempts: 1, status: 418 } },
    ],
    [
      { kind: 'status', retryAfter: 60 },
      { code: 'model_failed', details: { status: 503, retryAfterMs: 60_000 } },
    ],
    [{ kind: 'close' }, { code: 'model_bad_answer', details: { attempts: 3 } }],
    [{ kind: 'garbage' }, { code: 'model_bad_answer', details: { attempts: 1 } }],
    [{ kind: 'empty' }, { code: 'model_bad_answer', details: { attempts: 1 } }],
    [{ kind: 'hang' }, { code: 'model_timeout', details: { attempts: 1 } }],
    [{ kind: 'endless' }, { code: 'model_timeout', details: { attempts: 1 } }],
  ])('is what the client takes it for: %j', async (fault, expected) => {
    const server = await start({ script: { rules: [{ reply: { text: 'You will not see this.', fault } }] } })

    expect(await failureOf(client().complete(call(server, { timeoutMs: 400 })))).toMatchObject(expected)
  })

  it.each<Fault['kind']>(['close', 'garbage', 'empty', 'endless'])(
    'spoils an answer that is not streamed too: %s',
    async (kind) => {
      const server = await start({ script: { rules: [{ reply: { text: 'You will not see this.', fault: { kind } } }] } })

      const answer = await fetch(`${server.url}/chat/completions`, {
        method: 'POST',
        body: '{"messages":[{"role":"user","content":"x"}]}',
        signal: AbortSignal.timeout(300),
      })
      const text = await answer.text().catch((error: Error) => error.name)

      expect(answer.status).toBe(200)
      expect(text).not.toContain('You will not see this.')
      if (kind === 'empty') expect(JSON.parse(text).choices[0].message.content).toBe('')
      else expect(() => JSON.parse(text)).toThrow()
    },
  )

  it('that strikes twice leaves the third attempt its answer', async () => {
    const server = await start({
      script: { rules: [{ reply: { text: 'at last', fault: { kind: 'status', status: 500, times: 2 } } }] },
    })

    const answer = await client().complete(call(server))

    expect(answer).toMatchObject({ text: 'at last', attempts: 3 })
    expect(server.countBy('key').get('a_1-0')).toBe(3)
  })
})

it('refuses tools, calls and results as a server does whose model takes none, and uses up no rule for that', async () => {
  const server = await start({ refusesTools: true, script: { rules: [{ times: 1, reply: { text: 'without' } }] } })
  const tools = [{ type: 'function', function: { name: 'echo' } }]
  const messages = [{ role: 'user', content: 'hello' }]
  const bodies = [
    { model: 'm', messages, tools },
    { model: 'm', messages: [...messages, { role: 'tool', tool_call_id: 'x', content: 'A' }], tools },
  ]

  for (const body of bodies) {
    const failure = await failureOf(client().complete(call(server, { body })))
    expect(failure).toMatchObject({
      code: 'model_without_tools',
      message: expect.stringContaining('library/m does not support tools'),
    })
  }
  expect((await client().complete(call(server, { body: { model: 'm', messages } }))).text).toBe('without')
  expect(server.requests.map(({ rule }) => rule)).toEqual([undefined, undefined, 0])
})

it('delays an answer and paces its stream', async () => {
  const server = await start({
    script: { rules: [{ reply: { text: 'one two three four five six seven', delayMs: 100, chunkMs: 30 } }] },
  })

  const answer = await client().complete(call(server))

  expect(answer.text).toBe('one two three four five six seven')
  expect(answer.firstTokenMs).toBeGreaterThan(95)
})

it('stops at once with requests in hand', async () => {
  const asked = Promise.withResolvers<RecordedRequest>()
  const server = await start({ delayMs: 60_000, onRequest: asked.resolve })
  const failed = failureOf(client({ backoffMs: 1 }).complete(call(server)))
  await asked.promise

  await server.stop()

  expect((await failed).code).toBe('model_failed')
})

it('says why it cannot listen', async () => {
  const server = await start()

  await expect(startModelServer({ port: server.port })).rejects.toThrow(`could not listen on 127.0.0.1:${server.port}`)
})

const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

async function start(options: ModelServerOptions = {}): Promise<ModelServer> {
  const server = await startModelServer(options)
  let isStopped = false
  const stop = async () => {
    if (!isStopped) await server.stop()
    isStopped = true
  }
  cleanups.push(stop)
  return { ...server, stop }
}

function client(options: Parameters<typeof createModelClient>[0] = {}) {
  const models = createModelClient({ backoffMs: 10, ...options })
  cleanups.push(() => models.close())
  return models
}

function call(server: ModelServer, more: Partial<ModelCall> = {}): ModelCall {
  return {
    url: server.url,
    body: {
      model: 'm',
      messages: [
        { role: 'system', content: 'You are analyst. Counts.' },
        { role: 'user', content: 'Sing' },
      ],
      temperature: 0.5,
      seed: 7,
    },
    idempotencyKey: 'a_1-0',
    traceparent: TRACEPARENT,
    timeoutMs: 20_000,
    signal: new AbortController().signal,
    ...more,
  }
}

async function failureOf(promise: Promise<unknown>): Promise<KaosError> {
  const error = await promise.then(
    (value) => expect.unreachable(`answered ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(KaosError)
  return error as KaosError
}
