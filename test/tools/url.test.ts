import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { inspect } from 'node:util'
import { pino } from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../telemetry/log.ts'
import { openSession, type SessionOptions, type ToolSession } from '../../tools/session.ts'
import { callTool, errorOf, eventually, TRACEPARENT } from '../support/mcp-calls.ts'
import { type McpHttpOptions, spawnMcpHttpServer, startMcpHttpServer } from '../support/mcp-http-server.ts'

const toClose: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close()
})

async function start(options: McpHttpOptions = {}) {
  const server = await startMcpHttpServer(options)
  toClose.push(() => server.close())
  return { server, session: open(server.url) }
}

async function spawn(env: { readonly PORT?: string; readonly JSON?: string } = {}) {
  const LEDGER = join(mkdtempSync(join(tmpdir(), 'kaos-mcp-')), 'ledger')
  writeFileSync(LEDGER, '')
  const server = await spawnMcpHttpServer({ LEDGER, ...env })
  toClose.push(() => server.kill())
  return { server, ledger: () => readFileSync(LEDGER, 'utf8').trim().split('\n') }
}

function open(url: string, headers?: Readonly<Record<string, string>>, options: Partial<SessionOptions> = {}): ToolSession {
  const session = openSession({ runtime: 'url', url, headers }, { name: 'remote', log: silentLog(), ...options })
  toClose.push(() => session.close())
  return session
}

