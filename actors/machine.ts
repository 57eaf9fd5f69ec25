/**
 * The only file that calls XState. A machine is used as a pure function: it is given one input and says what it wants done; nothing is
 * started, no clock runs, no action executes. Facts about `transition()` that this relies on were measured on xstate 5.33.3.
 */
import {
  type ActorScope,
  type AnyActor,
  type AnyMachineSnapshot,
  type AnyStateMachine,
  createActor,
  fromPromise,
  type PromiseActorLogic,
  type StateNode,
} from 'xstate'
import type { Command, Outcome, OutcomeState, StartInput, Usage } from '../bus/wire/entry.ts'
import { type Failure, KaosError, toFailure } from '../bus/wire/errors.ts'
import type { Json } from '../bus/wire/json.ts'
import { hashOf, isObject } from '../bus/wire/json.ts'

export type Snapshot = AnyMachineSnapshot

/** A registered machine: its contract was checked, and it can be asked. */
export interface Machine {
  readonly name: string
  /** Name and hash of its code, as entries record it. */
  readonly id: string
  readonly logic: AnyStateMachine
  /** What the machine is given as XState input. */
  readonly toInput: (start: StartInput, at: number) => unknown
  readonly scope: ActorScope<AnyMachineSnapshot, never>
  readonly sink: { actions: RawAction[] }
}

/** What reaches a machine after its start. `as` is the name of the effect inside the machine. */
export type MachineEvent =
  | { readonly kind: 'result'; readonly as: string; readonly value: Json; readonly usage?: Usage | undefined }
  | { readonly kind: 'error'; readonly as: string; readonly failure: Failure; readonly usage?: Usage | undefined }
  | { readonly kind: 'signal'; readonly name: string; readonly data: Json }

export interface Decision {
  readonly snapshot: Snapshot | undefined
  readonly commands: readonly Command[]
  readonly outcome: Outcome | undefined
}

interface RawAction {
  readonly type: string
  readonly params?: {
    readonly id?: unknown
    readonly src?: unknown
    readonly input?: unknown
    readonly actorRef?: { readonly id: string }
    readonly event?: unknown
    readonly delay?: unknown
  }
}

/** Enough for any machine that thinks; an eventless cycle would otherwise hang the process for ever. */
const ITERATIONS_MAX = 1_000
const FREE_ACTIONS = new Set([
  'xstate.assign',
  'xstate.raise',
  'xstate.log',
  'xstate.spawnChild',
  'xstate.stopChild',
  'xstate.cancel',
  'xstate.emit',
  'xstate.enqueueActions',
])

/** An effect as a machine names it: a source that is never run by XState, whose answer comes as an input. */
export function effectSource<Output, EffectInput>(): PromiseActorLogic<Output, EffectInput> {
  return fromPromise<Output, EffectInput>(() =>
    Promise.reject(new KaosError('internal', 'an effect source was started by XState')),
  )
}

/**
 * Checks the contract and makes a machine ready to be asked. Throws `machine_contract` with what to write instead.
 *
 * @param sources Texts that count as the machine's code, such as the files of its prompt builder; its own configuration always counts.
 */
export function registerMachine(options: {
  readonly name: string
  readonly logic: AnyStateMachine
  readonly toInput: Machine['toInput']
  readonly sources?: readonly string[]
}): Machine {
  const { name, logic } = options
  logic.options.maxIterations = ITERATIONS_MAX
  checkNode(name, logic, logic.root)
  const code = hashOf([codeText(logic.config), codeText(logic.implementations), ...(options.sources ?? [])])
  const sink = { actions: [] as RawAction[] }
  const self = createActor(logic) as unknown as AnyActor
  // A name in the system would outlive the decision that gave it, and the next one would fail on it.
  Object.assign(self.system, {
    _set(systemId: string) {
      throw refused(...useOf.systemId(systemId))
    },
  })
  const scope = {
    self,
    id: '',
    sessionId: '',
    system: self.system,
    logger() {},
    defer() {},
    emit() {},
    stopChild() {},
    actionExecutor: (action: unknown) => void sink.actions.push(action as RawAction),
  }
  return {
    name,
    id: `${name}@${code.slice(0, 16)}`,
    logic,
    toInput: options.toInput,
    scope: scope as unknown as Machine['scope'],
    sink,
  }
}

/** Decides a start. */
export function begin(machine: Machine, start: StartInput, at: number): Decision {
  return run(machine, undefined, new Set(), () =>
    machine.logic.getInitialSnapshot(machine.scope as never, machine.toInput(start, at) as never),
  )
}

/**
 * Decides what follows. `open` names the effects that are under way, without the one this event answers: a stop of anything else is
 * XState's bookkeeping and nobody's command.
 */
