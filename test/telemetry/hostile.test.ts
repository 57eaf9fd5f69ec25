/** What models, tools and callers may make up: endless, deep, broken and ever new. None of it costs a span of somebody else's. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../telemetry/log.ts'
import type { FinishedSpan } from '../../telemetry/span.ts'
import { spanContent, spanFailure } from '../../telemetry/span-parts.ts'
import { startTelemetry } from '../../telemetry/start.ts'
import type { ServiceIdentity, ServiceTelemetry, Telemetry } from '../../telemetry/telemetry.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts'

const WRITER: ServiceIdentity = { name: 'writer', namespace: 'tests', kind: 'agent' }

let backend: OtlpReceiver
let telemetry: Telemetry
let service: ServiceTelemetry
beforeEach(async () => {
  backend = await startOtlpReceiver()
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: backend.url }
  telemetry = await startTelemetry({ processName: 'kaos', services: [WRITER], log: silentLog(), env })
  service = telemetry.service(WRITER)
})
afterEach(async () => {
  await telemetry.stop(3_000)
  await backend.close()
})

let counter = 0
function span(more: Partial<FinishedSpan> = {}): FinishedSpan {
  return {
    name: 'model.inference',
    kind: 'client',
    traceId: '0af7651916cd43dd8448eb211c80319c',
    spanId: (++counter).toString(16).padStart(16, '0'),
    flags: 1,
    startMs: 1_700_000_000_000,
    endMs: 1_700_000_000_500,
    attributes: { 'kaos.op': 'model.inference' },
    ...more,
  }
}

function nested(levels: number): unknown {
  let value: unknown = 'core'
  for (let i = 0; i < levels; i++) value = { in: [value] }
  return value
}

const MiB = 1_024 * 1_024
const content = (value: unknown): Partial<FinishedSpan> => ({ attributes: { 'gen_ai.input.messages': spanContent(value) } })
const HOSTILE: { readonly [what: string]: Partial<FinishedSpan> } = {
  'a text of 8 MiB': content('x'.repeat(8 * MiB)),
  'a conversation of 12 MiB': content(
    Array.from({ length: 400 }, (_, i) => ({ role: 'user', content: `${i} ${'y'.repeat(32_000)}` })),
  ),
  'a single message of 8 MiB': content([{ role: 'user', content: '統'.repeat(8 * MiB) }]),
  'objects 250 levels deep': content(nested(125)),
  'an error of 8 MiB': { failure: spanFailure({ code: 'tool_failed', message: 'm'.repeat(8 * MiB) }) },
  'a name of 5 MiB': { name: 'n'.repeat(5 * MiB) },
  'half a surrogate pair, and NUL': {
    name: 'a\ud800b',
    attributes: { 'tool.name': 'x\0\udc00y' },
    failure: { code: 'c', message: '\ud83d' },
  },
  'an emoji where the text is cut': { attributes: { 'tool.name': `${'x'.repeat(32_767)}😀` } },
  'times that are none': { startMs: Number.NaN, endMs: Number.POSITIVE_INFINITY },
  'times beyond all time': { startMs: -1e300, endMs: 1e300 },
  'a tracestate that is none': { tracestate: 'a=1,,=,ü=2,b' },
}

describe('a span', () => {
  for (const [what, made] of Object.entries(HOSTILE)) {
    it(`with ${what} arrives, and so do its neighbours`, async () => {
      const three = [span(), span(made), span()]

      for (const each of three) service.record(each)
      await telemetry.flush(5_000)

      expect(backend.spans().map(({ spanId }) => spanId)).toEqual(three.map(({ spanId }) => spanId))
    })
  }

  it('shows the last messages of a conversation that is too long, whole', () => {
    const messages = Array.from({ length: 400 }, (_, i) => ({ role: 'user', content: `${i} ${'y'.repeat(10_000)}` }))

    const shown = spanContent(messages) as typeof messages

    expect(shown.at(-1)).toEqual(messages.at(-1))
    expect(shown.length).toBeGreaterThan(20)
    expect(JSON.stringify(shown).length).toBeLessThanOrEqual(256 * 1_024)
  })

  it('arrives in messages that a receiver takes, however much content there is', async () => {
    const made = Array.from({ length: 100 }, () =>
      span(content(Array.from({ length: 20 }, () => ({ content: 'z'.repeat(10_000) })))),
    )

    for (const each of made) service.record(each)
    await telemetry.flush(10_000)

    expect(backend.spans()).toHaveLength(100)
    // One that is too large is refused before the receiver sees it.
    expect(backend.requests.traces.every(({ bytes, answered }) => answered === 0 && bytes < 4 * MiB)).toBe(true)
  })
})

describe('metrics', () => {
  it('stay few and small, whatever models and tools are called', async () => {
    for (let i = 0; i < 10_000; i++) {
      const name = `${i} ${'long'.repeat(1_000)}`
      service.record(
        span({ attributes: { 'kaos.op': 'model.inference', 'gen_ai.request.model': name, 'gen_ai.response.model': name } }),
      )
      service.record(span({ attributes: { 'kaos.op': 'tool', 'gen_ai.tool.name': name } }))
    }
    await telemetry.flush(10_000)

    for (const name of ['kaos.model.calls', 'kaos.tool.calls', 'gen_ai.client.operation.duration']) {
      const { points } = backend.metric('writer', name)!
      expect(points.length).toBeLessThanOrEqual(201)
      expect(Math.max(...points.map(({ attributes }) => JSON.stringify(attributes).length))).toBeLessThan(1_000)
      const counts = points.map(({ value, count }: { readonly value?: number; readonly count?: number }) =>
        Number(value ?? count),
      )
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(10_000)
    }
  })
})
