/** The span of a tool's execution, as a backend gets it: tool servers on a real broker, real MCP servers, OTLP over gRPC. */
import { randomBytes } from 'node:crypto'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../bus/contracts.ts'
import { spanIdOf } from '../../bus/wire/ids.ts'
import { decodeReply, parseBlobBody, type ReplyBody } from '../../bus/wire/message.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTelemetry } from '../../telemetry/start.ts'
import type { Telemetry } from '../../telemetry/telemetry.ts'
import { loadToolModule } from '../../tools/own/module.ts'
import { serveOverHttp } from '../../tools/own/serve-http.ts'
import type { ResolvedRuntime } from '../../tools/runtimes/open.ts'
import { serveTools, type ToolCrashPoint, type ToolService } from '../../tools/server.ts'
import { openSession, type SessionOptions } from '../../tools/session.ts'
import { stdioServer } from '../support/mcp-calls.ts'
import { startMcpHttpServer } from '../support/mcp-http-server.ts'
import { identity, until } from '../support/memory-system.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'
import { type Place, type Process, startNatsPlaces } from '../support/places.ts'
import { toolFile } from '../support/tool-file.ts'

let places: Awaited<ReturnType<typeof startNatsPlaces>>
let receiver: OtlpReceiver
let telemetry: Telemetry
beforeAll(async () => {
  places = await startNatsPlaces()
  receiver = await startOtlpReceiver()
  telemetry = await start()
})
afterAll(async () => {
  await telemetry.stop(3_000)
  await receiver[Symbol.asyncDispose]()
  await places[Symbol.asyncDispose]()
})

function start(env: Readonly<Record<string, string>> = {}): Promise<Telemetry> {
  const settings = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, ...env }
  return startTelemetry({ processName: 'test', services: [], env: settings, log: silentLog() })
}

const SERVER = 'desk'
const CALLER = 'b7ad6b7169203331'
const DEADLINE_MS = 15_000

/** A broker of its own with an agent that calls, and tool servers that come and go. */
class Desk {
  readonly place: Place
  readonly traceId = randomBytes(16).toString('hex')
  readonly replies: { readonly effect: string; readonly body: string; readonly traceparent: string | undefined }[] = []
  private readonly agent: Process
  private readonly services: ToolService[] = []

  private constructor(place: Place, agent: Process) {
    this.place = place
    this.agent = agent
    agent.bus.mailbox.open({ kind: 'mail', agent: 'boss' }, 10, ({ message, ack }) => {
      const effect = message.subject.split('.').at(-1)!
      this.replies.push({ effect, body: message.body, traceparent: message.header('traceparent') })
      ack()
    })
  }

  static async open(): Promise<Desk> {
    const place = await places.open()
    await place.declare(['boss'], [SERVER])
    return new Desk(place, await place.connect())
  }

  /** Starts a process that serves the tools. */
  async serve(
    runtime: ResolvedRuntime,
    options: { readonly crash?: Parameters<ToolCrashPoint>[0]; readonly session?: Partial<SessionOptions> } = {},
  ) {
    const process = await this.place.connect()
    const log = silentLog()
    const service = telemetry.service({ name: SERVER, namespace: this.place.subjects.namespace, kind: 'tool-server' })
    const session = openSession(runtime, { name: SERVER, log, telemetry: service, ...options.session })
    const died = Promise.withResolvers<void>()
    const crash = (point: string) => {
      if (point !== options.crash) return undefined
      process.kill()
      died.resolve()
      return new Promise<void>(() => {})
    }
    this.services.push(
      serveTools({
        bus: process.bus,
        server: SERVER,
        session,
        identity: identity(),
        clock: systemClock,
        log,
        crash,
        telemetry: service,
      }),
    )
    return { process, session, died: died.promise }
  }

  /** Sends a call and waits for its answer. */
  async call(tool: string, args: object = {}, headers: Readonly<Record<string, string>> = {}): Promise<ReplyBody> {
    await this.send('boss_a_0-0', tool, args, headers)
    return this.answer(1)
  }

  async send(effect: string, tool: string, args: object = {}, headers: Readonly<Record<string, string>> = {}): Promise<void> {
    const body = JSON.stringify({ tool, arguments: args })
    const trace = { traceparent: `00-${this.traceId}-${CALLER}-01`, ...headers }
    await this.place.publish(this.place.subjects.call(SERVER, 'boss', effect), body, { 'Kaos-Id': effect, ...trace })
  }