export function advance(
  machine: Machine,
  snapshot: Snapshot,
  event: MachineEvent,
  at: number,
  open: ReadonlySet<string>,
): Decision {
  return run(machine, snapshot, open, () =>
    machine.logic.transition(snapshot, toXState(event, at) as never, machine.scope as never),
  )
}

/** The part of a snapshot that counts when two are compared; XState's internals move with its version. */
export function comparable(snapshot: Snapshot | undefined): Json {
  if (!snapshot) return null
  const { status, value, context, output, error } = snapshot
  return {
    status,
    value,
    context,
    output: output ?? null,
    error: error === undefined ? null : toFailure(error, 'machine_failed'),
  } as unknown as Json
}

/** Forgets children that are not under way, or they would stay in the snapshot for ever. */
export function prune(snapshot: Snapshot, open: ReadonlySet<string>): void {
  for (const name of Object.keys(snapshot.children)) if (!open.has(name)) delete snapshot.children[name]
}

/** A snapshot as JSON. The input of children is left out: it repeats in every child what the entry that began it already holds. */
export function persist(machine: Machine, snapshot: Snapshot): Json {
  const persisted = machine.logic.getPersistedSnapshot(snapshot) as unknown as {
    children?: Record<string, { snapshot?: { input?: unknown } }>
  }
  const children = Object.entries(persisted.children ?? {}).map(([name, child]) => {
    const { input: _input, ...rest } = child.snapshot ?? {}
    return [name, { ...child, snapshot: rest }]
  })
  return { ...persisted, children: Object.fromEntries(children) } as unknown as Json
}

export function restore(machine: Machine, persisted: Json): Snapshot {
  return createActor(machine.logic, { snapshot: persisted as never }).getSnapshot() as Snapshot
}

function run(machine: Machine, before: Snapshot | undefined, open: ReadonlySet<string>, decide: () => Snapshot): Decision {
  machine.sink.actions = []
  try {
    const snapshot = decide()
    // XState keeps some throws in the snapshot.
    if (snapshot.status === 'error' && snapshot.error instanceof KaosError) throw snapshot.error
    const commands: Command[] = []
    const underWay = new Set(open)
    for (const action of machine.sink.actions) {
      const command = toCommand(action, underWay)
      if (command) commands.push(command)
    }
    checkChildren(before, snapshot, commands)
    return { snapshot, commands, outcome: outcomeOf(snapshot) }
  } catch (error) {
    const failure = toFailure(error, 'machine_failed')
    return {
      snapshot: undefined,
      commands: [],
      // Without the hash of the code: the entry must still be the same after the next deploy.
      outcome: { state: 'failed', failure: { ...failure, message: `machine "${machine.name}": ${failure.message}` } },
    }
  }
}

/** `underWay` follows what the actions before this one began and stopped. */
function toCommand(action: RawAction, underWay: Set<string>): Command | undefined {
  const { params } = action
  switch (action.type) {
    case 'xstate.spawnChild': {
      if (typeof params?.src !== 'string') throw refused(...useOf.inlineSource)
      if (!params.actorRef) throw refused(...useOf.unknownSource(params.src))
      if (params.id === undefined) throw refused(...useOf.noName(params.src))
      const as = params.actorRef.id
      if (underWay.has(as)) throw refused(...useOf.nameTwice(as))
      underWay.add(as)
      return { kind: 'start', effect: params.src, as, input: (params.input ?? null) as Json }
    }
    case 'xstate.stopChild': {
      const as = params?.id as string | undefined
      return as !== undefined && underWay.delete(as) ? { kind: 'stop', as } : undefined
    }
    case 'xstate.emit':
      return { kind: 'emit', event: (params?.event ?? null) as Json }
    case 'xstate.raise':
      if (params?.delay !== undefined) throw refused(...useOf.delay)
      return undefined
    case 'xstate.log':
    case 'xstate.cancel':
      return undefined
    default:
      throw refused(...useOf.action(action.type))
  }
}

/** A child without a command was made by spawn() inside assign: nothing would ever answer it. */
function checkChildren(before: Snapshot | undefined, after: Snapshot, commands: readonly Command[]): void {
  if (after.children === before?.children) return
  for (const name of Object.keys(after.children)) {
    if (before && name in before.children) continue
    if (!commands.some((command) => command.kind === 'start' && command.as === name)) {
      throw refused(`spawn() of "${name}" inside assign`, 'use enqueue.spawnChild or an invoke')
    }
  }
}

function outcomeOf(snapshot: Snapshot): Outcome | undefined {
  if (snapshot.status === 'error') return { state: 'failed', failure: failureOf(snapshot.error) }
  if (snapshot.status !== 'done') return undefined
  const state = (['failed', 'rejected', 'canceled'] as const).find((tag) => snapshot.tags.has(tag)) satisfies
    | OutcomeState
    | undefined
  const output = (snapshot.output ?? null) as Json
  return state ? { state, failure: failureOf(output) } : { state: 'completed', output }
}

