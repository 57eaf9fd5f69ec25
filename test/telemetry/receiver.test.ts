import { ROOT_CONTEXT, SeverityNumber, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-grpc'
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-grpc'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { OTLPTraceExporter as OTLPHttpTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { LoggerProvider, SimpleLogRecordProcessor } from '@opentelemetry/sdk-logs'
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics'
import { SimpleSpanProcessor, type SpanExporter, TracerProvider } from '@opentelemetry/sdk-trace'
import { afterEach, describe, expect, it } from 'vitest'
import { grpcStatus, type OtlpReceiver, type OtlpReceiverOptions, startOtlpReceiver } from '../support/otlp-receiver.ts'

const resource = resourceFromAttributes({ 'service.name': 'writer', 'service.namespace': 'tests' })

let stack = new AsyncDisposableStack()
afterEach(async () => {
  await stack.disposeAsync()
  stack = new AsyncDisposableStack()
})

async function receiver(options?: OtlpReceiverOptions): Promise<OtlpReceiver> {
  return stack.use(await startOtlpReceiver(options))
}

function tracing(exporter: SpanExporter) {
  const provider = new TracerProvider({ resource, spanProcessors: [new SimpleSpanProcessor({ exporter })] })
  stack.defer(() => provider.shutdown().catch(() => undefined))
  return provider.getTracer('a scope')
}

describe('the OTLP receiver', () => {
  it('gives spans as they were on the wire', async () => {
    const backend = await receiver()
    const tracer = tracing(new OTLPTraceExporter({ url: backend.url }))
    const other = { traceId: '0123456789abcdef0123456789abcdef', spanId: '0123456789abcdef', traceFlags: 1 }

    const parent = tracer.startSpan('outer', { kind: SpanKind.SERVER, startTime: 1_700_000_000_000 })
    const child = tracer.startSpan(
      'inner',
      {
        kind: SpanKind.CLIENT,
        startTime: 1_700_000_000_001,
        links: [{ context: other, attributes: { why: 'again' } }],
        attributes: { text: 'ü', whole: 9_007_199_254_740_991, part: 0.5, yes: true, list: ['a', 'b'] },
      },
      trace.setSpan(ROOT_CONTEXT, parent),
    )
    child.addEvent('happened', { n: 1 }, 1_700_000_000_002)
    child.setStatus({ code: SpanStatusCode.ERROR, message: 'it broke' })
    child.end(1_700_000_000_003)
    parent.end(1_700_000_000_004)
    await backend.waitFor(() => backend.spans().length === 2, 'both spans')

    const { traceId, spanId } = child.spanContext()
    expect(backend.spans().find(({ name }) => name === 'inner')).toMatchObject({
      service: 'writer',
      resource: { 'service.name': 'writer', 'service.namespace': 'tests' },
      scope: 'a scope',
      kind: 'client',
      traceId,
      spanId,
      parentSpanId: parent.spanContext().spanId,
      startNs: 1_700_000_000_001_000_000n,
      endNs: 1_700_000_000_003_000_000n,
      status: { code: 'error', message: 'it broke' },
      attributes: { text: 'ü', whole: 9_007_199_254_740_991, part: 0.5, yes: true, list: ['a', 'b'] },
      events: [{ name: 'happened', atNs: 1_700_000_000_002_000_000n, attributes: { n: 1 } }],
      links: [{ traceId: other.traceId, spanId: other.spanId, attributes: { why: 'again' } }],
    })
    expect(backend.spans().find(({ name }) => name === 'outer')).not.toHaveProperty('parentSpanId')
    expect(backend.rawText()).toContain('it broke')
    expect(backend.treeOf(traceId)).toBe('writer: outer [SERVER] UNSET\n  writer: inner [CLIENT] ERROR')
  })

  it('gives logs and metrics as they were on the wire', async () => {
    const backend = await receiver()
    const logs = new LoggerProvider({
      resource,
      processors: [new SimpleLogRecordProcessor({ exporter: new OTLPLogExporter({ url: backend.url }) })],
    })
    const metrics = new MeterProvider({
      resource,
      readers: [new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter({ url: backend.url }) })],
    })
    stack.defer(() => logs.shutdown())
    stack.defer(() => metrics.shutdown())
    const nested = { err: { type: 'Error', lines: ['a', 'b'], depth: 2, nothing: null } }

    logs.getLogger('log').emit({ severityNumber: SeverityNumber.WARN, severityText: 'WARN', body: 'low', attributes: nested })
    const meter = metrics.getMeter('meter')
    meter.createCounter('count', { unit: '{call}' }).add(3, { tool: 'search' })
    meter.createHistogram('time', { unit: 'ms', advice: { explicitBucketBoundaries: [1, 10] } }).record(4)
    meter.createObservableGauge('active').addCallback((gauge) => gauge.observe(2))
    await metrics.forceFlush()
    await backend.waitFor(() => backend.logs().length === 1 && backend.metrics().length === 3, 'one log and three metrics')

    expect(backend.logs()[0]).toMatchObject({
      service: 'writer',
      severity: 13,
      severityText: 'WARN',
      body: 'low',
      attributes: nested,
    })
    expect(backend.metric('writer', 'count')).toMatchObject({
      kind: 'sum',
      unit: '{call}',
      temporality: 'cumulative',
      isMonotonic: true,
      points: [{ attributes: { tool: 'search' }, value: 3 }],
    })
    expect(backend.metric('writer', 'time')).toMatchObject({
      kind: 'histogram',
      points: [{ count: 1, sum: 4, min: 4, max: 4, bounds: [1, 10], bucketCounts: [0, 1, 0] }],
    })
    expect(backend.metric('writer', 'active')).toMatchObject({ kind: 'gauge', points: [{ value: 2 }] })
  })

  it('takes HTTP with protobuf, compressed or not', async () => {
    const backend = await receiver({ protocol: 'http/protobuf' })
    const url = `${backend.url}/v1/traces`
    const plain = tracing(new OTLPHttpTraceExporter({ url, headers: { 'x-team': 'blue' } }))
    const zipped = tracing(new OTLPHttpTraceExporter({ url, compression: 'gzip' as never }))

    plain.startSpan('plain').end()
    await backend.waitFor(() => backend.spans().length === 1, 'the first span')
    zipped.startSpan('zipped').end()
    await backend.waitFor(() => backend.spans().length === 2, 'the second span')

    expect(backend.spans().map(({ name }) => name)).toEqual(['plain', 'zipped'])
    expect(backend.requests.traces[0]!.headers).toMatchObject({ 'x-team': 'blue' })
    expect(backend.requests.traces[1]!.headers).toMatchObject({ 'content-encoding': 'gzip' })
    expect(backend.rawText()).toContain('zipped')
  })

  it('refuses as often as it is told, and keeps nothing of what it refused', async () => {
    const backend = await receiver()
    const tracer = tracing(new OTLPTraceExporter({ url: backend.url }))
    backend.refuse('traces', grpcStatus.UNAUTHENTICATED, 1)

    tracer.startSpan('refused').end()
    await backend.waitFor(() => backend.requests.traces[0]?.answered !== undefined, 'the refusal')
    tracer.startSpan('taken').end()
    await backend.waitFor(() => backend.spans().length > 0, 'the second span')

    expect(backend.requests.traces.map(({ answered }) => answered)).toEqual([grpcStatus.UNAUTHENTICATED, grpcStatus.OK])
    expect(backend.spans().map(({ name }) => name)).toEqual(['taken'])
    expect(backend.rawText()).toContain('refused')
  })

  it('hangs until it resumes, and comes back on its port after it was closed', async () => {
    const backend = await receiver()
    const tracer = tracing(new OTLPTraceExporter({ url: backend.url }))
    backend.hang()

    tracer.startSpan('while it hangs').end()
    await backend.waitFor(() => backend.requests.traces.length === 1, 'a request')
    expect(backend.spans()).toEqual([])
    backend.resume()
    await backend.waitFor(() => backend.spans().length === 1, 'the span of the time it hung')
    await backend.close()
    await backend.reopen()
    const after = tracing(new OTLPTraceExporter({ url: backend.url }))
    after.startSpan('after it came back').end()
    await backend.waitFor(() => backend.spans().length === 2, 'the span after it came back')

    expect(backend.spans().map(({ name }) => name)).toEqual(['while it hangs', 'after it came back'])
  })

  it('says of a trace that a parent is missing or that a span came twice', async () => {
    const backend = await receiver()
    const tracer = tracing(new OTLPTraceExporter({ url: backend.url }))
    const traceId = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
    const caller = { traceId, spanId: 'bbbbbbbbbbbbbbbb', traceFlags: 1, isRemote: true }

    tracer.startSpan('left alone', {}, trace.setSpanContext(ROOT_CONTEXT, caller)).end()
    await backend.waitFor(() => backend.spans().length === 1, 'the span')

    expect(() => backend.treeOf(traceId)).toThrow('parent "bbbbbbbbbbbbbbbb" is missing, of writer: left alone [INTERNAL] UNSET')
    expect(backend.treeOf(traceId, [caller.spanId])).toBe('writer: left alone [INTERNAL] UNSET')

    const again = new TracerProvider({
      resource,
      spanProcessors: [new SimpleSpanProcessor({ exporter: new OTLPTraceExporter({ url: backend.url }) })],
      idGenerator: { generateTraceId: () => traceId, generateSpanId: () => backend.spans()[0]!.spanId },
    })
    stack.defer(() => again.shutdown())
    again.getTracer('a scope').startSpan('the same id').end()
    await backend.waitFor(() => backend.spans().length === 2, 'the second span')

    expect(() => backend.treeOf(traceId, [caller.spanId])).toThrow('comes twice, as writer: the same id [INTERNAL] UNSET')
  })
})
