import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '../../telemetry/log.ts'
import { openSession, type SessionOptions, type ToolSession } from '../../tools/session.ts'
import { callTool, errorOf, eventually, isAlive, stdioServer, TRACEPARENT } from '../support/mcp-calls.ts'

const sessions: ToolSession[] = []

function open(env: Readonly<Record<string, string>> = {}, options: Partial<SessionOptions> = {}) {
  const server = stdioServer(env)
  const session = openSession(server.runtime, { name: 'test', log: silentLog(), ...options })
  sessions.push(session)
  return { session, ledger: server.ledger }
}

afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.close()))
})

describe('tool list', () => {
  it('has the tools of all pages with their hints and leaves out what cannot be offered', async () => {
    const { session } = open()

    const tools = await session.list()

    const names = tools.map(({ name }) => name)
    expect(names).toContain('count')
    expect(names).toContain('a.b/c')
    expect(names).not.toContain('needs-task')
    expect(names).not.toContain('bad-schema')
    expect(tools.find(({ name }) => name === 'pid')).toMatchObject({ readOnlyHint: true, idempotentHint: true })
    expect(tools.find(({ name }) => name === 'count')).toMatchObject({ readOnlyHint: false, destructiveHint: false })
    expect(tools.find(({ name }) => name === 'structured')?.outputSchema).toMatchObject({ type: 'object' })
  })

  it('is announced as changed, and the new tool can be called', async () => {
    const { session } = open()
    let changes = 0
    session.onListChanged(() => changes++)
    await session.list()

    await callTool(session, 'grow')
    await eventually(() => changes > 0)

    expect((await callTool(session, 'grown')).value).toBe('grown')
    expect((await session.list()).map(({ name }) => name)).toContain('grown')
  })
})

describe('results', () => {
  let session: ToolSession
  beforeAll(() => {
    session = openSession(stdioServer().runtime, { name: 'test', log: silentLog() })
  })
  afterAll(() => session.close())

  it('prefers structured content, then text, then content blocks without their bytes', async () => {
    expect(await callTool(session, 'structured')).toEqual({ value: { count: 7 }, isError: false })
    expect(await callTool(session, 'lines')).toEqual({ value: 'a\nb', isError: false })
    expect(await callTool(session, 'nothing')).toEqual({ value: null, isError: false })
    expect((await callTool(session, 'picture')).value).toEqual([
      { type: 'text', text: 'a dot' },
      { type: 'image', mimeType: 'image/png', bytes: 30 },
      { type: 'resource', resource: { uri: 'file:///a', mimeType: 'text/plain', text: 'in full' } },
      { type: 'hologram', depth: 3 },
    ])
  })

  it('gives back what a tool says of its own failure', async () => {
    expect(await callTool(session, 'fail')).toEqual({ value: 'the disk is full', isError: true })
  })

  it.each(['broken', 'missing'])('refuses a result that breaks the schema of its tool: %s', async (tool) => {
    const error = await errorOf(callTool(session, tool), 'tool_failed')

    expect(error.message).toMatch(/MCP server "test" broke the output schema of its tool/)
  })

  it('tells a refused request from a failed tool', async () => {
    expect((await errorOf(callTool(session, 'refuse'), 'tool_failed')).message).toContain('not today')
  })

  it('drops a result of 50 MB while it is read and keeps the server and its other calls', async () => {
    const pid = await callTool(session, 'pid')
    const other = callTool(session, 'sleep', { ms: 300 })
    const before = process.resourceUsage().maxRSS

    const error = await errorOf(callTool(session, 'big', { bytes: 50_000_000 }), 'payload_too_large')

    expect(error.message).toContain('16842752 bytes')
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(100 * 1_024)
    expect((await other).value).toBe('slept')
    expect(await callTool(session, 'pid')).toEqual(pid)
  })

  it('takes a result of 8 MiB and refuses one byte more', async () => {
    const bytes = 8 * 1_024 * 1_024

    expect((await callTool(session, 'big', { bytes })).value).toHaveLength(bytes)
    await errorOf(callTool(session, 'big', { bytes: bytes + 1 }), 'payload_too_large')
  })
})

