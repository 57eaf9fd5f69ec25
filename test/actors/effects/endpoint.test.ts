import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { ANSWER_BYTES_MAX, TOOL_CALLS_MAX } from '../../../actors/effects/chat.ts'
import { createModelClient, type ModelCall, type ModelClient } from '../../../actors/effects/endpoint.ts'
import { KaosError } from '../../../bus/wire/errors.ts'

type Handler = (request: IncomingMessage, response: ServerResponse, nth: number) => void

const cleanups: (() => void | Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

describe('an answer', () => {
  it('is folded from a stream, with usage, id, model and the time of the first token', async () => {
    const server = await serve(
      streams(
        { id: 'chatcmpl-7', model: 'm-2024', choices: [delta({ role: 'assistant', content: '' })] },
        { choices: [delta({ content: 'Hello' })] },
        { choices: [delta({ content: ' world' })] },
        { choices: [{ index: 0, delta: {}, finish_reason: 'length' }] },
        { choices: [], usage: { prompt_tokens: 12, completion_tokens: 3 } },
      ),
    )
    const deltas: string[] = []

    const answer = await client().complete(call(server, { onText: (text) => deltas.push(text) }))

    expect(answer).toMatchObject({
      text: 'Hello world',
      toolCalls: [],
      finishReason: 'length',
      usage: { inputTokens: 12, outputTokens: 3 },
      model: 'm-2024',
      id: 'chatcmpl-7',
      attempts: 1,
    })
    expect(answer.firstTokenMs).toBeGreaterThan(0)
    expect(deltas).toEqual(['Hello', ' world'])
  })

  it('is asked for as a stream with usage, under the idempotency key, the trace and the key', async () => {
    const server = await serve(streams({ choices: [delta({ content: 'x' }, 'stop')] }))

    await client().complete(
      call(server, { apiKey: () => 'secret-of-mine\n', tracestate: 'a=b', body: { ...question, temperature: 0.5, seed: 7 } }),
    )

    expect(server.seen[0]!.body).toEqual({
      ...question,
      temperature: 0.5,
      seed: 7,
      stream: true,
      stream_options: { include_usage: true },
    })
    expect(server.seen[0]!.path).toBe('/v1/chat/completions')
    expect(server.seen[0]!.headers).toMatchObject({
      'idempotency-key': 'coordinator_a_1-0',
      traceparent: TRACEPARENT,
      tracestate: 'a=b',
      authorization: 'Bearer secret-of-mine',
      'content-type': 'application/json',
    })
  })

  it('is sent the baggage whose keys may leave, by default none', async () => {
    const server = await serve(streams({ choices: [delta({ content: 'x' }, 'stop')] }))
    const baggage = 'secret=x,tenant=acme;ttl=3'

    await client().complete(call(server, { baggage }))
    await client({ baggageKeys: ['tenant'] }).complete(call(server, { baggage }))

    expect(server.seen.map(({ headers }) => headers.baggage)).toEqual([undefined, 'tenant=acme;ttl=3'])
  })

  it('keeps the query of the base URL and sends no Authorization without a key', async () => {
    const server = await serve(streams({ choices: [delta({ content: 'x' }, 'stop')] }))

    await client().complete(call(server, { url: `${server.url}/?api-version=2` }))

    expect(server.seen[0]!.path).toBe('/v1/chat/completions?api-version=2')
    expect(server.seen[0]!.headers.authorization).toBeUndefined()
  })

  it('assembles tool calls by their index and names those without an id', async () => {
    const server = await serve(
      streams(
        { choices: [delta({ tool_calls: [{ index: 0, id: 'call_a', function: { name: 'add', arguments: '{"a"' } }] })] },
        { choices: [delta({ tool_calls: [{ index: 1, function: { name: 'now', arguments: '' } }] })] },
        { choices: [delta({ tool_calls: [{ index: 0, function: { arguments: ':1}' } }] }, 'tool_calls')] },
      ),
    )

    const answer = await client().complete(call(server))

    expect(answer.finishReason).toBe('tool_calls')
    expect(answer.toolCalls).toEqual([
      { id: 'call_a', name: 'add', arguments: '{"a":1}' },
      { id: 'call_1', name: 'now', arguments: '{}' },
    ])
  })

  it.each([
    ['the same index for all', { index: 0 }, { index: 0 }],
    ['no index', {}, {}],
  ])('tells parallel calls apart when the server gives %s', async (_, first, second) => {
    const server = await serve(
      streams({
        choices: [
          delta(
            {
              tool_calls: [
                { ...first, id: 'a', function: { name: 'add', arguments: '{}' } },
                { ...second, id: 'b', function: { name: 'sub', arguments: { x: 1 } } },
              ],
            },
            'tool_calls',
          ),
        ],
      }),
    )

    const answer = await client().complete(call(server))

    expect(answer.toolCalls).toEqual([
      { id: 'a', name: 'add', arguments: '{}' },
      { id: 'b', name: 'sub', arguments: '{"x":1}' },
    ])
  })

  it('keeps one call whose id changes with every piece, and makes equal ids differ', async () => {
    const server = await serve(
      streams({
        choices: [
          delta(
            {
              tool_calls: [
                { index: 0, id: 'a', function: { name: 'add', arguments: '{"x"' } },
                { index: 0, id: 'b', function: { arguments: ':1}' } },
                { index: 1, id: 'a', function: { name: 'add', arguments: '{}' } },
              ],
            },
            'tool_calls',
          ),
        ],
      }),
    )

    const answer = await client().complete(call(server))

    expect(answer.toolCalls).toEqual([
      { id: 'a', name: 'add', arguments: '{"x":1}' },
      { id: 'a_1', name: 'add', arguments: '{}' },
    ])
  })

  it('may be one JSON document from a server that does not stream', async () => {
    const message = {
      role: 'assistant',
      content: 'Hi',
      tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }],
    }
    const server = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(
        JSON.stringify({
          id: 'x',
          model: 'm',
          choices: [{ message, finish_reason: 'tool_calls' }],
          usage: { prompt_tokens: 1, completion_tokens: 2 },
        }),
      )
    })
    const deltas: string[] = []

    const answer = await client().complete(call(server, { onText: (text) => deltas.push(text) }))

    expect(answer).toMatchObject({
      text: 'Hi',
      toolCalls: [{ id: 'c', name: 'f', arguments: '{}' }],
      usage: { inputTokens: 1, outputTokens: 2 },
    })
    expect(deltas).toEqual(['Hi'])
  })

  it('is read from any slices of bytes, line ends and comments', async () => {
    const text = `: hello\r\n\r\ndata: ${JSON.stringify({ choices: [delta({ content: 'Grüße 👋' }, 'stop')] })}\r\n\r\ndata: [DONE]\r\n\r\n`
    const server = await serve(async (_, response) => {
      for (const byte of Buffer.from(text)) {
        response.write(Buffer.from([byte]))
        await new Promise(setImmediate)
      }
      response.end()
    })

    const answer = await client().complete(call(server))

    expect(answer.text).toBe('Grüße 👋')
  })

  it('has no usage of zeros only because the server sends none', async () => {
    const server = await serve(streams({ choices: [delta({ content: 'x' }, 'stop')], usage: null }))

    const answer = await client().complete(call(server))

    expect(answer.usage).toEqual({ inputTokens: 0, outputTokens: 0 })
  })

  it('is whole once the finish reason is there, also if the connection then breaks', async () => {
    const server = await serve((_, response) => {
      response.write(event({ choices: [delta({ content: 'all of it' }, 'stop')] }), () => response.destroy())
    })

    const answer = await client().complete(call(server))

    expect(answer).toMatchObject({ text: 'all of it', attempts: 1 })
  })

  it('is given out at [DONE], and a connection that stays open after it is closed', async () => {
    const server = await serve((_, response) => {
      response.write(`${event({ choices: [delta({ content: 'x' }, 'stop')] })}data: [DONE]\n\n`)
    })

    const answer = await client().complete(call(server))

    expect(answer.text).toBe('x')
    await within(3_000, server.closed(0))
  })

  it('survives a watcher that throws', async () => {
    const server = await serve(streams({ choices: [delta({ content: 'a' })] }, { choices: [delta({ content: 'b' }, 'stop')] }))
    let told = 0

    const answer = await client().complete(
      call(server, {
        onText: () => {
          told++
          throw new Error('the screen is gone')
        },
      }),
    )

    expect(answer.text).toBe('ab')
    expect(told).toBe(1)
  })

  it('comes over connections that are kept', async () => {
    const server = await serve(streams({ choices: [delta({ content: 'x' }, 'stop')] }))
    const models = client()

    for (let n = 0; n < 10; n++) await models.complete(call(server))

    expect(server.connections()).toBeLessThanOrEqual(2) // the end of a body may come after the next call has begun
  })
})

