import { beforeAll, describe, expect, it, vi } from 'vitest'
import {
  and,
  assign,
  cancel,
  emit,
  enqueueActions,
  forwardTo,
  fromPromise,
  log,
  not,
  raise,
  sendParent,
  sendTo,
  setup,
  spawnChild,
  stopChild,
} from 'xstate'
import {
  advance,
  begin,
  comparable,
  type Decision,
  effectSource,
  type Machine,
  type MachineEvent,
  persist,
  prune,
  registerMachine,
  restore,
} from '../../actors/machine.ts'
import type { StartInput } from '../../bus/wire/entry.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Json } from '../../bus/wire/json.ts'

const AT = 1_700_000_000_000
const start: StartInput = { kind: 'start', input: 'task', definition: null, limits: { depth: 8, fanOut: 16 }, path: [] }
const toInput = ({ input }: StartInput, at: number) => ({ input, at })

/** Any machine: what it is typed as is not what these tests are about. */
// biome-ignore lint/suspicious/noExplicitAny: machines that break the contract also break XState's types
type Config = any

const actors = { fetch: effectSource<string, Json>(), store: effectSource<string, Json>() }

function register(config: Config, implementations: Config = {}): Machine {
  const logic = setup({ types: {} as { context: Config; input: Config }, actors, ...implementations } as Config).createMachine({
    context: {},
    ...config,
  } as Config)
  return registerMachine({ name: 'test', logic, toInput })
}

function refusalOf(config: Config, implementations: Config = {}): string {
  try {
    register(config, implementations)
  } catch (error) {
    if (error instanceof KaosError && /^machine_(contract|timer_unsupported)$/.test(error.code)) return error.message
    throw error
  }
  throw new Error('the machine was not refused')
}

function fail(why: string): never {
  throw new Error(why)
}

/** Decides inputs one after another, as an actor would. */
function decideAll(machine: Machine, events: readonly MachineEvent[], open: ReadonlySet<string> = new Set()): Decision[] {
  const decisions = [begin(machine, start, AT)]
  for (const event of events) decisions.push(advance(machine, decisions.at(-1)!.snapshot!, event, AT, open))
  return decisions
}

// XState warns of a source that is not there, and then goes on without it.
beforeAll(() => void vi.spyOn(console, 'warn').mockImplementation(() => {}))

