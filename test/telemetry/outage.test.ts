/** What becomes of telemetry while its receiver refuses, hangs, is slow or away; every byte goes over the wire. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setImmediate as turnOfTheLoop } from 'node:timers/promises'
import { type Logger, pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { FinishedSpan } from '../../telemetry/span.ts'
import { startTelemetry } from '../../telemetry/start.ts'
import type { ServiceIdentity, Telemetry } from '../../telemetry/telemetry.ts'
import { grpcStatus, type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const WRITER: ServiceIdentity = { name: 'writer', namespace: 'tests', kind: 'agent' }

const PROTOCOLS = ['grpc', 'http/protobuf'] as const

let backend: OtlpReceiver
let telemetry: Telemetry
let lines: { readonly level: string; readonly [field: string]: unknown }[]
let log: Logger
beforeEach(async () => {
  backend = await startOtlpReceiver()
  lines = []
  log = pino(
    { level: 'debug', base: null, formatters: { level: (level) => ({ level }) } },
    { write: (line: string) => void lines.push(JSON.parse(line)) },
  )
})
afterEach(async () => {
  backend.resume()
  await telemetry.stop(1_000)
  await backend.close()
})

/** Exports spans and logs within 20 ms, metrics when they are flushed. */
async function start(env: NodeJS.ProcessEnv = {}): Promise<(from: number, count: number) => void> {
  telemetry = await startTelemetry({
    processName: 'kaos',
    services: [WRITER],
    log,
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: backend.url,
      OTEL_BSP_SCHEDULE_DELAY: '20',
      OTEL_BLRP_SCHEDULE_DELAY: '20',
      OTEL_METRIC_EXPORT_INTERVAL: '60000',
      ...env,
    },
  })
  const service = telemetry.service(WRITER)
  return (from, count) => {
    for (let i = from; i < from + count; i++) service.record(span(i))
  }
}

async function startOver(protocol: (typeof PROTOCOLS)[number]) {
  await backend.close()
  backend = await startOtlpReceiver({ protocol })
  return start({ OTEL_EXPORTER_OTLP_PROTOCOL: protocol })
}

const span = (i: number): FinishedSpan => ({
  name: 'model.inference',
  kind: 'client',
  traceId: TRACE,
  spanId: (i + 1).toString(16).padStart(16, '0'),
  parentSpanId: 'b7ad6b7169203331',
  flags: 1,
  startMs: 1_700_000_000_000 + i,
  endMs: 1_700_000_000_500 + i,
  attributes: { 'kaos.op': 'model.inference', 'kaos.task.id': 'writer_t1', model: 'small', 'gen_ai.usage.input_tokens': i },
})

const numbers = () => backend.spans().map(({ spanId }) => Number.parseInt(spanId, 16) - 1)
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i)
const warnings = () => lines.filter(({ level }) => level === 'warn')

/** How many items the metric says were lost, by signal and reason. */
function dropped(): { readonly [key: string]: number } {
  const newest = backend.metrics().findLast(({ name }) => name === 'kaos.telemetry.dropped')
  return Object.fromEntries(
    (newest?.points ?? []).map(({ attributes, value }) => [`${attributes.signal} ${attributes.reason}`, value!]),
  )
}