describe('another attempt', () => {
  it.each([408, 409, 429, 500, 503])('follows status %i, under the same idempotency key', async (status) => {
    const server = await serve((request, response, nth) => {
      if (nth === 0) response.writeHead(status).end('busy')
      else streams({ choices: [delta({ content: 'x' }, 'stop')] })(request, response, nth)
    })

    const answer = await client().complete(call(server))

    expect(answer.attempts).toBe(2)
    expect(new Set(server.seen.map((seen) => seen.headers['idempotency-key'])).size).toBe(1)
  })

  it('is made twice at most', async () => {
    const server = await serve((_, response) => response.writeHead(503).end('{"error":{"message":"overloaded"}}'))

    const error = await failureOf(client().complete(call(server)))

    expect(error).toMatchObject({ code: 'model_failed', details: { attempts: 3, status: 503 } })
    expect(error.message).toBe(`could not get an answer from model "m" at ${server.url} in 3 attempts: status 503: overloaded`)
    expect(server.seen).toHaveLength(3)
  })

  it('follows a connection that closed before a response', async () => {
    const server = await serve((request, response, nth) => {
      if (nth === 0) request.socket.destroy()
      else streams({ choices: [delta({ content: 'x' }, 'stop')] })(request, response, nth)
    })

    expect((await client().complete(call(server))).attempts).toBe(2)
  })

  it('follows a refused connection, and the reason is told', async () => {
    const server = await serve(() => undefined)
    await server.stop()

    const error = await failureOf(client().complete(call(server)))

    expect(error).toMatchObject({ code: 'model_failed', details: { attempts: 3 } })
    expect(error.message).toContain('ECONNREFUSED')
  })

  it.each([
    ['breaks', (response: ServerResponse) => response.destroy()],
    ['ends', (response: ServerResponse) => response.end()],
  ])('begins from the start when a stream %s half-way, deltas included', async (_, finish) => {
    const server = await serve((request, response, nth) => {
      if (nth === 0) response.write(event({ choices: [delta({ content: 'Hel' })] }), () => finish(response))
      else streams({ choices: [delta({ content: 'Hello' }, 'stop')] })(request, response, nth)
    })
    const deltas: string[] = []

    const answer = await client().complete(call(server, { onText: (text) => deltas.push(text) }))

    expect(answer).toMatchObject({ text: 'Hello', attempts: 2 })
    expect(deltas).toEqual(['Hel', 'Hello'])
  })

  it('does not help a stream that always breaks', async () => {
    const server = await serve((_, response) =>
      response.write(event({ choices: [delta({ content: 'Hel' })] }), () => response.destroy()),
    )

    const error = await failureOf(client().complete(call(server)))

    expect(error).toMatchObject({ code: 'model_bad_answer', details: { attempts: 3 } })
    expect(error.message).toContain('cut off half-way')
  })

  it('follows an error that the server reports inside the stream, if it is of the passing kind', async () => {
    const server = await serve((request, response, nth) => {
      if (nth === 0) response.end(event({ error: { message: 'try later', type: 'server_error' } }))
      else streams({ choices: [delta({ content: 'x' }, 'stop')] })(request, response, nth)
    })

    expect((await client().complete(call(server))).attempts).toBe(2)
  })

  it('waits as long as Retry-After says', async () => {
    const server = await serve((request, response, nth) => {
      if (nth === 0) response.writeHead(429, { 'retry-after': '0.6' }).end()
      else streams({ choices: [delta({ content: 'x' }, 'stop')] })(request, response, nth)
    })
    const startedAt = performance.now()

    const answer = await client().complete(call(server))

    expect(answer.attempts).toBe(2)
    expect(performance.now() - startedAt).toBeGreaterThan(590)
  })

  it.each([
    ['seconds', () => '30'],
    ['a date', () => new Date(Date.now() + 30_000).toUTCString()],
  ])('is not waited for when Retry-After, in %s, is beyond the time-out', async (_, header) => {
    const server = await serve((__, response) => response.writeHead(429, { 'retry-after': header() }).end('slow down'))
    const startedAt = performance.now()

    const error = await failureOf(client().complete(call(server, { timeoutMs: 5_000 })))

    expect(error).toMatchObject({ code: 'model_failed', details: { attempts: 1, status: 429 } })
    expect((error.details as { retryAfterMs: number }).retryAfterMs).toBeGreaterThan(25_000)
    expect(performance.now() - startedAt).toBeLessThan(3_000)
  })

  it('is logged with its trace and without secrets', async () => {
    const lines: object[] = []
    const log = { warn: (fields: object) => lines.push(fields) } as never
    const server = await serve((request, response, nth) => {
      if (nth === 0) response.writeHead(500).end('your key is key-4711-abcd')
      else streams({ choices: [delta({ content: 'x' }, 'stop')] })(request, response, nth)
    })

    await client({ log }).complete(call(server, { apiKey: () => 'key-4711-abcd' }))

    expect(lines).toMatchObject([
      { attempt: 1, trace_id: '0af7651916cd43dd8448eb211c80319c', why: 'status 500: your key is [redacted]' },
    ])
  })
})