describe('calls', () => {
  it('share one process, also when they are concurrent from the start', async () => {
    const { session, ledger } = open()

    const results = await Promise.all(Array.from({ length: 50 }, () => callTool(session, 'count')))

    expect(new Set(results.map(({ value }) => value)).size).toBe(50)
    expect(ledger().filter((line) => line.startsWith('start'))).toHaveLength(1)
    expect(ledger().filter((line) => line === 'ran count')).toHaveLength(50)
  })

  it('carry the trace and the idempotency key', async () => {
    const { session } = open()

    const { value } = await callTool(session, 'meta', {}, { idempotencyKey: 'a_b_3-1', tracestate: 'k=v' })

    expect(value).toEqual({ meta: { traceparent: TRACEPARENT, tracestate: 'k=v', 'kaos.tools/idempotency-key': 'a_b_3-1' } })
  })

  it('end at their time-out, and the server is told', async () => {
    const { session, ledger } = open()
    await session.list()
    const begin = performance.now()

    const error = await errorOf(callTool(session, 'sleep', { ms: 60_000 }, { timeoutMs: 300 }), 'tool_timeout')

    expect(performance.now() - begin).toBeLessThan(900)
    expect(error.details).toEqual({ sent: true })
    await eventually(() => ledger().includes('canceled sleep'))
    expect((await callTool(session, 'count')).value).toBe('1')
  })

  it('end when they are aborted, and the server is told', async () => {
    const { session, ledger } = open()
    const abort = new AbortController()
    const call = callTool(session, 'sleep', { ms: 60_000 }, { signal: abort.signal })
    await eventually(() => ledger().includes('ran sleep'))

    abort.abort()

    await errorOf(call, 'aborted')
    await eventually(() => ledger().includes('canceled sleep'))
  })

  it('do not begin when they are aborted before', async () => {
    const { session, ledger } = open()
    await session.list()

    const error = await errorOf(callTool(session, 'count', {}, { signal: AbortSignal.abort() }), 'aborted')

    expect(error.details).toEqual({ sent: false })
    expect(ledger()).not.toContain('ran count')
  })

  it('of a tool that does not exist name those that do', async () => {
    const { session } = open()

    const error = await errorOf(callTool(session, 'cuont'), 'unknown_tool')

    expect(error.message).toContain('count, pid')
    expect(error.details).toEqual({ sent: false })
  })
})

describe('a server that dies', () => {
  it('in a call fails what was under way and serves the next call from a new process', async () => {
    const { session, ledger } = open()
    const other = errorOf(callTool(session, 'hang'), 'tool_server_lost')
    await eventually(() => ledger().includes('ran hang'))

    const error = await errorOf(callTool(session, 'die'), 'tool_server_lost')

    expect(error.details).toEqual({ sent: true })
    expect(error.message).toContain('SIGKILL')
    await other
    expect((await callTool(session, 'count')).value).toBe('1')
    expect(ledger().filter((line) => line === 'ran die')).toHaveLength(1)
    expect(ledger().filter((line) => line.startsWith('start'))).toHaveLength(2)
  })

  it('in every call is started again each time, only by a call', async () => {
    const { session, ledger } = open()

    for (let i = 0; i < 3; i++) await errorOf(callTool(session, 'die'), 'tool_server_lost')

    expect(ledger().filter((line) => line.startsWith('start'))).toHaveLength(3)
  })

  it('while nobody calls is restored for those who watch its list', async () => {
    const { session, ledger } = open()
    let changes = 0
    session.onListChanged(() => changes++)
    const { value: pid } = await callTool(session, 'pid')

    process.kill(Number(pid), 'SIGKILL')
    await eventually(() => changes > 0)

    expect((await callTool(session, 'pid')).value).not.toBe(pid)
    expect(ledger().filter((line) => line.startsWith('start'))).toHaveLength(2)
  })

  it('of deafness takes with it what it had not read, and what was not written yet goes to the next process', async () => {
    const { session, ledger } = open()
    await callTool(session, 'deaf')
    const large = { text: 'x'.repeat(8 * 1_024 * 1_024) }

    const results = await Promise.allSettled(Array.from({ length: 6 }, () => callTool(session, 'count', large)))

    expect(results.map((result) => (result.status === 'fulfilled' ? result.value.value : result.reason.details))).toEqual([
      ...Array.from({ length: 5 }, () => ({ sent: true })),
      '1',
    ])
    expect(ledger().filter((line) => line === 'ran count')).toHaveLength(1)
  })

  it('at its start tells what it said last', async () => {
    const session = openSession(
      {
        runtime: 'stdio',
        command: process.execPath,
        args: ['-e', 'console.error("no such database"); process.exit(3)'],
        env: {},
      },
      { name: 'db', log: silentLog() },
    )
    sessions.push(session)

    const error = await errorOf(session.list(), 'tool_server_lost')

    expect(error.message).toMatch(/MCP server "db" could not be opened.*no such database.*exit code 3/)
    expect(error.details).toEqual({ sent: false })
  })

  it('is not tried more often than the back-off allows', async () => {
    const { runtime, ledger } = stdioServer()
    const dying = { ...runtime, args: ['-e', `require("fs").appendFileSync(process.env.LEDGER, "start\\n"); process.exit(1)`] }
    const session = openSession(dying, { name: 'test', log: silentLog() })
    sessions.push(session)

    const begin = performance.now()
    for (let i = 0; i < 4; i++) await errorOf(callTool(session, 'count'), 'tool_server_lost')

    expect(performance.now() - begin).toBeGreaterThan(300) // 0, 100 and 200 ms
    expect(ledger()).toHaveLength(4)
  })
})

