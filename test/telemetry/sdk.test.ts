import { createHash } from 'node:crypto'
import { type Logger, pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { KEYS, OPERATIONS } from '../../telemetry/names.ts'
import type { FinishedSpan } from '../../telemetry/span.ts'
import { runningTelemetry, startTelemetry } from '../../telemetry/start.ts'
import type { ServiceIdentity, Telemetry } from '../../telemetry/telemetry.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'

const PLANNER: ServiceIdentity = { name: 'planner', namespace: 'trips', kind: 'agent' }
const WRITER: ServiceIdentity = { name: 'writer', namespace: 'trips', kind: 'agent' }
const WEATHER: ServiceIdentity = { name: 'weather', namespace: 'trips', kind: 'tool-server' }
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const STOP_MS = 5_000

let backend: OtlpReceiver
let lines: { readonly [field: string]: unknown }[]
let log: Logger
beforeEach(async () => {
  backend = await startOtlpReceiver()
  lines = []
  log = pino({ level: 'trace', base: null }, { write: (line: string) => void lines.push(JSON.parse(line)) })
})
afterEach(async () => {
  await runningTelemetry().stop(STOP_MS)
  await backend[Symbol.asyncDispose]()
})

function start(
  env: NodeJS.ProcessEnv = {},
  services: readonly ServiceIdentity[] = [PLANNER, WRITER, WEATHER],
): Promise<Telemetry> {
  return startTelemetry({ processName: 'kaos', services, env: { OTEL_EXPORTER_OTLP_ENDPOINT: backend.url, ...env }, log })
}

let spans = 0
function finished(more: Partial<FinishedSpan> = {}): FinishedSpan {
  const spanId = (++spans).toString(16).padStart(16, '0')
  const times = { startMs: 1_800_000_000_000, endMs: 1_800_000_000_250 }
  return { name: 'any', kind: 'internal', traceId: TRACE, spanId, flags: 1, ...times, attributes: {}, ...more }
}

const said = (message: string) => lines.filter(({ msg }) => String(msg).includes(message))

describe('whether telemetry runs', () => {
  it('is no when nothing is set, or OTEL_SDK_DISABLED is true', async () => {
    const unset = await startTelemetry({ processName: 'kaos', services: [PLANNER], env: {}, log })
    const disabled = await start({ OTEL_SDK_DISABLED: 'true' }, [{ ...PLANNER, endpoint: backend.url }])

    expect([unset.isOn, disabled.isOn]).toEqual([false, false])
    expect(lines).toEqual([])
  })

  it('is yes when only a manifest names a place, and only for that agent', async () => {
    const services = [{ ...PLANNER, endpoint: backend.url }, WRITER]
    const telemetry = await startTelemetry({ processName: 'kaos', services, env: {}, log })

    expect(services.map((service) => telemetry.service(service).isOn)).toEqual([true, false])
  })

  it('keeps the first of two starts, and warns with both names', async () => {
    const [first, second] = await Promise.all([start({ OTEL_SERVICE_NAME: 'first' }), start({ OTEL_SERVICE_NAME: 'second' })])

    expect(second).toBe(first)
    expect(said('telemetry runs already')).toMatchObject([{ running: 'first', refused: 'second' }])
  })

  it('says that an agent that wants it has no place to send to', async () => {
    await startTelemetry({ processName: 'kaos', services: [{ ...PLANNER, enabled: true }], env: {}, log })

    expect(said('no endpoint is set')).toMatchObject([{ services: ['planner'] }])
  })

  it('warns of an endpoint that cannot be read, in the environment and in a manifest', async () => {
    await startTelemetry({ processName: 'kaos', services: [], env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'htp:/x' }, log })
    const telemetry = await start({}, [{ ...PLANNER, endpoint: 'ftp://x' }, WRITER])

    expect(said('OTEL_EXPORTER_OTLP_ENDPOINT is "htp:/x"')).toHaveLength(1)
    expect(said('telemetry.endpoint is neither')).toMatchObject([{ service: 'planner', endpoint: 'ftp://x' }])
    expect(telemetry.service({ ...PLANNER, endpoint: 'ftp://x' }).isOn).toBe(false)
  })
})

