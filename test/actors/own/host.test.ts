/** Machines of the user's own under the same guarantees as the agent: on the bus in memory and on a real server. */
import { delegate, local, model, tool } from 'kaos-actors'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type AnyStateMachine, assign, enqueueActions, setup } from 'xstate'
import { createModelClient } from '../../../actors/effects/endpoint.ts'
import { type ModelServer, startModelServer } from '../../../actors/testing/model-server.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { checkJournal } from '../../support/journal-check.ts'
import { ownAgent } from '../../support/own-agent.ts'
import { inMemory, type Place, startNatsPlaces } from '../../support/places.ts'
import { Gate, System } from '../../support/system.ts'

let nats: Awaited<ReturnType<typeof startNatsPlaces>>
let modelServer: ModelServer
const client = createModelClient({ log: silentLog() })
beforeAll(async () => {
  nats = await startNatsPlaces()
  modelServer = await startModelServer({
    log: silentLog(),
    script: { rules: [{ when: {}, reply: { text: 'it thought' } }] },
  })
})
afterAll(async () => {
  await client.close()
  await modelServer.stop()
  await nats[Symbol.asyncDispose]()
})

const hosted = (place: Place, name: string, logic: AnyStateMachine) =>
  ownAgent(place, name, logic, { client, place: { url: modelServer.url } })

/** All four kinds of effects, one after the other. */
function journey(
  run: (text: string, key: string, signal: AbortSignal) => unknown,
  options: { readonly timeoutSeconds?: number } = {},
) {
  return setup({
    types: {} as { context: { said: string[] }; input: string; output: string[] },
    actors: {
      echo: tool<{ text: string }, string>('echo', 'echo'),
      ask: delegate<string, string>('other'),
      think: model(),
      run: local(
        ({ input, idempotencyKey, signal }: { input: string; idempotencyKey: string; signal: AbortSignal }) =>
          run(input, idempotencyKey, signal) as string,
        options,
      ),
    },
  }).createMachine({
    context: { said: [] },
    output: ({ context }) => context.said,
    initial: 'echoing',
    states: {
      echoing: {
        invoke: {
          src: 'echo',
          input: ({ event }) => ({ text: (event as unknown as { input: string }).input }),
          onDone: { target: 'asking', actions: assign({ said: ({ context, event }) => [...context.said, event.output] }) },
        },
      },
      asking: {
        invoke: {
          src: 'ask',
          input: ({ context }) => `what of ${context.said[0]}?`,
          onDone: { target: 'thinking', actions: assign({ said: ({ context, event }) => [...context.said, event.output] }) },
        },
      },
      thinking: {
        invoke: {
          src: 'think',
          input: { system: 'Be short.', prompt: 'Well?' },
          onDone: { target: 'running', actions: assign({ said: ({ context, event }) => [...context.said, event.output.text] }) },
        },
      },
      running: {
        invoke: {
          src: 'run',
          input: ({ context }) => context.said.join(),
          onDone: { target: 'done', actions: assign({ said: ({ context, event }) => [...context.said, event.output] }) },
        },
      },
      done: { type: 'final' },
    },
  })
}

const other = { name: 'other' }
const replies = () => ({ text: 'nothing much' })

