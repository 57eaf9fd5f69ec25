/** How batches leave: what each answer of a receiver leads to, and the settings of exporters. Outages are in outage.test.ts. */
import { type ExportResult, ExportResultCode } from '@opentelemetry/core'
import { type Logger, pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { readAnswer } from '../../telemetry/export/answers.ts'
import { Delivery, RETRY } from '../../telemetry/export/delivery.ts'
import { Losses } from '../../telemetry/export/losses.ts'
import { ExportQueue } from '../../telemetry/export/queue.ts'
import { SdkMessages } from '../../telemetry/export/sdk-messages.ts'
import { silentLog } from '../../telemetry/log.ts'
import type { FinishedSpan } from '../../telemetry/span.ts'
import { runningTelemetry, startTelemetry } from '../../telemetry/start.ts'
import type { ServiceIdentity, Telemetry } from '../../telemetry/telemetry.ts'
import { grpcStatus, type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'

const WRITER: ServiceIdentity = { name: 'writer', namespace: 'tests', kind: 'agent' }
const STOP_MS = 5_000

let lines: { readonly [field: string]: unknown }[]
let log: Logger
beforeEach(() => {
  lines = []
  log = pino({ level: 'debug', base: null }, { write: (line: string) => void lines.push(JSON.parse(line)) })
})
afterEach(async () => {
  await runningTelemetry().stop(STOP_MS)
  vi.unstubAllEnvs()
})

/** Exporters read headers and the like from the environment of the process. */
function start(backend: OtlpReceiver, env: { readonly [name: string]: string } = {}): Promise<Telemetry> {
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
  return startTelemetry({
    processName: 'kaos',
    services: [WRITER],
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: backend.url, ...env },
    log,
  })
}

function span(i: number, attributes: FinishedSpan['attributes'] = {}): FinishedSpan {
  const ids = { traceId: 'a'.repeat(32), spanId: (i + 1).toString(16).padStart(16, '0'), flags: 1 }
  return { name: 'any', kind: 'internal', ...ids, startMs: 1_000, endMs: 2_000, attributes }
}

describe('the answer of a receiver', () => {
  it.each(['CANCELLED', 'DEADLINE_EXCEEDED', 'ABORTED', 'OUT_OF_RANGE', 'UNAVAILABLE', 'DATA_LOSS'] as const)(
    'is worth another try when it is %s',
    (name) => {
      expect(readAnswer({ code: grpcStatus[name] })).toEqual({ kind: 'retry' })
    },
  )

  it.each(['INVALID_ARGUMENT', 'PERMISSION_DENIED', 'UNAUTHENTICATED', 'INTERNAL', 'RESOURCE_EXHAUSTED'] as const)(
    'is final when it is %s',
    (name) => {
      expect(readAnswer({ code: grpcStatus[name], message: 'no' })).toEqual({ kind: 'refused' })
    },
  )

  it.each([
    ['2.5 s', [0x08, 0x02, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01], 2_500],
    ['nothing', [], 0],
  ])('says with RESOURCE_EXHAUSTED and RetryInfo when to come again: %s', (_what, duration, afterMs) => {
    const delay = [0x0a, duration.length, ...duration]
    const type = Buffer.from('type.googleapis.com/google.rpc.RetryInfo')
    const any = Buffer.concat([Buffer.from([0x0a, type.length]), type, Buffer.from([0x12, delay.length, ...delay])])
    const details = Buffer.concat([Buffer.from([0x08, 0x08, 0x1a, any.length]), any])

    const answer = readAnswer({ code: grpcStatus.RESOURCE_EXHAUSTED, metadata: { get: () => [details] } })
    expect(answer).toEqual({ kind: 'retry', afterMs })
  })

  it.each([
    [{ code: grpcStatus.UNIMPLEMENTED }, 'unsupported'],
    [{ code: 404 }, 'unsupported'],
    [{ code: 501 }, 'unsupported'],
    [{ code: grpcStatus.RESOURCE_EXHAUSTED, message: 'grpc: received message larger than max (5 vs. 4)' }, 'too-large'],
    [{ code: 413 }, 'too-large'],
    [{ code: 400 }, 'refused'],
    [{ code: 503 }, 'retry'],
    [{ code: 'ECONNREFUSED' }, 'retry'],
    [{ code: 'CERT_HAS_EXPIRED' }, 'refused'],
    [new Error('Export failed with retryable status'), 'retry'],
    [new Error('Request timed out'), 'retry'],
    [undefined, 'refused'],
  ])('%o is %s', (error, kind) => {
    expect(readAnswer(error)).toEqual({ kind })
  })
})

/** A delivery to an exporter that answers as it is told, call by call; then with success. */
function scripted(answers: readonly (object | 'hang' | 'throw')[] = [], timeoutMs = 5_000) {
  const sent: number[][] = []
  const lost: string[] = []
  const losses = new Losses(silentLog(), (signal, reason, items) => void lost.push(`${items} ${signal} ${reason}`))
  let connections = 0
  const exporter = {
    shutdown: async () => {},
    export: (items: number[], done: (result: ExportResult) => void) => {
      const answer = answers[sent.push(items) - 1]
      if (answer === 'throw') throw new Error('cannot be written')
      if (answer === 'hang') return
      done(answer ? { code: ExportResultCode.FAILED, error: answer as Error } : { code: ExportResultCode.SUCCESS })
    },
  }
  const connect = (n: number) => {
    connections = n
    return exporter
  }
  const parts = {
    count: (items: number[]) => items.length,
    part: (items: number[], n: number) => [items.slice(0, n), items.slice(n)] as const,
  }
  const delivery = new Delivery<number[]>({ signal: 'traces', to: 'here', connect, ...parts, timeoutMs, losses, log })
  return { delivery, sent, lost, losses, connections: () => connections }
}

const UNAVAILABLE = { code: grpcStatus.UNAVAILABLE }

describe('a delivery', () => {
  it('tries again until the receiver takes it, one batch after the other', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] })
    onTestFinished(() => void vi.useRealTimers())
    const { delivery, sent, lost } = scripted([UNAVAILABLE])
    vi.spyOn(Math, 'random').mockReturnValue(0)
    onTestFinished(() => void vi.restoreAllMocks())
    delivery.leave() // Its pauses are short.

    await Promise.all([delivery.deliver([1]), delivery.deliver([2])])

    expect(sent).toEqual([[1], [1], [2]])
    expect(lost).toEqual([])
  })

  it('gives up a batch that is refused, at once', async () => {
    const { delivery, sent, lost } = scripted([{ code: grpcStatus.INVALID_ARGUMENT }])
    await delivery.deliver([1, 2, 3])

    expect(sent).toHaveLength(1)
    expect(lost).toEqual(['3 traces export_failed'])
  })

  it('does not wait longer than an export may take', async () => {
    const { delivery, sent, lost } = scripted([{ ...UNAVAILABLE }], RETRY.firstDelayMs / 2)
    await delivery.deliver([1])

    expect(sent).toHaveLength(1)
    expect(lost).toEqual(['1 traces export_failed'])
  })

  it('connects anew after it gave up on a receiver that was away, and only then', async () => {
    const away = scripted([UNAVAILABLE], 1)
    const refusing = scripted([{ code: grpcStatus.INVALID_ARGUMENT }])
    for (const { delivery } of [away, refusing]) for (const item of [1, 2]) await delivery.deliver([item])

    expect([away.connections(), refusing.connections()]).toEqual([2, 1])
    expect([away.sent, refusing.sent]).toEqual([
      [[1], [2]],
      [[1], [2]],
    ])
  })

  it('goes on when the receiver never answers', async () => {
    const { delivery, sent, lost } = scripted(['hang'], 20)
    await delivery.deliver([1])
    await delivery.deliver([2])

    expect(sent).toEqual([[1], [2]])
    expect(lost).toEqual(['1 traces export_failed'])
  })

  it('ends at once when it is abandoned, in a try or between two', async () => {
    const hanging = scripted(['hang'])
    const inTry = hanging.delivery.deliver([1])
    await Promise.resolve()
    await hanging.delivery.abandon()
    const pausing = scripted(Array(RETRY.triesMax).fill(UNAVAILABLE))
    const between = pausing.delivery.deliver([1, 2])
    await Promise.resolve()
    await pausing.delivery.abandon()

    await Promise.all([inTry, between])
    expect(hanging.lost).toEqual(['1 traces stopped'])
    expect(pausing.lost).toEqual(['2 traces stopped'])
  })

  it('sends less at once when a batch is too large, and more again when that is taken', async () => {
    const { delivery, sent, lost } = scripted([{ code: 413 }])
    await delivery.deliver([1, 2, 3, 4])
    await delivery.deliver([5, 6, 7, 8])
    await delivery.deliver([9, 10, 11, 12])

    expect(sent).toEqual([
      [1, 2, 3, 4],
      [1, 2],
      [3, 4],
      [5, 6, 7, 8],
      [9, 10, 11, 12],
    ])
    expect(lost).toEqual([])
  })

  it('loses an item that is too large alone, and no other', async () => {
    const { delivery, sent, lost } = scripted([{ code: 413 }, { code: 413 }])
    await delivery.deliver([1, 2])

    expect(sent).toEqual([[1, 2], [1], [2]])
    expect(lost).toEqual(['1 traces export_failed'])
  })

  it('switches itself off, with one line and no loss, where the signal is not taken', async () => {
    const { delivery, sent, lost } = scripted([{ code: 404 }])
    await delivery.deliver([1])
    await delivery.deliver([2])

    expect(delivery.isOff).toBe(true)
    expect(sent).toEqual([[1]])
    expect(lost).toEqual([])
    expect(lines).toMatchObject([{ signal: 'traces', to: 'here' }])
  })

  it('survives an exporter that throws', async () => {
    const { delivery, lost } = scripted(['throw'])
    await delivery.deliver([1])

    expect(lost).toEqual(['1 traces export_failed'])
  })
})