describe('a refusal', () => {
  it.each([400, 401, 404, 422, 302])('with status %i is final', async (status) => {
    const server = await serve((_, response) => response.writeHead(status).end('{"detail":"no such model"}'))

    const error = await failureOf(client().complete(call(server)))

    expect(error).toMatchObject({ code: 'model_failed', details: { attempts: 1, status } })
    expect(error.message).toContain(`status ${status}: no such model`)
    expect(server.seen).toHaveLength(1)
  })

  it('is quoted without secrets and not at length', async () => {
    const words = `Incorrect API key provided: my/odd+key and Bearer abcdefghijklmnop ${'x'.repeat(100_000)}`
    const server = await serve((_, response) => response.writeHead(401).end(JSON.stringify({ error: { message: words } })))

    const error = await failureOf(
      client().complete(call(server, { apiKey: () => 'my/odd+key', url: `${server.url}?key=hidden-in-query` })),
    )

    expect(error.message).toContain('Incorrect API key')
    expect(error.message.length).toBeLessThan(700)
    expect(JSON.stringify([error.message, error.details])).not.toMatch(/my\/odd\+key|abcdefghijklmnop|hidden-in-query/)
  })

  it('inside a successful stream is one too', async () => {
    const server = await serve((_, response) => response.end(event({ error: { message: 'context too long', code: 400 } })))

    const error = await failureOf(client().complete(call(server)))

    expect(error).toMatchObject({ code: 'model_failed', details: { attempts: 1, status: 400 } })
    expect(error.message).toContain('context too long')
  })

  it.each(['not a url', 'ftp://127.0.0.1/v1', ''])('answers the address "%s"', async (url) => {
    const error = await failureOf(client().complete({ ...call({ url }), url }))

    expect(error.code).toBe('model_failed')
    expect(error.message).toContain('not an http or https URL')
  })
})

