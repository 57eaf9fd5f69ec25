/** Telemetry as the commands switch it on, and what a backend gets of it: bytes over gRPC. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { deriveTraceId } from '../../bus/wire/trace.ts'
import type { MemoryEvent } from '../../replay/memory-events.ts'
import type { ActorNode, TraceTree } from '../../replay/timeline.ts'
import { Folder, type Started } from '../support/cli.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'
import { toolFile } from '../support/tool-file.ts'

const MANIFEST = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: desk }
spec: { runtime: echo }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: boss }
spec: { modelAPI: models, model: scripted, mcpServers: [desk], agentNetwork: { access: [writer] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: writer }
spec: { modelAPI: models, model: scripted }
`
const SCRIPT = `
rules:
  - when: { agent: boss, turn: 0 }
    reply: { calls: [{ name: echo, arguments: { text: hi } }, { name: delegate_to_writer, arguments: { task: write } }] }
  - { when: {}, reply: { text: done } }
`
const TOOLS = `
export const shout = tool({ description: 'Shouts.', input: z.object({ text: z.string() }), run: ({ text }) => text.toUpperCase() })
`
const UP = ['up', '-f', 'team.yaml', '--port', '0', '--offline']
const READY = 'Ctrl-C ends it'
/** As long as one try of an export may take. */
const EXPORT_MS = 10_000
/** Whoever resolves a package of the SDK dies of it. */
const WITHOUT_SDK = `
import { registerHooks } from 'node:module'
registerHooks({
  resolve(specifier, context, next) {
    if (specifier.startsWith('@opentelemetry')) throw new Error('loaded ' + specifier)
    return next(specifier, context)
  },
})
`

let folder: Folder
let backend: OtlpReceiver
let on: Record<string, string>
beforeEach(async () => {
  folder = await Folder.create()
  backend = await startOtlpReceiver()
  on = { OTEL_EXPORTER_OTLP_ENDPOINT: backend.url }
  await writeFile(join(folder.path, 'team.yaml'), MANIFEST)
  await writeFile(join(folder.path, 'team.script.yaml'), SCRIPT)
})
afterEach(async () => {
  await folder.remove()
  await backend[Symbol.asyncDispose]()
})

const send = (words: readonly string[], env: Record<string, string> = {}, deadlineMs?: number) =>
  folder.kaos(['task', 'send', 'boss', 'hello', '--json', ...words], { env, ...(deadlineMs && { deadlineMs }) })

/** Until everything that was recorded has been exported. */
async function end(started: Started): Promise<void> {
  expect(await started.end('SIGTERM')).toBe(0)
}

describe('kaos task send', () => {
  it('is the root of the trace, as a service of its own, and the same span when the same task is sent again', async () => {
    const up = await folder.start(UP, READY, on)

    const { trace } = JSON.parse((await send(['--wait', '--id', 'one'], on)).stdout)
    await send(['--id', 'one'], { ...on, OTEL_SERVICE_NAME: 'ci' })
    await end(up)

    expect(trace).toBe(deriveTraceId('default', 'boss', 'one'))
    const spans = backend.spans().filter(({ traceId }) => traceId === trace)
    const sent = spans.filter(({ kind }) => /producer/i.test(kind))
    expect(sent.map(({ service, name }) => [service, name])).toEqual([
      ['kaos-cli', 'send kaos.default.agent.{agent}.task'],
      ['ci', 'send kaos.default.agent.{agent}.task'],
    ])
    expect(sent[0]!.spanId).toBe(sent[1]!.spanId)
    expect(sent[0]!.parentSpanId ?? '').toBe('')
    const root = spans.find(({ service, parentSpanId }) => service === 'boss' && parentSpanId === sent[0]!.spanId)
    expect(root?.name).toBe('agent.process_message')
  })

  it.each(['off', 'on'] as const)('is a part of the trace of who runs it, with telemetry %s', async (mode) => {
    const caller = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' }
    const up = await folder.start(UP, READY, on)

    const TRACEPARENT = `00-${caller.traceId}-${caller.spanId}-01`
    const { stdout } = await send(['--wait'], { TRACEPARENT, ...(mode === 'on' ? on : {}) })
    await end(up)

    expect(JSON.parse(stdout).trace).toBe(caller.traceId)
    const [top] = backend.treeOf(caller.traceId, [caller.spanId]).split('\n')
    expect(top).toMatch(mode === 'on' ? /^kaos-cli: send / : /^boss: agent\.process_message /)
  })

  it('says that a TRACEPARENT is none, and begins a trace', async () => {
    await folder.start(UP, READY)

    const { code, stdout, stderr } = await send([], { TRACEPARENT: 'of-no-use' })

    expect(code).toBe(0)
    expect(stderr).toContain('TRACEPARENT "of-no-use" is no trace context')
    expect(JSON.parse(stdout).trace).toMatch(/^[0-9a-f]{32}$/)
  })

  it('does not wait longer than its flush for a backend that hangs', async () => {
    await folder.start(UP, READY)
    backend.hang()

    const { code, stdout } = await send(['--wait'], on, EXPORT_MS)

    expect([code, JSON.parse(stdout).state]).toEqual([0, 'completed'])
  })
})

