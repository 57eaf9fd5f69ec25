/** Secrets planted all over a system, in whatever form, whose model, tools and functions quote them; then everything it says is searched. */
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestBroker, type TestBroker } from '../support/broker.ts'
import { Folder } from '../support/cli.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'

/**
 * None has the form of a key: whoever was given it takes it out, or the word before it tells. What a tool itself answers is taken for what it
 * says, and only the word before counts. Letters alone, so that no encoding hides them.
 */
const SECRETS = {
  model: 'qzPlantedModelKeyqz',
  nats: 'qzPlantedBrokerPasswordqz',
  otlp: 'qzPlantedCollectorHeaderqz',
  stdio: 'qzPlantedToolServerEnvironmentqz',
  url: 'qzPlantedToolServerHeaderqz',
  query: 'qzPlantedToolServerQueryqz',
  thrown: 'qzPlantedInAnErrorqz',
} as const
const PACKAGE = new URL('../../public/index.ts', import.meta.url).href
const TEXT = 'A question about the weather'

const MANIFEST = (vault: string, mcp: string) => `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: vault }
spec:
  runtime: stdio
  params: |
    command: ${JSON.stringify(process.execPath)}
    args: [${JSON.stringify(vault)}]
    env: { VAULT: ${SECRETS.stdio} }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: remote }
spec:
  runtime: url
  params: |
    url: ${mcp}/mcp?key=${SECRETS.query}
    headersFromEnv: { X-Remote: REMOTE_HEADER }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: orders }
spec: { runtime: typescript, params: ./orders.ts }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: asker }
spec: { modelAPI: models, model: good, mcpServers: [vault, orders], agentNetwork: { access: [refused, own] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: refused }
spec: { modelAPI: models, model: refusing }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: lone }
spec: { modelAPI: models, model: good, mcpServers: [remote] }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: own }
spec: { machineRef: { path: ./own.ts } }
`
const VAULT = `
import { McpServer } from '${import.meta.resolve('@modelcontextprotocol/sdk/server/mcp.js')}'
import { StdioServerTransport } from '${import.meta.resolve('@modelcontextprotocol/sdk/server/stdio.js')}'
process.stderr.write('opened with ' + process.env.VAULT + '\\n')
const server = new McpServer({ name: 'vault', version: '1' })
server.registerTool('open', { description: 'Opens.' }, async () => {
  process.stderr.write('cannot log in with ' + process.env.VAULT + '\\n')
  return { isError: true, content: [{ type: 'text', text: 'login with token=' + process.env.VAULT + ' was refused' }] }
})
await server.connect(new StdioServerTransport())
`
const ORDERS = `
import { tool, z } from '${PACKAGE}'
export const find = tool({
  description: 'Finds.',
  input: z.object({}),
  run: async (_input, ctx) => ctx.span('look up', async () => { throw new Error('connect postgres://shop:${SECRETS.thrown}@db.internal/orders failed: password=${SECRETS.thrown}') }),
})
`
const OWN = `
import { local } from '${PACKAGE}'
import { setup } from '${import.meta.resolve('xstate')}'
export default setup({
  actors: { work: local(async ({ span }) => span('work', async () => { throw Object.assign(new TypeError('api_key: "${SECRETS.thrown}"'), { token: '${SECRETS.thrown}' }) })) },
}).createMachine({ id: 'own', initial: 'a', states: { a: { invoke: { src: 'work', onDone: 'b' } }, b: { type: 'final' } } })
`

let folder: Folder
let backend: OtlpReceiver
let broker: TestBroker
let outside: Server
let env: Record<string, string>
beforeAll(async () => {
  folder = await Folder.create()
  backend = await startOtlpReceiver()
  const identity = { kind: 'user', user: 'anna', password: SECRETS.nats } as const
  broker = await startTestBroker({ config: `authorization { user: anna, password: ${SECRETS.nats} }`, access: { identity } })
  outside = createServer((request, response) => void answer(request, response))
  outside.listen(0, '127.0.0.1')
  await once(outside, 'listening')
  const { port } = outside.address() as AddressInfo
  env = {
    NATS_URL: `nats://anna:${SECRETS.nats}@127.0.0.1:${broker.port}`,
    MODEL_API_URL: `http://127.0.0.1:${port}/v1`,
    MODEL_API_KEY: SECRETS.model,
    REMOTE_HEADER: SECRETS.url,
    LOG_LEVEL: 'TRACE',
    OTEL_EXPORTER_OTLP_ENDPOINT: backend.url.replace('://', `://user:${SECRETS.otlp}@`),
    OTEL_EXPORTER_OTLP_HEADERS: `x-team=${SECRETS.otlp}`,
    OTEL_EXPORTER_OTLP_TRACES_HEADERS: `x-team=${SECRETS.otlp},no-pair-${SECRETS.otlp}`,
    OTEL_LOG_LEVEL: 'all',
    OTEL_INCLUDE_HTTP_CLIENT: 'true',
  }
  const file = (name: string) => join(folder.path, name)
  await writeFile(file('team.yaml'), MANIFEST(file('vault.ts'), `http://127.0.0.1:${port}`))
  await writeFile(file('orders.ts'), ORDERS)
  await writeFile(file('own.ts'), OWN)
  await writeFile(file('vault.ts'), VAULT)
})
afterAll(async () => {
  await folder.remove()
  await backend[Symbol.asyncDispose]()
  await broker.stop()
  outside.closeAllConnections()
  outside.close()
})