  /** The last of so many answers. */
  async answer(count: number): Promise<ReplyBody> {
    const found = await until(async () => this.replies[count - 1], `answer ${count}`, DEADLINE_MS)
    const ref = parseBlobBody(found.body)
    return decodeReply(ref ? await this.agent.bus.blobs.read(ref.owner, ref.to, ref.task, ref.sha) : found.body)
  }

  /** What was exported of this desk's trace, once all calls are acked. */
  async spans(traceId = this.traceId) {
    await until(async () => ((await this.place.backlog()) === 0 ? true : undefined), 'all calls acked', DEADLINE_MS)
    await telemetry.flush(3_000)
    return receiver.spans().filter((span) => span.traceId === traceId)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.services.map((service) => service.stop(0)))
    await this.place[Symbol.asyncDispose]()
  }
}

const EXECUTION = (traceId: string) => spanIdOf(traceId, 'boss_a_0-0/execute')

describe('a call', () => {
  it('is one span of its tool server, below the span that waits for its answer', async () => {
    await using desk = await Desk.open()
    const { session } = await desk.serve({ runtime: 'echo' })

    const reply = await desk.call('echo', { text: 'hello' }, { tracestate: 'vendor=1' })

    const [span, ...others] = await desk.spans()
    const { namespace } = desk.place.subjects
    expect(others).toEqual([])
    expect(span).toMatchObject({
      service: SERVER,
      name: 'tool.execute',
      kind: 'server',
      spanId: EXECUTION(desk.traceId),
      parentSpanId: CALLER,
      tracestate: 'vendor=1',
      status: { code: 'ok' },
    })
    expect(span!.attributes).toEqual({
      'kaos.op': 'tool.execute',
      'kaos.task.id': 'boss_a',
      'kaos.effect.id': 'boss_a_0-0',
      'kaos.namespace': namespace,
      'kaos.journal.ref': `kaos.${namespace}.tool.desk.done.boss_a_0-0`,
      'gen_ai.operation.name': 'execute_tool',
      'gen_ai.tool.name': 'echo',
      'gen_ai.tool.type': 'extension',
      'gen_ai.tool.call.id': 'boss_a_0-0',
      'mcp.method.name': 'tools/call',
      'mcp.server': SERVER,
      'messaging.system': 'nats',
      'messaging.system.name': 'nats',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.template': `kaos.${namespace}.tool.{server}.call`,
      'messaging.message.id': 'boss_a_0-0',
      'messaging.message.conversation_id': 'boss_a_0-0',
      'messaging.consumer.group.name': 'call',
    })
    const { startedAt, endedAt } = reply.work!
    expect([span!.startNs, span!.endNs]).toEqual([startedAt, endedAt].map((ms) => BigInt(ms) * 1_000_000n))
    expect(desk.replies[0]!.traceparent).toBe(`00-${desk.traceId}-${CALLER}-01`)
    await session.close()
  })

  it('without a trace begins one that a repeated call finds again', async () => {
    await using desk = await Desk.open()
    await desk.serve({ runtime: 'echo' })

    await desk.send('boss_a_0-0', 'echo', { text: 'hello' }, { traceparent: '00-nonsense' })
    await desk.answer(1)

    await desk.spans()
    const span = receiver.spans().find(({ attributes }) => attributes['kaos.namespace'] === desk.place.subjects.namespace)!
    expect(span).toMatchObject({ name: 'tool.execute', spanId: EXECUTION(span.traceId) })
    expect(span.parentSpanId).toBeUndefined()
  })

  it('of a trace that is not sampled is not exported, and its tool is told so', async () => {
    await using desk = await Desk.open()
    await desk.serve({ runtime: 'typescript', file: toolFile(TELL) })

    const reply = await desk.call('tell', {}, { traceparent: `00-${desk.traceId}-${CALLER}-00` })

    expect(reply).toMatchObject({ value: { traceparent: `00-${desk.traceId}-${EXECUTION(desk.traceId)}-00` } })
    expect(await desk.spans()).toEqual([])
  })

  for (const [what, tool, errorType, message] of [
    ['a tool that says that it failed', 'fail', 'tool_error', 'the disk is full'],
    ['a server that refuses', 'refuse', 'tool_failed', 'not today'],
    ['a tool that is not there', 'nowhere', 'unknown_tool', 'has no tool "nowhere"'],
  ] as const) {
    it(`is an error with a type of its own for ${what}`, async () => {
      await using desk = await Desk.open()
      const { session } = await desk.serve(stdioServer().runtime)

      await desk.call(tool)

      const [span] = await desk.spans()
      expect(span).toMatchObject({
        status: { code: 'error', message: expect.stringContaining(message) },
        attributes: { 'error.type': errorType },
        events: [{ name: 'exception' }],
      })
      await session.close()
    })
  }

  it('whose answer is a blob is recorded from it, also by a successor', async () => {
    await using desk = await Desk.open()
    const runtime = stdioServer().runtime
    const dying = await desk.serve(runtime, { crash: 'after-done' })
    await desk.send('boss_a_0-0', 'big', { bytes: 200_000 })
    await dying.died
    const next = await desk.serve(runtime)

    const reply = await desk.answer(1)

    const [span, ...others] = await desk.spans()
    expect(others).toEqual([])
    expect(span!.startNs).toBe(BigInt(reply.work!.startedAt) * 1_000_000n)
    await Promise.all([dying.session.close(), next.session.close()])
  })
})