describe('a refusal of tools', () => {
  const tools = [{ type: 'function' as const, function: { name: 'echo', parameters: {} } }]
  const error = (message: string) => ({ error: { message, type: 'api_error', param: null, code: null } })
  const refusals: readonly (readonly [string, number, unknown])[] = [
    ['Ollama', 400, error('registry.ollama.ai/library/gemma3:4b does not support tools')],
    ['Ollama’s own API', 400, { error: 'llama3 does not support tools' }],
    [
      'vLLM',
      400,
      {
        object: 'error',
        message: '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        type: 'BadRequestError',
        code: 400,
      },
    ],
    ['OpenAI', 400, error('tools is not supported in this model. For a list of supported models, refer to https://x.')],
    ['OpenAI, newer', 400, error("Unsupported parameter: 'tools' is not supported with this model.")],
    ['Azure', 404, error('Unrecognized request argument supplied: tools')],
    [
      'OpenRouter',
      404,
      error('No endpoints found that support tool use. To learn more about provider routing, visit: https://x'),
    ],
    ['llama.cpp', 500, { error: { code: 500, message: 'tools param requires --jinja flag', type: 'server_error' } }],
    ['llama.cpp, older', 500, { error: { code: 500, message: 'Unsupported param: tools', type: 'server_error' } }],
    ['Gemini', 400, { error: { code: 400, message: 'Function calling is not enabled for models/gemma-3-12b-it' } }],
    ['Groq', 400, error('`tools` is not supported with this model')],
    ['Groq, newer', 400, error('`tool calling` is not supported with this model')],
    ['DeepInfra', 405, error('Tool calling is not supported for model: mistralai/Mistral-Small-24B-Instruct-2501')],
    [
      'xAI',
      400,
      {
        code: 'Client specified an invalid argument',
        error: 'Invalid request content: The model does not support tool use or function calling but tools have been specified.',
      },
    ],
    ['Bedrock', 400, { message: "This model doesn't support tool use in streaming mode." }],
    ['LiteLLM', 400, error("litellm.UnsupportedParamsError: together_ai does not support parameters: ['tools'], for model=m.")],
    ['LiteLLM, older', 400, error("together_ai does not support parameters: {'tools': [{'type': 'function'}]}, for model=m.")],
    ['FastAPI', 422, { detail: [{ type: 'extra_forbidden', loc: ['body', 'tools'], msg: 'Extra inputs are not permitted' }] }],
  ]

  it.each(refusals)('has a code of its own, and is not asked again: %s', async (_, status, body) => {
    const server = await serve((_request, response) => response.writeHead(status).end(JSON.stringify(body)))

    const failure = await failureOf(client().complete(call(server, { body: { ...question, tools } })))

    expect(failure.code).toBe('model_without_tools')
    expect(failure.details).toEqual({ attempts: 1, status })
    expect(server.seen).toHaveLength(1)
  })

  it('may come in the body of a success', async () => {
    const server = await serve(streams(error('m does not support tools')))

    const failure = await failureOf(client().complete(call(server, { body: { ...question, tools } })))

    expect(failure.code).toBe('model_without_tools')
  })

  it.each([
    ['no tools were offered', 400, 'm does not support tools', undefined],
    ['the list was empty', 400, 'm does not support tools', []],
    ['a key is wrong', 401, 'this key does not support tools', tools],
    ['one tool is wrong', 400, "Invalid schema for function 'echo': schema must be of type object", tools],
    ['a field of a tool is wrong', 400, "Unknown parameter: 'tools[0].strict'.", tools],
    ['there are too many', 400, "Invalid 'tools': array too long. Expected at most 128.", tools],
    ['something else is not supported', 400, "Unsupported parameter: 'temperature' is not supported with this model.", tools],
    ['something else is not known', 400, "litellm: groq does not support parameters: ['seed'], for model=m", tools],
  ])('is none when %s', async (_, status, message, offered) => {
    const server = await serve((_request, response) => response.writeHead(status).end(JSON.stringify(error(message))))
    const body = offered === undefined ? question : { ...question, tools: offered }

    expect((await failureOf(client().complete(call(server, { body })))).code).toBe('model_failed')
  })
})