describe('a queue', () => {
  const settings = { itemsMax: 5, batchMax: 2, delayMs: 60_000, timeoutMs: 5_000 }

  it('hands on full batches at once, and the rest when it is flushed', async () => {
    const { delivery, sent, losses } = scripted()
    const queue = new ExportQueue<number>('traces', delivery, settings, losses, () => 1)
    for (const item of [1, 2, 3]) queue.add(item)
    await queue.flush()

    expect(sent).toEqual([[1, 2], [3]])
  })

  it('counts what finds no room, and what comes after its end', async () => {
    const { delivery, sent, lost, losses } = scripted(['hang'])
    const queue = new ExportQueue<number>('traces', delivery, settings, losses, () => 1)
    for (let i = 0; i < 10; i++) queue.add(i)
    await Promise.resolve() // The first batch is on its way.
    await queue.close()
    queue.add(99)

    expect(sent).toEqual([[0, 1]])
    expect(lost.slice(0, 3)).toEqual(Array(3).fill('1 traces queue_full'))
    expect(lost.slice(3)).toEqual(['5 traces stopped', '2 traces stopped', '1 traces stopped'])
  })

  it('is flushed again while it is flushed', async () => {
    const { delivery, sent, losses } = scripted()
    const queue = new ExportQueue<number>('traces', delivery, settings, losses, () => 1)
    queue.add(1)
    const first = queue.flush()
    queue.add(2)
    await Promise.all([first, queue.flush()])
    await queue.flush()

    expect(sent.flat()).toEqual([1, 2])
  })

  it('hands on no more text at once than a receiver takes, and keeps no more than memory has room for', async () => {
    const { delivery, sent, lost, losses } = scripted()
    const queue = new ExportQueue<number>(
      'traces',
      delivery,
      { ...settings, itemsMax: 1_000, batchMax: 500 },
      losses,
      () => 2 ** 20,
    )
    for (let i = 0; i < 200; i++) queue.add(i)
    await queue.flush()

    expect(sent[0]).toEqual([0, 1, 2])
    expect(Math.max(...sent.map((batch) => batch.length))).toBe(3)
    expect(lost.length + sent.flat().length).toBe(200)
    expect(lost.length).toBeGreaterThan(50)
  })
})