const TELL = `
  export const tell = tool({ description: 'Tells its trace.', input: z.object({}), run: (_input, { traceparent }) => ({ traceparent }) })`

it('an answer in 300 events is one span', async () => {
  await using desk = await Desk.open()
  const http = await startMcpHttpServer()
  const { session } = await desk.serve({ runtime: 'url', url: http.url })

  const reply = await desk.call('chunks', { count: 300 })

  expect(reply).toMatchObject({ value: 'whole' })
  expect(await desk.spans()).toMatchObject([{ name: 'tool.execute', status: { code: 'ok' }, events: [] }])
  await session.close()
  await http.close()
})

describe('what an MCP server is sent', () => {
  const meta = (desk: Desk) => ({ traceparent: `00-${desk.traceId}-${EXECUTION(desk.traceId)}-01`, tracestate: 'vendor=1' })
  const BAGGAGE = { tracestate: 'vendor=1', baggage: 'tenant=acme;ttl=3,secret=x,region=eu' }

  it('over HTTP is the traceparent of the span, in the headers and in _meta, and the baggage that may leave', async () => {
    await using desk = await Desk.open()
    const http = await startMcpHttpServer()
    const baggageKeys = ['tenant', 'region']
    const { session } = await desk.serve({ runtime: 'url', url: http.url }, { session: { baggageKeys } })

    const reply = await desk.call('meta', {}, BAGGAGE)

    const sent = { ...meta(desk), baggage: 'tenant=acme;ttl=3,region=eu' }
    expect(reply).toMatchObject({ value: { meta: sent } })
    const traced = http.requests.filter(({ headers }) => headers.traceparent !== undefined)
    expect(traced).toHaveLength(1)
    expect(traced[0]).toMatchObject({ method: 'POST', headers: sent })
    expect(http.requests.filter(({ headers }) => headers.baggage !== undefined)).toHaveLength(1)
    const [span] = await desk.spans()
    expect(span).toMatchObject({ spanId: EXECUTION(desk.traceId), attributes: { 'network.transport': 'tcp' } })
    await session.close()
    await http.close()
  })

  it('over stdio is the traceparent of the span in _meta, and by default no baggage', async () => {
    await using desk = await Desk.open()
    const { session } = await desk.serve(stdioServer().runtime)

    const reply = await desk.call('meta', {}, BAGGAGE)

    expect(reply).toMatchObject({ value: { meta: { ...meta(desk), 'kaos.tools/idempotency-key': 'boss_a_0-0' } } })
    expect(JSON.stringify(reply)).not.toContain('acme')
    const [span] = await desk.spans()
    expect(span).toMatchObject({ spanId: EXECUTION(desk.traceId), attributes: { 'network.transport': 'pipe' } })
    await session.close()
  })
})

