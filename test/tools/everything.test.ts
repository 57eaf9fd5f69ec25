/** Against the reference server of the MCP project: what is right between two programs of ours is not yet the protocol. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '../../telemetry/log.ts'
import type { ResolvedRuntime } from '../../tools/runtimes/open.ts'
import { openSession, type ToolSession } from '../../tools/session.ts'
import { callTool, errorOf, eventually } from '../support/mcp-calls.ts'

const script = fileURLToPath(new URL('../../node_modules/@modelcontextprotocol/server-everything/dist/index.js', import.meta.url))

const overStdio: ResolvedRuntime = { runtime: 'stdio', command: process.execPath, args: [script], env: {} }
let http: { readonly port: number; readonly child: ChildProcess; readonly postCount: () => number }
const overHttp = (): ResolvedRuntime => ({ runtime: 'url', url: `http://127.0.0.1:${http.port}/mcp` })

async function startHttp(port: number) {
  const child = spawn(process.execPath, [script, 'streamableHttp'], {
    env: { PATH: process.env.PATH, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let posts = 0
  createInterface(child.stdout).on('line', (line) => {
    if (line.includes('Received MCP POST request')) posts++
  })
  await once(createInterface(child.stderr), 'line') // it says that it listens
  return { port, child, postCount: () => posts }
}

async function stopHttp() {
  const exited = once(http.child, 'exit')
  http.child.kill('SIGKILL')
  await exited
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  return port
}

beforeAll(async () => {
  http = await startHttp(await freePort())
})
afterAll(stopHttp)

const sessions: ToolSession[] = []
function open(runtime: ResolvedRuntime): ToolSession {
  const session = openSession(runtime, { name: 'everything', log: silentLog() })
  sessions.push(session)
  return session
}
afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.close()))
})

describe.each([
  { way: 'stdio', runtime: () => overStdio },
  { way: 'Streamable HTTP', runtime: overHttp },
])('over $way', ({ runtime }) => {
  it('lists and calls text, structured and picture tools', async () => {
    const session = open(runtime())

    const tools = await session.list()

    expect(tools.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['echo', 'get-sum', 'get-structured-content', 'get-tiny-image']),
    )
    expect((await callTool(session, 'echo', { message: 'hello' })).value).toBe('Echo: hello')
    expect((await callTool(session, 'get-sum', { a: 2, b: 40 })).value).toContain('42')
    expect((await callTool(session, 'get-structured-content', { location: 'Chicago' })).value).toMatchObject({ humidity: 82 })
    expect((await callTool(session, 'get-tiny-image')).value).toContainEqual({
      type: 'image',
      mimeType: 'image/png',
      bytes: expect.any(Number),
    })
  })

  it('gives back what is wrong with arguments', async () => {
    const { isError, value } = await callTool(open(runtime()), 'get-sum', { a: 'two' })

    expect(isError).toBe(true)
    expect(value).toContain('Invalid arguments for tool get-sum')
  })

  it('ends a long call at its time-out and goes on', async () => {
    const session = open(runtime())
    await session.list()
    const begin = performance.now()

    await errorOf(
      callTool(session, 'trigger-long-running-operation', { duration: 20, steps: 2 }, { timeoutMs: 300 }),
      'tool_timeout',
    )

    expect(performance.now() - begin).toBeLessThan(900)
    expect((await callTool(session, 'echo', { message: 'still here' })).value).toBe('Echo: still here')
  })
})

describe('over Streamable HTTP with event ids', () => {
  it('a server that dies in a call and comes back is noticed, and the session is opened again', async () => {
    const session = open(overHttp())
    await callTool(session, 'echo', { message: 'one' })
    const posts = http.postCount()
    const call = callTool(session, 'trigger-long-running-operation', { duration: 20, steps: 100 }, { timeoutMs: 20_000 })
    const lost = errorOf(call, 'tool_server_lost')
    await eventually(() => http.postCount() > posts)

    await stopHttp()
    const begin = performance.now()
    const error = await lost
    http = await startHttp(http.port)

    expect(error.details).toEqual({ sent: true })
    expect(performance.now() - begin).toBeLessThan(6_000) // two resumes of 0.5 s each, three times
    expect((await callTool(session, 'echo', { message: 'two' })).value).toBe('Echo: two')
  })

  it('a server that was started anew while nobody called refuses the old session, and the call is sent again', async () => {
    const session = open(overHttp())
    await callTool(session, 'echo', { message: 'one' })

    await stopHttp()
    http = await startHttp(http.port)

    expect((await callTool(session, 'echo', { message: 'two' })).value).toBe('Echo: two')
  })
})
