import { describe, expect, it } from 'vitest'
import type { Script } from '../../../actors/testing/model-script.ts'
import { offlineAnswer } from '../../../actors/testing/offline-model.ts'

type Message = Record<string, unknown>
const user = (content: string): Message => ({ role: 'user', content })
const system = (content: string): Message => ({ role: 'system', content })
const called = (id: string, name: string): Message => ({
  role: 'assistant',
  content: null,
  tool_calls: [{ id, type: 'function', function: { name, arguments: '{}' } }],
})
const result = (id: string, content: string): Message => ({ role: 'tool', tool_call_id: id, content })

describe('a script', () => {
  it('answers by agent, turn, text and results, the first rule that matches', () => {
    const script: Script = {
      rules: [
        { when: { agent: 'analyst' }, reply: { text: 'by agent' } },
        { when: { turn: 1, results: '/^4\\d$/' }, reply: { text: 'by turn and results' } },
        { when: { text: 'WEATHER' }, reply: { text: 'by part of the text' } },
        { when: { text: '/^rain .* snow$/i' }, reply: { text: 'by expression' } },
        { reply: { text: 'any' } },
      ],
    }
    const say = (...messages: Message[]) => offlineAnswer({ messages }, script).text

    expect(say(system('You are analyst. Counts things.\n\nBe brief.'), user('x'))).toBe('by agent')
    expect(say(system('You are an analyst.'), user('x'))).toBe('any')
    expect(say(user('x'), called('a', 'f'), result('a', '42'))).toBe('by turn and results')
    expect(say(user('x'), called('a', 'f'), result('a', '52'))).toBe('any')
    expect(say(user('x'), called('a', 'f'), result('a', '42'), user('y'))).toBe('any')
    expect(say(user('How is the weather?'))).toBe('by part of the text')
    expect(say(user('Rain or snow'))).toBe('by expression')
  })

  it('fills in the input and the results, by tool and by number, a plain one-field object as its value', () => {
    const text = '{{input}} | {{results}} | {{ result.add }} | {{result.add:2}} | {{result.sub}}'
    const script: Script = {
      rules: [{ reply: { text, calls: [{ name: 'add', arguments: { list: ['{{result.add:1}} + 1'], n: 1 } }] } }],
    }
    const messages = [
      user('sum'),
      called('a', 'add'),
      called('b', 'add'),
      called('c', 'sub-x'),
      result('a', '{"result":3}'),
      result('b', 'four'),
    ]

    const answer = offlineAnswer({ messages: [...messages, result('c', '{"a":1,"b":2}')] }, script)

    expect(answer.text).toBe('sum | 3\nfour\n{"a":1,"b":2} | 3\nfour | four | (no result of sub)')
    expect(answer.toolCalls).toMatchObject([{ name: 'add', arguments: '{"list":["3 + 1"],"n":1}' }])
    expect(answer.finishReason).toBe('tool_calls')
  })

  it('skips a rule that was used up, and spoils a reply as often as its fault says', () => {
    const script: Script = {
      rules: [
        { times: 2, reply: { text: 'first', fault: { kind: 'hang', times: 1 } } },
        { reply: { text: 'later', usage: { inputTokens: 9, outputTokens: 8 }, finish: 'length', delayMs: 5, chunkMs: 6 } },
      ],
    }
    const answer = (uses: number) => offlineAnswer({ messages: [user('x')] }, script, new Map([[0, uses]]))

    expect(answer(0)).toMatchObject({ rule: 0, text: 'first', fault: { kind: 'hang' } })
    expect(answer(1)).toMatchObject({ rule: 0, text: 'first' })
    expect(answer(1).fault).toBeUndefined()
    expect(answer(2)).toMatchObject({
      rule: 1,
      text: 'later',
      usage: { inputTokens: 9, outputTokens: 8 },
      finishReason: 'length',
      delayMs: 5,
      chunkMs: 6,
    })
  })

  it('sends arguments given as text as they are', () => {
    const script: Script = { rules: [{ reply: { calls: [{ name: 'add', arguments: '{"a":' }] } }] }

    expect(offlineAnswer({ messages: [user('x')] }, script).toolCalls).toMatchObject([{ name: 'add', arguments: '{"a":' }])
  })
})