describe('spans of a tool', () => {
  const SPANS = `
    export const work = tool({ description: 'Works.', input: z.object({}), run: async (_input, { span }) => {
      const inner = await span('first', async () => {
        await Promise.resolve()
        return span('inner', () => 7)
      })
      await span('second', async () => { throw new Error('no luck with Bearer abcdefghijklmnop1234') }).catch(() => {})
      return span('third', () => inner + 1)
    } })
    export const misnamed = tool({ description: 'x', input: z.object({}), run: (_input, { span }) => span('', () => 1) })`

  it('stand below the span of the call, nested as they are called, and close when they throw', async () => {
    await using desk = await Desk.open()
    await desk.serve({ runtime: 'typescript', file: toolFile(SPANS) })

    const reply = await desk.call('work')

    expect(reply).toMatchObject({ kind: 'result', value: '8' })
    const spans = await desk.spans()
    for (const { attributes } of spans)
      expect(attributes).toMatchObject({ 'kaos.task.id': 'boss_a', 'kaos.effect.id': 'boss_a_0-0' })
    expect(receiver.treeOf(desk.traceId, [CALLER])).toBe(
      [
        'desk: tool.execute [SERVER] OK',
        '  desk: first [INTERNAL] OK',
        '    desk: inner [INTERNAL] OK',
        '  desk: second [INTERNAL] ERROR',
        '  desk: third [INTERNAL] OK',
      ].join('\n'),
    )
    expect(spans.find(({ name }) => name === 'second')!.events).toMatchObject([
      { name: 'exception', attributes: { 'exception.message': 'no luck with Bearer [redacted]' } },
    ])
  })

  it('have a name, else the tool fails and says why', async () => {
    await using desk = await Desk.open()
    await desk.serve({ runtime: 'typescript', file: toolFile(SPANS) })

    const reply = await desk.call('misnamed')

    expect(reply).toMatchObject({
      failure: {
        message: 'could not begin a span: its name is a text of 0 characters; give a text of 1 to 128 characters',
      },
    })
  })
})

// Each of these waits until the broker gives up on a process: they do so together.
describe.concurrent('one call is one span', () => {
  it('when its message comes again, and when it is sent again', async () => {
    await using desk = await Desk.open()
    await desk.serve({ runtime: 'echo' })

    await desk.send('boss_a_0-0', 'echo', { text: 'hello' })
    await desk.send('boss_a_0-0', 'echo', { text: 'hello' })
    await desk.answer(2)

    expect(await desk.spans()).toHaveLength(1)
  })

  it('when a living process has recorded it, and another one answers the call from the record', async () => {
    await using desk = await Desk.open()
    const first = await desk.serve({ runtime: 'echo' })
    await desk.call('echo', { text: 'hello' })
    await desk.spans()
    first.process.before = (operation) => (operation === 'read' || operation === 'append' ? new Promise(() => {}) : undefined)
    await desk.serve({ runtime: 'echo' })

    await Promise.all(Array.from({ length: 8 }, () => desk.send('boss_a_0-0', 'echo', { text: 'hello' })))
    await desk.answer(2)
    await telemetry.flush(3_000)

    expect(receiver.spans().filter(({ traceId }) => traceId === desk.traceId)).toHaveLength(1)
  })

  for (const crash of ['before-run', 'after-begun', 'after-run', 'after-done', 'after-reply'] as const) {
    it(`when the process dies ${crash} and another one carries on`, async () => {
      await using desk = await Desk.open()
      const dying = await desk.serve({ runtime: 'echo' }, { crash })
      await desk.send('boss_a_0-0', 'echo', { text: 'hello' })
      await dying.died
      await desk.serve({ runtime: 'echo' })

      await desk.answer(1)

      const again = { attributes: { 'kaos.attempts': 2, 'opentracing.ref_type': 'child_of' } }
      expect(await desk.spans()).toMatchObject([{ name: 'tool.execute', status: { code: 'ok' }, links: [again] }])
    })
  }

  it('of the time in which it may have run, where nobody knows whether it did', async () => {
    await using desk = await Desk.open()
    const runtime = { runtime: 'typescript', file: toolFile(TELL) } as const // it may not run twice
    const dying = await desk.serve(runtime, { crash: 'after-begun' })
    await desk.send('boss_a_0-0', 'tell')
    await dying.died
    await desk.serve(runtime)

    const reply = await desk.answer(1)

    const [span, ...others] = await desk.spans()
    expect(others).toEqual([])
    expect(span).toMatchObject({ status: { code: 'error' }, attributes: { 'error.type': 'indeterminate' } })
    expect(span!.endNs - span!.startNs).toBe(BigInt(reply.work!.endedAt - reply.work!.startedAt) * 1_000_000n)
  })
})

