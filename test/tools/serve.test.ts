/** A file of tools as a standard MCP server, seen by the official client and by the MCP inspector. */
import { execFile } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '../../telemetry/log.ts'
import { loadToolModule } from '../../tools/own/module.ts'
import { type HttpServing, serveOverHttp } from '../../tools/own/serve-http.ts'
import { cachedPackage } from '../support/cached-npm.ts'
import { cleanEnv, Folder, MAIN, type Started } from '../support/cli.ts'
import { errorOf, TRACEPARENT } from '../support/mcp-calls.ts'
import { toolFile } from '../support/tool-file.ts'

const FILE = toolFile(
  `console.log('this must not reach stdout')
   process.stdout.write('nor must this\\n')
   export const add = tool({ title: 'Sum', description: 'Adds.', input: z.object({ a: z.number(), b: z.number() }),
     output: z.object({ sum: z.number() }), readOnlyHint: true, run: ({ a, b }) => ({ sum: a + b }) })
   export const context = tool({ description: 'Tells its context.', input: z.object({}), run: (_input, { signal, ...rest }) => {
     console.log('a line of a tool')
     return rest
   } })
   export const big = tool({ description: 'Much.', input: z.object({}), run: () => 'x'.repeat(9_000_000) })
   export const hang = tool({ description: 'Never ends.', input: z.object({}), run: () => {
     console.error('it hangs')
     return new Promise((resolve) => setTimeout(resolve, 3_600_000))
   } })
   export const slow = tool({ description: 'Takes a moment.', input: z.object({}), run: () => new Promise((resolve) => setTimeout(resolve, 100, 'slept')) })`,
  'sums.ts',
)

let folder: Folder
beforeAll(async () => {
  folder = await Folder.create()
})
afterAll(() => folder.remove())

const clients: Client[] = []
async function connect(transport: Transport): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' })
  clients.push(client)
  await client.connect(transport)
  return client
}
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()))
})

const overStdio = (): Transport =>
  new StdioClientTransport({ command: process.execPath, args: [MAIN, 'tools', 'serve', FILE], stderr: 'ignore' })

async function startHttp(address = '0'): Promise<{ readonly url: URL; readonly process: Started }> {
  const process = await folder.start(['tools', 'serve', FILE, '--http', address], '/mcp\n')
  return { url: new URL(/http:\S+/.exec(process.output)![0]), process }
}

describe.each([
  { way: 'stdio', transport: async () => overStdio() },
  {
    way: 'Streamable HTTP',
    transport: async () => new StreamableHTTPClientTransport((await startHttp()).url) as Transport,
  },
])('over $way', ({ transport }) => {
  it('the official client lists and calls the tools', async () => {
    const client = await connect(await transport())

    const { tools } = await client.listTools()
    const answer = await client.callTool({ name: 'add', arguments: { a: 2, b: 40 } })
    const mistake = await client.callTool({ name: 'add', arguments: { a: 'two', b: 40 } })

    expect(client.getServerVersion()).toMatchObject({ name: 'sums' })
    expect(tools.map(({ name }) => name).toSorted()).toEqual(['add', 'big', 'context', 'hang', 'slow'])
    expect(tools.find(({ name }) => name === 'add')).toMatchObject({ title: 'Sum', annotations: { readOnlyHint: true } })
    expect(answer).toEqual({ content: [{ type: 'text', text: '{"sum":42}' }], structuredContent: { sum: 42 } })
    expect(mistake).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining('a: Invalid input: expected number') }],
    })
  })

  it('the idempotency key and the trace are those that were sent, else new ones', async () => {
    const client = await connect(await transport())
    const _meta = { 'kaos.tools/idempotency-key': 'order-17', traceparent: TRACEPARENT, tracestate: 'k=v' }

    const sent = await client.callTool({ name: 'context', _meta })
    const [one, two] = [await client.callTool({ name: 'context' }), await client.callTool({ name: 'context' })]

    expect(sent.structuredContent).toEqual({ idempotencyKey: 'order-17', traceparent: TRACEPARENT, tracestate: 'k=v' })
    expect(one?.structuredContent).toEqual({
      idempotencyKey: expect.stringMatching(/^[0-9a-f-]{36}$/),
      traceparent: expect.stringMatching(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/),
    })
    expect(one?.structuredContent).not.toEqual(two?.structuredContent)
  })

  it('a result of 9 MB is an error that says so, and the server goes on', async () => {
    const client = await connect(await transport())

    await expect(client.callTool({ name: 'big' })).rejects.toThrow('answered more than 8388608 bytes with its tool "big"')
    expect((await client.callTool({ name: 'slow' })).content).toEqual([{ type: 'text', text: 'slept' }])
  })
})