/** A server that answers whatever the test wants. */
async function serve(listener: RequestListener): Promise<string> {
  const http = createServer(listener)
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  toClose.push(async () => {
    http.closeAllConnections()
    http.close()
  })
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`
}

describe.each([{ json: false }, { json: true }])('a server that answers with JSON: $json', ({ json }) => {
  it('lists, calls, and gives structured content and failures', async () => {
    const { session } = await start({ json })

    expect((await session.list()).map(({ name }) => name)).toContain('structured')
    expect((await callTool(session, 'structured')).value).toEqual({ count: 7 })
    expect(await callTool(session, 'fail')).toEqual({ value: 'the disk is full', isError: true })
    await errorOf(callTool(session, 'refuse'), 'tool_failed')
  })

  it('serves all calls over one session and few connections', async () => {
    const { server, session } = await start({ json })

    for (let i = 0; i < 20; i++) await callTool(session, 'count')

    expect((await callTool(session, 'count')).value).toBe('21')
    expect(server.ledger.filter((line) => line === 'session')).toHaveLength(1)
    expect(server.connectionCount()).toBeLessThanOrEqual(4)
  })

  it('gets the cancellation of a call that took too long, whose connection is given back', async () => {
    const { server, session } = await start({ json })
    await session.list()
    await eventually(() => server.requests.some(({ method }) => method === 'GET'))
    const begin = performance.now()

    const calls = Array.from({ length: 5 }, () => callTool(session, 'sleep', { ms: 60_000 }, { timeoutMs: 300 }))
    await Promise.all(calls.map((call) => errorOf(call, 'tool_timeout')))

    expect(performance.now() - begin).toBeLessThan(900)
    await eventually(() => server.ledger.filter((line) => line === 'canceled sleep').length === 5)
    expect((await callTool(session, 'count')).value).toBe('1')
    expect(server.ledger.filter((line) => line === 'session')).toHaveLength(1)
  })

  it('cannot fill the memory of its caller', async () => {
    const { server } = await spawn(json ? { JSON: '1' } : {})
    const session = open(server.url)
    const other = callTool(session, 'sleep', { ms: 300 })
    const before = process.resourceUsage().maxRSS

    const error = await errorOf(callTool(session, 'big', { bytes: 50_000_000 }), 'payload_too_large')

    expect(error.message).toBe('MCP server "remote" answered more than 16842752 bytes')
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(100 * 1_024)
    expect((await other).value).toBe('slept')
    expect((await callTool(session, 'big', { bytes: 8 * 1_024 * 1_024 })).value).toHaveLength(8 * 1_024 * 1_024)
  })

  it('is known to be lost when it dies in a call, and serves the next call when it is back', async () => {
    const { server, ledger } = await spawn(json ? { JSON: '1' } : {})
    const session = open(server.url)
    await session.list()
    const begin = performance.now()

    const error = await errorOf(callTool(session, 'die'), 'tool_server_lost')

    expect(error.details).toEqual({ sent: true })
    expect(performance.now() - begin).toBeLessThan(2_000)
    expect(ledger().filter((line) => line === 'ran die')).toHaveLength(1)
    expect((await errorOf(callTool(session, 'count'), 'tool_server_lost')).details).toEqual({ sent: false })
    await spawn({ PORT: String(server.port) })
    expect((await callTool(session, 'count')).value).toBe('1')
  })
})

describe('an HTTP session', () => {
  it('that the server forgot is opened again, and the request is sent once more', async () => {
    const { server, session } = await start()
    await callTool(session, 'count')

    server.forgetSessions()
    const results = await Promise.all(Array.from({ length: 10 }, () => callTool(session, 'count')))

    expect(new Set(results.map(({ value }) => value)).size).toBe(10)
    expect(server.ledger.filter((line) => line === 'ran count')).toHaveLength(11)
    expect(server.ledger.filter((line) => line === 'session')).toHaveLength(2)
  })

  it('is opened again also for a list', async () => {
    const { server, session } = await start()
    await session.list()

    server.forgetSessions()

    expect((await session.list()).length).toBeGreaterThan(5)
  })

  it('is ended when the session is closed', async () => {
    const { server, session } = await start()
    await session.list()

    await session.close()

    expect(server.ledger).toContain('session closed')
    await eventually(async () => (await server.openConnections()) === 0)
  })

  it('tells of a changed list', async () => {
    const { server, session } = await start()
    let changes = 0
    session.onListChanged(() => changes++)
    await session.list()
    await eventually(() => server.requests.some(({ method }) => method === 'GET'))

    await callTool(session, 'grow')

    await eventually(() => changes > 0)
    expect((await session.list()).map(({ name }) => name)).toContain('grown')
  })

  it('whose server was started anew is restored for those who watch its list', async () => {
    const { server } = await spawn()
    const session = open(server.url)
    let changes = 0
    session.onListChanged(() => changes++)
    await session.list()

    await server.kill()
    await spawn({ PORT: String(server.port) })

    await eventually(() => changes > 0, 20_000)
  })
})

describe('an answer whose stream breaks', () => {
  it('is taken up again where the server allows it', async () => {
    const session = open(
      await serveBrokenStream((response) => response.writeHead(200, eventStream).end(event(2, resultOf('resumed')))),
    )

    expect((await callTool(session, 'count')).value).toBe('resumed')
  })

  it('is lost when it cannot be taken up', async () => {
    const session = open(await serveBrokenStream((response) => response.writeHead(500).end()))
    await session.list()
    const begin = performance.now()

    const error = await errorOf(callTool(session, 'count'), 'tool_server_lost')

    expect(error.message).toContain('ended its answer without a result')
    expect(error.details).toEqual({ sent: true })
    expect(performance.now() - begin).toBeLessThan(3_000) // two tries, 0.5 s apart, three times
  })

  const eventStream = { 'content-type': 'text/event-stream' }
  const event = (id: number, data: unknown) => `id: ${id}\ndata: ${data === '' ? '' : JSON.stringify(data)}\n\n`
  let callId: unknown
  const resultOf = (text: string) => ({ jsonrpc: '2.0', id: callId, result: { content: [{ type: 'text', text }] } })

  /** Ends the stream of a call after its first, empty event; `resume` answers the GET that takes it up. */
  function serveBrokenStream(resume: (response: ServerResponse) => void): Promise<string> {
    return serve(async (request, response) => {
      if (request.method === 'GET') return request.headers['last-event-id'] ? resume(response) : response.writeHead(405).end()
      const { id, method } = (await json(request)) as { id?: number; method: string }
      const answer = (result: unknown) =>
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id, result }))
      if (id === undefined) return response.writeHead(202).end()
      if (method === 'initialize')
        return answer({ protocolVersion: '2025-06-18', capabilities: {}, serverInfo: { name: 'x', version: '1' } })
      if (method === 'tools/list') return answer({ tools: [{ name: 'count', inputSchema: { type: 'object' } }] })
      callId = id
      return response.writeHead(200, eventStream).end(event(1, ''))
    })
  }
})

describe('requests', () => {
  it('carry the configured headers and the trace of their call', async () => {
    const { server } = await start()
    const session = open(server.url, { authorization: 'Bearer of-good-news' })

    await Promise.all([
      callTool(session, 'count', {}, { tracestate: 'k=v' }),
      callTool(session, 'pid', {}, { traceparent: '00-other' }),
    ])

    const posts = server.requests.filter(({ method }) => method === 'POST').map(({ headers }) => headers)
    expect(posts.every(({ authorization }) => authorization === 'Bearer of-good-news')).toBe(true)
    expect(posts.filter(({ traceparent, tracestate }) => traceparent === TRACEPARENT && tracestate === 'k=v')).toHaveLength(1)
    expect(posts.filter(({ traceparent }) => traceparent === '00-other')).toHaveLength(1)
  })

  it('take user and password from the address, and no message shows them', async () => {
    const { server } = await start()
    const lines: string[] = []
    const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
    const session = open(server.url.replace('//', '//me:open-sesame@'), undefined, { log })
    await callTool(session, 'count')

    server.refuseWith(500)
    const error = await errorOf(callTool(session, 'count'), 'tool_server_lost')

    expect(server.requests[0]?.headers.authorization).toBe(`Basic ${Buffer.from('me:open-sesame').toString('base64')}`)
    expect(error.details).toEqual({ sent: true })
    expect(inspect(error) + lines.join()).not.toContain('open-sesame')
  })

  it('that are refused say so and name the status', async () => {
    const { server, session } = await start()
    server.refuseWith(401)

    const error = await errorOf(callTool(session, 'count'), 'tool_server_lost')

    expect(error.message).toMatch(/could not be opened: HTTP 401/)
    expect(error.details).toEqual({ sent: false })
  })

  it('to nobody are known not to have left', async () => {
    const { server } = await start()
    await server.close()
    const session = open(server.url)

    const error = await errorOf(callTool(session, 'count'), 'tool_server_lost')

    expect(error.message).toContain('ECONNREFUSED')
    expect(error.details).toEqual({ sent: false })
  })

  it('to a server that never answers end with the opening', async () => {
    const session = open(await serve(() => {}), undefined, { openTimeoutMs: 200 })
    const begin = performance.now()

    const error = await errorOf(session.list(), 'tool_server_lost')

    expect(performance.now() - begin).toBeLessThan(3_000)
    expect(error.message).toContain('did not answer the handshake in time')
  })

  it('whose answer has secrets in it do not repeat them', async () => {
    const url = await serve((_request, response) => response.writeHead(403).end('wrong key: very-secret-value'))
    const lines: string[] = []
    const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
    const session = open(url, { 'x-key': 'very-secret-value' }, { log })

    const error = await errorOf(session.list(), 'tool_server_lost')

    expect(error.message).toContain('wrong key: [redacted]')
    expect(inspect(error) + lines.join()).not.toContain('very-secret')
  })
})