describe('opening', () => {
  it('fails clearly where there is no such command', async () => {
    const session = openSession(
      { runtime: 'stdio', command: 'no-such-command', args: [], env: {} },
      { name: 'x', log: silentLog() },
    )
    sessions.push(session)

    const error = await errorOf(callTool(session, 'count'), 'tool_server_lost')

    expect(error.message).toContain('could not start "no-such-command": no such command')
    expect(error.details).toEqual({ sent: false })
  })

  it('ends with its own time-out, and with that of the call if it comes first', async () => {
    const silent = open({ SILENT: '1' }, { openTimeoutMs: 1_000 })
    const begin = performance.now()

    await errorOf(callTool(silent.session, 'count', {}, { timeoutMs: 200 }), 'tool_timeout')
    expect(performance.now() - begin).toBeLessThan(600)
    const error = await errorOf(silent.session.list(), 'tool_server_lost')

    expect(performance.now() - begin).toBeLessThan(6_000) // 1 s, and the steps of ending the process
    expect(error.message).toContain('did not answer the handshake in time')
  })

  it('gives the child a safe environment and what is declared', async () => {
    const { session } = open(
      { DECLARED: 'yes' },
      { env: { PATH: process.env.PATH, LANG: 'C', OPENAI_API_KEY: 'sk-not-for-tools' } },
    )

    const { value } = await callTool(session, 'env')

    expect(value).toMatchObject({ PATH: process.env.PATH, LANG: 'C', DECLARED: 'yes' })
    expect(value).not.toHaveProperty('OPENAI_API_KEY')
  })

  it('survives noise on stdout and conceals declared values in the log', async () => {
    const lines: string[] = []
    const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
    const { session } = open({ NOISY: '1', MY_KEY: 'abcdef-secret-123456' }, { log })

    expect((await callTool(session, 'count')).value).toBe('1')

    await eventually(() => lines.some((line) => line.includes('listening with key [redacted]')))
    expect(lines.some((line) => line.includes('starting up, please wait'))).toBe(true)
    expect(lines.join()).not.toContain('abcdef-secret')
  })
})

describe('closing', () => {
  it('ends a server by the end of its input', async () => {
    const { session } = open()
    const { value: pid } = await callTool(session, 'pid')
    const begin = performance.now()

    await session.close()

    expect(isAlive(Number(pid))).toBe(false)
    expect(performance.now() - begin).toBeLessThan(1_000)
    await errorOf(callTool(session, 'count'), 'aborted')
  })

  it('ends one that ignores that, with all that it started, within its deadline', async () => {
    const { session, ledger } = open({ STUBBORN: '1' })
    await session.list()
    const pids = ledger().flatMap((line) => (/^(start|child) /.test(line) ? [Number(line.split(' ')[1])] : []))
    const begin = performance.now()

    await session.close()

    expect(performance.now() - begin).toBeLessThan(9_000) // three steps of 1 s, three times
    expect(ledger()).toContain('ignored SIGTERM')
    await eventually(() => pids.length === 2 && pids.every((pid) => !isAlive(pid)))
  })

  it('ends calls under way', async () => {
    const { session, ledger } = open()
    const call = errorOf(callTool(session, 'hang'), 'aborted')
    await eventually(() => ledger().includes('ran hang'))

    await session.close()

    await call
  })

  it('happens to the server also when its host exits without closing', async () => {
    const { runtime, ledger } = stdioServer({ STUBBORN: '1' })
    const script = `
      import { openSession } from ${JSON.stringify(fileURLToPath(new URL('../../tools/session.ts', import.meta.url)))}
      import { silentLog } from ${JSON.stringify(fileURLToPath(new URL('../../telemetry/log.ts', import.meta.url)))}
      await openSession(${JSON.stringify(runtime)}, { log: silentLog() }).list()
      process.exit(0)`

    const { status } = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: 'inherit' })

    expect(status).toBe(0)
    const pids = ledger().flatMap((line) => (/^(start|child) /.test(line) ? [Number(line.split(' ')[1])] : []))
    await eventually(() => pids.length === 2 && pids.every((pid) => !isAlive(pid)))
  })
})