describe('an answer that cannot be used', () => {
  it.each([
    ['broken JSON', 'data: {"choices": [\n\n', 'not JSON'],
    ['a page', '<html><body>Welcome</body></html>', 'neither an event stream nor JSON: "<html>'],
    ['a JSON list in an event', 'data: [1]\n\n', 'not a JSON object'],
    ['no content', `${event({ choices: [delta({ content: '' }, 'length')] })}data: [DONE]\n\n`, 'empty (finish_reason "length")'],
    ['no choices', '{"object":"chat.completion"}', 'empty'],
    ['content that is a list', event({ choices: [delta({ content: [{ text: 'x' }] }, 'stop')] }), 'content is not a string'],
    ['calls that are no list', event({ choices: [delta({ tool_calls: 'add' }, 'stop')] }), 'tool_calls are not a list'],
    ['a call that is null', event({ choices: [delta({ tool_calls: [null] }, 'stop')] }), 'tool_calls hold null'],
    ['a call without a name', event({ choices: [delta({ tool_calls: [{ index: 0, id: 'a' }] }, 'stop')] }), 'has no name'],
    [
      'calls without end',
      event({
        choices: [
          delta({ tool_calls: Array.from({ length: TOOL_CALLS_MAX + 1 }, (_, index) => ({ index, function: { name: 'f' } })) }),
        ],
      }),
      `more than ${TOOL_CALLS_MAX}`,
    ],
  ])('is refused at once: %s', async (_, body, words) => {
    const server = await serve((__, response) => response.end(body))

    const error = await failureOf(client().complete(call(server)))

    expect(error).toMatchObject({ code: 'model_bad_answer', details: { attempts: 1 } })
    expect(error.message).toContain(words)
    expect(server.seen).toHaveLength(1)
  })

  it.each([
    ['in many events', () => event({ choices: [delta({ content: 'x'.repeat(64 * 1024) })] })],
    ['in one line', () => 'x'.repeat(64 * 1024)],
    ['in a document', () => 'x'.repeat(64 * 1024)],
  ])('is refused while it is read once it is too large, %s', async (where, piece) => {
    let sent = 0
    const server = await serve((_, response) => {
      response.write(where === 'in one line' ? 'data: ' : where === 'in a document' ? '{"choices":"' : '')
      const pump = () => {
        while (!response.destroyed && sent < 3 * ANSWER_BYTES_MAX) {
          sent += 64 * 1024
          if (!response.write(piece())) return response.once('drain', pump)
        }
      }
      pump()
    })

    const error = await failureOf(client().complete(call(server)))

    expect(error).toMatchObject({ code: 'payload_too_large', details: { attempts: 1 } })
    await within(3_000, server.closed(0))
    expect(sent).toBeLessThan(2 * ANSWER_BYTES_MAX)
  })
})