describe('registration', () => {
  const invoking = (invoke: Config, more: Config = {}) => ({ initial: 'a', states: { a: { invoke, ...more }, b: {} } })
  const inline = fromPromise(async () => 'x')
  const free = { enter: assign({}), leave: raise({ type: 'x' }), tell: emit({ type: 'x' }), note: log('x') }

  it('takes effects with a name, assigns, guards, raises and what is made of them', () => {
    const machine = register(
      {
        initial: 'a',
        states: {
          a: {
            entry: ['enter', { type: 'tell' }, assign({ x: 1 }), enqueueActions(({ enqueue }) => enqueue.assign({ y: 1 }))],
            exit: ['leave', 'note', cancel('x')],
            invoke: { src: 'fetch', id: 'fetch', onDone: { target: 'b', guard: 'is', actions: 'enter' }, onError: 'b' },
            always: { target: 'b', guard: () => false, actions: 'note' },
            on: { go: { target: 'b', guard: { type: 'is' }, actions: stopChild('fetch') } },
          },
          b: { entry: spawnChild('store', { id: 'store' }), type: 'final' },
        },
      },
      { actions: free, guards: { is: () => true } },
    )

    expect(machine.id).toMatch(/^test@[0-9a-f]{16}$/)
  })

  const refused: readonly (readonly [string, Config, Config, RegExp, RegExp])[] = [
    ['an inline source', invoking({ src: inline }), {}, /an inline source/, /setup\(\{ actors \}\)/],
    ['a source that is not set up', invoking({ src: 'nope' }), {}, /the source "nope"/, /add it there/],
    ['a systemId of an invoke', invoking({ src: 'fetch', systemId: 'one' }), {}, /systemId "one"/, /leave it out/],
    [
      'an inline action',
      invoking({ src: 'fetch' }, { entry: () => {} }),
      {},
      /the action "\(inline\)"/,
      /make it an invoked effect/,
    ],
    [
      'an inline action on exit',
      invoking({ src: 'fetch' }, { exit: [() => {}] }),
      {},
      /the action "\(inline\)"/,
      /make it an invoked effect/,
    ],
    [
      'a custom action by name',
      invoking({ src: 'fetch' }, { entry: 'mail' }),
      { actions: { mail: () => {} } },
      /the action "mail"/,
      /make it an invoked effect/,
    ],
    [
      'a custom action with parameters',
      invoking({ src: 'fetch' }, { entry: { type: 'mail', params: { to: 'x' } } }),
      { actions: { mail: () => {} } },
      /the action "mail"/,
      /make it an invoked effect/,
    ],
    [
      'an action that is not set up',
      invoking({ src: 'fetch' }, { entry: 'nope' }),
      {},
      /the action "nope", which setup\(\{ actions \}\) does not name/,
      /add it there/,
    ],
    [
      'a guard that is not set up',
      { initial: 'a', states: { a: { on: { x: { guard: and([not('nope')]), target: 'b' } } }, b: {} } },
      {},
      /the guard "nope", which setup\(\{ guards \}\) does not name/,
      /add it there/,
    ],
    [
      'a custom action that only enqueueActions could name',
      { entry: enqueueActions(({ enqueue }: Config) => enqueue('mail')) },
      { actions: { mail: () => {} } },
      /the action "mail"/,
      /make it an invoked effect/,
    ],
    [
      'snapshots of an effect',
      invoking({ src: 'fetch', onSnapshot: { actions: assign({}) } }),
      {},
      /snapshots of "fetch"/,
      /take its answer in onDone/,
    ],
    [
      'syncSnapshot',
      { entry: spawnChild('fetch', { id: 'f', syncSnapshot: true }) },
      {},
      /snapshots of "fetch"/,
      /take its answer in onDone/,
    ],
    [
      'a custom action on an event',
      invoking({ src: 'fetch' }, { on: { go: { actions: () => {} } } }),
      {},
      /\(inline\)/,
      /invoked effect/,
    ],
    [
      'a custom action when an effect ends',
      invoking({ src: 'fetch', onDone: { actions: () => {} } }),
      {},
      /\(inline\)/,
      /invoked effect/,
    ],
    [
      'a custom action in always',
      invoking({ src: 'fetch' }, { always: { target: 'b', actions: () => {} } }),
      {},
      /\(inline\)/,
      /invoked effect/,
    ],
    [
      'a custom action of an initial transition',
      { initial: { target: 'a', actions: () => {} }, states: { a: {} } },
      {},
      /\(inline\)/,
      /invoked effect/,
    ],
    ['a custom action at the root', { entry: () => {}, initial: 'a', states: { a: {} } }, {}, /\(inline\)/, /invoked effect/],
    [
      'a custom action in a nested state',
      { initial: 'a', states: { a: { initial: 'b', states: { b: { entry: () => {} } } } } },
      {},
      /\(inline\)/,
      /invoked effect/,
    ],
    [
      'after',
      { initial: 'a', states: { a: { after: { 1000: 'b' } }, b: {} } },
      {},
      /"after" in state "[^"]*a"/,
      /wait for an effect or a message/,
    ],
    [
      'after with a named delay',
      { initial: 'a', states: { a: { after: { soon: 'b' } }, b: {} } },
      { delays: { soon: 5 } },
      /"after"/,
      /wait for an effect/,
    ],
    [
      'a raise with a delay',
      { initial: 'a', states: { a: { entry: raise({ type: 'x' }, { delay: 5 }) } } },
      {},
      /with a delay/,
      /wait for an effect/,
    ],
    ['sendTo', invoking({ src: 'fetch', id: 'f' }, { entry: sendTo('f', { type: 'x' }) }), {}, /uses sendTo/, /use raise/],
    ['sendParent', invoking({ src: 'fetch' }, { entry: sendParent({ type: 'x' }) }), {}, /uses sendTo/, /use raise/],
    [
      'forwardTo',
      invoking({ src: 'fetch', id: 'f' }, { on: { x: { actions: forwardTo('f') } } }),
      {},
      /uses sendTo/,
      /use raise/,
    ],
    [
      'spawnChild of an inline source',
      { initial: 'a', states: { a: { entry: spawnChild(inline, { id: 'x' } as Config) } } },
      {},
      /an inline source/,
      /setup\(\{ actors \}\)/,
    ],
    [
      'spawnChild of a source that is not set up',
      { initial: 'a', states: { a: { entry: spawnChild('nope', { id: 'x' }) } } },
      {},
      /the source "nope"/,
      /add it there/,
    ],
    [
      'spawnChild without an id',
      { initial: 'a', states: { a: { entry: spawnChild('fetch') } } },
      {},
      /spawnChild of "fetch" without an id/,
      /give it an id/,
    ],
    [
      'spawnChild with a systemId',
      { initial: 'a', states: { a: { entry: spawnChild('fetch', { id: 'x', systemId: 'one' }) } } },
      {},
      /systemId "one"/,
      /leave it out/,
    ],
  ]
  for (const [what, config, implementations, problem, cure] of refused) {
    it(`refuses ${what} and says what to write instead`, () => {
      const message = refusalOf({ id: 'test', ...config }, implementations)

      expect(message).toMatch(/^machine "test" uses /)
      expect(message).toMatch(problem)
      expect(message).toMatch(cure)
    })
  }

  it('names a machine by its code: what is the same has the same id, any change another', () => {
    const config = (text: string) => ({ initial: 'a', states: { a: { on: { go: { actions: assign({ said: text }) } } } } })
    const withGuard = (is: () => boolean) =>
      register({ initial: 'a', states: { a: { always: { guard: 'is', target: 'b' } }, b: {} } }, { guards: { is } })

    expect(register(config('x')).id).toBe(register(config('x')).id)
    expect(register({ ...config('x'), description: 'y' }).id).not.toBe(register(config('x')).id)
    expect(withGuard(() => false).id).not.toBe(withGuard(() => !!0).id)
    expect(registerMachine({ name: 'n', logic: register(config('x')).logic, toInput, sources: ['prompt'] }).id).not.toBe(
      registerMachine({ name: 'n', logic: register(config('x')).logic, toInput, sources: ['other'] }).id,
    )
  })
})

