/** Spans that code of the user's or a library begins itself. */
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { trace } from '@opentelemetry/api'
import { request } from 'undici'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../telemetry/log.ts'
import { KEYS } from '../../telemetry/names.ts'
import { runningTelemetry, startTelemetry } from '../../telemetry/start.ts'
import type { ServiceIdentity, SpanParent, Telemetry } from '../../telemetry/telemetry.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'

const PLANNER: ServiceIdentity = { name: 'planner', namespace: 'trips', kind: 'agent' }
const WRITER: ServiceIdentity = { name: 'writer', namespace: 'trips', kind: 'agent' }
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT: SpanParent = { traceparent: `00-${TRACE}-b7ad6b7169203331-01` }
const STOP_MS = 5_000

let backend: OtlpReceiver
beforeEach(async () => {
  backend = await startOtlpReceiver()
})
afterEach(async () => {
  await runningTelemetry().stop(STOP_MS)
  await backend[Symbol.asyncDispose]()
})

function start(env: NodeJS.ProcessEnv = {}): Promise<Telemetry> {
  const services = [PLANNER, WRITER]
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: backend.url }
  return startTelemetry({ processName: 'kaos', services, env: { ...endpoint, ...env }, log: silentLog() })
}

describe('spans of user code', () => {
  it('nest below the parent and below each other, and return what the function returns', async () => {
    const telemetry = await start()
    const planner = telemetry.service(PLANNER)
    const parent = { ...PARENT, attributes: { [KEYS.task]: 'planner_t1' } }
    const sync = planner.span('outer', parent, () => planner.span('inner', parent, () => 41) + 1)
    const later = planner.span('then', parent, async () => {
      await Promise.resolve()
      return planner.span('deep', parent, () => 'done')
    })

    expect(sync).toBe(42)
    expect(await later).toBe('done')
    await telemetry.flush(STOP_MS)
    expect(backend.treeOf(TRACE, ['b7ad6b7169203331'])).toBe(
      `
planner: outer [INTERNAL] OK
  planner: inner [INTERNAL] OK
planner: then [INTERNAL] OK
  planner: deep [INTERNAL] OK`.trim(),
    )
    for (const span of backend.spans()) expect(span.attributes).toEqual({ 'kaos.op': 'user', 'kaos.task.id': 'planner_t1' })
  })

  it('end with an error when the function throws or rejects, without secrets', async () => {
    const telemetry = await start()
    const planner = telemetry.service(PLANNER)
    const error = Object.assign(new TypeError('refused: Bearer abcdefgh12345678'), { code: 'E_REFUSED' })
    const throwing = () => {
      throw error
    }

    expect(() => planner.span('thrown', PARENT, throwing)).toThrow(error)
    await expect(planner.span('rejected', PARENT, () => Promise.reject(new TypeError('no')))).rejects.toThrow('no')
    await telemetry.flush(STOP_MS)
    const [thrown, rejected] = backend.spans()
    expect(thrown).toMatchObject({ status: { code: 'error' }, attributes: { 'error.type': 'E_REFUSED' } })
    expect(rejected).toMatchObject({ status: { code: 'error', message: 'no' }, attributes: { 'error.type': 'TypeError' } })
    expect(rejected?.events).toMatchObject([{ name: 'exception', attributes: { 'exception.message': 'no' } }])
    expect(backend.rawText()).not.toContain('abcdefgh12345678')
  })

  it('hand on a promise with methods of its own as it is', async () => {
    const planner = (await start()).service(PLANNER)
    class Answer extends Promise<number> {
      readonly isAnswer = true
    }
    const answer = new Answer((resolve) => resolve(1))

    expect(planner.span('asked', PARENT, () => answer)).toBe(answer)
  })

  it('leave nothing behind when 10,000 functions throw', async () => {
    const telemetry = await start()
    const planner = telemetry.service(PLANNER)
    const throwing = () => {
      throw new Error('again')
    }
    for (let i = 0; i < 10_000; i++) {
      try {
        planner.span('throws', PARENT, throwing)
      } catch {}
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    planner.span('next', PARENT, () => undefined)
    await telemetry.flush(STOP_MS)

    expect(backend.spans()).toHaveLength(10_001)
    expect(backend.spans().at(-1)).toMatchObject({ name: 'next', parentSpanId: 'b7ad6b7169203331' })
    expect(trace.getActiveSpan()).toBeUndefined()
  })

  it('are not exported for a trace that is not, and the function runs all the same', async () => {
    const telemetry = await start()
    const unsampled = { traceparent: `00-${TRACE}-b7ad6b7169203331-00` }

    expect(telemetry.service(PLANNER).span('unseen', unsampled, () => 'ran')).toBe('ran')
    await telemetry.flush(STOP_MS)
    expect(backend.spans()).toEqual([])
  })
})

describe('spans of libraries', () => {
  it('belong to the service whose code they run in, else to the process', async () => {
    const telemetry = await start()
    const library = trace.getTracer('some-library')
    telemetry.service(WRITER).within(PARENT, () => library.startActiveSpan('inside', (span) => span.end()))
    library.startSpan('outside').end()
    await telemetry.flush(STOP_MS)

    const [inside, outside] = ['inside', 'outside'].map((name) => backend.spans().find((span) => span.name === name))
    expect(inside).toMatchObject({ service: 'writer', traceId: TRACE, parentSpanId: 'b7ad6b7169203331', scope: 'some-library' })
    expect(outside).toMatchObject({ service: 'kaos' })
  })

  it('are there for HTTP requests with OTEL_INCLUDE_HTTP_CLIENT, with one traceparent, which is theirs', async () => {
    await using peer = await httpServer()
    const telemetry = await start({ OTEL_INCLUDE_HTTP_CLIENT: 'true' })
    const { traceparent } = PARENT
    const ask = async () => (await request(`${peer.url}/v1/chat`, { headers: { traceparent, 'x-mine': '1' } })).body.dump()
    await telemetry.service(PLANNER).within(PARENT, ask)
    await ask()
    await telemetry.flush(STOP_MS)

    const [span, ...others] = backend.spans()
    expect(others).toEqual([])
    expect(span).toMatchObject({ service: 'planner', name: 'GET', kind: 'client', parentSpanId: 'b7ad6b7169203331' })
    expect(peer.traceparents).toEqual([[`00-${TRACE}-${span?.spanId}-01`], [traceparent]])
  })

  it('are there for requests that come in with OTEL_INCLUDE_HTTP_SERVER, but not for probes', async () => {
    const telemetry = await start({ OTEL_INCLUDE_HTTP_SERVER: 'true' })
    await using peer = await httpServer()
    for (const path of ['/health', '/ready?now', '/work']) await get(`${peer.url}${path}`)
    await telemetry.flush(STOP_MS)

    expect(backend.spans().map(({ name, kind, attributes }) => [name, kind, attributes['url.path']])).toEqual([
      ['GET', 'server', '/work'],
    ])
  })

  it('are not there for HTTP unless they are asked for', async () => {
    await using peer = await httpServer()
    const telemetry = await start()
    await telemetry.service(PLANNER).within(PARENT, async () => (await request(peer.url)).body.dump())
    await telemetry.flush(STOP_MS)

    expect(backend.spans()).toEqual([])
  })
})

/** Answers everything, and keeps the traceparents of each request. */
async function httpServer(): Promise<AsyncDisposable & { readonly url: string; readonly traceparents: readonly string[][] }> {
  const traceparents: string[][] = []
  const server = createServer((incoming, response) => {
    traceparents.push(incoming.headersDistinct.traceparent ?? [])
    response.end('{}')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const end = () => {
    server.closeAllConnections()
    return new Promise<void>((resolve) => server.close(() => resolve()))
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, traceparents, [Symbol.asyncDispose]: end }
}

function get(url: string): Promise<void> {
  return new Promise((resolve, reject) => {
    httpRequest(url, (response) => response.resume().on('end', resolve))
      .on('error', reject)
      .end()
  })
}