describe('services of one process', () => {
  it('have a resource each, and share what the environment says of all', async () => {
    const telemetry = await start({ OTEL_RESOURCE_ATTRIBUTES: 'team=x,service.version=9', OTEL_SERVICE_NAME: 'ignored' })
    for (const service of [PLANNER, WEATHER]) telemetry.service(service).record(finished())
    await telemetry.flush(STOP_MS)

    const resources = backend.spans().map(({ resource }) => resource)
    expect(resources.map((resource) => resource['service.name'])).toEqual(['planner', 'weather'])
    expect(new Set(resources.map((resource) => resource['service.instance.id'])).size).toBe(1)
    for (const resource of resources) {
      expect(resource).toMatchObject({ 'service.namespace': 'trips', 'service.version': '9', team: 'x' })
      expect(Object.keys(resource).filter((key) => key.startsWith('process.'))).toEqual([])
    }
  })

  it('are named by OTEL_SERVICE_NAME where there is exactly one', async () => {
    const telemetry = await start({ OTEL_SERVICE_NAME: 'mine' }, [PLANNER])
    telemetry.service(PLANNER).record(finished())
    telemetry.log({ level: 'info', time: '2026-11-22T10:00:00.000Z', msg: 'ready' })
    await telemetry.flush(STOP_MS)

    expect([backend.spans()[0]?.service, backend.logs()[0]?.service]).toEqual(['mine', 'mine'])
  })

  it('are the same object for the same name, and apart for an agent and a tool server of one name', async () => {
    const telemetry = await start()

    expect(telemetry.service({ ...PLANNER })).toBe(telemetry.service(PLANNER))
    expect(telemetry.service({ ...WEATHER, kind: 'agent' })).not.toBe(telemetry.service(WEATHER))
  })

  it('are silenced one by one, their logs too', async () => {
    const telemetry = await start({}, [{ ...PLANNER, enabled: false }, WRITER])
    for (const service of [PLANNER, WRITER]) telemetry.service(service).record(finished())
    for (const agent of ['planner', 'writer']) telemetry.log({ level: 'info', time: '', msg: 'x', agent })
    await telemetry.flush(STOP_MS)

    expect(backend.spans().map(({ service }) => service)).toEqual(['writer'])
    expect(backend.logs().map(({ service }) => service)).toEqual(['writer'])
  })

  it('send elsewhere where their manifest says so', async () => {
    await using other = await startOtlpReceiver()
    const services = [{ ...PLANNER, endpoint: other.url.replace('http://', '') }, WRITER]
    const telemetry = await start({}, services)
    for (const service of services) telemetry.service(service).record(finished())
    await telemetry.flush(STOP_MS)

    expect(other.spans().map(({ service }) => service)).toEqual(['planner'])
    expect(backend.spans().map(({ service }) => service)).toEqual(['writer'])
  })

  it('get the lines of the log that name them; the process gets the rest', async () => {
    const telemetry = await start()
    const time = '2026-11-22T10:00:00.000Z'
    telemetry.log({ level: 'error', time, msg: 'failed', agent: 'planner', trace_id: TRACE, span_id: 'b7ad6b7169203331', n: 1 })
    telemetry.log({ level: 'info', time, msg: 'called', server: 'weather', trace_id: TRACE })
    telemetry.log({ level: 'debug', time, msg: 'odd', agent: 'nobody', err: { type: 'TypeError', message: 'no', stack: 'at x' } })
    await telemetry.flush(STOP_MS)

    const [failed, called, odd] = ['failed', 'called', 'odd'].map((body) => backend.logs().find((record) => record.body === body))
    expect(failed).toMatchObject({ service: 'planner', severity: 17, severityText: 'ERROR', attributes: { n: 1 } })
    expect(failed).toMatchObject({ traceId: TRACE, spanId: 'b7ad6b7169203331', timeNs: BigInt(Date.parse(time)) * 1_000_000n })
    expect(called).toMatchObject({ service: 'weather', severity: 9, traceId: TRACE })
    expect(called?.spanId).toBeFalsy()
    expect(odd).toMatchObject({ service: 'kaos', severity: 5 })
    expect(odd?.attributes).toMatchObject({ 'exception.type': 'TypeError', 'exception.stacktrace': 'at x' })
  })
})

