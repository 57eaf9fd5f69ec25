import { afterEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../telemetry/log.ts'
import { openSession, type ToolSession } from '../../tools/session.ts'
import { callTool, errorOf, eventually, TRACEPARENT } from '../support/mcp-calls.ts'
import { toolFile } from '../support/tool-file.ts'

const sessions: ToolSession[] = []

function open(body: string): ToolSession {
  const session = openSession({ runtime: 'typescript', file: toolFile(body) }, { name: 'own', log: silentLog() })
  sessions.push(session)
  return session
}

/** What happens inside of tools; they are imported by another loader than this test. */
const seen: string[] = []
Object.assign(globalThis, { note: (line: string) => seen.push(line) })

afterEach(async () => {
  seen.length = 0
  await Promise.all(sessions.splice(0).map((session) => session.close()))
})

const simple = (run: string, more = '') =>
  open(`export const it = tool({ description: 'x', input: z.object({ n: z.number().int().optional() }), ${more} run: ${run} })`)

describe('tools of a file', () => {
  it('are listed with what they take, give and promise', async () => {
    const session = open(
      `export const roll = tool({
         title: 'Dice', description: 'Rolls.', input: z.object({ sides: z.number() }), output: z.object({ eyes: z.number() }),
         idempotentHint: true, destructiveHint: false, run: () => ({ eyes: 4 }) })
       export const look = tool({ description: 'Looks.', input: z.object({}), readOnlyHint: true, run: () => '' })`,
    )

    const tools = await session.list()

    expect(tools.toSorted((a, b) => (a.name < b.name ? -1 : 1))).toMatchObject([
      { name: 'look', description: 'Looks.', readOnlyHint: true, idempotentHint: false },
      {
        name: 'roll',
        inputSchema: { type: 'object', properties: { sides: { type: 'number' } } },
        outputSchema: { type: 'object', properties: { eyes: { type: 'number' } } },
        readOnlyHint: false,
        idempotentHint: true,
        destructiveHint: false,
      },
    ])
  })

  it.each<[string, string, unknown]>([
    ['text', `() => 'fine'`, 'fine'],
    ['a promise of text', `async () => 'fine'`, 'fine'],
    ['an object', `() => ({ list: [1, null], at: new Date(0) })`, { list: [1, null], at: '1970-01-01T00:00:00.000Z' }],
    ['nothing', '() => {}', null],
    ['a list', '() => [1, 2]', '[1,2]'],
  ])('answer %s', async (_title, run, value) => {
    expect(await callTool(simple(run), 'it')).toEqual({ value, isError: false })
  })

  it('get the effect id, the trace and a signal', async () => {
    const session = simple('(_input, { signal, ...rest }) => ({ ...rest, aborted: signal.aborted })')

    const { value } = await callTool(session, 'it', {}, { idempotencyKey: 'a_b_3-1', tracestate: 'k=v' })

    expect(value).toEqual({ idempotencyKey: 'a_b_3-1', traceparent: TRACEPARENT, tracestate: 'k=v', aborted: false })
  })

  it('get a trace of their own where the caller has none', async () => {
    const session = simple('(_input, { traceparent }) => traceparent')

    const { value } = await callTool(session, 'it', {}, { traceparent: '' })

    expect(value).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
  })

  it('get input with its defaults and transformations', async () => {
    const session = open(
      `export const it = tool({ description: 'x', input: z.object({ a: z.string().default('d'), b: z.string().transform((s) => s.length) }),
         run: (input) => input })`,
    )

    expect((await callTool(session, 'it', { b: 'four', c: 'unknown' })).value).toEqual({ a: 'd', b: 4 })
  })

  it('never see input that does not fit: the model is told what is wrong', async () => {
    const session = simple('() => { note("ran"); return "" }')

    const { value, isError } = await callTool(session, 'it', { n: 'five' })

    expect(isError).toBe(true)
    expect(value).toBe('the input of tool "it" cannot be used: n: Invalid input: expected number, received string, given "five"')
    expect(seen).toEqual([])
  })

  it.each<[string, string, string]>([
    ['that breaks its own schema', '() => ({ eyes: "four" })', 'tool "it" broke its own output schema: eyes: Invalid input'],
    ['of nothing where something was promised', '() => {}', 'tool "it" broke its own output schema: Invalid input'],
  ])('have a result refused %s', async (_title, run, message) => {
    const { value, isError } = await callTool(simple(run, 'output: z.object({ eyes: z.number() }),'), 'it')

    expect(isError).toBe(true)
    expect(value).toContain(message)
  })

  it.each<[string, string, string]>([
    ['throws', `() => { throw new Error('the disk is full') }`, 'the disk is full'],
    ['rejects', `() => Promise.reject('no')`, 'no'],
    ['throws nothing', `() => { throw undefined }`, 'undefined'],
    ['returns a bigint', '() => ({ n: 5n })', 'tool "it" returned what JSON cannot hold: '],
    ['returns a circle', '() => { const a = {}; a.a = a; return a }', 'tool "it" returned what JSON cannot hold: '],
  ])('that %s fails alone', async (_title, run, message) => {
    const session = simple(run)

    const { value, isError } = await callTool(session, 'it')

    expect(isError).toBe(true)
    expect(value).toContain(message)
    expect((await session.list()).map(({ name }) => name)).toEqual(['it'])
  })

  it('are told of a time-out, and a tool that ignores it holds nothing up', async () => {
    const session = open(
      `export const deaf = tool({ description: 'x', input: z.object({}), run: (_input, { signal }) => {
         note('began')
         signal.addEventListener('abort', () => note('aborted'))
         return new Promise(() => {})
       } })
       export const other = tool({ description: 'x', input: z.object({}), run: () => 'fine' })`,
    )
    await session.list()
    const begins = (count: number) => eventually(() => seen.filter((line) => line === 'began').length === count)

    await errorOf(callTool(session, 'deaf', {}, { timeoutMs: 50 }), 'tool_timeout')
    const canceled = new AbortController()
    const call = errorOf(callTool(session, 'deaf', {}, { signal: canceled.signal }), 'aborted')
    await begins(2)
    canceled.abort()
    await call
    const last = errorOf(callTool(session, 'deaf'), 'aborted')
    await begins(3)
    expect((await callTool(session, 'other')).value).toBe('fine')
    await session.close()
    await last

    await eventually(() => seen.filter((line) => line === 'aborted').length === 3)
  })

  it.each<[string, string]>([
    ['a text', `() => { const text = 'x'.repeat(50_000_000); text.charCodeAt(5); return text }`],
    [
      'a list',
      `() => Array.from({ length: 500_000 }, () => 'a text that many elements share, a hundred characters long, or nearly so: this is it.')`,
    ],
    ['an object', `() => ({ text: 'x'.repeat(50_000_000) })`],
  ])('that answer 50 MB as %s end with payload_too_large, without copies of it', async (_title, run) => {
    const session = simple(run)
    await session.list()
    const before = process.resourceUsage().maxRSS

    const error = await errorOf(callTool(session, 'it'), 'payload_too_large')

    expect(error.message).toBe('MCP server "own" answered more than 8388608 bytes with its tool "it"')
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(100 * 1_024)
    await errorOf(callTool(session, 'it'), 'payload_too_large')
  })

  it('that are unknown are refused by name', async () => {
    expect((await errorOf(callTool(simple('() => 1'), 'that'), 'unknown_tool')).message).toContain(
      'has no tool "that"; it has: it',
    )
  })
})

it('a file that cannot be used fails the call with its reason', async () => {
  const session = open('export const a = 5')

  expect((await errorOf(callTool(session, 'a'), 'tool_module')).message).toContain('it exports no tool')
})