describe('an end from outside', () => {
  it('comes by the time-out for a server that never answers', async () => {
    const server = await serve(() => undefined)
    const startedAt = performance.now()

    const error = await failureOf(client().complete(call(server, { timeoutMs: 300 })))

    expect(error).toMatchObject({ code: 'model_timeout', details: { attempts: 1, timeoutMs: 300 } })
    expect(performance.now() - startedAt).toBeLessThan(900)
    await within(3_000, server.closed(0))
  })

  it('comes by the time-out for a stream without end', async () => {
    const server = await serve((_, response) => {
      const timer = setInterval(() => response.write(event({ choices: [delta({ content: 'and on ' })] })), 5)
      response.once('close', () => clearInterval(timer))
    })

    const error = await failureOf(client().complete(call(server, { timeoutMs: 300 })))

    expect(error.code).toBe('model_timeout')
    await within(3_000, server.closed(0))
  })

  it('comes by the time-out over all attempts, and what went wrong before is told', async () => {
    const server = await serve((_, response, nth) => {
      if (nth === 0) response.writeHead(503).end('overloaded')
    })

    const error = await failureOf(client().complete(call(server, { timeoutMs: 600 })))

    expect(error).toMatchObject({ code: 'model_timeout', details: { attempts: 2 } })
    expect(error.message).toContain('status 503: overloaded')
  })

  it('comes by the signal at once, in the middle of a stream', async () => {
    const server = await serve((_, response) => response.write(event({ choices: [delta({ content: 'Hel' })] })))
    const stop = new AbortController()

    const error = await failureOf(client().complete(call(server, { signal: stop.signal, onText: () => stop.abort() })))

    expect(error.code).toBe('aborted')
    expect(error.family).toBe('canceled')
    await within(3_000, server.closed(0))
  })

  it('comes by the signal between two attempts', async () => {
    const server = await serve((_, response) => response.writeHead(429, { 'retry-after': '20' }).end())
    const stop = new AbortController()
    const log = { warn: () => stop.abort() } as never

    const error = await failureOf(within(3_000, client({ log }).complete(call(server, { signal: stop.signal }))))

    expect(error.code).toBe('aborted')
    expect(server.seen).toHaveLength(1)
  })

  it('leaves no request behind when the signal was there before', async () => {
    const server = await serve(() => undefined)

    const error = await failureOf(client().complete(call(server, { signal: AbortSignal.abort() })))

    expect(error.code).toBe('aborted')
    expect(server.seen).toHaveLength(0)
  })

  it('takes its listener off the signal, call after call', async () => {
    const server = await serve(streams({ choices: [delta({ content: 'x' }, 'stop')] }))
    const { signal } = new AbortController()
    const listeners = countListeners(signal)

    await client().complete(call(server, { signal }))

    expect(listeners()).toBe(0)
  })

  it('comes to all calls when the client is closed, in flight or waiting', async () => {
    const server = await serve((_, response, nth) => {
      if (nth === 0) response.writeHead(429, { 'retry-after': '20' }).end()
    })
    const models = client()
    const waiting = failureOf(models.complete(call(server)))
    await server.asked(1)
    const inFlight = failureOf(models.complete(call(server)))
    await server.asked(2)
    await sleep(0)

    await models.close()

    expect((await within(3_000, waiting)).code).toBe('aborted')
    expect((await within(3_000, inFlight)).code).toBe('aborted')
    expect((await failureOf(models.complete(call(server)))).code).toBe('aborted')
  })
})

