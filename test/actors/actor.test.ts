import { afterEach, describe, expect, it, vi } from 'vitest'
import { setup, spawnChild } from 'xstate'
import { Actor, apply, decide, Lock, newState, openNames, persistState, restoreState, startHash } from '../../actors/actor.ts'
import { asJson } from '../../actors/agent/definition.ts'
import { agentMachine } from '../../actors/agent/machine.ts'
import { comparable, effectSource, type Machine, registerMachine } from '../../actors/machine.ts'
import { type Cause, Running } from '../../actors/turn/running.ts'
import { Sends } from '../../actors/turn/sends.ts'
import { type Entry, type Input, NO_USAGE } from '../../bus/wire/entry.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Json } from '../../bus/wire/json.ts'
import { agentParty } from '../../bus/wire/subjects.ts'
import { definitionOf, until } from '../support/memory-system.ts'
import { inMemory } from '../support/places.ts'
import { Gate, System } from '../support/system.ts'

// Two actors fit into the cache, so that every third task drives one out.
vi.mock('../../bus/wire/limits.ts', async (original) => {
  const limits = await original<typeof import('../../bus/wire/limits.ts')>()
  return { ...limits, HOST_LIMITS: { ...limits.HOST_LIMITS, actorsCachedMax: 2 } }
})

const machine = agentMachine()
const parent = { agent: 'root', effect: 'root_k_1-0' }
const start: Input = {
  kind: 'start',
  input: 'task',
  definition: asJson(definitionOf({ name: 'boss', tools: ['echo'], peers: ['worker'] })),
  limits: { depth: 8, fanOut: 16 },
  path: ['root'],
  parent,
}
const modelAnswer = (text: string, calls: readonly string[] = []): Json => ({
  text,
  toolCalls: calls.map((name, k) => ({ id: `${k}`, name, arguments: '{"task":"help"}' })),
  finishReason: 'stop',
  model: 'm',
})

/** Applies inputs one after another, each owned by its own delivery and written by the host of that number. */
function actorAfter(...inputs: readonly (Input & { readonly host?: string })[]): Actor {
  return actorOf(machine, ...inputs)
}

function actorOf(machine: Machine, ...inputs: readonly (Input & { readonly host?: string })[]): Actor {
  const actor = new Actor('boss', 'boss_k')
  for (const { host = 'h1', ...input } of inputs) {
    const n = actor.state?.n ?? 0
    const decision = decide(machine, actor.state, input as Input, 1_000 + n)
    const entry = {
      n,
      at: 1_000 + n,
      cause: `${n}`,
      delivery: input.kind === 'resumed' ? input.delivery : `${n}-1`,
      from: agentParty('root'),
      input: input as Input,
      commands: decision.commands,
      ...(decision.outcome && { outcome: decision.outcome }),
      trace: { traceId: 'f'.repeat(32), flags: 1 },
      machine: machine.id,
      state: '',
    } satisfies Entry
    actor.state ??= newState(entry)
    apply(actor.task, actor.state, entry, decision, `${host}.${n}`, `seal ${n}`)
  }
  return actor
}

const delegating: readonly Input[] = [
  start,
  {
    kind: 'result',
    effect: 'boss_k_0-0',
    value: modelAnswer('', ['echo', 'delegate_to_worker']),
    usage: { ...NO_USAGE, modelCalls: 1 },
  },
]
const cancel: Input = { kind: 'signal', id: 's1', name: 'cancel', data: null }