describe('over stdio', () => {
  const message = (id: number, method: string, params = {}) => `${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`
  const handshake = message(0, 'initialize', {
    protocolVersion: '2025-06-18',
    capabilities: {},
    clientInfo: { name: 'test', version: '1' },
  })

  it('ends with 0 at the end of its input, after it has answered, and says nothing but the protocol', async () => {
    const input = handshake + message(1, 'tools/call', { name: 'slow' }) + message(2, 'tools/call', { name: 'context' })

    const { code, stdout, stderr } = await folder.kaos(['tools', 'serve', FILE], { input })

    const answers = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: number })
    expect(answers.map(({ id }) => id).toSorted()).toEqual([0, 1, 2])
    expect(stderr).toContain('this must not reach stdout\nnor must this\n')
    expect(stderr).toContain('a line of a tool')
    expect(code).toBe(0)
  })

  it.each(['SIGINT', 'SIGTERM'] as const)('ends with 0 at %s, also while a tool hangs', async (signal) => {
    const serving = await folder.start(['tools', 'serve', FILE], 'serving ')
    serving.child.stdin!.write(handshake + message(1, 'tools/call', { name: 'hang' }))
    await serving.waitFor('it hangs')

    expect(await serving.end(signal)).toBe(0)
  })

  it('a file that cannot be used is an error with its cure', async () => {
    const { code, stdout, stderr } = await folder.kaos(['tools', 'serve', 'nowhere.ts'])

    expect(code).not.toBe(0)
    expect(stdout).toBe('')
    expect(stderr).toMatch(
      /could not load tools from ".*nowhere\.ts": there is no such file\n {2}tool_module: Correct what the message names/,
    )
  })
})

describe('over Streamable HTTP', () => {
  it('ends with 0 at SIGTERM, also while a tool hangs and a client listens', async () => {
    const { url, process } = await startHttp()
    const client = await connect(new StreamableHTTPClientTransport(url) as Transport)
    const call = client.callTool({ name: 'hang' }).catch(() => 'lost')
    await process.waitFor('it hangs')

    expect(await process.end('SIGTERM')).toBe(0)
    await client.close()
    await call
  })

  it.each([
    ['0.0.0.0:0', 'it listens on the loopback only'],
    ['192.168.1.5:0', 'it listens on the loopback only'],
    ['here', 'expected a port, or a host and a port such as "localhost:8080"'],
    ['99999', 'expected a port'],
  ])('refuses the address %s', async (address, message) => {
    const { code, stderr } = await folder.kaos(['tools', 'serve', FILE, '--http', address])

    expect(stderr).toContain(message)
    expect(code).toBe(2)
  })
})

