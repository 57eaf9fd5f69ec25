/** Spans of functions of a machine of one's own, as a backend gets them: hosts on a real broker, OTLP over gRPC. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { local } from 'kaos-actors'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { assign, setup } from 'xstate'
import type { LocalEffect } from '../../../actors/effects/effect.ts'
import { createModelClient } from '../../../actors/effects/endpoint.ts'
import type { LocalContext } from '../../../actors/own/effects.ts'
import { spanIdOf } from '../../../bus/wire/ids.ts'
import { TASK_LIMITS } from '../../../bus/wire/limits.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { startTelemetry } from '../../../telemetry/start.ts'
import { noService, type ServiceTelemetry, type Telemetry } from '../../../telemetry/telemetry.ts'
import { type OtlpReceiver, startOtlpReceiver } from '../../support/otlp-receiver.ts'
import { ownAgent } from '../../support/own-agent.ts'
import { inMemory, startNatsPlaces } from '../../support/places.ts'
import { System } from '../../support/system.ts'

const client = createModelClient({ log: silentLog() })
let places: Awaited<ReturnType<typeof startNatsPlaces>>
let receiver: OtlpReceiver
let telemetry: Telemetry
beforeAll(async () => {
  places = await startNatsPlaces()
  receiver = await startOtlpReceiver()
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }
  telemetry = await startTelemetry({ processName: 'test', services: [], env, log: silentLog() })
})
afterAll(async () => {
  await telemetry.stop(3_000)
  await receiver[Symbol.asyncDispose]()
  await places[Symbol.asyncDispose]()
  await client.close()
})

type Run = (context: LocalContext<string>) => unknown

/** Runs one function and ends with what it returned. */
function machineOf(run: Run) {
  return setup({
    types: {} as { context: { got: unknown }; output: { got: unknown } },
    actors: { work: local<string, unknown>(run) },
  }).createMachine({
    context: { got: null },
    output: ({ context }) => context,
    initial: 'working',
    states: {
      working: {
        invoke: {
          src: 'work',
          input: 'x',
          onDone: { target: 'done', actions: assign({ got: ({ event }) => event.output }) },
          onError: { target: 'done', actions: assign({ got: ({ event }) => event.error }) },
        },
      },
      done: { type: 'final' },
    },
  })
}

const other = { name: 'other' }
const place = undefined

it('spans of a function stand below its effect, nested as they are called', async () => {
  await using where = await places.open()
  const service = (name: string) => telemetry.service({ name, namespace: where.subjects.namespace, kind: 'agent' })
  const machine = machineOf(async ({ span }) => {
    const seven = await span('first', async () => {
      await Promise.resolve()
      return span('inner', () => 7)
    })
    await span('second', async () => {
      throw new Error('no luck')
    }).catch(() => {})
    return seven
  })
  const own = ownAgent(where, 'own', machine, { client, place }, service('own'))
  const system = await System.start(where, { agents: [own, other], tools: ['echo'], model: () => ({ text: '' }) })
  await system.startHost({ agents: ['own'], telemetry: service })

  await system.send('own', 'k1', 'x')

  const { trace, ...result } = await system.waitForResult('own', 'k1')
  expect(result).toMatchObject({ output: { got: 7 } })
  await system.finish()
  await telemetry.flush(3_000)
  expect(receiver.treeOf(trace)).toBe(
    [
      'own: agent.process_message [CONSUMER] OK',
      '  own: local.work [INTERNAL] OK',
      '    own: first [INTERNAL] OK',
      '      own: inner [INTERNAL] OK',
      '    own: second [INTERNAL] ERROR',
    ].join('\n'),
  )
  const effect = receiver.spans().find(({ traceId, name }) => traceId === trace && name === 'local.work')
  expect(effect!.spanId).toBe(spanIdOf(trace, 'own_k1_0-0'))
})

it('a span without a name fails the function and says why', async () => {
  const effect = await effectOf(({ span }) => span('', () => 1), noService)

  await expect(run(effect, 'own_k1_0-0')).rejects.toMatchObject({
    code: 'effect_failed',
    message: 'could not begin a span: its name is a text of 0 characters; give a text of 1 to 128 characters',
    details: { code: 'span_name' },
  })
})

it('without telemetry a span only runs its function', async () => {
  const error = new Error('oh')
  const effect = await effectOf(({ span }) => {
    let thrown: unknown
    try {
      span('throws', () => {
        throw error
      })
    } catch (caught) {
      thrown = caught
    }
    return [span('sync', () => 1), thrown === error]
  }, noService)

  expect(await run(effect, 'own_k1_0-0')).toMatchObject({ value: [1, true] })
})

it('ten thousand functions that throw leave the next span its parent, and the heap as it was', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const heapBytes = () => {
    collect()
    return process.memoryUsage().heapUsed
  }
  const service = telemetry.service({ name: 'thrower', namespace: 'default', kind: 'agent' })
  let throws = true
  const effect = await effectOf(
    ({ span, idempotencyKey }) =>
      span('outer', async () => {
        await Promise.resolve()
        return span('inner', () => {
          if (throws) throw new Error(`no luck with ${idempotencyKey}`)
          return 'done'
        })
      }),
    service,
  )
  const fail = async (count: number) => {
    for (let i = 0; i < count; i++) await run(effect, `own_k1_${i}-0`).catch(() => {})
    await telemetry.flush(30_000)
  }
  receiver.refuse('traces', 3) // or this process, which is the backend as well, would keep them
  await fail(2_000)
  const before = heapBytes()

  await fail(10_000)

  expect(heapBytes() - before).toBeLessThan(4 * 1_024 * 1_024)
  receiver.resume()
  throws = false
  await run(effect, 'own_k1_99999-0')
  await telemetry.flush(3_000)
  const spans = receiver.spans().filter((span) => span.traceId === TRACE_ID)
  const outer = spans.find(({ name }) => name === 'outer')!
  expect(spans).toHaveLength(2)
  expect(outer.parentSpanId).toBe(spanIdOf(TRACE_ID, 'own_k1_99999-0'))
  expect(spans.find(({ name }) => name === 'inner')!.parentSpanId).toBe(outer.spanId)
}, 60_000)

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'

/** The effect of a function as a host carries it out. */
async function effectOf(work: Run, service: ServiceTelemetry): Promise<LocalEffect> {
  await using where = await inMemory()
  const { runtime } = ownAgent(where, 'own', machineOf(work), { client, place }, service)
  return runtime!('host').effects['local.work'] as LocalEffect
}

function run(effect: LocalEffect, id: string) {
  return effect.run({
    id,
    agent: 'own',
    task: 'own_k1',
    input: 'x',
    trace: { traceId: TRACE_ID, flags: 1 },
    limits: TASK_LIMITS,
    path: [],
    begun: { siblings: 1, toolCalls: 0, tokens: 0 },
    signal: new AbortController().signal,
    tell: () => {},
  })
}
