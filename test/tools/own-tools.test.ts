import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, expectTypeOf, it } from 'vitest'
import { z } from 'zod'
import * as mini from 'zod/mini'
import { KaosError } from '../../bus/wire/errors.ts'
import { answerOf, TooLarge } from '../../tools/own/answer.ts'
import { defineTool, isOwnTool } from '../../tools/own/define.ts'
import { mistakesIn } from '../../tools/own/mistakes.ts'
import { loadToolModule } from '../../tools/own/module.ts'
import { cachedPackage } from '../support/cached-npm.ts'
import { errorOf } from '../support/mcp-calls.ts'
import { toolFile } from '../support/tool-file.ts'

const context = { idempotencyKey: 'k', signal: new AbortController().signal, traceparent: '' }

describe('a tool', () => {
  it('has the types of its schemas and can be run in a unit test', async () => {
    const add = defineTool({
      description: 'Adds.',
      input: z.object({ a: z.number(), b: z.string().transform(Number) }),
      output: z.object({ sum: z.number() }),
      run: async ({ a, b }, { idempotencyKey }) => {
        expectTypeOf(b).toEqualTypeOf<number>()
        expectTypeOf(idempotencyKey).toEqualTypeOf<string>()
        return { sum: a + b }
      },
    })

    expectTypeOf(add.run).parameter(0).toEqualTypeOf<{ a: number; b: number }>()
    expect(await add.run({ a: 1, b: 2 }, context)).toEqual({ sum: 3 })
    // @ts-expect-error the output schema wants a number
    defineTool({ description: 'x', input: z.object({}), output: z.object({ n: z.number() }), run: () => ({ n: 'one' }) })
  })

  it('tells the model what it takes and gives', () => {
    const { inputSchema, outputSchema, hints } = defineTool({
      description: 'x',
      input: z.object({ city: z.string().describe('Where'), days: z.number().default(1) }),
      output: z.object({ text: z.string() }),
      readOnlyHint: true,
      run: () => ({ text: '' }),
    })

    expect(inputSchema).toEqual({
      type: 'object',
      properties: { city: { type: 'string', description: 'Where' }, days: { type: 'number', default: 1 } },
      required: ['city'],
    })
    expect(outputSchema).toMatchObject({ type: 'object', required: ['text'] })
    expect(hints).toEqual({ readOnlyHint: true })
  })

  it.each(['4.0.0', '4.1.13'])('takes a schema of another zod, %s, with its descriptions', async (version) => {
    const folder = await cachedPackage('zod', version)
    const other = (await import(pathToFileURL(join(folder, 'index.js')).href)) as typeof import('zod')

    const input = other.z.object({ city: other.z.string().min(2).describe('Where') })
    const { inputSchema } = defineTool({ description: 'x', input, run: () => '' })

    expect(inputSchema).toMatchObject({
      type: 'object',
      properties: { city: { type: 'string', minLength: 2, description: 'Where' } },
      required: ['city'],
    })
    expect(input.safeParse({ city: 'x' }).success).toBe(false)
  })

  it('takes a schema of zod/mini', () => {
    const { inputSchema } = defineTool({ description: 'x', input: mini.object({ n: mini.number() }), run: ({ n }) => n })

    expect(inputSchema).toMatchObject({ type: 'object', properties: { n: { type: 'number' } } })
  })

  const input = z.object({})
  const run = () => ''
  it.each<[string, unknown, string]>([
    ['nothing', undefined, 'could not define a tool: expected { description, input, run }'],
    ['no description', { input, run }, 'description is missing'],
    ['a blank description', { name: 'a', description: ' ', input, run }, 'could not define tool "a": description is missing'],
    ['no run', { description: 'x', input }, 'run is no function'],
    ['a name with blanks', { name: 'my tool', description: 'x', input, run }, 'name "my tool" is not of 1 to 128 letters'],
    ['a title that is no text', { title: 5, description: 'x', input, run }, 'title is no text'],
    [
      'a hint that is neither true nor false',
      { description: 'x', input, run, readOnlyHint: 'yes' },
      'readOnlyHint is neither true nor false',
    ],
    ['no input', { description: 'x', run }, 'input is missing, not a zod 4 object such as'],
    [
      'JSON Schema as input',
      { description: 'x', input: { type: 'object' }, run },
      'input is some other object, not a zod 4 object',
    ],
    [
      'a shape as input',
      { description: 'x', input: { city: z.string() }, run },
      'input is some other object, not a zod 4 object',
    ],
    [
      'zod 3 as input',
      { description: 'x', input: { _def: {}, safeParseAsync() {} }, run },
      'input is a schema of zod 3, not a zod 4 object',
    ],
    [
      'text as input',
      { description: 'x', input: z.string(), run },
      'input is a zod "string", not an object: use z.object({ … })',
    ],
    [
      'a union as input',
      { description: 'x', input: z.union([z.object({}), z.string()]), run },
      'input is a zod "union", not an object',
    ],
    ['a list as output', { description: 'x', input, output: z.array(z.string()), run }, 'output is a zod "array", not an object'],
    [
      'a date in the input',
      { description: 'x', input: z.object({ at: z.date() }), run },
      'input has a part that JSON Schema cannot say',
    ],
    [
      'a misspelt hint',
      { description: 'x', input, run, readonlyHint: true },
      'there is no field "readonlyHint"; there are: name, title, description, input, output, readOnlyHint',
    ],
  ])('with %s is refused', (_title, definition, message) => {
    const define = () => defineTool(definition as Parameters<typeof defineTool>[0])

    expect(define).toThrow(KaosError)
    expect(define).toThrow(message)
  })

  it('copied by spreading is none', () => {
    const made = defineTool({ description: 'x', input, run })

    expect(isOwnTool(made)).toBe(true)
    expect(isOwnTool({ ...made })).toBe(false)
    expect([undefined, null, 5, 'x', {}, run].some(isOwnTool)).toBe(false)
  })
})