describe('without a rule', () => {
  const tools = [
    tool('calculate', 'Evaluates an arithmetic expression.', { expression: { type: 'string' } }),
    tool('echo', 'Returns the text that it is given.', { text: { type: 'string' } }),
    tool('delegate_to_researcher', 'Hand a task to the agent researcher and get its answer. Finds facts and sources.', {
      task: { type: 'string' },
    }),
    tool('delegate_to_analyst', 'Hand a task to the agent analyst and get its answer. Works out figures such as cost.', {
      task: { type: 'string' },
    }),
  ]
  const callsFor = (text: string, given: readonly object[] = tools) =>
    offlineAnswer({ messages: [user(text)], tools: given }).toolCalls.map((call) => [call.name, JSON.parse(call.arguments)])

  it('the tool is called that fits the task best', () => {
    expect(callsFor('Echo this text')).toEqual([['echo', { text: 'Echo this text' }]])
    expect(callsFor('How much is (3 + 4) * 5?')).toEqual([['calculate', { expression: '(3 + 4) * 5' }]])
    expect(callsFor('Ask the researcher about NATS')).toEqual([
      ['delegate_to_researcher', { task: 'Ask the researcher about NATS' }],
    ])
  })

  it('several are called at once that fit about as well', () => {
    const names = callsFor('What do the sources say about the facts and the cost of it?').map(([name]) => name)

    expect(names).toEqual(['delegate_to_researcher', 'delegate_to_analyst'])
  })

  it('a calculator gets the first two numbers multiplied where the task has no arithmetic, and no task without numbers', () => {
    expect(callsFor('3 nodes at 1,140.50 USD')).toEqual([['calculate', { expression: '3 * 1140.5' }]])
    expect(callsFor('Evaluate the arithmetic').map(([name]) => name)).not.toContain('calculate')
  })

  it('arguments come from the schema: required ones only, by type', () => {
    const schema = {
      type: 'object',
      required: ['unit', 'count', 'ratio', 'when', 'url', 'quote', 'flags', 'deep', 'kind', 'any', 'on', 'none', 'short'],
      properties: {
        unit: { enum: ['metre', 'mile'] },
        count: { type: 'integer' },
        ratio: { type: 'number' },
        when: { type: 'string', default: 'now' },
        url: { type: 'string' },
        quote: { type: 'string' },
        flags: { type: 'array', items: { type: 'number', minimum: 7 } },
        deep: {
          type: 'object',
          required: ['text'],
          properties: { text: { type: 'string', maxLength: 4 }, other: { type: 'string' } },
        },
        kind: { const: 'k' },
        any: { anyOf: [{ type: 'null' }, { type: 'string' }] },
        on: { type: 'boolean' },
        none: { type: ['null', 'string'] },
        short: {},
        optional: { type: 'string' },
      },
    }
    const measure = { type: 'function', function: { name: 'measure', description: '', parameters: schema } }

    const [[, given]] = callsFor('Measure 3 of "that" with 0.5 at http://a.b/c now', [measure]) as [[string, object]]

    expect(given).toEqual({
      unit: 'metre',
      count: 3,
      ratio: 0.5,
      when: 'now',
      url: 'http://a.b/c',
      quote: 'that',
      flags: [7],
      deep: { text: 'that' },
      kind: 'k',
      any: null,
      on: true,
      none: null,
      short: {},
    })
  })

  it('the answer comes from the results once they are here, and no tool is called again', () => {
    const messages = [
      user('Echo 1 + 2'),
      called('a', 'echo'),
      called('b', 'calculate'),
      result('a', 'hello'),
      result('b', '{"result":3}'),
    ]

    const answer = offlineAnswer({ messages, tools })

    expect(answer.text).toBe('The offline model found, from 2 results:\n- echo: hello\n- calculate: 3')
    expect(answer.toolCalls).toEqual([])
  })

  it('the peers are asked when nothing fits', () => {
    expect(callsFor('Sing').map(([name]) => name)).toEqual(['delegate_to_researcher', 'delegate_to_analyst'])
  })

  it('a sentence says so when nothing fits and nobody can be asked, when no tool is there, and when none may be used', () => {
    const sentence = 'The offline model has no script and no tool for this task: "Sing"'

    const own = tools.filter((tool) => !tool.function.name.startsWith('delegate_to_'))

    expect(offlineAnswer({ messages: [user('Sing')], tools: own }).text).toBe(sentence)
    expect(offlineAnswer({ messages: [user('Sing')] }).text).toBe(sentence)
    expect(offlineAnswer({ messages: [user('Echo')], tools, tool_choice: 'none' }).toolCalls).toEqual([])
  })
})

it('the same request gets the same answer and ids, a longer conversation others', () => {
  const script: Script = { rules: [{ reply: { calls: [{ name: 'f' }, { name: 'f' }] } }] }
  const once = offlineAnswer({ messages: [user('x')] }, script)

  expect(offlineAnswer({ messages: [user('x')] }, script)).toEqual(once)
  expect(new Set(once.toolCalls.map((call) => call.id)).size).toBe(2)
  expect(offlineAnswer({ messages: [user('x'), called('a', 'f'), result('a', '1')] }, script).toolCalls[0]!.id).not.toBe(
    once.toolCalls[0]!.id,
  )
})

it('usage is about a token for four characters, and never zero', () => {
  const messages = [user('x'.repeat(4_000))]
  const answer = offlineAnswer({ messages }, { rules: [{ reply: { text: 'y'.repeat(400) } }, { reply: {} }] })

  expect(answer.usage.inputTokens).toBeGreaterThan(1_000)
  expect(answer.usage.inputTokens).toBeLessThan(1_050)
  expect(answer.usage.outputTokens).toBe(100)
  expect(offlineAnswer({ messages }, { rules: [{ reply: {} }] }).usage.outputTokens).toBe(1)
})

it('a request that makes no sense gets an answer all the same', () => {
  for (const request of [
    {},
    { messages: [null, 1, { role: 'user', content: [{ text: 'a' }, 2] }] },
    { messages: [], tools: [{}, null] },
  ]) {
    expect(offlineAnswer(request).text).toContain('offline model')
  }
})

function tool(name: string, description: string, properties: object) {
  return {
    type: 'function',
    function: { name, description, parameters: { type: 'object', properties, required: Object.keys(properties) } },
  }
}