describe('a backend and the record', () => {
  it('know the same spans: what trace show and memory events name is what was exported', async () => {
    const up = await folder.start(UP, READY, on)
    const { trace } = JSON.parse((await send(['--wait', '--id', 'two'])).stdout)

    const shown = JSON.parse((await folder.kaos(['trace', 'show', trace, '--json'])).stdout) as TraceTree
    const asked = await folder.kaos(['memory', 'events', '--trace', 'boss_two', '--json'])
    const events = JSON.parse(asked.stdout) as MemoryEvent[]
    await end(up)

    const exported = backend.spans().filter(({ traceId }) => traceId === trace)
    const parents = new Map(exported.map(({ spanId, parentSpanId }) => [spanId, parentSpanId || undefined]))
    expect(new Map(placesIn(shown.roots[0]!))).toEqual(parents)
    expect(events.map(({ agent, event_type: type }) => `${agent} ${type}`)).toEqual([
      'boss user_message',
      'boss tool_call',
      'boss delegation_request',
      expect.any(String),
      expect.any(String),
      expect.any(String),
      expect.any(String),
      'boss agent_response',
    ])
    expect(events.filter(({ metadata }) => !parents.has(metadata.span_id))).toEqual([])
  })

  it('are linked where a template says how, and a template that cannot be used is said to be none', async () => {
    await folder.start(UP, READY)
    const { trace } = JSON.parse((await send(['--wait', '--id', 'three'])).stdout)
    const again = ['task', 'send', 'boss', 'hello', '--id', 'three', '--wait', '--quiet']
    const show = (KAOS_TRACE_URL_TEMPLATE: string, ...more: string[]) =>
      folder.kaos(['trace', 'show', 'last', ...more], { env: { KAOS_TRACE_URL_TEMPLATE } })

    const text = await show('http://jaeger:16686/trace/{trace_id}?of={task}', '--ids')
    const json = await show('http://jaeger:16686/trace/{trace_id}', '--json')
    const wrong = await show('http://jaeger:16686/trace/')
    const answered = await folder.kaos(again, { env: { KAOS_TRACE_URL_TEMPLATE: 'http://jaeger:16686/trace/{trace_id}' } })

    expect(text.stdout.trimEnd().split('\n').at(-1)).toBe(`http://jaeger:16686/trace/${trace}?of=boss_three`)
    expect(text.stdout).toMatch(/^├─ tool echo@desk .* span [0-9a-f]{16}, execute [0-9a-f]{16}/m)
    expect(JSON.parse(json.stdout).link).toBe(`http://jaeger:16686/trace/${trace}`)
    expect([answered.stdout, answered.stderr]).toEqual(['done\n', `  http://jaeger:16686/trace/${trace}\n`])
    expect([wrong.code, wrong.stderr]).toEqual([0, expect.stringContaining('it does not hold {trace_id}')])
  })
})