/** A model that calls every tool and agent, and one that refuses; an MCP server that does. Who refuses quotes what it was sent. */
async function answer(request: IncomingMessage, response: ServerResponse) {
  const body = await text(request)
  const given = JSON.stringify({ headers: request.headers, url: request.url })
  const sent =
    body === ''
      ? undefined
      : (JSON.parse(body) as { model?: string; messages?: readonly { role: string }[]; tools?: readonly object[] })
  const json = (status: number, value: object) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
  if (request.url?.startsWith('/mcp')) return json(403, { error: `not with ${given}` })
  if (sent?.model !== 'good')
    return json(401, { error: { message: `Incorrect API key provided: ${SECRETS.model}. You sent ${given}` } })
  const isFirst = !sent.messages!.some(({ role }) => role === 'tool')
  const names = ['open', 'find', 'delegate_to_refused', 'delegate_to_own']
  const calls = names.map((name, i) => ({
    id: `c${i}`,
    type: 'function',
    index: i,
    function: { name, arguments: name.startsWith('delegate') ? '{"task":"help"}' : '{}' },
  }))
  const message = isFirst ? { role: 'assistant', content: null, tool_calls: calls } : { role: 'assistant', content: 'done' }
  return json(200, {
    id: 'r',
    object: 'chat.completion',
    model: 'good',
    choices: [{ index: 0, message, finish_reason: isFirst ? 'tool_calls' : 'stop' }],
    usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
  })
}

describe.each(['false', 'true'])('with content capture %s', (captures) => {
  it('no secret stands in spans, metrics, logs, errors, or in what the commands show', async () => {
    const on = { ...env, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: captures }
    const up = await folder.start(['up', '-f', 'team.yaml'], 'kaos is up', on)
    const sent = await folder.kaos(['task', 'send', 'asker', TEXT, '--id', `secret-${captures}`, '--wait', '--json'], { env: on })
    const { trace } = JSON.parse(sent.stdout) as { readonly trace: string }
    const shown = await Promise.all([
      folder.kaos(['trace', 'show', trace], { env: on }),
      folder.kaos(['trace', 'show', trace, '--json'], { env: on }),
      folder.kaos(['memory', 'events', '--trace', trace], { env: on }),
      folder.kaos(['memory', 'events', '--trace', trace, '--json'], { env: on }),
    ])
    expect(await up.end('SIGTERM')).toBe(0)

    const said = {
      exported: backend.rawText(),
      up: up.output,
      'task send': sent.stdout + sent.stderr,
      ...Object.fromEntries(shown.map(({ stdout, stderr }, i) => [`shown ${i}`, stdout + stderr])),
    }
    const found = Object.entries(said).flatMap(([where, words]) =>
      Object.entries(SECRETS).flatMap(([which, secret]) => {
        const at = words.indexOf(secret)
        return at < 0
          ? []
          : [`${which} in ${where}: ${words.slice(Math.max(0, at - 120), at + 60).replaceAll(/[^\x20-\x7e]/g, '.')}`]
      }),
    )
    expect(found).toEqual([])
    // All of that was really there to be quoted.
    const names = new Set(
      backend
        .spans()
        .filter(({ traceId }) => traceId === trace)
        .map(({ name }) => name),
    )
    expect([...names]).toEqual(
      expect.arrayContaining(['tool.open', 'tool.find', 'look up', 'work', 'local.work', 'delegate.refused']),
    )
    const failures = backend.spans().filter(({ status }) => status.code === 'error')
    expect(failures.map(({ status }) => status.message).join()).toContain('[redacted]')
    expect(backend.rawText().includes(TEXT)).toBe(captures === 'true')
  }, 60_000)
})
