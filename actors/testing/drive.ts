/**
 * Drives a machine of your own in a test: no bus, no clock, no mocks. It decides as a host would, and holds the machine to what a host relies
 * on: every input is decided twice, the second time with another clock and other random numbers, and goes on from a state that was stored.
 */
import type { AnyStateMachine, ContextFrom, InputFrom, OutputFrom, StateValueFrom } from 'xstate'
import type { Input, StartInput } from '../../bus/wire/entry.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { copyJson, type Json } from '../../bus/wire/json.ts'
import { TASK_LIMITS } from '../../bus/wire/limits.ts'
import { isVerb } from '../../bus/wire/subjects.ts'
import { type ActorState, apply, decide, newState, type Pending, persistState, restoreState } from '../actor.ts'
import { comparable, type Decision, type Machine } from '../machine.ts'
import { registerOwnMachine } from '../own/register.ts'

/** An effect that the machine waits for. */
export interface PendingEffect {
  /** Its name in `setup({ actors })`. */
  readonly effect: string
  readonly input: Json
  /** Its id, where the machine gives one that is not the name: which of several is meant. */
  readonly id?: string
}

export type DrivenOutcome<Output> =
  | { readonly state: 'completed'; readonly output: Output }
  | { readonly state: 'failed' | 'canceled' | 'rejected'; readonly failure: { readonly code: string; readonly message: string } }

export interface Driven<Logic extends AnyStateMachine> {
  readonly pending: readonly PendingEffect[]
  readonly state: StateValueFrom<Logic>
  readonly context: ContextFrom<Logic>
  /** Undefined while the machine works. */
  readonly outcome: DrivenOutcome<OutputFrom<Logic>> | undefined
  /** What the machine emitted so far. */
  readonly emitted: readonly Json[]
  /** Answers a pending effect, named by its name or its id. Throws when it is not pending, or when several have that name. */
  answer(effect: string, output?: unknown): void
  /** Lets a pending effect fail: `event.error` in `onError`. A text is the message of an `effect_failed`. */
  fail(effect: string, failure?: string | { readonly code: string; readonly message: string; readonly details?: Json }): void
  /** Sends an event, as a person does with a signal: `event.data` is its data. Throws for a name that no signal can have. */
  signal(type: string, data?: Json): void
  cancel(): void
}

const TASK = 'driven_test'
const CLOCK_SKEW_MS = 86_400_000

/**
 * Starts a machine with the input of a task. Throws `machine_contract` or `machine_timer_unsupported` where a host would refuse the machine, and
 * `machine_impure` when it decides the same input twice and differently, here or at any later step.
 */
export function drive<Logic extends AnyStateMachine>(logic: Logic, input?: InputFrom<Logic>): Driven<Logic> {
  const { machine } = registerOwnMachine(logic.id, logic, { isPlain: true })
  const emitted: Json[] = []
  let state: ActorState | undefined
  // Epoch ms of the next input: a second for each, as if nothing took longer.
  let at = Date.UTC(2026, 0, 1)
  const start: StartInput = {
    kind: 'start',
    input: copyJson(input ?? null),
    definition: null,
    limits: TASK_LIMITS,
    path: [],
  }
  step(start)

  return {
    get pending() {
      const all = [...state!.pending.values()]
      return all.map((each) => shown(each, all.filter(({ effect }) => effect === each.effect).length > 1))
    },
    get state() {
      return state!.snapshot?.value as StateValueFrom<Logic>
    },
    get context() {
      return state!.snapshot?.context as ContextFrom<Logic>
    },
    get outcome() {
      return state!.outcome as DrivenOutcome<OutputFrom<Logic>> | undefined
    },
    get emitted() {
      return emitted
    },
    answer(effect, output = null) {
      step({ kind: 'result', effect: find(effect).id, value: copyJson(output) })
    },
    fail(effect, failure = 'it failed') {
      const it = typeof failure === 'string' ? { code: 'effect_failed', message: failure } : failure
      step({ kind: 'error', effect: find(effect).id, failure: it })
    },
    signal(name, data = null) {
      if (!isVerb(name))
        throw new Error(`"${name}" reaches no machine: the name of a signal is 1 to 64 letters, digits, "_" and "-"`)
      step({ kind: 'signal', id: `s${at}`, name, data: copyJson(data) })
    },
    cancel: () => step({ kind: 'signal', id: `s${at}`, name: 'cancel', data: null }),
  }

  function step(input: Input): void {
    if (state?.outcome) throw new Error(`the machine has ended: ${JSON.stringify(state.outcome)}`)
    at += 1_000
    const decision = decideTwice(machine, state, input, at)
    const n = state?.n ?? 0
    const entry = {
      n,
      at,
      cause: `c${n}`,
      delivery: 'd',
      from: { kind: 'user', name: 'test' } as const,
      input,
      commands: decision.commands,
      ...(decision.outcome && { outcome: decision.outcome }),
      trace: { traceId: '0'.repeat(31).concat('1'), parentId: '', flags: 1 } as never,
      machine: machine.id,
      state: '',
    }
    const next = state ?? newState(entry)
    apply(TASK, next, entry, decision, 'test.1', '')
    for (const command of decision.commands) if (command.kind === 'emit') emitted.push(command.event)
    state = next.snapshot ? restoreState(machine, copyJson(persistState(machine, next))) : next
  }

  function find(effect: string): Pending {
    const all = [...state!.pending.values()]
    const found = all.filter((each) => each.effect === effect || each.as === effect)
    if (found.length === 1) return found[0]!
    const list = all.map((each) => `"${each.effect}"${each.as === each.effect ? '' : ` (id "${each.as}")`}`).join(', ') || 'none'
    throw new Error(
      found.length === 0
        ? `the machine does not wait for "${effect}"; it waits for: ${list}`
        : `the machine waits for ${found.length} effects "${effect}", so name one by its id: ${list}`,
    )
  }
}