for (const [where, open] of [
  ['in memory', inMemory],
  ['on a real server', () => nats.open()],
] as const) {
  describe(`a machine of one's own, ${where}`, () => {
    it('is answered by tool, agent, model and function, and its journal proves it', async () => {
      await using place = await open()
      const runs: string[] = []
      const machine = journey((text, key) => {
        runs.push(key)
        return `ran on ${text.length}`
      })
      const system = await System.start(place, {
        agents: [hosted(place, 'own', machine), other],
        tools: ['echo'],
        model: replies,
      })
      await system.startTools('echo')
      await system.startHost()

      await system.send('own', 'k1', 'hello')
      const result = await system.waitForResult('own', 'k1')

      expect(result).toMatchObject({
        state: 'completed',
        output: ['R(hello)', 'nothing much', 'it thought', 'ran on 32'],
        usage: { modelCalls: 2, toolCalls: 1 },
      })
      expect(runs).toEqual(['own_k1_3-0'])
      const found = await system.finish()
      expect(found.get('own_k1')!.flatMap(({ commands }) => commands)).toMatchObject([
        { effect: 'tool', input: { server: 'echo', tool: 'echo', arguments: { text: 'hello' } } },
        { effect: 'delegate', input: { peer: 'other', task: 'what of R(hello)?' } },
        { effect: 'model', input: { request: { messages: [{ role: 'system' }, { role: 'user', content: 'Well?' }] } } },
        { effect: 'local.run' },
      ])
      expect(found.get('own_k1_1-0')![0]!.input).toMatchObject({ path: ['own'], parent: { agent: 'own', effect: 'own_k1_1-0' } })
    })

    it('runs a function again with the same key when its host died, and once in the end', async () => {
      await using place = await open()
      const gate = new Gate()
      const keys: string[] = []
      const machine = journey(async (_text, key) => {
        keys.push(key)
        if (keys.length === 1) await gate.pass()
        return 'done'
      })
      const system = await System.start(place, {
        agents: [hosted(place, 'own', machine), other],
        tools: ['echo'],
        model: replies,
      })
      await system.startTools('echo')
      const dying = await system.startHost()
      await system.send('own', 'k1', 'hello')
      await gate.waitFor(1)

      dying.kill()
      await system.startHost()

      expect(await system.waitForResult('own', 'k1')).toMatchObject({ state: 'completed' })
      expect(keys).toEqual(['own_k1_3-0', 'own_k1_3-0'])
      const entries = (await system.finish()).get('own_k1')!
      expect(entries.map(({ input }) => input.kind)).toEqual(['start', 'result', 'result', 'result', 'resumed', 'result'])
      gate.open()
    })

    it('gives a throw of a function to the machine, with its own code in the details', async () => {
      await using place = await open()
      const machine = journey(() => {
        throw Object.assign(new Error('the disk is full'), { code: 'ENOSPC' })
      })
      const system = await System.start(place, {
        agents: [hosted(place, 'own', machine), other],
        tools: ['echo'],
        model: replies,
      })
      await system.startTools('echo')
      await system.startHost()

      await system.send('own', 'k1', 'hello')

      expect(await system.waitForResult('own', 'k1')).toMatchObject({
        state: 'failed',
        failure: { code: 'effect_failed', message: 'the disk is full', details: { code: 'ENOSPC' } },
      })
    })

    it('does not wait for a function that ignores its signal', async () => {
      await using place = await open()
      const gate = new Gate()
      const machine = journey(() => gate.pass(), { timeoutSeconds: 0.05 })
      const system = await System.start(place, {
        agents: [hosted(place, 'own', machine), other],
        tools: ['echo'],
        model: replies,
      })
      await system.startTools('echo')
      await system.startHost()

      await system.send('own', 'k1', 'hello')

      expect(await system.waitForResult('own', 'k1')).toMatchObject({ state: 'failed', failure: { code: 'effect_timeout' } })
      gate.open()
    })

    it('ends a function with the time of its task', async () => {
      await using place = await open()
      const gate = new Gate()
      const machine = journey(() => gate.pass())
      const system = await System.start(place, {
        agents: [hosted(place, 'own', machine), other],
        tools: ['echo'],
        model: replies,
      })
      await system.startTools('echo')
      await system.startHost()

      await system.send('own', 'k1', JSON.stringify({ input: 'hello', limits: { seconds: 0.7 } }))

      expect(await system.waitForResult('own', 'k1')).toMatchObject({ state: 'failed', failure: { code: 'time_limit' } })
      gate.open()
    })

    it('refuses a result that is no JSON', async () => {
      await using place = await open()
      const system = await System.start(place, {
        agents: [
          hosted(
            place,
            'own',
            journey(() => ({ when: new Date(0) })),
          ),
          other,
        ],
        tools: ['echo'],
        model: replies,
      })
      await system.startTools('echo')
      await system.startHost()

      await system.send('own', 'k1', 'hello')

      expect(await system.waitForResult('own', 'k1')).toMatchObject({
        state: 'failed',
        failure: { code: 'effect_failed', message: expect.stringContaining('its result.when is a Date, and must be JSON') },
      })
    })

    it('hears a signal while it waits, is restored from a snapshot, and folds the same', async () => {
      await using place = await open()
      const machine = setup({
        types: {} as { context: { n: number }; events: { type: 'add'; data: number } | { type: 'end' }; output: number },
      }).createMachine({
        context: { n: 0 },
        output: ({ context }) => context.n,
        initial: 'adding',
        states: {
          adding: { on: { add: { actions: assign({ n: ({ context, event }) => context.n + event.data }) }, end: 'done' } },
          done: { type: 'final' },
        },
      })
      const agent = hosted(place, 'own', machine)
      const system = await System.start(place, { agents: [agent], model: replies })
      await system.startHost()
      const signal = (verb: string, id: string, data: number) =>
        place.publish(place.subjects.signal('own', verb, { kind: 'user', name: 'ann' }, 'own_k1'), JSON.stringify(data), {
          'Kaos-Id': id,
        })
      await system.send('own', 'k1', 'x')
      await system.waitForEntries('own', 'own_k1', 1)

      for (let i = 1; i <= 60; i++) await signal('add', `s${i}`, i)
      await system.waitForEntries('own', 'own_k1', 61)
      await signal('add', 's60', 60)
      await signal('end', 'last', 0)

      expect(await system.waitForResult('own', 'k1')).toMatchObject({ state: 'completed', output: 1_830 })
      const stored = await place.journal('own', 'own_k1')
      expect(stored).toHaveLength(62)
      await checkJournal('own', 'own_k1', stored, async () => '', agent.runtime!('check').machine)
    })
  })
}