describe('an actor', () => {
  it('knows what is under way, who owns it and who wrote last for whom', () => {
    const { state } = actorAfter(...delegating)

    expect([...state!.pending.values()].map(({ id, effect, as, n, delivery }) => [id, effect, as, n, delivery])).toEqual([
      ['boss_k_1-0', 'tool', 'c1-0', 1, '1-1'],
      ['boss_k_1-1', 'delegate', 'c1-1', 1, '1-1'],
    ])
    expect(state!.owners).toEqual(
      new Map([
        ['0-1', 'h1'],
        ['1-1', 'h1'],
      ]),
    )
    expect(state).toMatchObject({ n: 2, parent, usage: { modelCalls: 1 }, outcome: undefined, seal: 'seal 1' })
    expect(openNames(state!)).toEqual(new Set(['c1-0', 'c1-1']))
    expect(openNames(state!, 'boss_k_1-0')).toEqual(new Set(['c1-1']))
  })

  it('keeps no child that is answered, also where the machine does', () => {
    const hoarding = registerMachine({
      name: 'hoarding',
      logic: setup({ actors: { fetch: effectSource<Json, Json>() } }).createMachine({
        context: {},
        entry: [spawnChild('fetch', { id: 'one', input: 1 }), spawnChild('fetch', { id: 'two', input: 2 })],
        on: { '*': {} },
      }) as never,
      toInput: () => ({}),
    })
    const children = (...inputs: readonly Input[]) => Object.keys(actorOf(hoarding, ...inputs).state!.snapshot!.children)

    expect(children(start)).toEqual(['one', 'two'])
    expect(children(start, { kind: 'result', effect: 'boss_k_0-0', value: 'x' })).toEqual(['two'])
  })

  it('passes a delivery on with a resumed entry, and nothing else changes', () => {
    const before = actorAfter(...delegating)
    const after = actorAfter(...delegating, { kind: 'resumed', delivery: '1-1', host: 'h2' })

    expect(after.state!.owners.get('1-1')).toBe('h2')
    expect(comparable(after.state!.snapshot)).toEqual(comparable(before.state!.snapshot))
    expect([...after.state!.pending]).toEqual([...before.state!.pending])
  })

  it('ends once: what was under way is cut, and remembered for those who are to be told', () => {
    const { state } = actorAfter(...delegating, cancel)

    expect(state!.outcome).toMatchObject({ state: 'canceled' })
    expect(state!.pending.size).toBe(0)
    expect(state!.cut.map(({ id }) => id)).toEqual(['boss_k_1-0', 'boss_k_1-1'])
    expect(state).toMatchObject({ endedBy: '2-1', endedAt: 1_002 })
    expect(state!.signals).toEqual(new Set(['s1']))
  })

  it('that is canceled before it began is nothing but that, and who asked for it', () => {
    const { state } = actorAfter(cancel)

    expect(state).toMatchObject({
      n: 1,
      outcome: { state: 'canceled' },
      parent: undefined,
      origin: { inputHash: '', from: agentParty('root') },
    })
  })

  it('refuses to decide what its caller should have refused', () => {
    const { state } = actorAfter(...delegating)

    expect(() => decide(machine, state, { kind: 'result', effect: 'boss_k_9-0', value: 1 }, 0)).toThrow(
      /"boss_k_9-0" is not pending/,
    )
    expect(() => decide(machine, state, start, 0)).toThrow(/"start" cannot be decided any more/)
  })

  it('adds up what it and its children used, also those that failed', () => {
    const used = (inputTokens: number) => ({ ...NO_USAGE, inputTokens, toolCalls: 1 })
    const { state } = actorAfter(
      ...delegating,
      { kind: 'result', effect: 'boss_k_1-0', value: 'x', usage: used(1) },
      { kind: 'error', effect: 'boss_k_1-1', failure: { code: 'x', message: '' }, usage: used(10) },
    )

    expect(state!.usage).toEqual({ inputTokens: 11, outputTokens: 0, modelCalls: 1, toolCalls: 2 })
  })

  for (const [what, inputs] of [
    ['just begun', [start]],
    ['with effects under way', delegating],
    ['that was taken over', [...delegating, { kind: 'resumed', delivery: '1-1' }]],
    ['that is canceled', [...delegating, cancel]],
    ['canceled before it began', [cancel]],
    ['completed', [start, { kind: 'result', effect: 'boss_k_0-0', value: modelAnswer('done') }]],
  ] as const) {
    it(`survives JSON: one ${what}`, () => {
      const { state } = actorAfter(...(inputs as readonly Input[]))

      const restored = restoreState(machine, JSON.parse(JSON.stringify(persistState(machine, state!))) as Json)

      const { snapshot, ...rest } = restored
      // What was just answered is told at once, and never again.
      const { snapshot: before, ...restBefore } = { ...state!, answered: undefined }
      expect(rest).toEqual(restBefore)
      expect(comparable(snapshot)).toEqual(comparable(before))
      expect(persistState(machine, restored)).toEqual(persistState(machine, state!))
    })
  }

  it('is the same task only with the same input and session', () => {
    const hash = startHash({ input: { a: 1, b: 2 } })

    expect(startHash({ input: { b: 2, a: 1 } })).toBe(hash)
    expect(startHash({ input: { a: 1 } })).not.toBe(hash)
    expect(startHash({ input: { a: 1, b: 2 }, session: 's' })).not.toBe(hash)
    expect(startHash({ input: '\ud800' })).not.toBe(startHash({ input: '"\\ud800"' }))
  })
})

describe('the lock of an actor', () => {
  it('lets one at a time in, in the order of asking', async () => {
    const lock = new Lock()
    const seen: string[] = []
    const work = (name: string, ms: number) =>
      lock.run(async () => {
        seen.push(`${name} in`)
        await new Promise((resolve) => setTimeout(resolve, ms))
        seen.push(`${name} out`)
      })

    await Promise.all([work('a', 5), work('b', 0), work('c', 1)])

    expect(seen).toEqual(['a in', 'a out', 'b in', 'b out', 'c in', 'c out'])
  })

  it('goes on after a failure, which its own caller hears of', async () => {
    const lock = new Lock()
    const failing = lock.run(() => Promise.reject(new Error('broken')))
    const next = lock.run(async () => 'fine')

    await expect(failing).rejects.toThrow('broken')
    expect(await next).toBe('fine')
  })
})

