import { delegate, local, model, tool } from 'kaos-actors'
import { drive } from 'kaos-actors/testing'
import { describe, expect, it } from 'vitest'
import { assign, emit, enqueueActions, setup } from 'xstate'

const actors = {
  count: tool<{ text: string }, { words: number }>('counter', 'count'),
  ask: delegate<string, string>('other'),
  think: model(),
  run: local(async () => 'never in a drive'),
}

/** A machine whose context is made by a function at the event `go`. */
function machineWith(next: (context: { readonly seen: readonly string[] }) => unknown) {
  return setup({ types: {} as { context: { seen: string[] }; events: { type: 'go' } } }).createMachine({
    context: { seen: [] },
    // biome-ignore lint/suspicious/noExplicitAny: what is put in is what is tested
    on: { go: { actions: assign({ seen: ({ context }) => next(context) as any }) } },
  })
}

describe('driving a machine', () => {
  const counting = setup({
    types: {} as { context: { words: number }; input: { text: string }; output: number },
    actors,
  }).createMachine({
    context: { words: 0 },
    initial: 'counting',
    output: ({ context }) => context.words,
    states: {
      counting: {
        invoke: {
          src: 'count',
          input: ({ event }) => ({ text: (event as unknown as { input: { text: string } }).input.text }),
          onDone: { target: 'done', actions: assign({ words: ({ event }) => event.output.words }) },
        },
      },
      done: { type: 'final' },
    },
  })

  it('shows what is pending by its name in the machine, and ends with its outcome', () => {
    const actor = drive(counting, { text: 'two words' })

    expect(actor.pending).toEqual([{ effect: 'count', input: { text: 'two words' } }])
    expect(actor.outcome).toBeUndefined()
    actor.answer('count', { words: 2 })

    expect(actor.pending).toEqual([])
    expect(actor.outcome).toEqual({ state: 'completed', output: 2 })
  })

  it('fails when nothing handles the failure of an effect', () => {
    const actor = drive(counting, { text: 'x' })

    actor.fail('count', { code: 'tool_failed', message: 'no' })

    expect(actor.outcome).toEqual({ state: 'failed', failure: { code: 'tool_failed', message: 'no' } })
  })

  it('says what is pending when something else is answered, and refuses any input after the end', () => {
    const actor = drive(counting, { text: 'x' })

    expect(() => actor.answer('ask', 'x')).toThrow('the machine does not wait for "ask"; it waits for: "count"')
    actor.answer('count', { words: 1 })
    expect(() => actor.signal('more')).toThrow('the machine has ended')
  })

  it('asks for an id where several effects have one name', () => {
    const parallel = setup({ actors }).createMachine({
      entry: enqueueActions(({ enqueue }) => {
        enqueue.spawnChild('ask', { id: 'first', input: 'a' })
        enqueue.spawnChild('ask', { id: 'second', input: 'b' })
      }),
    })

    const actor = drive(parallel)

    expect(actor.pending).toEqual([
      { effect: 'ask', id: 'first', input: 'a' },
      { effect: 'ask', id: 'second', input: 'b' },
    ])
    expect(() => actor.answer('ask', 'x')).toThrow('waits for 2 effects "ask"')
    actor.answer('second', 'x')
    expect(actor.pending).toEqual([{ effect: 'ask', id: 'first', input: 'a' }])
  })

  it('shows ids that nobody gave only where nothing else tells two effects apart', () => {
    const idsOf = (invoke: { readonly src: 'ask'; readonly input: string }[]) =>
      drive(setup({ actors }).createMachine({ id: 'm', invoke })).pending.map(({ id }) => id)

    expect(idsOf([{ src: 'ask', input: 'a' }])).toEqual([undefined])
    expect(
      idsOf([
        { src: 'ask', input: 'a' },
        { src: 'ask', input: 'b' },
      ]),
    ).toEqual(['0.m', '1.m'])
  })

  it('refuses a signal that no host would be handed', () => {
    const actor = drive(counting, { text: 'x' })

    expect(() => actor.signal('xstate.done.actor.0.(machine).counting', { words: 1 })).toThrow('reaches no machine')
    expect(actor.pending).toHaveLength(1)
  })

  it('gathers what the machine emits', () => {
    const talking = setup({ types: {} as { emitted: { type: 'said'; text: string } } }).createMachine({
      entry: emit({ type: 'said', text: 'hello' }),
    })

    expect(drive(talking).emitted).toEqual([{ type: 'said', text: 'hello' }])
  })

  it('cancels a machine that has no answer to it, and leaves one that has to itself', () => {
    const deaf = drive(setup({ actors }).createMachine({ invoke: { src: 'ask', input: 'x' } }))
    deaf.cancel()
    expect(deaf.outcome).toMatchObject({ state: 'canceled' })
    expect(deaf.pending).toEqual([])

    const hearing = drive(
      setup({ actors }).createMachine({
        initial: 'working',
        states: {
          working: { invoke: { src: 'ask', input: 'x' }, on: { cancel: 'undoing' } },
          undoing: { invoke: { src: 'run', input: null, onDone: 'undone' } },
          undone: { type: 'final', tags: 'canceled' },
        },
      }),
    )
    hearing.cancel()
    expect(hearing.pending).toEqual([{ effect: 'run', input: null }])
    hearing.answer('run')
    expect(hearing.outcome).toMatchObject({ state: 'canceled', failure: { code: 'canceled' } })
  })

  it('goes on from a stored state at every step', () => {
    const actor = drive(machineWith(({ seen }) => [...seen, 'again']))

    for (let i = 0; i < 3; i++) actor.signal('go')

    expect(actor.context).toEqual({ seen: ['again', 'again', 'again'] })
  })
})