describe('the limits of a task', () => {
  const asking = (count: number) =>
    setup({
      types: {} as { context: { failures: string[]; left: number }; output: string[] },
      actors: { ask: delegate<string, string>('other'), echo: tool<{ text: string }, string>('echo', 'echo') },
    }).createMachine({
      context: { failures: [], left: count },
      output: ({ context }) => context.failures,
      initial: 'asking',
      states: {
        asking: {
          entry: enqueueActions(({ enqueue }) => {
            for (let i = 0; i < count; i++) enqueue.spawnChild('echo', { id: `e${i}`, input: { text: `${i}` } })
          }),
          always: { guard: ({ context }) => context.left === 0, target: 'done' },
          on: {
            'xstate.done.actor.*': { actions: assign({ left: ({ context }) => context.left - 1 }) },
            'xstate.error.actor.*': {
              actions: assign({
                left: ({ context }) => context.left - 1,
                failures: ({ context, event }) => [
                  ...context.failures,
                  (event as unknown as { error: { code: string } }).error.code,
                ],
              }),
            },
          },
        },
        done: { type: 'final' },
      },
    })

  for (const [limit, body, failures] of [
    ['fan-out', { input: 'x', limits: { fanOut: 2 } }, ['fan_out_limit', 'fan_out_limit', 'fan_out_limit']],
    ['tool calls', { input: 'x', limits: { toolCalls: 2 } }, ['tool_call_limit']],
  ] as const) {
    it(`hold for ${limit}: what is too much fails, and the machine hears of it`, async () => {
      await using place = await inMemory()
      const system = await System.start(place, {
        agents: [hosted(place, 'own', asking(3)), other],
        tools: ['echo'],
        model: replies,
      })
      await system.startTools('echo')
      await system.startHost()

      await system.send('own', 'k1', JSON.stringify(body))

      expect(await system.waitForResult('own', 'k1')).toMatchObject({ state: 'completed', output: failures })
      await system.finish()
    })
  }

  it('hold for depth and for cycles', async () => {
    await using place = await inMemory()
    const machine = setup({ actors: { ask: delegate<string, string>('other') } }).createMachine({
      invoke: { src: 'ask', input: 'x' },
    })
    const system = await System.start(place, { agents: [hosted(place, 'own', machine), other], model: replies })
    await system.startHost()

    await system.send('own', 'k1', JSON.stringify({ input: 'x', limits: { depth: 0 } }))

    expect(await system.waitForResult('own', 'k1')).toMatchObject({ state: 'failed', failure: { code: 'depth_limit' } })
  })
})