describe('deciding', () => {
  it('turns what XState asks for into commands', () => {
    const machine = register({
      initial: 'a',
      states: {
        a: {
          entry: [emit({ type: 'told', text: 'x' }), raise({ type: 'inner' }), log('noise')],
          invoke: { src: 'fetch', id: 'one', input: ({ context }: Config) => ({ n: context.n }), onDone: 'b' },
          on: { inner: { actions: spawnChild('store', { id: 'two', input: [1] }) } },
        },
        b: {},
      },
      context: { n: 7 },
    })

    expect(begin(machine, start, AT).commands).toEqual([
      { kind: 'emit', event: { type: 'told', text: 'x' } },
      { kind: 'start', effect: 'fetch', as: 'one', input: { n: 7 } },
      { kind: 'start', effect: 'store', as: 'two', input: [1] },
    ])
  })

  it('asks to stop only what is under way', () => {
    const machine = register({ initial: 'a', states: { a: { invoke: { src: 'fetch', id: 'one' }, on: { go: 'b' } }, b: {} } })
    const signal: MachineEvent = { kind: 'signal', name: 'go', data: null }

    expect(decideAll(machine, [signal], new Set(['one'])).at(-1)!.commands).toEqual([{ kind: 'stop', as: 'one' }])
    expect(decideAll(machine, [signal], new Set()).at(-1)!.commands).toEqual([])
    const answered: MachineEvent = { kind: 'result', as: 'one', value: 1 }
    expect(decideAll(machine, [answered], new Set()).at(-1)!.commands).toEqual([])
  })

  it('takes back an effect whose state is left in the same decision', () => {
    const machine = register({
      initial: 'a',
      states: { a: { invoke: { src: 'fetch', id: 'one' }, always: 'b' }, b: { invoke: { src: 'store', id: 'two' } } },
    })

    expect(begin(machine, start, AT).commands).toEqual([
      { kind: 'start', effect: 'fetch', as: 'one', input: null },
      { kind: 'stop', as: 'one' },
      { kind: 'start', effect: 'store', as: 'two', input: null },
    ])
  })

  it('stops and starts an effect of one name in that order', () => {
    const machine = register({
      initial: 'a',
      states: { a: { invoke: { src: 'fetch', id: 'one' }, on: { again: { target: 'a', reenter: true } } } },
    })

    expect(decideAll(machine, [{ kind: 'signal', name: 'again', data: null }], new Set(['one'])).at(-1)!.commands).toEqual([
      { kind: 'stop', as: 'one' },
      { kind: 'start', effect: 'fetch', as: 'one', input: null },
    ])
  })

  it('gives the machine results, errors, signals and the time of the entry', () => {
    const seen = (event: Config) => ({
      type: event.type,
      output: event.output,
      error: event.error,
      data: event.data,
      at: event.at,
    })
    const machine = register({
      initial: 'a',
      context: { seen: [] },
      states: {
        a: { on: { '*': { actions: assign({ seen: ({ context, event }: Config) => [...context.seen, seen(event)] }) } } },
      },
    })
    const failure = { code: 'tool_failed', message: 'no' }

    const last = decideAll(machine, [
      { kind: 'result', as: 'one', value: { a: 1 } },
      { kind: 'error', as: 'two', failure },
      { kind: 'signal', name: 'go', data: [1] },
    ]).at(-1)!

    expect((last.snapshot as Config).context.seen).toEqual([
      { type: 'xstate.done.actor.one', output: { a: 1 }, error: undefined, data: undefined, at: AT },
      { type: 'xstate.error.actor.two', output: undefined, error: failure, data: undefined, at: AT },
      { type: 'go', output: undefined, error: undefined, data: [1], at: AT },
    ])
  })

  it('leaves the machine as it is when nothing handles the input', () => {
    const machine = register({ initial: 'a', states: { a: { invoke: { src: 'fetch', id: 'one' } } } })
    const [before, after] = decideAll(machine, [{ kind: 'signal', name: 'nothing', data: null }], new Set(['one']))

    expect(after!.snapshot).toBe(before!.snapshot)
    expect(after).toMatchObject({ commands: [], outcome: undefined })
  })

  const outcomes: readonly (readonly [string, Config, object])[] = [
    ['completed, with the output', { output: { sum: 3 } }, { state: 'completed', output: { sum: 3 } }],
    ['completed, with nothing', {}, { state: 'completed', output: null }],
    [
      'failed, by its tag',
      { output: { code: 'token_limit', message: 'all used' } },
      { state: 'failed', failure: { code: 'token_limit', message: 'all used' } },
    ],
    [
      'rejected, by its tag',
      { output: { code: 'bad_message', message: 'no' } },
      { state: 'rejected', failure: { code: 'bad_message', message: 'no' } },
    ],
    [
      'failed, with an output that is no failure',
      { output: 'because' },
      { state: 'failed', failure: { code: 'machine_failed', message: 'because' } },
    ],
  ]
  for (const [what, { output }, outcome] of outcomes) {
    it(`ends ${what}`, () => {
      const [, tag] = /^(failed|rejected)/.exec(what) ?? []
      const machine = register({ initial: 'a', output, states: { a: { type: 'final', ...(tag && { tags: tag }) } } })

      expect(begin(machine, start, AT).outcome).toEqual(outcome)
    })
  }

  it('ends a machine whose effect failed with an error that nothing handles', () => {
    const machine = register({ initial: 'a', states: { a: { invoke: { src: 'fetch', id: 'one', onDone: 'a' } } } })
    const failure = { code: 'tool_failed', message: 'the disk is full' }

    expect(decideAll(machine, [{ kind: 'error', as: 'one', failure }]).at(-1)!.outcome).toEqual({ state: 'failed', failure })
  })

  const escapes: readonly (readonly [string, Config, Config, RegExp])[] = [
    [
      'a custom action inside enqueueActions',
      { entry: enqueueActions(({ enqueue }: Config) => enqueue(() => {})) },
      {},
      /make it an invoked effect/,
    ],
    [
      'an action that is not set up inside enqueueActions',
      { entry: enqueueActions(({ enqueue }: Config) => enqueue('nope')) },
      {},
      /the action "nope".*make it an invoked effect/,
    ],
    [
      'sendTo inside enqueueActions',
      { entry: enqueueActions(({ enqueue, self }: Config) => enqueue.sendTo(self, { type: 'x' })) },
      {},
      /sendTo cannot be durable.*use raise/,
    ],
    [
      'an event that it sends itself by its reference',
      { entry: assign(({ self }: Config) => self.send({ type: 'x' })) },
      {},
      /self\.send\(\) cannot be durable.*use raise/,
    ],
    [
      'a look at itself by its reference',
      { entry: assign(({ self }: Config) => self.getSnapshot().context) },
      {},
      /self\.getSnapshot\(\) cannot be durable/,
    ],
    [
      'spawn() inside assign',
      { entry: assign({ ref: ({ spawn }: Config) => spawn('fetch') }) },
      {},
      /spawn\(\) inside assign cannot be durable; use enqueue.spawnChild/,
    ],
    [
      'a raise with a delay inside enqueueActions',
      { entry: enqueueActions(({ enqueue }: Config) => enqueue.raise({ type: 'x' }, { delay: 5 })) },
      {},
      /with a delay.*wait for an effect/,
    ],
    [
      'an inline source inside enqueueActions',
      { entry: enqueueActions(({ enqueue }: Config) => enqueue.spawnChild(fromPromise(async () => 1))) },
      {},
      /an inline source.*setup/,
    ],
    [
      'a source that is not set up inside enqueueActions',
      { entry: enqueueActions(({ enqueue }: Config) => enqueue.spawnChild('nope', { id: 'n' })) },
      {},
      /"nope".*setup/,
    ],
    [
      'a systemId inside enqueueActions',
      { entry: enqueueActions(({ enqueue }: Config) => enqueue.spawnChild('fetch', { id: 'n', systemId: 's' })) },
      {},
      /systemId "s".*leave it out/,
    ],
    [
      'an effect without an id inside enqueueActions',
      { entry: enqueueActions(({ enqueue }: Config) => enqueue.spawnChild('fetch')) },
      {},
      /"fetch" without an id.*give it an id/,
    ],
    [
      'two effects of one name',
      { entry: [spawnChild('fetch', { id: 'n' }), spawnChild('store', { id: 'n' })] },
      {},
      /the id "n" for two effects at once.*its own id/,
    ],
  ]
  for (const [what, a, implementations, message] of escapes) {
    it(`refuses ${what}, which registration cannot see, as a failed outcome`, () => {
      const machine = register({ initial: 'a', states: { a } }, implementations)

      const decisions = [begin(machine, start, AT), begin(machine, start, AT)]

      expect(decisions[1]).toEqual(decisions[0])
      for (const decision of decisions) {
        expect(decision).toMatchObject({
          commands: [],
          snapshot: undefined,
          outcome: { state: 'failed', failure: { code: expect.stringMatching(/^machine_(contract|timer_unsupported)$/) } },
        })
        expect((decision.outcome as Config).failure.message).toMatch(message)
      }
    })
  }

  it('refuses a second effect of the name of one that is under way', () => {
    const machine = register({
      initial: 'a',
      states: { a: { entry: spawnChild('fetch', { id: 'n' }), on: { more: { actions: spawnChild('store', { id: 'n' }) } } } },
    })

    expect(decideAll(machine, [{ kind: 'signal', name: 'more', data: null }], new Set(['n'])).at(-1)!.outcome).toMatchObject({
      failure: { code: 'machine_contract', message: expect.stringMatching(/the id "n" for two effects at once.*its own id/) },
    })
  })

  it('bounds a machine that turns in a circle without an event', () => {
    const machine = register({
      initial: 'a',
      states: { a: { always: { guard: () => true, target: 'b' } }, b: { always: 'a' } },
    })

    const begunAt = performance.now()
    expect(begin(machine, start, AT).outcome).toMatchObject({ state: 'failed', failure: { code: 'machine_failed' } })
    expect(performance.now() - begunAt).toBeLessThan(3_000)
  })

  for (const [what, transition] of [
    [
      'an assign',
      {
        actions: assign(() => {
          throw new Error('broken')
        }),
      },
    ],
    [
      'a guard',
      {
        target: 'a',
        guard: () => {
          throw new Error('broken')
        },
      },
    ],
  ] as const) {
    it(`turns a throw in ${what} into a failed outcome, and leaves the machine able to decide`, () => {
      const machine = register({ initial: 'a', states: { a: { on: { go: transition } } } })
      const go: MachineEvent = { kind: 'signal', name: 'go', data: null }

      const [before, after] = decideAll(machine, [go])

      expect(after!.outcome).toMatchObject({ state: 'failed', failure: { message: expect.stringContaining('broken') } })
      expect(after!.commands).toEqual([])
      expect(advance(machine, before!.snapshot!, { ...go, name: 'other' }, AT, new Set()).outcome).toBeUndefined()
    })
  }

  it('does not name the code in a failure, or a journal would not fold after the next deploy', () => {
    const broken = (text: string) =>
      register({ description: text, initial: 'a', states: { a: { on: { go: { guard: () => fail('broken') } } } } })
    const decide = (machine: Machine) => decideAll(machine, [{ kind: 'signal', name: 'go', data: null }]).at(-1)

    expect(broken('one').id).not.toBe(broken('two').id)
    expect(decide(broken('one'))).toEqual(decide(broken('two')))
    expect(decide(broken('one'))).toMatchObject({ outcome: { state: 'failed' } })
  })

  it('turns a throw while the context is made into a failed outcome', () => {
    const machine = register({
      context: () => {
        throw new Error('no context')
      },
    })

    expect(begin(machine, start, AT).outcome).toMatchObject({
      state: 'failed',
      failure: { message: expect.stringContaining('no context') },
    })
  })

  it('has no memory: decisions of many actors, mixed, are those of each alone', () => {
    const machine = register({
      initial: 'a',
      context: ({ input }: Config) => ({ n: 0, who: input.input }),
      states: {
        a: {
          on: {
            go: {
              actions: [
                assign({ n: ({ context }: Config) => context.n + 1 }),
                spawnChild('fetch', {
                  id: ({ context }: Config) => `f${context.n}`,
                  input: ({ context }: Config) => context.who,
                }),
              ],
            },
          },
        },
      },
    })
    const go: MachineEvent = { kind: 'signal', name: 'go', data: null }
    const who = (input: Json) => ({ ...start, input })

    const one = begin(machine, who('one'), AT)
    const two = begin(machine, who('two'), AT)
    const oneB = advance(machine, one.snapshot!, go, AT, new Set())
    const twoB = advance(machine, two.snapshot!, go, AT, new Set())
    const oneC = advance(machine, oneB.snapshot!, go, AT, new Set())

    expect(oneC.commands).toEqual([{ kind: 'start', effect: 'fetch', as: 'f2', input: 'one' }])
    expect(twoB.commands).toEqual([{ kind: 'start', effect: 'fetch', as: 'f1', input: 'two' }])
    // What was decided before is as it was.
    expect(advance(machine, oneB.snapshot!, go, AT, new Set()).commands).toEqual(oneC.commands)
    expect(comparable(oneB.snapshot)).toMatchObject({ context: { n: 1 } })
  })
})