describe('a file of tools that is served to any MCP client', () => {
  const FILE = toolFile(`
    export const work = tool({ description: 'Works.', input: z.object({ luck: z.boolean() }), run: ({ luck }, { span }) =>
      span('inner', () => {
        if (!luck) throw new Error('no luck')
        return 'done'
      }) })`)

  /** Calls the tool over HTTP, and gives what was exported under the name of the service. */
  async function calling(name: string, luck: boolean, headers: Readonly<Record<string, string>>, _meta = {}) {
    const service = telemetry.service({ name, namespace: 'default', kind: 'tool-server' })
    const { tools } = await loadToolModule(FILE)
    const serving = await serveOverHttp({ name, tools, log: silentLog(), host: '127.0.0.1', port: 0, telemetry: service })
    const client = new Client({ name: 'test', version: '1' })
    await client.connect(new StreamableHTTPClientTransport(new URL(serving.url), { requestInit: { headers } }) as Transport)
    await client.callTool({ name: 'work', arguments: { luck }, _meta })
    await client.close()
    await serving.close()
    await telemetry.flush(3_000)
    return receiver.spans().filter((span) => span.service === name)
  }

  it('has a span for each call, below that of its client; what stands in _meta goes before HTTP headers', async () => {
    const [overHttp, inMeta] = ['3'.repeat(32), '4'.repeat(32)]

    await calling('served', true, { traceparent: `00-${overHttp}-${CALLER}-01` })
    await calling('served', true, { traceparent: `00-${overHttp}-${CALLER}-01` }, { traceparent: `00-${inMeta}-${CALLER}-01` })

    const tree = 'served: tool.execute [SERVER] OK\n  served: inner [INTERNAL] OK'
    expect([receiver.treeOf(overHttp, [CALLER]), receiver.treeOf(inMeta, [CALLER])]).toEqual([tree, tree])
    const span = receiver.spans().find(({ traceId, kind }) => traceId === inMeta && kind === 'server')!
    expect(span.attributes).toEqual({
      'kaos.op': 'tool.execute',
      'gen_ai.operation.name': 'execute_tool',
      'gen_ai.tool.name': 'work',
      'gen_ai.tool.type': 'extension',
      'mcp.method.name': 'tools/call',
      'mcp.server': 'served',
      'network.transport': 'tcp',
    })
  })

  it('begins a trace for a client that sends none, and tells of what failed', async () => {
    const spans = await calling('begun', false, {})

    const root = spans.find(({ kind }) => kind === 'server')!
    expect(receiver.treeOf(root.traceId)).toBe('begun: tool.execute [SERVER] ERROR\n  begun: inner [INTERNAL] ERROR')
    expect(root).toMatchObject({ status: { message: 'no luck' }, attributes: { 'error.type': 'tool_error' } })
  })
})

it('messages are counted, each as often as it came', async () => {
  await using desk = await Desk.open()
  await desk.serve({ runtime: 'echo' })

  await desk.call('echo', { text: 'hello' })
  await desk.spans()

  const { namespace } = desk.place.subjects
  const own = receiver.metrics().filter(({ resource }) => resource['service.namespace'] === namespace)
  for (const name of ['consumed.messages', 'sent.messages'])
    expect(own.findLast((metric) => metric.name === `messaging.client.${name}`)).toMatchObject({ points: [{ value: 1 }] })
})

describe('arguments and results', () => {
  it('are in no span by default, and in it without secrets where they are asked for', async () => {
    await using desk = await Desk.open()
    await desk.serve({ runtime: 'echo' })
    await desk.call('echo', { text: 'the planted words, password=hunter2hunter2' })
    await desk.spans()
    expect(receiver.rawText()).not.toContain('the planted words')

    await telemetry.stop(3_000)
    telemetry = await start({ OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: 'true' })
    await using second = await Desk.open()
    await second.serve({ runtime: 'echo' })
    await second.call('echo', { text: 'the planted words, password=hunter2hunter2' })

    const [span] = await second.spans()
    expect(span!.attributes).toMatchObject({
      'gen_ai.tool.call.arguments': { text: 'the planted words, password=[redacted]' },
      'gen_ai.tool.call.result': 'the planted words, password=[redacted]',
    })
    expect(receiver.rawText()).not.toContain('hunter2')
  })
})

describe('the log', () => {
  it('names the trace and the span of the call that a line is about', async () => {
    const lines: object[] = []
    const log = Object.assign(silentLog(), { warn: (fields: object) => void lines.push(fields) })
    const BROKEN = `export const broken = tool({ description: 'x', input: z.object({}), run: () => { throw new Error('oh') } })`
    await using desk = await Desk.open()
    await desk.serve({ runtime: 'typescript', file: toolFile(BROKEN) }, { session: { log } })

    await desk.call('broken')

    expect(lines).toMatchObject([{ tool: 'broken', trace_id: desk.traceId, span_id: EXECUTION(desk.traceId) }])
  })
})