describe('losses', () => {
  it('are logged at most once a minute, with what came since and in all', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    onTestFinished(() => void vi.useRealTimers())
    const counted: number[] = []
    const losses = new Losses(log, (_signal, _reason, items) => void counted.push(items))

    losses.add('traces', 'export_failed', 2, 'UNAVAILABLE: Bearer abcdefgh12345678')
    losses.add('traces', 'export_failed', 3)
    vi.advanceTimersByTime(1_000)
    losses.add('traces', 'export_failed', 10)
    vi.advanceTimersByTime(59_000)
    const within = lines.length
    vi.advanceTimersByTime(1_000)

    expect(counted).toEqual([2, 3, 10])
    expect(within).toBe(1)
    expect(lines).toMatchObject([
      { signal: 'traces', reason: 'export_failed', dropped: 5, inAll: 5, why: 'UNAVAILABLE: Bearer [redacted]' },
      { dropped: 10, inAll: 15 },
    ])
  })
})

describe("the SDK's own messages", () => {
  it('go to the log, the same words once, without secrets', () => {
    const messages = new SdkMessages(log)
    for (let i = 0; i < 3; i++) messages.error('could not', new Error('send to http://me:secret@host'))
    messages.warn('other')

    expect(lines).toMatchObject([{ says: 'could not send to http://[redacted]@host' }, { says: 'other' }])
  })
})

