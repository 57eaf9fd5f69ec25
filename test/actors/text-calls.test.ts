import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readBareCalls, readTextReply } from '../../actors/agent/text-calls.ts'
import { strangeJson } from '../support/arbitraries.ts'

const OFFERED = new Set(['echo', 'add', 'delegate_to_one'])
const ECHO = '{"name":"echo","arguments":{"text":"a"}}'
const fence = (text: string, tag = 'json') => `\`\`\`${tag}\n${text}\n\`\`\``
const MB = 1024 * 1024

/** The calls of a reply as `name(arguments)`. */
function read(text: string): readonly string[] {
  const reply = readTextReply(text, OFFERED)
  if (reply.kind !== 'calls') return [reply.kind === 'answer' ? 'answer' : `unreadable: ${reply.why}`]
  return reply.calls.map((call) => `${call.name}(${call.arguments})`)
}

describe('a reply in string form', () => {
  const a = 'echo({"text":"a"})'
  const accepted: readonly (readonly [string, string, readonly string[]])[] = [
    ['a list of calls', `{"tool_calls":[${ECHO},{"name":"add","arguments":{"n":1}}]}`, [a, 'add({"n":1})']],
    ['one call', ECHO, [a]],
    ['a fence', fence(ECHO), [a]],
    ['a fence without a language', fence(`{"tool_calls":[${ECHO}]}`, ''), [a]],
    ['a fence in one line', `\`\`\`json ${ECHO} \`\`\``, [a]],
    ['a fence in a fence', fence(fence(ECHO)), [a]],
    ['a fence that does not end', `\`\`\`json\n${ECHO}`, [a]],
    ['prose around a fence', `I will {look}.\n\n${fence(ECHO)}\nThen I tell "you".`, [a]],
    ['prose around bare JSON', `Sure: ${ECHO} is what I do.`, [a]],
    [
      'a fence inside an argument',
      '{"name":"echo","arguments":{"text":"```json\\n{}\\n```"}}',
      ['echo({"text":"```json\\n{}\\n```"})'],
    ],
    [
      'a call inside an argument',
      '{"name":"echo","arguments":{"text":"{\\"name\\":\\"add\\",\\"arguments\\":{}}"}}',
      ['echo({"text":"{\\"name\\":\\"add\\",\\"arguments\\":{}}"})'],
    ],
    ['arguments as JSON text', '{"name":"echo","arguments":"{\\"text\\": \\"a\\"}"}', ['echo({"text": "a"})']],
    ['arguments as broken JSON text, for the plan to refuse', '{"name":"echo","arguments":"{"}', ['echo({)']],
    ['arguments that are a list, for the plan to refuse', '{"name":"echo","arguments":[1]}', ['echo([1])']],
    ['no arguments', '{"name":"echo"}', ['echo({})']],
    ['arguments that are null', '{"tool_calls":[{"name":"echo","arguments":null}]}', ['echo({})']],
    ['OpenAI’s own form', `{"tool_calls":[{"id":"x","type":"function","function":${ECHO}}]}`, [a]],
    ['Llama’s word for arguments', '{"name":"echo","parameters":{"text":"a"}}', [a]],
    ['Hermes’ tags', `<tool_call>\n${ECHO}\n</tool_call>\n<tool_call>\n${ECHO}\n</tool_call>`, [a, a]],
    ['a bare list', `[${ECHO}, ${ECHO}]`, [a, a]],
    ['two fences in a row', `${fence(ECHO)}\n\n${fence(ECHO)}`, [a, a]],
    ['a call after JSON that is none', `{"thought":"let me see"}\n${ECHO}`, [a]],
    ['a call after a brace that never closes', `Use { "x or }} this: ${ECHO}`, ['unreadable: it is JSON that does not end: ']],
    ['an invented result after the call, which is not believed', `${ECHO}\nResult: R(a)\n{"name":"add","arguments":{}}`, [a]],
    ['a thought before the call', `<think>perhaps {"name":"add","arguments":{}}?</think>\n${ECHO}`, [a]],
    ['a tool that is not offered', '{"name":"rm","arguments":{"path":"/"}}', ['rm({"path":"/"})']],
    [
      'a name of a prototype',
      '{"tool_calls":[{"name":"__proto__"},{"name":"constructor"}]}',
      ['__proto__({})', 'constructor({})'],
    ],
    ['unicode', '{"name":"echo","arguments":{"text":"\\ud83d\\ude00\u2028\\ud800"}}', ['echo({"text":"😀\u2028\\ud800"})']],
    ['ids twice, which are its own affair', `{"tool_calls":[{"id":"1",${ECHO.slice(1)},{"id":"1",${ECHO.slice(1)}]}`, [a, a]],
  ]
  for (const [what, text, calls] of accepted) {
    it(`is read: ${what}`, () => {
      const [first, ...rest] = read(text)

      if (calls[0]!.startsWith('unreadable')) expect(first).toContain(calls[0])
      else expect([first, ...rest]).toEqual(calls)
    })
  }

  const answers: readonly (readonly [string, string])[] = [
    ['nothing', ''],
    ['prose', 'Call me by my name: {x}.'],
    ['JSON', '{"total":7,"items":[{"name":"echo","price":1}]}'],
    ['a person', '{"name":"Bob","age":3}'],
    ['a person with the name of a tool', '{"name":"echo","age":3}'],
    ['the description of a tool', '{"name":"echo","description":"Says it again.","parameters":{"type":"object"}}'],
    ['somebody’s arguments', '{"name":"Bob","arguments":["weak","old"]}'],
    ['a call inside other JSON', `{"example":${ECHO}}`],
    ['a call inside a text', JSON.stringify({ said: ECHO })],
    ['no calls at all', '{"content":"hi","tool_calls":[]}'],
    ['no calls, as null', '{"content":"hi","tool_calls":null}'],
    ['fields of a prototype', `{"__proto__":{"tool_calls":[${ECHO}]}}`],
    ['a prototype as a call', '{"__proto__":{"name":"echo","arguments":{}}}'],
    ['broken JSON about something else', '{"name":"Bob","age":'],
    ['thoughts alone', `<think>${ECHO}`],
    ['a code block', fence('const name = { tool_calls }', 'js')],
  ]
  for (const [what, text] of answers) it(`is the answer: ${what}`, () => expect(read(text)).toEqual(['answer']))

  const broken: readonly (readonly [string, string, RegExp])[] = [
    ['cut off', '{"tool_calls":[{"name":"echo","argum', /does not end: \{"tool_calls"/],
    ['cut off after a whole call', `{"tool_calls":[${ECHO},{"name":"add","arg`, /does not end/],
    ['cut off in a fence', `\`\`\`json\n{"name":"echo","arguments":{"text":"a`, /does not end/],
    ['a comma too many', `{"tool_calls":[${ECHO},]}`, /not valid JSON/],
    ['single quotes', "{'name': 'echo', 'arguments': {'text': 'a'}}", /not valid JSON/],
    ['keys without quotes', '{name: "echo", arguments: {text: "a"}}', /not valid JSON/],
    ['a line break in a text', '{"name":"echo","arguments":{"text":"a\nb"}}', /not valid JSON/],
    ['calls without a name', '{"tool_calls":[{"arguments":{}}]}', /element 1 of "tool_calls" has no "name"/],
    ['calls that are text', '{"tool_calls":["echo"]}', /element 1/],
    ['calls that are a number', '{"tool_calls":7}', /element 1/],
    ['a name that is a number', `{"tool_calls":[${ECHO},{"name":7}]}`, /element 2/],
    [
      'deeper than the stack',
      `{"tool_calls":[{"name":"echo","arguments":${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}}]}`,
      /nests/,
    ],
  ]
  for (const [what, text, why] of broken) {
    it(`is no answer and calls nothing: ${what}`, () => {
      const [first, ...rest] = read(`Here:\n${text}`)

      expect(first).toMatch(/^unreadable: /)
      expect(first).toMatch(why)
      expect(first!.length).toBeLessThan(400)
      expect(rest).toEqual([])
    })
  }

  it('keeps what is said before the calls, and not what is said after them', () => {
    expect(readTextReply(`Let me see.\n${fence(ECHO)}\nIt says a.`, OFFERED)).toMatchObject({ said: 'Let me see.' })
    expect(readTextReply(`<think>hm</think> Well.\n<tool_call>${ECHO}`, OFFERED)).toMatchObject({ said: 'Well.' })
  })

  it('is the answer whatever it says when no tools are offered', () => {
    expect(readTextReply(ECHO, new Set())).toEqual({ kind: 'answer' })
  })

  it('of a megabyte or more is read in one pass', () => {
    const hostile = [
      '{'.repeat(MB),
      '{"'.repeat(MB / 2),
      '{"name":'.repeat(MB / 8),
      `{"a":"${'\\"{'.repeat(MB / 4)}`,
      `{"name":"echo"}${' '.repeat(MB)}{"name":"echo"}`,
      `name ${'```'.repeat(MB / 3)}`,
      `name${' {'.repeat(MB / 2)}`,
      `{"name":"echo","arguments":{"text":"${'x'.repeat(MB)}"}}`,
      `{"tool_calls":[${`${ECHO},`.repeat(150_000)}${ECHO}]}`,
      `${ECHO}\n`.repeat(20_000),
      `<think>${ECHO.repeat(20_000)}`,
      `tool_calls ${'['.repeat(MB)}{`,
    ]
    for (const text of hostile) expect(() => [readTextReply(text, OFFERED), readBareCalls(text, OFFERED)]).not.toThrow()
    expect(read(hostile[7]!)[0]!.length).toBeGreaterThan(MB)
    expect(read(hostile[8]!)).toHaveLength(150_001)
  })
})

describe('a reply to a request with tools', () => {
  const bare = (text: string) => readBareCalls(text, OFFERED)?.map((call) => `${call.id} ${call.name}(${call.arguments})`)

  it('is a call when it is nothing but calls of tools that are offered', () => {
    for (const text of [ECHO, ` ${fence(ECHO)}\n`, fence(ECHO, ''), `{"tool_calls":[${ECHO}]}`, `<think>hm</think>${ECHO}`])
      expect(bare(text)).toEqual(['call_0 echo({"text":"a"})'])
    expect(bare(`{"tool_calls":[${ECHO},${ECHO}]}`)).toEqual(['call_0 echo({"text":"a"})', 'call_1 echo({"text":"a"})'])
  })

  it('is the answer when it is anything else', () => {
    const others = [
      `I call ${ECHO}`,
      `${ECHO} now`,
      `${fence(ECHO)}\nDone.`,
      `${fence(ECHO)}${fence(ECHO)}`,
      '{"name":"rm","arguments":{}}',
      `{"tool_calls":[${ECHO},{"name":"rm","arguments":{}}]}`,
      '{"name":"echo","arguments":[]}',
      '{"name":"echo","arguments":"{"}',
      '{"name":"echo","age":3}',
      '{"tool_calls":[]}',
      '{"tool_calls":["echo"]}',
      '{"name":"echo","arguments":{"text":"a}',
      '``````',
      '```',
      '',
    ]
    for (const text of others) expect(bare(text), text).toBeUndefined()
  })
})

it('never throws and never makes up a tool, whatever a model writes', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'binary' }),
    strangeJson().map((value) => JSON.stringify(value)),
    strangeJson().map((value) => JSON.stringify({ tool_calls: value })),
    strangeJson().map((value) => JSON.stringify({ name: 'echo', arguments: value })),
    strangeJson().map((value) => `{"tool_calls":[{"name":"add","arguments":${JSON.stringify(value)}}]}`),
    fc.constantFrom(
      '```',
      '```json\n',
      '\n```',
      '{',
      '}',
      '"',
      '\\',
      '[',
      ']',
      '"tool_calls":',
      '"name":',
      '<think>',
      '</think>',
      ECHO,
    ),
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), fc.nat(200), (pieces, cut) => {
      const whole = pieces.join('')
      for (const text of [whole, whole.slice(0, -cut), whole.slice(cut)]) {
        const reply = readTextReply(text, OFFERED)
        const bare = readBareCalls(text, OFFERED) ?? []
        const calls = [...bare, ...(reply.kind === 'calls' ? reply.calls : [])]

        for (const call of calls) expect(typeof call.name === 'string' && typeof call.arguments === 'string').toBe(true)
        expect(bare.every(({ name }) => OFFERED.has(name))).toBe(true)
        if (reply.kind === 'calls') expect(new Set(reply.calls.map(({ id }) => id)).size).toBe(reply.calls.length)
      }
    }),
    { numRuns: 2_000 },
  )
})
