import { delegate, local, model, tool } from 'kaos-actors'
import { describe, expect, it } from 'vitest'
import { type AnyStateMachine, assign, enqueueActions, fromPromise, log, sendTo, setup } from 'xstate'
import { checkDeclared, registerOwnMachine } from '../../../actors/own/register.ts'
import { KaosError } from '../../../bus/wire/errors.ts'

const actors = {
  fetch: tool<{ url: string }, string>('web', 'fetch'),
  review: delegate<string, string>('reviewer'),
  think: model(),
  shorten: local(async ({ input }: { input: string }) => input.slice(0, 3)),
}

// biome-ignore lint/suspicious/noExplicitAny: machines that break the contract also break XState's types
type Config = any

function machineOf(config: Config, implementations: Config = {}): AnyStateMachine {
  return setup({ actors, ...implementations } as Config).createMachine(config)
}

function refusal(work: () => unknown): { readonly code: string; readonly message: string } {
  try {
    work()
  } catch (error) {
    if (error instanceof KaosError) return { code: error.code, message: error.message }
    throw error
  }
  throw new Error('nothing was refused')
}

describe('the contract of a machine', () => {
  const refused: readonly (readonly [what: string, config: Config, implementations: Config, code: string, message: RegExp])[] = [
    [
      'an inline source',
      { invoke: { src: fromPromise(async () => 1) } },
      {},
      'machine_contract',
      /an inline source; name it in setup\(\{ actors \}\)/,
    ],
    [
      'a promise of XState as a source',
      { invoke: { src: 'get' } },
      { actors: { get: fromPromise(async () => 1) } },
      'machine_contract',
      /behind the source "get"; make it with local\(/,
    ],
    ['a custom action', { entry: () => {} }, {}, 'machine_contract', /the action "\(inline\)"; make it an invoked effect/],
    [
      'a named custom action',
      { entry: 'save' },
      { actions: { save: () => {} } },
      'machine_contract',
      /the action "save"; make it an invoked effect/,
    ],
    ['sendTo', { entry: sendTo('other', { type: 'x' }) }, {}, 'machine_contract', /uses sendTo; an effect takes its input/],
    [
      'after',
      { initial: 'a', states: { a: { after: { 1000: 'b' } }, b: {} } },
      {},
      'machine_timer_unsupported',
      /"after" in state ".*a", and there are no durable timers yet; wait for an effect or a message/,
    ],
    [
      'an eventless cycle',
      { initial: 'a', states: { a: { always: 'b' }, b: { initial: 'c', states: { c: { always: '#top.a' } } } }, id: 'top' },
      {},
      'machine_contract',
      /an eventless cycle \("top\.b" → "top\.a" → "top\.b"\); give one of its "always" a guard/,
    ],
    ['an always without a target', { initial: 'a', states: { a: { always: {} } } }, {}, 'machine_contract', /an eventless cycle/],
  ]
  for (const [what, config, implementations, code, message] of refused) {
    it(`refuses ${what} and says what to write instead`, () => {
      const found = refusal(() => registerOwnMachine('mine', machineOf(config, implementations)))

      expect(found).toEqual({ code, message: expect.stringMatching(message) })
      expect(found.message).toContain('machine "mine"')
    })
  }

  it('accepts what is pure, and an eventless cycle that a guard can end', () => {
    const logic = machineOf({
      context: { n: 0 },
      entry: [log('here'), enqueueActions(() => {})],
      initial: 'a',
      states: {
        a: { always: { guard: ({ context }: Config) => context.n < 3, target: 'b', actions: assign({ n: 1 }) } },
        b: { always: 'a' },
      },
    })

    expect(registerOwnMachine('mine', logic).machine.name).toBe('mine')
  })

  for (const [what, given] of [
    ['nothing', undefined],
    ['a function', () => {}],
    ['a configuration', { initial: 'a', states: { a: {} } }],
    ['a promise source', fromPromise(async () => 1)],
  ] as const) {
    it(`refuses ${what} in the place of a machine`, () => {
      expect(refusal(() => registerOwnMachine('mine', given))).toMatchObject({
        code: 'machine_contract',
        message: expect.stringContaining('is no XState machine'),
      })
    })
  }

  it('refuses a machine of an XState that cannot stop an eventless cycle', () => {
    const { options: _options, ...old } = machineOf({})
    const logic = Object.assign(Object.create(Object.getPrototypeOf(machineOf({}))), old)

    expect(refusal(() => registerOwnMachine('mine', logic))).toEqual({
      code: 'machine_contract',
      message: expect.stringContaining('npm install xstate@^5.33.0'),
    })
  })

  it('takes whatever stands in the meta of its states', () => {
    expect(registerOwnMachine('mine', machineOf({ meta: { big: 1n, symbol: Symbol('x'), at: new Date(0) } })).machine.name).toBe(
      'mine',
    )
  })

  for (const [what, make] of [
    ['a tool without a name', () => tool('web', undefined as never)],
    ['a tool without a server', () => tool('', 'x')],
    ['a delegation to nobody', () => delegate(undefined as never)],
    ['a function that is none', () => local(Promise.resolve() as never)],
    ['no time at all', () => local(() => 1, { timeoutSeconds: 0 })],
    ['more time than a timer can wait', () => local(() => 1, { timeoutSeconds: 30 * 86_400 })],
    ['a time that is no number', () => local(() => 1, { timeoutSeconds: Number.NaN })],
  ] as const) {
    it(`refuses ${what} where it is declared`, () => {
      expect(refusal(make)).toMatchObject({ code: expect.stringMatching(/^(machine_contract|tool_module)$/) })
    })
  }

  it('changes its id with the code of a local effect, and not without a change', () => {
    const idOf = (text: string) => {
      const run = new Function('input', `return ${text}`) as () => unknown
      return registerOwnMachine('mine', machineOf({}, { actors: { run: local(run) } })).machine.id
    }

    expect(idOf('1')).toBe(idOf('1'))
    expect(idOf('1')).not.toBe(idOf('2'))
  })
})

describe('what a manifest grants', () => {
  const own = registerOwnMachine('mine', machineOf({}))
  const all = { servers: ['web'], agents: ['reviewer'], hasModel: true }

  it('suffices when it names all that the machine asks', () => {
    expect(() => checkDeclared(own, all)).not.toThrow()
  })

  for (const [lacking, message] of [
    [{ servers: ['db'] }, /"fetch" asks tool server "web".*spec\.mcpServers \(db\)/],
    [{ agents: [] }, /"review" asks agent "reviewer".*spec\.agentNetwork\.access \(empty\)/],
    [{ hasModel: false }, /"think" asks a model.*spec\.modelAPI and spec\.model/],
  ] as const) {
    it(`is refused without ${Object.keys(lacking)[0]}`, () => {
      expect(refusal(() => checkDeclared(own, { ...all, ...lacking })).message).toMatch(message)
    })
  }
})
