/** Machines and functions whose author was careless, and people who say things at the wrong moment: no task is lost, no journal is spoiled. */
import { delegate, local, tool } from 'kaos-actors'
import { afterAll, describe, expect, it } from 'vitest'
import { type AnyStateMachine, assign, setup } from 'xstate'
import { createModelClient } from '../../../actors/effects/endpoint.ts'
import { sendSignal } from '../../../cli/client/sending.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { ownAgent } from '../../support/own-agent.ts'
import { inMemory, type Place } from '../../support/places.ts'
import { Gate, System } from '../../support/system.ts'

const client = createModelClient({ log: silentLog() })
afterAll(() => client.close())

const other = { name: 'other' }

/** A machine alone in memory, with a tool server and another agent that answer when they are let. */
async function start(logic: AnyStateMachine, options: { readonly toolGate?: Gate; readonly modelGate?: Gate } = {}) {
  const place = await inMemory()
  const own = ownAgent(place, 'own', logic, { client, place: { url: 'http://127.0.0.1:9' } })
  const model = async () => {
    await options.modelGate?.pass()
    return { text: 'asked' }
  }
  const system = await System.start(place, { agents: [own, other], tools: ['echo'], model })
  await system.startTools('echo', {
    async run(text) {
      await options.toolGate?.pass()
      return `R(${text})`
    },
  })
  await system.startHost()
  return { place, system, [Symbol.asyncDispose]: () => place[Symbol.asyncDispose]() }
}

const signal = (place: Place, verb: string, id: string, data: unknown = null, from = { kind: 'user', name: 'ann' } as const) =>
  place.publish(place.subjects.signal('own', verb, from, 'own_k1'), JSON.stringify(data), { 'Kaos-Id': id })

describe('what a function does with its input and its result', () => {
  it('stays its own: the state of the task is what its journal says', async () => {
    const kept = { list: ['kept'] }
    const machine = setup({
      types: {} as { context: { list: string[]; rounds: number; got: unknown }; output: unknown[] },
      actors: {
        run: local(({ input }: { input: { list: string[] } }) => {
          input.list.push('sneaked in')
          kept.list.push('later')
          return kept
        }),
      },
    }).createMachine({
      context: { list: ['a'], rounds: 0, got: null },
      output: ({ context }) => [context.list, context.got],
      initial: 'running',
      states: {
        running: {
          invoke: {
            src: 'run',
            input: ({ context }) => ({ list: context.list }),
            onDone: {
              target: 'next',
              actions: assign({
                rounds: ({ context }) => context.rounds + 1,
                got: ({ context, event }) => context.got ?? event.output,
              }),
            },
          },
        },
        next: { always: [{ guard: ({ context }) => context.rounds < 3, target: 'running' }, { target: 'done' }] },
        done: { type: 'final' },
      },
    })
    await using it = await start(machine)

    await it.system.send('own', 'k1', 'x')

    expect(await it.system.waitForResult('own', 'k1')).toMatchObject({
      state: 'completed',
      output: [['a'], { list: ['kept', 'later'] }],
    })
    await it.system.finish()
  })
})

describe('a machine that changes in place', () => {
  const changing = (change: (context: { list: string[] }, output: { all: string[] }) => string[]) =>
    setup({
      types: {} as { context: { list: string[] }; output: string[] },
      actors: { run: local(() => ({ all: ['b', 'a'] })) },
    }).createMachine({
      context: { list: ['z'] },
      output: ({ context }) => context.list,
      initial: 'running',
      states: {
        running: {
          invoke: {
            src: 'run',
            input: null,
            onDone: { target: 'done', actions: assign({ list: ({ context, event }) => change(context, event.output) }) },
          },
        },
        done: { type: 'final' },
      },
    })

  for (const [what, machine] of [
    ['its context', changing(({ list }) => list.splice(0))],
    ['an event', changing((_context, { all }) => all.sort())],
  ] as const) {
    it(`fails with ${what}, and its journal still folds`, async () => {
      await using it = await start(machine)

      await it.system.send('own', 'k1', 'x')

      expect(await it.system.waitForResult('own', 'k1')).toMatchObject({
        state: 'failed',
        failure: { code: 'machine_impure', message: expect.stringContaining('return a new value from assign') },
      })
      await it.system.finish()
    })
  }
})