describe('telemetry', () => {
  it.each(PROTOCOLS)('brings a batch that was refused twice as unavailable, once, over %s', async (protocol) => {
    const record = await startOver(protocol)
    backend.refuse('traces', grpcStatus.UNAVAILABLE, 2)

    record(0, 10)
    await telemetry.flush(10_000)

    expect(numbers()).toEqual(upTo(10))
    expect(backend.requests.traces.map(({ answered }) => answered)).toEqual([grpcStatus.UNAVAILABLE, grpcStatus.UNAVAILABLE, 0])
    expect(dropped()).toEqual({})
    expect(warnings()).toEqual([])
  })

  it('brings 100,000 spans of a burst, each once', async () => {
    const record = await start()

    for (let i = 0; i < 100_000; i += 100) {
      record(i, 100)
      await turnOfTheLoop()
    }
    await telemetry.flush(30_000)
    await backend.waitFor(() => backend.spans().length >= 100_000, '100,000 spans')

    expect(new Set(numbers()).size).toBe(100_000)
    expect(backend.spans()).toHaveLength(100_000)
    expect(dropped()).toEqual({})
    expect(warnings()).toEqual([])
  })

  it.each(PROTOCOLS)('switches a signal off, with one line, that the receiver does not implement, over %s', async (protocol) => {
    const record = await startOver(protocol)
    backend.refuse('logs', grpcStatus.UNIMPLEMENTED)
    backend.refuse('metrics', grpcStatus.UNIMPLEMENTED)

    for (let round = 0; round < 3; round++) {
      record(round * 10, 10)
      telemetry.log({ level: 'info', msg: 'hello', agent: 'writer' })
      await telemetry.flush(3_000)
    }
    await backend.waitFor(() => backend.spans().length === 30, 'all spans')

    expect(warnings().map(({ signal }) => signal)).toEqual(expect.arrayContaining(['logs', 'metrics']))
    expect(warnings()).toHaveLength(2)
    expect(backend.requests.logs).toHaveLength(1)
    expect(backend.requests.metrics).toHaveLength(1)
  })

  it('keeps what comes while the receiver is down for a moment', async () => {
    const record = await start()
    record(0, 10)
    await telemetry.flush(3_000)

    await backend.close()
    record(10, 10)
    const flushed = telemetry.flush(20_000)
    await backend.reopen()
    await flushed

    expect(numbers()).toEqual(upTo(20))
    expect(warnings()).toEqual([])
  })

  it('counts what is lost while the receiver is down for long, logs it once, and goes on when it is back', async () => {
    const record = await start({
      OTEL_BSP_EXPORT_TIMEOUT: '200',
      OTEL_EXPORTER_OTLP_TIMEOUT: '200',
      OTEL_METRIC_EXPORT_INTERVAL: '200',
    })
    await backend.close()

    record(0, 10)
    await telemetry.flush(10_000)
    record(10, 10)
    await telemetry.flush(10_000)
    await backend.reopen()
    await backend.waitFor(() => dropped()['traces export_failed'] === 20, 'the count of what was lost')
    record(20, 10)
    await backend.waitFor(() => backend.spans().length > 0, 'the spans after')

    expect(numbers()).toEqual(upTo(30).slice(20))
    await telemetry.stop(3_000)
    const told = warnings().filter(({ signal }) => signal === 'traces')
    expect(told).toMatchObject([{ dropped: 20, inAll: 20, reason: 'export_failed', msg: 'telemetry was dropped' }])
  })

  it('tells of losses without a word in between, however many batches are lost', async () => {
    const record = await start({ OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10', OTEL_METRICS_EXPORTER: 'none' })
    backend.refuse('traces', grpcStatus.PERMISSION_DENIED)

    record(0, 500)
    await telemetry.flush(10_000)
    record(500, 500)
    await telemetry.flush(10_000)
    await telemetry.stop(3_000)

    expect(backend.requests.traces).toHaveLength(100)
    expect(warnings().length).toBeLessThanOrEqual(2)
    expect(warnings().at(-1)).toMatchObject({ signal: 'traces', reason: 'export_failed', inAll: 1_000 })
  })

  it('counts what finds no room while the receiver hangs, and brings the rest', async () => {
    const record = await start({ OTEL_BSP_MAX_QUEUE_SIZE: '100', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10' })
    backend.hang()

    record(0, 1)
    await backend.waitFor(() => backend.requests.traces.length === 1, 'a request that hangs')
    record(1, 1_000)
    backend.resume()
    await telemetry.flush(10_000)

    expect(backend.spans().length + dropped()['traces queue_full']!).toBe(1_001)
    expect(backend.spans().length).toBeGreaterThanOrEqual(100)
    expect(new Set(numbers()).size).toBe(backend.spans().length)
  })

  it('brings everything to a receiver that is slow', async () => {
    const record = await start({ OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10' })
    backend.delay(50)

    record(0, 100)
    await telemetry.flush(20_000)

    expect(numbers()).toEqual(upTo(100))
    expect(dropped()).toEqual({})
  })

  it('ends in the time it is given while the receiver hangs, and says what is lost', async () => {
    const record = await start({ OTEL_METRICS_EXPORTER: 'none', OTEL_LOGS_EXPORTER: 'none' })
    backend.hang()
    record(0, 10)
    await backend.waitFor(() => backend.requests.traces.length === 1, 'a request that hangs')

    await telemetry.flush(100)
    await telemetry.stop(100)

    expect(backend.requests.traces.every(({ answered }) => answered === undefined)).toBe(true)
    expect(warnings()).toMatchObject([{ signal: 'traces', reason: 'stopped', dropped: 10 }])
  })

  it('ends in the time it is given where a listener takes connections and says nothing', async () => {
    await backend.close()
    const silent = createServer()
    silent.listen(backend.port, '127.0.0.1')
    await once(silent, 'listening')
    const record = await start()
    record(0, 10)
    telemetry.log({ level: 'info', msg: 'hello' })

    await telemetry.flush(100)
    await telemetry.stop(100)
    silent.close()

    expect(warnings().filter(({ msg }) => msg === 'telemetry was dropped')).toMatchObject(
      expect.arrayContaining([expect.objectContaining({ signal: 'traces', dropped: 10 })]),
    )
  })
})
