/** The HTTP door as OpenAI's own client sees it. */
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NASTY, type Stand, says, startStand } from './stand.ts'

const LONG = `${'All work and no play. '.repeat(1_500)}🦜`
const SLOW = 'one two three four five six seven eight nine ten eleven twelve'

let stand: Stand
beforeAll(async () => {
  stand = await startStand([
    { when: { text: 'nasty' }, reply: { text: NASTY, usage: { inputTokens: 7, outputTokens: 11 } } },
    { when: { text: 'long' }, reply: { text: LONG } },
    { when: { text: 'slow' }, reply: { text: SLOW, chunkMs: 15 } },
    {
      when: { text: 'no model' },
      reply: { fault: { kind: 'status', status: 400, body: { error: { message: 'no such model' } } } },
    },
    { when: { text: 'endless', agent: 'helper' }, reply: { calls: [{ name: 'echo', arguments: { text: 'again' } }] } },
    {
      when: { agent: 'helper', turn: 0 },
      reply: { text: 'I ask.', calls: [{ name: 'delegate_to_teller', arguments: { task: 'tell' } }] },
    },
    { when: { agent: 'helper' }, reply: { text: 'He said: {{results}}' } },
    { reply: { text: 'told' } },
  ])
})
afterAll(() => stand[Symbol.asyncDispose]())

const ask = (model: string, text: string, more: object = {}) =>
  stand.client.chat.completions.create({ model, messages: says(text), ...more })

async function streamed(model: string, text: string, more: object = {}) {
  const stream = await stand.client.chat.completions.create({
    model,
    messages: says(text),
    stream: true,
    stream_options: { include_usage: true },
    ...more,
  })
  const chunks: (OpenAI.ChatCompletionChunk & { kaos?: object })[] = []
  for await (const chunk of stream) chunks.push(chunk)
  const deltas = chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta.content ?? '')).filter((delta) => delta !== '')
  return { chunks, deltas, text: deltas.join('') }
}

describe("OpenAI's client", () => {
  it('gets an answer with ids, usage and the model as it asked for it', async () => {
    const { data, response } = await ask('teller', 'nasty').withResponse()

    const task = response.headers.get('kaos-task')
    expect(task).toMatch(/^teller_[0-9a-f]{16}$/)
    expect(data).toMatchObject({
      id: `chatcmpl-${task}`,
      object: 'chat.completion',
      model: 'teller',
      choices: [{ index: 0, message: { role: 'assistant', content: NASTY }, finish_reason: 'stop' }],
      usage: { prompt_tokens: 7, completion_tokens: 11, total_tokens: 18 },
    })
    expect(Math.abs(data.created - Date.now() / 1_000)).toBeLessThan(60)
  })

  it('counts the tokens of all agents that took part', async () => {
    const answer = await ask('helper', 'ask him')

    expect(answer.choices[0]!.message.content).toBe('He said: told')
    const own = stand.model.requests.filter(({ agent }) => agent === 'helper').length
    expect(own).toBe(2)
    expect(answer.usage!.total_tokens).toBeGreaterThan(0)
  })

  it.each(['nasty', 'long', 'slow'])('streams what it gets whole: %s', async (text) => {
    const whole = await ask('teller', text)

    const { chunks, text: pieces } = await streamed('teller', text)

    expect(pieces).toBe(whole.choices[0]!.message.content)
    expect(chunks[0]!.choices[0]!.delta.role).toBe('assistant')
    expect(chunks.flatMap(({ choices }) => choices.map(({ finish_reason }) => finish_reason)).filter(Boolean)).toEqual(['stop'])
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage })
  })

  it('sees the text of an agent without tools grow', async () => {
    const { deltas } = await streamed('teller', 'slow')

    expect(deltas.length).toBeGreaterThan(1)
  })

  it('sees what an agent does, and of its text the answer alone', async () => {
    const { chunks, text } = await streamed('helper', 'ask him')

    expect(text).toBe('He said: told')
    expect(chunks.flatMap(({ kaos }) => kaos ?? [])).toEqual([
      { type: 'progress', agent: 'helper', step: 1, action: 'delegate', target: 'teller' },
    ])
  })

  it('may leave out the usage of a stream', async () => {
    const { chunks } = await streamed('teller', 'nasty', { stream_options: undefined })

    expect(chunks.every((chunk) => !('usage' in chunk))).toBe(true)
  })

  it('collects a stream with its own helper', async () => {
    const runner = stand.client.chat.completions.stream({ model: 'teller', messages: says('nasty') })

    expect(await runner.finalContent()).toBe(NASTY)
  })

  it('hears that a task failed, how and where, and does not pay for it again', async () => {
    const client = stand.client.withOptions({ maxRetries: 2 })
    const before = stand.model.count()

    const failed = client.chat.completions.create({ model: 'teller', messages: says('no model') })

    await expect(failed).rejects.toBeInstanceOf(OpenAI.InternalServerError)
    await expect(failed).rejects.toMatchObject({
      status: 502,
      code: 'model_failed',
      type: 'task_failed',
      error: { task: expect.stringMatching(/^teller_/), trace: expect.stringMatching(/^[0-9a-f]{32}$/) },
    })
    expect(stand.model.count()).toBe(before + 1)
  })

  it('hears that a task ran into its limit', async () => {
    const failed = ask('helper', 'endless')

    await expect(failed).rejects.toBeInstanceOf(OpenAI.UnprocessableEntityError)
    await expect(failed).rejects.toMatchObject({ code: 'step_limit', type: 'task_failed' })
  })

  it('hears in a stream that a task failed', async () => {
    const failed = streamed('teller', 'no model')

    await expect(failed).rejects.toBeInstanceOf(OpenAI.APIError)
    await expect(failed).rejects.toMatchObject({ code: 'model_failed', type: 'task_failed' })
  })

  it('hears which agents there are', async () => {
    const models = await stand.client.models.list()
    const one = await stand.client.models.retrieve('helper')

    expect(models.data.map(({ id }) => id)).toEqual(['teller', 'helper', 'sleeper'])
    expect(one).toMatchObject({ id: 'helper', object: 'model' })
    await expect(stand.client.models.retrieve('nobody')).rejects.toBeInstanceOf(OpenAI.NotFoundError)
  })

  it('hears that there is no such agent', async () => {
    await expect(ask('teler', 'hello')).rejects.toMatchObject({
      status: 404,
      code: 'unknown_agent',
      error: { message: 'there is no agent "teler" here; did you mean "teller"?' },
    })
  })

  it('reaches an agent by its path, whatever the model is called', async () => {
    const client = new OpenAI({ baseURL: `${stand.url}/teller/v1`, apiKey: 'none' })

    const answer = await client.chat.completions.create({ model: 'gpt-4o', messages: says('hello') })

    expect(answer).toMatchObject({ model: 'gpt-4o', choices: [{ message: { content: 'told' } }] })
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['teller'])
  })

  it('may send what an agent decides itself', async () => {
    const answer = await ask('teller', 'hello', {
      temperature: 0,
      seed: 4,
      max_tokens: 5,
      tools: [{ type: 'function', function: { name: 'f' } }],
      response_format: { type: 'text' },
    })

    expect(answer.choices[0]!.message.content).toBe('told')
    expect(stand.model.requests.at(-1)!.body).not.toHaveProperty('tools')
  })
})