describe('exporters', () => {
  it.each(['grpc', 'http/protobuf'] as const)('over %s send all signals, with headers, and compressed', async (protocol) => {
    await using backend = await startOtlpReceiver({ protocol })
    const telemetry = await start(backend, {
      OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Basic%20abc,x-tenant=one',
      OTEL_EXPORTER_OTLP_LOGS_HEADERS: 'x-tenant=two',
      OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
    })
    const service = telemetry.service(WRITER)
    service.record(span(1))
    service.counts.sent()
    telemetry.log({ level: 'info', time: '', msg: 'hello' })
    await telemetry.stop(STOP_MS)

    expect(backend.spans()).toHaveLength(1)
    expect(backend.logs()).toHaveLength(1)
    expect(backend.metric('writer', 'messaging.client.sent.messages')?.points).toMatchObject([{ value: 1 }])
    const [traces, logs] = [backend.requests.traces[0], backend.requests.logs[0]]
    expect(traces?.headers).toMatchObject({ authorization: 'Basic abc', 'x-tenant': 'one' })
    expect(logs?.headers).toMatchObject({ 'x-tenant': 'two' })
    if (protocol !== 'grpc') expect(traces?.headers).toMatchObject({ 'content-encoding': 'gzip' })
  })

  it('send metrics as delta where that is preferred', async () => {
    await using backend = await startOtlpReceiver()
    const telemetry = await start(backend, { OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'delta' })
    telemetry.service(WRITER).counts.sent()
    await telemetry.flush(STOP_MS)

    expect(backend.metric('writer', 'messaging.client.sent.messages')?.temporality).toBe('delta')
  })

  it('keep to the size of batches', async () => {
    await using backend = await startOtlpReceiver()
    const telemetry = await start(backend, { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10', OTEL_BSP_MAX_QUEUE_SIZE: '100' })
    for (let i = 0; i < 25; i++) telemetry.service(WRITER).record(span(i))
    await telemetry.flush(STOP_MS)

    expect(backend.requests.traces).toHaveLength(3)
    expect(backend.spans()).toHaveLength(25)
  })

  it('send what waits after OTEL_BSP_SCHEDULE_DELAY, without being asked', async () => {
    await using backend = await startOtlpReceiver()
    const telemetry = await start(backend, { OTEL_BSP_SCHEDULE_DELAY: '10' })
    telemetry.service(WRITER).record(span(1))

    await backend.waitFor(() => backend.spans().length === 1, 'the span')
  })

  it('part a batch that the receiver finds too large, and lose nothing', async () => {
    await using backend = await startOtlpReceiver()
    const telemetry = await start(backend)
    for (let i = 0; i < 2_000; i++) telemetry.service(WRITER).record(span(i, { text: 'x'.repeat(5_000) }))
    await telemetry.flush(STOP_MS)

    expect(new Set(backend.spans().map(({ spanId }) => spanId)).size).toBe(2_000)
    expect(lines.filter(({ msg }) => msg === 'telemetry was dropped')).toEqual([])
  })

  it('say once that a backend over HTTP does not take a signal', async () => {
    await using backend = await startOtlpReceiver({ protocol: 'http/protobuf' })
    backend.refuse('logs', grpcStatus.UNIMPLEMENTED)
    const telemetry = await start(backend, { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' })
    for (let i = 0; i < 3; i++) {
      telemetry.log({ level: 'info', time: '', msg: 'x' })
      telemetry.service(WRITER).record(span(i))
      await telemetry.flush(STOP_MS)
    }

    await telemetry.stop(STOP_MS)
    expect(lines.filter(({ msg }) => String(msg).includes('switched off'))).toMatchObject([{ signal: 'logs' }])
    expect(backend.requests.logs).toHaveLength(1)
    expect(backend.spans()).toHaveLength(3)
  })

  it('print to stderr, where that is asked for, and send nothing', async () => {
    await using backend = await startOtlpReceiver()
    const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
    onTestFinished(() => void written.mockRestore())
    const telemetry = await start(backend, {
      OTEL_TRACES_EXPORTER: 'console',
      OTEL_METRICS_EXPORTER: 'none',
      OTEL_LOGS_EXPORTER: 'none',
    })
    telemetry.service(WRITER).record(span(1))
    await telemetry.flush(STOP_MS)

    expect(written.mock.calls.join('')).toContain("span { service: 'writer'")
    expect(backend.requests.traces).toEqual([])
  })
})