describe('a file', () => {
  it('has the tools that it exports: by their own names, by their exports, and the default by the file', async () => {
    const file = toolFile(
      `const one = (name?: string) => tool({ name, description: 'x', input: z.object({}), run: () => '' })
       export const first: unknown = one()
       export const second = one('other-name')
       export const limit = 5
       export default one()`,
      'weather.ts',
    )

    const { tools } = await loadToolModule(file)

    expect(tools.map(({ name }) => name).toSorted()).toEqual(['first', 'other-name', 'weather'])
  })

  it('that exports one tool twice has it once, by the name of the file', async () => {
    const file = toolFile(
      `export const one = tool({ description: 'x', input: z.object({}), run: () => '' })\nexport default one`,
      'dice.js',
    )

    expect((await loadToolModule(file)).tools.map(({ name }) => name)).toEqual(['dice'])
  })

  it.each<[string, string, RegExp]>([
    ['exports no tool', 'export const a = 5', /it exports no tool made with tool\(/],
    [
      'exports two tools of one name',
      `const one = () => tool({ name: 'same', description: 'x', input: z.object({}), run: () => '' })\nexport const a = one()\nexport const b = one()`,
      /it exports two tools of the name "same"/,
    ],
    [
      'has a tool whose export is no name for one',
      `export const größe = tool({ description: 'x', input: z.object({}), run: () => '' })`,
      /"größe" is no name for a tool: give the tool a name/,
    ],
    ['throws', `throw new Error('no key in API_KEY')`, /its import failed: no key in API_KEY/],
    [
      'defines a tool badly',
      `export const a = tool({ name: 'a', description: 'x', run: () => '' })`,
      /"a": input is missing, not a zod 4 object/,
    ],
    ['imports what is not there', `import './nowhere.ts'`, /its import failed: .*nowhere\.ts/],
    ['cannot be parsed', 'export const = 5', /its import failed: .+/],
  ])('that %s is refused with its path', async (_title, body, message) => {
    const file = toolFile(body)

    const error = await errorOf(loadToolModule(file), 'tool_module')

    expect(error.message).toContain(`could not load tools from "${file}": `)
    expect(error.message).toMatch(message)
    expect(error.cure).toContain('tool({ description, input, run })')
  })

  it('that is not there, or is no program, is refused', async () => {
    expect((await errorOf(loadToolModule('/nowhere/a.ts'), 'tool_module')).message).toContain(
      '"/nowhere/a.ts": there is no such file',
    )
    expect((await errorOf(loadToolModule('tools'), 'tool_module')).message).toContain('its name ends neither in .ts nor in .js')
  })

  it('whose import never ends is refused at the deadline', async () => {
    const file = toolFile('await new Promise((resolve) => setTimeout(resolve, 60_000).unref())')

    expect((await errorOf(loadToolModule(file, { timeoutMs: 50 }), 'tool_module')).message).toContain(
      'it did not end within 50 ms',
    )
  })
})

describe('an answer', () => {
  it.each<[string, unknown, unknown]>([
    ['text', 'ä', { content: [{ type: 'text', text: 'ä' }] }],
    ['nothing', undefined, { content: [] }],
    ['null', null, { content: [] }],
    ['a number', 42, { content: [{ type: 'text', text: '42' }] }],
    ['a list', [1, 'a'], { content: [{ type: 'text', text: '[1,"a"]' }] }],
    [
      'an object, as JSON has it',
      { at: new Date(0), gone: undefined },
      {
        content: [{ type: 'text', text: '{"at":"1970-01-01T00:00:00.000Z"}' }],
        structuredContent: { at: '1970-01-01T00:00:00.000Z' },
      },
    ],
  ])('of %s', (_title, value, result) => {
    expect(answerOf(value)).toEqual(result)
  })

  it('that JSON cannot hold is refused', () => {
    const circle: { self?: unknown } = {}
    circle.self = circle

    expect(() => answerOf({ n: 5n })).toThrow(TypeError)
    expect(() => answerOf(() => 5)).toThrow(TypeError)
    expect(() => answerOf(circle)).toThrow(TypeError)
  })

  it('is bounded at 8 MiB, counted in bytes', () => {
    const MiB = 1_024 * 1_024

    expect(answerOf('x'.repeat(8 * MiB)).content).toHaveLength(1)
    expect(() => answerOf('x'.repeat(8 * MiB + 1))).toThrow(TooLarge)
    expect(() => answerOf('ä'.repeat(4 * MiB + 1))).toThrow(TooLarge)
    expect(() => answerOf({ a: ['\u0000'.repeat(2 * MiB)] })).toThrow(TooLarge)
  })
})

describe('mistakes', () => {
  it('name the field, what is wrong and what was given, and are not too many', () => {
    const schema = z.strictObject({ city: z.string(), days: z.array(z.number().max(7)), unit: z.enum(['C', 'F']) })
    const given = { city: 5, days: [1, 9], unit: 'K'.repeat(500), more: true }

    const words = mistakesIn(given, schema.safeParse(given).error!.issues)

    expect(words).toContain('city: Invalid input: expected string, received number, given 5')
    expect(words).toContain('days.1: Too big: expected number to be <=7, given 9')
    expect(words).toMatch(/unit: Invalid option: .*, given "K{79}…/)
    expect(words).toContain('Unrecognized key: "more"')
    const many = Array.from({ length: 30 }, (_, n) => ({ path: ['list', n], message: 'no' }))
    expect(mistakesIn({}, many)).toMatch(/list\.9: no, given nothing; and 20 more$/)
  })
})