describe('a machine that is not pure', () => {
  let counter = 0
  const impure: readonly (readonly [what: string, next: (context: { readonly seen: readonly string[] }) => unknown])[] = [
    ['the clock', () => [String(new Date().getUTCDate())]],
    ['Date.now', () => [String(Date.now())]],
    ['random numbers', () => [String(Math.random())]],
    ['a random id', () => [crypto.randomUUID()]],
    ['a variable outside', () => [String(counter++)]],
    ['the time since the start', () => [String(Math.round(performance.now() / 1_000))]],
    ['the high-resolution clock', () => [String(process.hrtime()[0])]],
    ['a formatted date', () => [new Date().toLocaleDateString('en')]],
    [
      'its own context in place',
      (context) => {
        ;(context.seen as string[]).push('x')
        return context.seen
      },
    ],
  ]
  for (const [what, next] of impure) {
    it(`is found when it uses ${what}`, () => {
      const actor = drive(machineWith(next))

      expect(() => actor.signal('go')).toThrow(expect.objectContaining({ code: 'machine_impure' }))
    })
  }

  it('is found when it changes an event in place', () => {
    const actor = drive(
      setup({
        types: {} as { context: { all: string[] } },
        actors: { list: tool<null, string[]>('counter', 'list') },
      }).createMachine({
        context: { all: [] },
        invoke: {
          src: 'list',
          input: null,
          onDone: { actions: assign({ all: ({ event }) => event.output.sort() }) },
        },
      }),
    )

    expect(() => actor.answer('list', ['b', 'a'])).toThrow(
      'changes its context or an event in place; return a new value from assign',
    )
  })

  it('leaves the clock as it was', () => {
    const before = globalThis.Date

    expect(() => drive(machineWith(() => [String(Date.now())])).signal('go')).toThrow(/decided otherwise the second time/)

    expect(globalThis.Date).toBe(before)
  })
})

describe('a context that is no JSON', () => {
  for (const [what, value, message] of [
    ['a map', new Map(), /context\.seen is a Map/],
    ['a date', [new Date(0)], /context\.seen\[0\] is a Date/],
    ['a big number', 1n, /context\.seen is a bigint/],
    ['not a number', Number.NaN, /context\.seen is NaN/],
    ['a function', [() => 1], /context\.seen\[0\] is a function/],
  ] as const) {
    it(`fails with ${what}, and says where`, () => {
      const actor = drive(machineWith(() => value))

      actor.signal('go')

      expect(actor.outcome).toMatchObject({
        state: 'failed',
        failure: { code: 'machine_contract', message: expect.stringMatching(message) },
      })
    })
  }
})