function shown({ effect, as, input }: Pending, isOneOfSeveral: boolean): PendingEffect {
  // What XState made up itself, such as "0.summary.fetching", nobody named, and is shown only where nothing else tells them apart.
  const isNamed = as !== effect && !/^\d+\./.test(as)
  return { effect, input, ...((isNamed || isOneOfSeveral) && { id: as }) }
}

/** Decides an input, and again on another day with other luck. */
function decideTwice(machine: Machine, state: ActorState | undefined, input: Input, at: number): Decision {
  const first = decide(machine, state, input, at)
  if (first.outcome && first.outcome.state !== 'completed' && first.outcome.failure.code === 'machine_impure')
    throw new KaosError('machine_impure', first.outcome.failure.message)
  const firstText = resultText(first)
  const secondText = skewed(() => resultText(decide(machine, state, input, at)))
  if (firstText !== secondText)
    throw impure(input, `it decided otherwise the second time:\n  ${differing(firstText, secondText)}`)
  return first
}

function impure(input: Input, what: string): KaosError {
  const of =
    'effect' in input ? `the ${input.kind} of an effect` : input.kind === 'signal' ? `signal "${input.name}"` : `"${input.kind}"`
  return new KaosError('machine_impure', `${of} was decided twice, and ${what}`)
}

function resultText({ snapshot, commands, outcome }: Decision): string {
  return textOf({ state: comparable(snapshot), commands, outcome })
}

function textOf(value: unknown): string {
  return JSON.stringify(value) ?? ''
}

/** The part of two texts where they begin to differ. */
function differing(a: string, b: string): string {
  let at = 0
  while (at < a.length && a[at] === b[at]) at++
  const from = Math.max(0, at - 30)
  return `${a.slice(from, at + 50)}\n  ${b.slice(from, at + 50)}`
}

/** Runs with a clock that is a day ahead and with random numbers of its own. Synchronous, so that nobody else sees them. */
function skewed<T>(work: () => T): T {
  const { Date: RealDate } = globalThis
  const { random } = Math
  const { now } = performance
  const { hrtime } = process
  const laterHrtime = (from?: [number, number]): [number, number] => {
    const [seconds, nanos] = hrtime(from)
    return [seconds + CLOCK_SKEW_MS / 1_000, nanos]
  }
  class LaterDate extends RealDate {
    constructor(...args: readonly unknown[]) {
      super(...((args.length > 0 ? args : [RealDate.now() + CLOCK_SKEW_MS]) as [number]))
    }

    static override now(): number {
      return RealDate.now() + CLOCK_SKEW_MS
    }
  }
  globalThis.Date = LaterDate as DateConstructor
  Math.random = () => (random() + 0.5) % 1
  performance.now = () => now.call(performance) + CLOCK_SKEW_MS
  process.hrtime = Object.assign(laterHrtime, { bigint: () => hrtime.bigint() + BigInt(CLOCK_SKEW_MS) * 1_000_000n })
  try {
    return work()
  } finally {
    globalThis.Date = RealDate
    Math.random = random
    performance.now = now
    process.hrtime = hrtime
  }
}