const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
const question = { model: 'm', messages: [{ role: 'user' as const, content: 'hello' }] }

function call(server: { readonly url: string }, more: Partial<ModelCall> = {}): ModelCall {
  return {
    url: server.url,
    body: question,
    idempotencyKey: 'coordinator_a_1-0',
    traceparent: TRACEPARENT,
    timeoutMs: 30_000,
    signal: new AbortController().signal,
    ...more,
  }
}

function client(options: Parameters<typeof createModelClient>[0] = {}): ModelClient {
  const models = createModelClient({ backoffMs: 20, ...options })
  cleanups.push(() => models.close())
  return models
}

interface Seen {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: unknown
}

/** A raw server that misbehaves as the test wants; `closed(n)` resolves when the nth request's connection has ended. */
async function serve(handler: Handler) {
  const seen: Seen[] = []
  const closed: Promise<unknown>[] = []
  let connections = 0
  let news = Promise.withResolvers<void>()
  const server: Server = createServer(async (request, response) => {
    const nth = closed.length
    closed.push(new Promise((resolve) => request.socket.once('close', resolve)))
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    seen.push({ path: request.url!, headers: request.headers, body: JSON.parse(Buffer.concat(chunks).toString()) })
    handler(request, response, nth)
    news.resolve()
    news = Promise.withResolvers()
  })
  server.on('connection', () => connections++)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = async () => {
    server.closeAllConnections()
    if (server.listening) await new Promise((resolve) => server.close(resolve))
  }
  cleanups.unshift(stop)
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    seen,
    stop,
    connections: () => connections,
    closed: (nth: number) => closed[nth]!,
    async asked(count: number) {
      while (seen.length < count) await news.promise
    },
  }
}

function streams(...chunks: readonly object[]): Handler {
  return (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(`${chunks.map(event).join('')}data: [DONE]\n\n`)
  }
}

function event(chunk: object): string {
  return `data: ${JSON.stringify(chunk)}\n\n`
}

function delta(fields: object, finish: string | null = null) {
  return { index: 0, delta: fields, finish_reason: finish }
}

async function failureOf(promise: Promise<unknown>): Promise<KaosError> {
  const error = await promise.then(
    (value) => expect.unreachable(`answered ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(KaosError)
  return error as KaosError
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  const timer = AbortSignal.timeout(ms)
  return await Promise.race([promise, once(timer, 'abort').then(() => expect.unreachable(`nothing within ${ms} ms`))])
}

function countListeners(signal: AbortSignal): () => number {
  let count = 0
  const { addEventListener, removeEventListener } = signal
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    count++
    addEventListener.apply(signal, args)
  }
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    count--
    removeEventListener.apply(signal, args)
  }
  return () => count
}