describe('a machine that asks for more than a journal holds', () => {
  const large = 'x'.repeat(9_000_000)
  const done = { type: 'final' } as const
  for (const [what, config] of [
    ['its context', { initial: 'a', states: { a: { entry: assign({ text: large }) } } }],
    ['its output', { initial: 'done', states: { done }, output: large }],
    ['an input', { invoke: { src: 'run', input: large } }],
    [
      'what it does about that very failure',
      {
        initial: 'running',
        states: {
          running: {
            invoke: { src: 'run', input: 'large', onDone: 'done', onError: { target: 'done', actions: assign({ text: large }) } },
          },
          done,
        },
      },
    ],
  ] as const) {
    it(`fails for ${what}, and nobody waits for ever`, async () => {
      const machine = setup({ actors: { run: local(({ input }) => (input === 'large' ? large : null)) } }).createMachine(
        config as never,
      ) as unknown as AnyStateMachine
      await using it = await start(machine)

      await it.system.send('own', 'k1', 'x')

      expect(await it.system.waitForResult('own', 'k1')).toMatchObject({
        state: 'failed',
        failure: { code: 'payload_too_large', message: expect.stringContaining('at most') },
      })
      await it.system.finish()
    })
  }
})

describe('a state that is entered again while its effect is under way', () => {
  it('lets go of the first and takes the answer of the second alone', async () => {
    const gate = new Gate()
    const runs: { readonly key: string; readonly signal: AbortSignal }[] = []
    const machine = setup({
      types: {} as { context: { got: string[] }; output: string[] },
      actors: {
        run: local(async ({ idempotencyKey: key, signal: given }) => {
          runs.push({ key, signal: given })
          if (runs.length === 1) await gate.pass()
          return key
        }),
      },
    }).createMachine({
      context: { got: [] },
      output: ({ context }) => context.got,
      initial: 'running',
      states: {
        running: {
          on: { again: { target: 'running', reenter: true } },
          invoke: {
            src: 'run',
            onDone: {
              target: 'waiting',
              actions: assign({ got: ({ context, event }) => [...context.got, event.output as string] }),
            },
          },
        },
        waiting: { on: { end: 'done' } },
        done: { type: 'final' },
      },
    })
    await using it = await start(machine)
    await it.system.send('own', 'k1', 'x')
    await gate.waitFor(1)

    await signal(it.place, 'again', 's1')
    await it.system.waitForEntries('own', 'own_k1', 3)
    gate.open()
    await signal(it.place, 'end', 's2')

    expect(await it.system.waitForResult('own', 'k1')).toMatchObject({ state: 'completed', output: ['own_k1_1-1'] })
    expect(runs.map(({ key }) => key)).toEqual(['own_k1_0-0', 'own_k1_1-1'])
    expect(runs[0]!.signal.aborted).toBe(true)
    await it.system.finish()
  })
})

/** Waits in each kind of effect in turn, and moves on at `skip`. */
const waiting = (runGate: Gate) =>
  setup({
    types: {} as { context: { got: unknown[] }; output: unknown[] },
    actors: {
      run: local(async () => {
        await runGate.pass()
        return 'ran'
      }),
      echo: tool<{ text: string }, string>('echo', 'echo'),
      ask: delegate<string, string>('other'),
    },
  }).createMachine({
    context: { got: [] },
    output: ({ context }) => context.got,
    initial: 'running',
    states: {
      running: { invoke: { src: 'run', onDone: 'calling' }, on: { skip: 'calling' } },
      calling: { invoke: { src: 'echo', input: { text: 'x' }, onDone: 'asking' }, on: { skip: 'asking' } },
      asking: { invoke: { src: 'ask', input: 'y', onDone: 'resting' }, on: { skip: 'resting' } },
      resting: {
        on: {
          skip: 'done',
          note: {
            actions: assign({ got: ({ context, event }) => [...context.got, (event as unknown as { data: unknown }).data] }),
          },
        },
      },
      done: { type: 'final' },
    },
  })

describe('leaving a state', () => {
  it('ends its effect, whatever kind it is, and its late answer changes nothing', async () => {
    const [runGate, toolGate, modelGate] = [new Gate(), new Gate(), new Gate()]
    await using it = await start(waiting(runGate), { toolGate, modelGate })
    await it.system.send('own', 'k1', 'x')
    await runGate.waitFor(1)

    await signal(it.place, 'skip', 's1')
    await toolGate.waitFor(1)
    await signal(it.place, 'skip', 's2')
    await modelGate.waitFor(1)
    await signal(it.place, 'skip', 's3')
    await it.system.waitForEntries('own', 'own_k1', 4)
    for (const gate of [runGate, toolGate, modelGate]) gate.open()
    await it.system.waitForQuiet()
    await signal(it.place, 'skip', 's4')

    expect(await it.system.waitForResult('own', 'k1')).toMatchObject({ state: 'completed', output: [] })
    const found = await it.system.finish()
    expect(found.get('own_k1')!.map(({ input }) => input.kind)).toEqual(['start', 'signal', 'signal', 'signal', 'signal'])
    expect(found.get('own_k1_2-1')!.at(-1)!.outcome).toMatchObject({ state: 'canceled' })
  })
})

