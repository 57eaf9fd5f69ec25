/** What a model is sent of a trace, and what the journal keeps of its answer for the span: a host on a real broker, a model over HTTP, OTLP over gRPC. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { assign, setup } from 'xstate'
import { createModelClient } from '../../../actors/effects/endpoint.ts'
import { type ModelPlace, modelEffect } from '../../../actors/effects/model.ts'
import { model } from '../../../actors/own/effects.ts'
import { type ModelServer, startModelServer } from '../../../actors/testing/model-server.ts'
import { systemClock } from '../../../bus/contracts.ts'
import type { Work } from '../../../bus/wire/entry.ts'
import { spanIdOf } from '../../../bus/wire/ids.ts'
import { TASK_LIMITS } from '../../../bus/wire/limits.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { startTelemetry } from '../../../telemetry/start.ts'
import type { Telemetry } from '../../../telemetry/telemetry.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../../support/otlp-receiver.ts'
import { ownAgent } from '../../support/own-agent.ts'
import { startNatsPlaces } from '../../support/places.ts'
import { System } from '../../support/system.ts'

const client = createModelClient({ log: silentLog(), backoffMs: 1, baggageKeys: ['tenant'] })
let places: Awaited<ReturnType<typeof startNatsPlaces>>
let server: ModelServer
let receiver: OtlpReceiver
let telemetry: Telemetry
beforeAll(async () => {
  places = await startNatsPlaces()
  server = await startModelServer({ log: silentLog(), script: { rules: [{ when: {}, reply: { text: 'it thought' } }] } })
  receiver = await startOtlpReceiver()
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }
  telemetry = await startTelemetry({ processName: 'test', services: [], env, log: silentLog() })
})
afterAll(async () => {
  await telemetry.stop(3_000)
  await receiver[Symbol.asyncDispose]()
  await server.stop()
  await places[Symbol.asyncDispose]()
  await client.close()
})

/** Asks the model once and ends with all that the machine was told. */
const asking = setup({ types: {} as { context: { told: object }; output: object }, actors: { think: model() } }).createMachine({
  context: { told: {} },
  output: ({ context }) => context.told,
  initial: 'thinking',
  states: {
    thinking: {
      invoke: {
        src: 'think',
        input: { prompt: 'Well?' },
        onDone: { target: 'done', actions: assign({ told: ({ event }) => event }) },
        onError: { target: 'done', actions: assign({ told: ({ event }) => event }) },
      },
    },
    done: { type: 'final' },
  },
})

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'
const CALLER = 'b7ad6b7169203331'

/** A task at the door of an agent that asks the model; gives its entries. */
async function ask(url: string, traceId: string, headers: Readonly<Record<string, string>> = {}) {
  await using place = await places.open()
  const service = (name: string) => telemetry.service({ name, namespace: place.subjects.namespace, kind: 'agent' })
  const own = ownAgent(place, 'own', asking, { client, place: { url } }, service('own'))
  const system = await System.start(place, { agents: [own, { name: 'other' }], tools: ['echo'], model: () => ({ text: '' }) })
  await system.startHost({ agents: ['own'], telemetry: service })

  await system.send('own', 'k1', 'x', { traceparent: `00-${traceId}-${CALLER}-01`, ...headers })
  await system.waitForResult('own', 'k1')

  const found = await system.finish()
  await telemetry.flush(3_000)
  return found.get('own_k1')!
}

describe('a call to a model', () => {
  it('carries the traceparent of its span, and the baggage that may leave', async () => {
    await ask(server.url, TRACE_ID, { tracestate: 'vendor=1', baggage: 'secret=x,tenant=acme;ttl=3' })

    const span = receiver.spans().find(({ traceId, name }) => traceId === TRACE_ID && name === 'model.inference')!
    expect(span.spanId).toBe(spanIdOf(TRACE_ID, 'own_k1_0-0'))
    expect(server.requests.at(-1)!.headers).toMatchObject({
      traceparent: `00-${TRACE_ID}-${span.spanId}-01`,
      tracestate: 'vendor=1',
      baggage: 'tenant=acme;ttl=3',
    })
  })

  it('leaves in the journal what its span tells, and the machine is told nothing of it', async () => {
    const traceId = '1'.repeat(32)

    const entries = await ask(server.url, traceId)

    const { input, outcome } = entries[1]!
    const work = (input as { readonly work: Work }).work
    const address = new URL(server.url).host
    expect(work).toMatchObject({ attempts: 1, responseId: expect.any(String), firstChunkMs: expect.any(Number), address })
    expect(JSON.stringify(outcome)).toContain('it thought')
    expect(JSON.stringify(outcome)).not.toContain(work.responseId)
    const span = receiver.spans().find((each) => each.traceId === traceId && each.name === 'model.inference')!
    expect(span.attributes).toMatchObject({
      'gen_ai.response.id': work.responseId,
      'gen_ai.response.time_to_first_chunk': work.firstChunkMs! / 1_000,
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(server.url).port),
    })
  })

  it('that fails tells where it went and how often it was tried', async () => {
    const traceId = '2'.repeat(32)

    const entries = await ask('http://127.0.0.1:9/v1', traceId)

    expect(entries[1]!.input).toMatchObject({
      kind: 'error',
      failure: { code: 'model_failed' },
      work: { attempts: 3, address: '127.0.0.1:9' },
    })
    const span = receiver.spans().find((each) => each.traceId === traceId && each.name === 'model.inference')!
    expect(span).toMatchObject({
      status: { code: 'error' },
      attributes: { 'error.type': 'model_failed', 'server.port': 9, 'kaos.attempts': 3 },
    })
  })
})

describe('what is seen of an answer', () => {
  const run = (id: string, place: ModelPlace) =>
    modelEffect({ complete: async () => ({ ...ANSWER, id }), close: async () => {} }, place, systemClock).run({
      id: 'a_b_0-0',
      agent: 'a',
      task: 'a_b',
      input: { request: { model: 'm', messages: [] } },
      trace: { traceId: TRACE_ID, flags: 1 },
      limits: TASK_LIMITS,
      path: [],
      begun: { siblings: 1, toolCalls: 0, tokens: 0 },
      signal: new AbortController().signal,
      tell: () => {},
    })
  const ANSWER = {
    text: 'yes',
    toolCalls: [],
    finishReason: 'stop',
    usage: { inputTokens: 1, outputTokens: 1 },
    model: 'm',
    attempts: 1,
    firstTokenMs: 12.3456,
  }

  it('is short, whatever the server says', async () => {
    expect((await run('x'.repeat(5_000), { url: server.url })).seen).toEqual({ responseId: 'x'.repeat(128), firstChunkMs: 12 })
    expect((await run('', { url: server.url })).seen).toEqual({ firstChunkMs: 12 })
  })

  for (const [url, address] of [
    ['https://user:password@api.example.com/v1?key=secret', 'api.example.com:443'],
    ['http://models/v1', 'models:80'],
    ['http://[::1]:11434/v1', '[::1]:11434'],
    ['nowhere', undefined],
  ] as const) {
    it(`names the endpoint of ${url.replace(/user:password@|\?.*/g, '')} by host and port alone`, () => {
      expect(modelEffect(client, { url }, systemClock).address).toBe(address)
    })
  }
})