describe('a snapshot', () => {
  const machine = register({
    initial: 'a',
    context: { n: 0 },
    states: {
      a: {
        entry: spawnChild('fetch', { id: 'long', input: { text: 'x'.repeat(10_000) } }),
        on: {
          go: { actions: assign({ n: ({ context }: Config) => context.n + 1 }) },
          'xstate.done.actor.long': 'b',
        },
      },
      b: {
        type: 'parallel',
        states: { c: { initial: 'd', states: { d: {}, e: {} } }, f: { invoke: { src: 'store', id: 'second' } } },
        on: { go: '.c.e' },
      },
    },
  })
  const go: MachineEvent = { kind: 'signal', name: 'go', data: null }
  const done: MachineEvent = { kind: 'result', as: 'long', value: 1 }

  it('decides the same after a round trip through JSON, in every state', () => {
    let live = begin(machine, start, AT)
    for (const event of [go, go, done, go]) {
      const revived = restore(machine, JSON.parse(JSON.stringify(persist(machine, live.snapshot!))) as Json)
      expect(comparable(revived)).toEqual(comparable(live.snapshot))

      const open = new Set(Object.keys(live.snapshot!.children).filter((name) => event.kind === 'signal' || name !== event.as))
      const fromRevived = advance(machine, revived, event, AT, open)
      live = advance(machine, live.snapshot!, event, AT, open)

      expect(fromRevived.commands).toEqual(live.commands)
      expect(comparable(fromRevived.snapshot)).toEqual(comparable(live.snapshot))
    }
  })

  it('does not repeat the input of its children', () => {
    const text = JSON.stringify(persist(machine, begin(machine, start, AT).snapshot!))

    expect(text).toContain('"long"')
    expect(text.length).toBeLessThan(1_000)
  })

  it('forgets children that are not under way', () => {
    const { snapshot } = begin(machine, start, AT)

    prune(snapshot!, new Set(['long']))
    expect(Object.keys(snapshot!.children)).toEqual(['long'])
    prune(snapshot!, new Set())
    expect(Object.keys(snapshot!.children)).toEqual([])
    expect(JSON.stringify(persist(machine, snapshot!))).not.toContain('long')
  })

  it('is compared without what is XState’s own', () => {
    const { snapshot } = begin(machine, start, AT)

    expect(Object.keys(comparable(snapshot) as object).sort()).toEqual(['context', 'error', 'output', 'status', 'value'])
    expect(comparable(undefined)).toBeNull()
  })
})