describe('local effects under way', () => {
  const answer = (id: string): Cause => ({ id, input: { kind: 'result', effect: id, value: id }, local: true })
  const running = () => {
    const registered = new Running()
    const signals = new Map<string, AbortSignal>()
    const finish = new Map<string, () => void>()
    const begin = (id: string, delivery: string) =>
      registered.start(id, delivery, (signal) => {
        signals.set(id, signal)
        return new Promise((resolve) => finish.set(id, () => resolve(answer(id))))
      })
    return { registered, begin, signals, finish: (id: string) => finish.get(id)!() }
  }

  it('are answered to the turn that owns them, first come first', async () => {
    const { registered, begin, finish } = running()
    for (const [id, delivery] of [
      ['a', '1'],
      ['b', '1'],
      ['c', '2'],
    ] as const)
      begin(id, delivery)

    const first = registered.next('1')
    finish('c')
    finish('b')
    expect((await first)?.id).toBe('b')
    finish('a')
    expect((await registered.next('1'))?.id).toBe('a')
    expect(await registered.next('1')).toBeUndefined()
    expect((await registered.next('2'))?.id).toBe('c')
  })

  it('run once, however often they are begun', () => {
    const { registered, begin } = running()
    begin('a', '1')
    begin('a', '1')

    expect(registered.count('1')).toBe(1)
  })

  it('leave at once when they are aborted: nobody waits for a handler that ignores its signal', async () => {
    const { registered, begin, signals, finish } = running()
    begin('a', '1')
    begin('b', '1')
    const waiting = registered.next('1')

    registered.abortUnless((id) => id === 'b')
    expect(signals.get('a')!.aborted).toBe(true)
    expect(signals.get('b')!.aborted).toBe(false)
    finish('a') // too late, and nobody hears it
    finish('b')

    expect((await waiting)?.id).toBe('b')
    expect(await registered.next('1')).toBeUndefined()
  })

  it('are forgotten with their answer when they are aborted after it', async () => {
    const { registered, begin, finish } = running()
    begin('a', '1')
    finish('a')
    await Promise.resolve()
    registered.abortUnless(() => false)

    expect(await registered.next('1')).toBeUndefined()
    begin('a', '1')
    const again = registered.next('1')
    finish('a')
    expect((await again)?.id).toBe('a')
  })
})

describe('the messages of a turn', () => {
  it('are all tried, and the first failure is what the turn hears, at the end', async () => {
    const sends = new Sends()
    let sent = 0
    sends.add(Promise.reject(new KaosError('publish_refused', 'full')))
    sends.add(Promise.resolve(sent++), Promise.resolve(sent++))

    await expect(sends.settled()).rejects.toMatchObject({ code: 'publish_refused' })
    expect(sent).toBe(2)
    await new Sends().settled()
  })
})

describe('the actors of a host', () => {
  let place: Awaited<ReturnType<typeof inMemory>>
  afterEach(() => place[Symbol.asyncDispose]())

  it('are forgotten when there are too many, never while a turn holds them, and come back from their journals', async () => {
    place = await inMemory()
    const gate = new Gate()
    const held = 10
    const system = await System.start(place, {
      agents: [{ name: 'boss', tools: ['echo'] }],
      tools: ['echo'],
      model: async ({ messages, turn }) => {
        const [task] = messages.filter(({ role }) => role === 'user').map(({ content }) => content)
        if (task!.startsWith('held')) await gate.pass()
        return turn === 0 ? { calls: [{ name: 'echo', arguments: { text: task! } }] } : { text: messages.at(-1)!.content! }
      },
    })
    const host = await system.startHost()
    let reads = 0
    host.before = (operation) => void (operation === 'read' && reads++)
    for (let i = 0; i < held; i++) await system.send('boss', `held${i}`, `held ${i}`)
    await gate.waitFor(held)

    // Many others come and go meanwhile, and each of those that are held gets a second copy of its start.
    for (let i = 0; i < 20; i++) await system.send('boss', `passing${i}`, `passing ${i}`)
    for (let i = 0; i < held; i++) await system.send('boss', `held${i}`, `held ${i}`)
    await until(async () => (await place.backlog()) === held + 20 || undefined, 'only calls and what is held are left')
    expect(gate.arrived, 'no actor was begun a second time').toBe(held)
    gate.open()
    await system.startTools('echo')

    for (let i = 0; i < 20; i++)
      expect(await system.waitForResult('boss', `passing${i}`)).toMatchObject({ output: `R(passing ${i})` })
    for (let i = 0; i < held; i++)
      expect(await system.waitForResult('boss', `held${i}`)).toMatchObject({ output: `R(held ${i})` })
    const journals = await system.finish()
    expect(journals.size).toBe(held + 20)
    for (const [task, entries] of journals) expect(entries, task).toHaveLength(4)
    expect(reads, 'those that were forgotten were read again').toBeGreaterThan(20)
    expect(system.modelRuns).toHaveLength((held + 20) * 2)
  })
})