describe('an HTTP server of tools', () => {
  let serving: HttpServing
  beforeAll(async () => {
    const { tools } = await loadToolModule(
      toolFile(`export const it = tool({ description: 'x', input: z.object({}), run: () => 'fine' })`),
    )
    serving = await serveOverHttp({ name: 'test', tools, log: silentLog(), host: '127.0.0.1', port: 0 })
  })
  afterAll(() => serving.close())

  const initialize = {
    jsonrpc: '2.0',
    id: 1,
    method: 'initialize',
    params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'x', version: '1' } },
  }
  /** fetch does not let a Host header be set. */
  function post(body: string, headers: Readonly<Record<string, string>> = {}, path = '/mcp') {
    const { promise, resolve, reject } = Promise.withResolvers<{
      readonly status: number
      readonly session: string | undefined
    }>()
    const given = { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers }
    const sent = request(new URL(path, serving.url), { method: 'POST', headers: given }, (response) => {
      const session = response.headers['mcp-session-id']
      response.resume().once('close', () => resolve({ status: response.statusCode!, session: session as string | undefined }))
    })
    sent.once('error', reject)
    sent.end(body)
    return promise
  }

  it('refuses names that are not of the loopback, and pages of other origins', async () => {
    const body = JSON.stringify(initialize)
    const { host } = new URL(serving.url)

    expect((await post(body, { host: 'evil.example' })).status).toBe(403)
    expect((await post(body, { host, origin: 'http://evil.example' })).status).toBe(403)
    expect((await post(body, { host: `localhost:${new URL(serving.url).port}` })).status).toBe(200)
  })

  it('has sessions: unknown ones are refused with 404, ended ones too, and a request without one with 400', async () => {
    const { status, session } = await post(JSON.stringify(initialize))
    const list = JSON.stringify({ jsonrpc: '2.0', id: 2, method: 'tools/list' })
    const headers = { 'mcp-session-id': session!, 'mcp-protocol-version': '2025-06-18' }

    expect(status).toBe(200)
    expect((await post(list, headers)).status).toBe(200)
    expect((await post(list, { 'mcp-session-id': 'unknown' })).status).toBe(404)
    expect((await post(list)).status).toBe(400)
    expect((await fetch(serving.url, { method: 'DELETE', headers })).status).toBe(200)
    expect((await post(list, headers)).status).toBe(404)
    expect((await post(list, {}, '/other')).status).toBe(404)
  })

  it('reads no more of a body than a message may have', async () => {
    const { status } = await post(JSON.stringify({ ...initialize, padding: 'x'.repeat(17 * 1_024 * 1_024) }))

    expect(status).toBe(413)
  })

  it('forgets the session that was silent longest when there are too many', async () => {
    const first = await post(JSON.stringify(initialize))
    for (let n = 0; n < 100; n++) await post(JSON.stringify(initialize))
    const list = JSON.stringify({ jsonrpc: '2.0', id: 2, method: 'tools/list' })

    expect((await post(list, { 'mcp-session-id': first.session! })).status).toBe(404)
  })

  it('says when its port is taken', async () => {
    const { port } = new URL(serving.url)

    const second = serveOverHttp({ name: 'x', tools: [], log: silentLog(), host: '127.0.0.1', port: Number(port) })

    expect((await errorOf(second, 'port_taken')).message).toBe(`could not listen on 127.0.0.1:${port}: EADDRINUSE`)
  })

  it('takes the trace from the HTTP headers too', async () => {
    const { tools } = await loadToolModule(
      toolFile(
        `export const it = tool({ description: 'x', input: z.object({}), run: (_input, { traceparent }) => traceparent })`,
      ),
    )
    const other = await serveOverHttp({ name: 'test', tools, log: silentLog(), host: '::1', port: 0 })
    const requestInit = { headers: { traceparent: TRACEPARENT } }
    const client = await connect(new StreamableHTTPClientTransport(new URL(other.url), { requestInit }) as Transport)

    expect(other.url).toMatch(/^http:\/\/\[::1\]:\d+\/mcp$/)
    expect((await client.callTool({ name: 'it' })).content).toEqual([{ type: 'text', text: TRACEPARENT }])
    await client.close()
    await other.close()
  })
})

describe('the MCP inspector', () => {
  const run = promisify(execFile)
  let launcher: string
  beforeAll(async () => {
    launcher = join(await cachedPackage('@modelcontextprotocol/inspector', '2.12.0'), 'clients', 'launcher', 'build', 'index.js')
  }, 300_000)

  /** Its home is an empty folder: it keeps what it knows of servers there. */
  async function inspect(target: readonly string[], ...options: string[]): Promise<{ readonly [key: string]: unknown }> {
    const env = cleanEnv({ HOME: mkdtempSync(join(tmpdir(), 'kaos-inspector-')) })
    const { stdout } = await run(process.execPath, [launcher, '--cli', ...target, ...options], { env, timeout: 25_000 })
    return JSON.parse(stdout) as { [key: string]: unknown }
  }

  it.each([
    { way: 'stdio', target: async () => [process.execPath, MAIN, 'tools', 'serve', FILE] },
    { way: 'Streamable HTTP', target: async () => [(await startHttp()).url.href] },
  ])('accepts the server over $way', async ({ target }) => {
    const server = await target()

    const list = await inspect(server, '--method', 'tools/list', '--strict')
    const call = await inspect(server, '--method', 'tools/call', '--tool-name', 'add', '--tool-arg', 'a=2', 'b=40')

    expect(list.tools).toContainEqual(expect.objectContaining({ name: 'add', title: 'Sum' }))
    expect(call).toMatchObject({ structuredContent: { sum: 42 } })
  })
})