function failureOf(error: unknown): Failure {
  if (isObject(error) && typeof error.code === 'string' && typeof error.message === 'string') return error as unknown as Failure
  return toFailure(error, 'machine_failed')
}

function toXState(event: MachineEvent, at: number): object {
  switch (event.kind) {
    case 'result':
      return { type: `xstate.done.actor.${event.as}`, output: event.value, actorId: event.as, usage: event.usage, at }
    case 'error':
      return { type: `xstate.error.actor.${event.as}`, error: event.failure, actorId: event.as, usage: event.usage, at }
    case 'signal':
      return { type: event.name, data: event.data, at }
  }
}

type AnyStateNode = StateNode<never, never, never, never>

function checkNode(name: string, logic: AnyStateMachine, node: unknown): void {
  const state = node as AnyStateNode & { invoke: readonly { src: string; systemId?: string }[] }
  for (const { src, systemId } of state.invoke) {
    if (src.startsWith('xstate.invoke.')) throw refusedAt(name, ...useOf.inlineSource)
    checkSource(name, logic, src, systemId)
  }
  const transitions = [...state.transitions.values()].flat()
  for (const { eventType } of transitions) {
    if (String(eventType).startsWith('xstate.after.'))
      throw refusedAt(name, `"after" in state "${state.id}"`, 'wait for an effect or a message')
  }
  const actions = [
    state.entry,
    state.exit,
    ...transitions.map((t) => t.actions),
    ...(state.always ?? []).map((t) => t.actions),
    state.initial?.actions ?? [],
  ].flat()
  for (const action of actions) checkAction(name, logic, action)
  for (const child of Object.values(state.states)) checkNode(name, logic, child)
}

function checkAction(name: string, logic: AnyStateMachine, action: unknown): void {
  if ((action as { type?: string })?.type?.startsWith('xstate.after.')) return
  const named = typeof action === 'string' ? action : isObject(action) ? String(action.type) : undefined
  const resolved = named === undefined ? action : (logic.implementations.actions as Record<string, unknown>)[named]
  const { type, src, id, systemId, delay } = (resolved ?? {}) as {
    type?: string
    src?: unknown
    id?: unknown
    systemId?: string
    delay?: unknown
  }
  if (type === undefined || !FREE_ACTIONS.has(type)) throw refusedAt(name, ...useOf.action(named ?? type ?? '(inline)'))
  if (type === 'xstate.raise' && delay !== undefined) throw refusedAt(name, ...useOf.delay)
  if (type !== 'xstate.spawnChild') return
  if (typeof src !== 'string') throw refusedAt(name, ...useOf.inlineSource)
  checkSource(name, logic, src, systemId)
  if (id === undefined) throw refusedAt(name, ...useOf.noName(src))
}

function checkSource(name: string, logic: AnyStateMachine, src: string, systemId: string | undefined): void {
  if (!Object.hasOwn(logic.implementations.actors, src)) throw refusedAt(name, ...useOf.unknownSource(src))
  if (systemId !== undefined) throw refusedAt(name, ...useOf.systemId(systemId))
}

type Use = readonly [what: string, instead: string]

/** What a durable machine may not use, and what to write instead. */
const useOf = {
  inlineSource: ['an inline source', 'name it in setup({ actors }) and invoke or spawn it by its name'],
  unknownSource: (src: string): Use => [`the source "${src}", which setup({ actors }) does not name`, 'add it there'],
  systemId: (systemId: string): Use => [`systemId "${systemId}"`, 'leave it out'],
  // XState would number it, and the number is another at the next decision.
  noName: (src: string): Use => [`spawnChild of "${src}" without an id`, 'give it an id'],
  nameTwice: (as: string): Use => [`the id "${as}" for two effects at once`, 'give each its own id'],
  delay: ['a delay', 'wait for an effect or a message'],
  action: (action: string): Use => [
    `the action "${action}"`,
    'make it an invoked effect; assign, raise, emit and enqueueActions are fine',
  ],
} as const satisfies Record<string, Use | ((text: string) => Use)>

function refused(what: string, instead: string): KaosError {
  return new KaosError('machine_contract', `${what} cannot be durable; ${instead}`)
}

function refusedAt(machine: string, what: string, instead: string): KaosError {
  return new KaosError('machine_contract', `machine "${machine}" uses ${what}; ${instead}`)
}

/** Configuration as text, functions by their source: what changes when somebody edits the machine. */
function codeText(value: unknown, seen = new Set<unknown>()): string {
  if (typeof value === 'function') return value.toString() + codeText({ ...value }, seen)
  if (value === null || typeof value !== 'object') return String(JSON.stringify(value))
  if (seen.has(value)) return '…'
  seen.add(value)
  const fields = Object.entries(value).map(([key, field]) => `${key}:${codeText(field, seen)}`)
  return `{${fields.join(',')}}`
}