describe('a finished span', () => {
  it('is exported as it stands, with its own ids and times', async () => {
    const telemetry = await start()
    const link = { traceId: '1'.repeat(32), spanId: '2'.repeat(16), attributes: { 'kaos.attempts': 2 } }
    const event = { name: 'kaos.takeover', atMs: 1_800_000_000_100, attributes: { 'kaos.host.id': 'h2' } }
    const nested = [{ role: 'user', parts: [{ text: 'hello', none: null }] }]
    telemetry.service(PLANNER).record(
      finished({
        ...{ name: 'model.inference', kind: 'client', spanId: 'c'.repeat(16), parentSpanId: 'd'.repeat(16), tracestate: 'a=b' },
        attributes: { text: 'x', whole: 3, real: 0.5, is: true, nested, absent: undefined },
        ...{ links: [link], events: [event] },
      }),
    )
    await telemetry.flush(STOP_MS)

    const [span] = backend.spans()
    expect(span).toMatchObject({ traceId: TRACE, spanId: 'c'.repeat(16), parentSpanId: 'd'.repeat(16), tracestate: 'a=b' })
    expect(span).toMatchObject({ name: 'model.inference', kind: 'client', status: { code: 'ok' } })
    expect([span?.startNs, span?.endNs]).toEqual([1_800_000_000_000_000_000n, 1_800_000_000_250_000_000n])
    expect(span?.attributes).toEqual({ text: 'x', whole: 3, real: 0.5, is: true, nested })
    expect(span?.links).toMatchObject([link])
    expect(span?.events).toEqual([{ name: event.name, atNs: 1_800_000_000_100_000_000n, attributes: event.attributes }])
  })

  it('that failed has status ERROR, its code, and one exception event', async () => {
    const telemetry = await start()
    telemetry.service(PLANNER).record(finished({ failure: { code: 'model_failed', message: 'no answer' } }))
    await telemetry.flush(STOP_MS)

    const [span] = backend.spans()
    expect(span).toMatchObject({ status: { code: 'error', message: 'no answer' }, attributes: { 'error.type': 'model_failed' } })
    expect(span?.events).toMatchObject([
      { name: 'exception', attributes: { 'exception.type': 'model_failed', 'exception.message': 'no answer' } },
    ])
  })

  it('ends after it starts, whatever two clocks say, and never throws, whatever it holds', async () => {
    const telemetry = await start()
    const planner = telemetry.service(PLANNER)
    planner.record(finished({ name: 'backwards', endMs: 1 }))
    planner.record({ ...finished(), attributes: null as never })
    planner.record(null as never)
    await telemetry.flush(STOP_MS)

    const backwards = backend.spans().find(({ name }) => name === 'backwards')
    expect(backwards!.endNs - backwards!.startNs).toBe(1n)
  })

  it('keeps to the limits, and says in the failure what cannot be cut off', async () => {
    const telemetry = await start({ OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: '2', OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT: '3' })
    const attributes = { a: 'abcdef', b: 'b', c: 'c' }
    telemetry.service(PLANNER).record(finished({ attributes, failure: { code: 'gone', message: 'm' } }))
    await telemetry.flush(STOP_MS)

    expect(backend.spans()[0]?.attributes).toEqual({ 'error.type': 'gon', a: 'abc' })
  })
})