describe('a cancel', () => {
  for (const moment of [
    'before the start',
    'in a function',
    'in a tool',
    'in another agent',
    'at rest',
    'after the end',
    'twice',
  ] as const) {
    it(`that comes ${moment} leaves one outcome and nothing under way`, async () => {
      const [runGate, toolGate, modelGate] = [new Gate(), new Gate(), new Gate()]
      await using it = await start(waiting(runGate), { toolGate, modelGate })
      const { place, system } = it
      const cancel = (id = 'c') => signal(place, 'cancel', id)
      const send = () => system.send('own', 'k1', 'x')
      const until = async (gates: readonly Gate[], entries: number) => {
        await send()
        for (const gate of gates) gate.open()
        return system.waitForEntries('own', 'own_k1', entries)
      }

      if (moment === 'before the start') {
        await cancel()
        await system.waitForEntries('own', 'own_k1', 1)
        await send()
      } else if (moment === 'in a function' || moment === 'twice') {
        await send()
        await runGate.waitFor(1)
        await Promise.all([cancel('c1'), cancel('c2')])
      } else if (moment === 'in a tool') {
        await until([runGate], 2)
        await toolGate.waitFor(1)
        await cancel()
      } else if (moment === 'in another agent') {
        await until([runGate, toolGate], 3)
        await modelGate.waitFor(1)
        await cancel()
      } else {
        await until([runGate, toolGate, modelGate], 4)
        if (moment === 'after the end') await signal(place, 'skip', 's')
        if (moment === 'after the end') await system.waitForResult('own', 'k1')
        await cancel()
      }

      expect(await system.waitForResult('own', 'k1')).toMatchObject({
        state: moment === 'after the end' ? 'completed' : 'canceled',
      })
      for (const gate of [runGate, toolGate, modelGate]) gate.open()
      const entries = (await system.finish()).get('own_k1')!
      expect(entries.filter(({ outcome }) => outcome)).toHaveLength(1)
      expect(entries.at(-1)!.outcome).toBeDefined()
    })
  }
})

describe('a signal', () => {
  async function resting() {
    const gate = new Gate()
    gate.open()
    const it = await start(waiting(gate))
    await it.system.send('own', 'k1', 'x')
    await it.system.waitForEntries('own', 'own_k1', 4)
    return it
  }

  it('counts once by its id, may be large, and may come before the task', async () => {
    const gate = new Gate()
    gate.open()
    await using it = await start(waiting(gate))
    const large = 'x'.repeat(60_000)

    await signal(it.place, 'note', 's1', 'too early for its state')
    await it.system.send('own', 'k1', 'x')
    await it.system.waitForEntries('own', 'own_k1', 4)
    await it.system.waitForQuiet()
    await signal(it.place, 'note', 's2', large)
    await signal(it.place, 'note', 's2', large)
    await signal(it.place, 'note', 's3', { again: true })
    await it.system.waitForQuiet()
    await signal(it.place, 'skip', 's4')

    expect(await it.system.waitForResult('own', 'k1')).toMatchObject({ output: [large, { again: true }] })
    await it.system.finish()
  })

  for (const chars of [100_000, 7_000_000]) {
    it(`with ${chars} characters arrives, as "kaos task signal" sends it`, async () => {
      await using it = await resting()
      const { bus } = await it.place.connect()
      const data = 'x'.repeat(chars)

      await sendSignal({ post: bus.post, subjects: it.place.subjects } as never, { agent: 'own', task: 'own_k1' }, 'note', data)
      await it.system.waitForEntries('own', 'own_k1', 5)
      await signal(it.place, 'skip', 's1')

      expect(await it.system.waitForResult('own', 'k1')).toMatchObject({ output: [data] })
      await it.system.finish()
    })
  }

  it('of an agent that did not begin the task is not heard, nor one to a task that has ended', async () => {
    await using it = await resting()

    await signal(it.place, 'note', 's1', 'stranger', { kind: 'agent', name: 'other' } as never)
    await signal(it.place, 'note', 's2', 'tool', { kind: 'tool', name: 'echo' } as never)
    await it.system.waitForQuiet()
    await signal(it.place, 'skip', 's3')
    await it.system.waitForResult('own', 'k1')
    await signal(it.place, 'note', 's4', 'too late')

    expect(await it.system.waitForResult('own', 'k1')).toMatchObject({ output: [] })
    await it.system.finish()
  })

  for (const name of ['constructor', '__proto__', 'toString', 'xstate-init', '-', 'A'.repeat(64)]) {
    it(`named "${name.slice(0, 20)}" is an event like any other`, async () => {
      await using it = await resting()

      await signal(it.place, name, 's1')
      await signal(it.place, 'skip', 's2')

      expect(await it.system.waitForResult('own', 'k1')).toMatchObject({ state: 'completed' })
      await it.system.finish()
    })
  }
})