describe('what runs here', () => {
  it('says where its telemetry goes, in words and in JSON', async () => {
    await writeFile(
      join(folder.path, 'team.yaml'),
      MANIFEST.replace('name: writer }\nspec: { ', 'name: writer }\nspec: { telemetry: { endpoint: "http://127.0.0.1:9" }, '),
    )

    const up = await folder.start(UP, READY, on)
    const host = await folder.start(['host', '-f', 'team.yaml', '--only', 'boss', '--json', '--offline'], '"ready"', on)

    expect(up.output).toContain(`telemetry  ${backend.url} (traces, metrics, logs)\n`)
    expect(up.output).toContain('telemetry  http://127.0.0.1:9 (traces, metrics, logs) for writer\n')
    await host.waitFor('\n}\n')
    expect(JSON.parse(host.output.slice(host.output.indexOf('{'))).telemetry).toEqual([
      { to: backend.url, signals: ['traces', 'metrics', 'logs'] },
    ])
  })

  it('is one service where it is one agent, as OTEL_SERVICE_NAME calls it', async () => {
    await folder.start(UP, READY)
    const host = await folder.start(['host', '-f', 'team.yaml', '--only', 'writer', '--offline'], 'ready', {
      ...on,
      OTEL_SERVICE_NAME: 'the-writer',
    })
    await end(host)

    await backend.waitFor(() => backend.requests.logs.length + backend.requests.metrics.length > 0, 'anything of the host')
    const services = [...backend.logs(), ...backend.metrics()].map(({ service }) => service)
    expect(new Set(services)).toEqual(new Set(['the-writer']))
  })

  it('is silent where its manifest says so, and only there', async () => {
    await writeFile(
      join(folder.path, 'team.yaml'),
      MANIFEST.replace('name: writer }\nspec: { ', 'name: writer }\nspec: { telemetry: { enabled: false }, '),
    )
    const up = await folder.start(UP, READY, on)

    await send(['--wait'])
    await end(up)

    expect(new Set(backend.spans().map(({ service }) => service))).toEqual(new Set(['boss', 'desk']))
  })

  it('exports nothing of probes and of connections that idle, also where HTTP spans are asked for', async () => {
    const http = { OTEL_INCLUDE_HTTP_SERVER: 'true', OTEL_INCLUDE_HTTP_CLIENT: 'true', LOG_LEVEL: 'DEBUG' }
    const up = await folder.start([...UP, '--health', '0'], READY, { ...on, ...http })
    const [, health] = /health {2}(\S+)\/health/.exec(up.output)!

    for (let i = 0; i < 300; i++) for (const path of ['/health', '/ready']) await (await fetch(`${health}${path}`)).text()
    await end(up)

    expect(backend.spans()).toEqual([])
    expect(backend.metrics().filter(({ name }) => name.startsWith('http.'))).toEqual([])
    expect(backend.logs().length).toBeLessThan(100)
    expect(JSON.stringify(backend.logs().map(({ body, attributes }) => [body, attributes]))).not.toMatch(/"\/(health|ready)/)
  })

  it('exports what a file of tools does when it is served to anybody', async () => {
    const file = toolFile(TOOLS, 'voice.ts')
    const serving = await folder.start(['tools', 'serve', file, '--http', '0', '--json'], '"url"', on)
    await serving.waitFor('\n}\n')
    const { url } = JSON.parse(serving.output.slice(serving.output.indexOf('{')))
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js')
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js')
    const client = new Client({ name: 'anybody', version: '1' })
    await client.connect(new StreamableHTTPClientTransport(new URL(url)) as never)

    await client.callTool({ name: 'shout', arguments: { text: 'hi' } })
    await client.close()
    await end(serving)

    expect(backend.spans().map(({ service, name }) => [service, name])).toEqual([['voice', 'tool.execute']])
  })
})

describe('without telemetry', () => {
  it('loads nothing of OpenTelemetry', async () => {
    const file = join(folder.path, 'without-sdk.mjs')
    await writeFile(file, WITHOUT_SDK)
    const env = { NODE_OPTIONS: `--import=${file}` }
    const up = await folder.start(UP, READY, env)

    const { code, stderr } = await send(['--wait'], env)

    expect([code, stderr]).toEqual([0, ''])
    await end(up)
    expect(up.output).not.toContain('loaded')
    const { output } = await folder
      .start(UP, '@opentelemetry', { ...env, ...on })
      .catch((error: Error) => ({ output: error.message }))
    expect(output).toContain('loaded @opentelemetry')
  })
})

/** Every span of a shown tree with its parent. */
function placesIn(actor: ActorNode): readonly (readonly [string, string | undefined])[] {
  return [
    [actor.spanId, actor.parentSpanId],
    ...actor.effects.flatMap(({ spanId, parentSpanId, executeSpanId, child }) => [
      [spanId, parentSpanId] as const,
      ...(executeSpanId ? [[executeSpanId, spanId] as const] : []),
      ...(child ? placesIn(child) : []),
    ]),
  ]
}