describe('sampling', () => {
  it.each([
    ['always_on', 1, [0, 1]],
    ['always_off', 0, []],
    ['parentbased_always_on', 1, [1]],
    ['parentbased_always_off', 0, [1]],
  ])('by %s decides about new traces, and about those of callers', async (name, rootFlags, exported) => {
    const telemetry = await start({ OTEL_TRACES_SAMPLER: name })
    const planner = telemetry.service(PLANNER)
    for (const flags of [0, 1]) planner.record(finished({ flags, parentSpanId: 'd'.repeat(16), attributes: { flags } }))
    await telemetry.flush(STOP_MS)

    const root = { traceId: TRACE, name: 'x', kind: 'consumer', attributes: {} } as const
    expect(planner.rootFlags(root)).toBe(rootFlags)
    expect(backend.spans().map(({ attributes }) => attributes.flags)).toEqual(exported)
  })

  it('by a share keeps that share of traces, each of them whole', async () => {
    const telemetry = await start({ OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.25' })
    const planner = telemetry.service(PLANNER)
    const ids = Array.from({ length: 2_000 }, (_, i) => createHash('sha256').update(`trace ${i}`).digest('hex').slice(0, 32))
    const flags = ids.map((traceId) => planner.rootFlags({ traceId, name: 'x', kind: 'consumer', attributes: {} }))

    const share = flags.filter((flag) => flag === 1).length / ids.length
    expect(share).toBeGreaterThan(0.15)
    expect(share).toBeLessThan(0.35)
    for (const [i, traceId] of ids.entries()) for (let n = 0; n < 2; n++) planner.record(finished({ traceId, flags: flags[i]! }))
    await telemetry.flush(STOP_MS)
    expect(backend.spans()).toHaveLength(2 * flags.filter((flag) => flag === 1).length)
  })

  it('counts what it does not export', async () => {
    const telemetry = await start({ OTEL_TRACES_SAMPLER: 'parentbased_always_off' })
    telemetry.service(PLANNER).record(finished({ flags: 0, attributes: { [KEYS.op]: OPERATIONS.tool, [KEYS.agent]: 'planner' } }))
    await telemetry.flush(STOP_MS)

    expect(backend.spans()).toEqual([])
    expect(backend.metric('planner', 'kaos.tool.calls')?.points).toMatchObject([{ value: 1 }])
  })
})

describe('metrics', () => {
  it('are of their service, with gauges that are read when they are collected', async () => {
    const telemetry = await start()
    const { counts } = telemetry.service(PLANNER)
    counts.consumed(1)
    counts.consumed(3)
    counts.processed(250)
    counts.sent()
    counts.appended(4)
    counts.takenOver()
    counts.observe(() => ({ active: 9, parked: 9, backlog: 9 }))
    counts.observe(() => ({ active: 1, parked: 2, backlog: 3 }))
    await telemetry.flush(STOP_MS)

    const point = (name: string) => backend.metric('planner', name)?.points[0]
    expect(point('messaging.client.consumed.messages')).toMatchObject({ value: 2, attributes: { 'messaging.system': 'nats' } })
    expect(point('kaos.mail.redeliveries')).toMatchObject({ value: 1, attributes: {} })
    expect(point('messaging.process.duration')).toMatchObject({ count: 1, sum: 0.25 })
    expect(point('messaging.client.sent.messages')).toMatchObject({ value: 1 })
    expect(point('kaos.journal.append.duration')).toMatchObject({ count: 1, sum: 4 })
    expect(point('kaos.takeovers')).toMatchObject({ value: 1 })
    const gauges = ['kaos.tasks.active', 'kaos.tasks.parked', 'kaos.mail.backlog']
    expect(gauges.map((name) => point(name)?.value)).toEqual([1, 2, 3])
    expect(backend.metric('planner', 'kaos.tasks.active')?.kind).toBe('gauge')
  })

  it('have few labels, however many tools a model makes up', async () => {
    const telemetry = await start()
    for (let i = 0; i < 1_000; i++) {
      const attributes = { [KEYS.op]: OPERATIONS.tool, [KEYS.genAiTool]: `made-up-${i}` }
      telemetry.service(PLANNER).record(finished({ flags: 0, attributes }))
    }
    await telemetry.flush(STOP_MS)

    const points = backend.metric('planner', 'kaos.tool.calls')?.points ?? []
    expect(points).toHaveLength(201)
    expect(points.find(({ attributes }) => attributes.tool === '_other')?.value).toBe(800)
  })

  it('are exported every OTEL_METRIC_EXPORT_INTERVAL', async () => {
    const telemetry = await start({ OTEL_METRIC_EXPORT_INTERVAL: '50' })
    telemetry.service(PLANNER).counts.sent()

    const names = () => backend.metrics().filter(({ name }) => name === 'messaging.client.sent.messages')
    await backend.waitFor(() => names().length >= 2, 'two exports of metrics')
  })
})
