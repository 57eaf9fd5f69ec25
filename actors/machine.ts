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
} from 'xstate'
import type { Command, Outcome, OutcomeState, StartInput, Usage } from '../bus/wire/entry.ts'
import type { ErrorCode } from '../bus/wire/error-codes.ts'
import { type Failure, KaosError, toFailure } from '../bus/wire/errors.ts'
import type { Json } from '../bus/wire/json.ts'
import { freezeJson, hashOf, isObject, jsonMistake } from '../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../bus/wire/limits.ts'
import { checkContract, refused, timer, useOf } from './contract.ts'

export type Snapshot = AnyMachineSnapshot

/** A registered machine: its contract was checked, and it can be asked. */
export interface Machine {
  readonly name: string
  /** Name and hash of its code, as entries record it. */
  readonly id: string
  readonly logic: AnyStateMachine
  /** What the machine is given as XState input. */
  readonly toInput: (start: StartInput, at: number) => unknown
  readonly toEffect: ToEffect
  /** Whether it is somebody else's: then what it keeps and asks for is looked at after every decision. */
  readonly isForeign: boolean
  readonly scope: ActorScope<AnyMachineSnapshot, never>
  readonly sink: { actions: RawAction[] }
}

/** The effect of the host that a source of the machine stands for. */
export type ToEffect = (source: string, input: Json) => { readonly effect: string; readonly input: Json }

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
  /** Default: a source is the effect of its name. */
  readonly toEffect?: ToEffect
  readonly isForeign?: boolean
  readonly sources?: readonly string[]
}): Machine {
  const { name, logic } = options
  logic.options.maxIterations = ITERATIONS_MAX
  checkContract(name, logic)
  const code = hashOf([codeText(logic.config), codeText(logic.implementations), ...(options.sources ?? [])])
  const sink = { actions: [] as RawAction[] }
  const self = createActor(logic) as unknown as AnyActor
  // A name in the system would outlive the decision that gave it, and the next one would fail on it.
  Object.assign(self.system, {
    _set(systemId: string) {
      throw refused(...useOf.systemId(systemId))
    },
  })
  // What a machine is handed as `self` never runs: what it was sent would be lost, and its snapshot is that of no task.
  for (const use of ['send', 'getSnapshot', 'getPersistedSnapshot', 'subscribe', 'on', 'start', 'stop'])
    Object.assign(self, {
      [use]() {
        throw refused(...useOf.self(`${use}()`))
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
    toEffect: options.toEffect ?? ((effect, input) => ({ effect, input })),
    isForeign: options.isForeign ?? false,
    scope: scope as unknown as Machine['scope'],
    sink,
  }
}

/** Decides a start. */
export function begin(machine: Machine, start: StartInput, at: number): Decision {
  if (machine.isForeign) freezeJson(start)
  return run(machine, undefined, new Set(), '', () =>
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
  if (machine.isForeign) {
    freezeJson(event)
    freezeJson(snapshot.context)
  }
  const decision = run(machine, snapshot, open, event.kind === 'signal' ? ` at signal "${event.name}"` : '', () =>
    machine.logic.transition(snapshot, toXState(event, at) as never, machine.scope as never),
  )
  const isUnheard = decision.snapshot === snapshot && event.kind === 'signal' && event.name === 'cancel'
  return isUnheard ? { snapshot, commands: [], outcome: CANCELED } : decision
}

/** A machine that has no answer to `cancel` is canceled all the same. */
const CANCELED: Outcome = { state: 'canceled', failure: { code: 'canceled', message: 'the task was canceled' } }

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

function run(
  machine: Machine,
  before: Snapshot | undefined,
  open: ReadonlySet<string>,
  /** For a failure: at which event, where that says more than the machine. */
  at: string,
  decide: () => Snapshot,
): Decision {
  machine.sink.actions = []
  try {
    const snapshot = decide()
    // XState keeps some throws in the snapshot; what is no Error is the failure of an effect that nothing handles.
    if (snapshot.status === 'error' && snapshot.error instanceof Error) throw snapshot.error
    const commands: Command[] = []
    const underWay = new Set(open)
    for (const action of machine.sink.actions) {
      const command = toCommand(machine, action, underWay)
      if (command) commands.push(command)
    }
    checkChildren(before, snapshot, commands)
    if (machine.isForeign) checkJson(before, snapshot, commands)
    return { snapshot, commands, outcome: outcomeOf(snapshot) }
  } catch (error) {
    const failure = withCure(toFailure(error, 'machine_failed'))
    return {
      snapshot: undefined,
      commands: [],
      // Without the hash of the code: the entry must still be the same after the next deploy.
      outcome: { state: 'failed', failure: { ...failure, message: `machine "${machine.name}"${at}: ${failure.message}` } },
    }
  }
}

/** What the engine says of a change to what is frozen, whatever it is wrapped in. */
const IN_PLACE = /Cannot (assign to read only property|add property|delete property|define property)|object is not extensible/

function withCure(failure: Failure): Failure {
  if (failure.code !== 'machine_failed' || !IN_PLACE.test(failure.message)) return failure
  const why = 'it changes its context or an event in place; return a new value from assign'
  return { code: 'machine_impure' satisfies ErrorCode, message: `${why} (${failure.message})` }
}

/** `underWay` follows what the actions before this one began and stopped. */
function toCommand(machine: Machine, action: RawAction, underWay: Set<string>): Command | undefined {
  const { params } = action
  switch (action.type) {
    case 'xstate.spawnChild': {
      if (typeof params?.src !== 'string') throw refused(...useOf.inlineSource)
      if (!params.actorRef) throw refused(...useOf.unknownSource(params.src))
      if (params.id === undefined) throw refused(...useOf.noName(params.src))
      const as = params.actorRef.id
      if (underWay.has(as)) throw refused(...useOf.nameTwice(as))
      underWay.add(as)
      return { kind: 'start', as, ...machine.toEffect(params.src, (params.input ?? null) as Json) }
    }
    case 'xstate.stopChild': {
      const as = params?.id as string | undefined
      return as !== undefined && underWay.delete(as) ? { kind: 'stop', as } : undefined
    }
    case 'xstate.emit':
      return { kind: 'emit', event: (params?.event ?? null) as Json }
    case 'xstate.raise':
      if (params?.delay !== undefined) throw timer('the machine uses a raise with a delay')
      return undefined
    case 'xstate.log':
    case 'xstate.cancel':
      return undefined
    case 'xstate.sendTo':
      throw refused(...useOf.sendTo)
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
      // Without its name: XState numbers it, and the next fold would fail with another text.
      throw refused('spawn() inside assign', 'use enqueue.spawnChild or an invoke')
    }
  }
}

/** What is not JSON would be another thing after the next restart; what no journal holds would fail the turn again and again. */
function checkJson(before: Snapshot | undefined, after: Snapshot, commands: readonly Command[]): void {
  const kept = before?.context === after.context ? undefined : after.context
  const mistake =
    jsonMistake(kept, 'context') ??
    jsonMistake(after.output, 'output') ??
    jsonMistake(commands.map(inputOf), 'input of an effect')
  if (mistake !== undefined) {
    const instead = 'keep to plain objects, lists, texts, numbers, true, false and null'
    throw new KaosError('machine_contract', `${mistake}, which no journal can hold; ${instead}`)
  }
  checkSize(kept, 'context')
  checkSize(after.output, 'output')
  for (const command of commands) checkSize(inputOf(command), 'input of an effect')
}

function checkSize(value: unknown, what: string): void {
  const bytesMax = MESSAGE_LIMITS.journalBodyBytesMax
  if (charsOf(value) * BYTES_PER_CHAR_MAX <= bytesMax) return
  const bytes = Buffer.byteLength(JSON.stringify(value))
  if (bytes <= bytesMax) return
  const cure = 'keep what is large elsewhere, and a reference to it here'
  throw new KaosError('payload_too_large', `its ${what} has ${bytes} bytes; at most ${bytesMax} are allowed; ${cure}`)
}

/** A control character, as JSON writes it. */
const BYTES_PER_CHAR_MAX = 6

/** About as many as its text has; a look at every value, which is far cheaper than writing it. */
function charsOf(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (typeof value !== 'object' || value === null) return SCALAR_CHARS
  let chars = 2
  for (const [key, field] of Object.entries(value)) chars += key.length + charsOf(field) + SEPARATOR_CHARS
  return chars
}

const SCALAR_CHARS = 8
const SEPARATOR_CHARS = 4

function inputOf(command: Command): unknown {
  return command.kind === 'start' ? command.input : command.kind === 'emit' ? command.event : null
}

function outcomeOf(snapshot: Snapshot): Outcome | undefined {
  if (snapshot.status === 'error')
    return { state: 'failed', failure: failureOf(snapshot.error, 'machine_failed', 'it threw nothing') }
  if (snapshot.status !== 'done') return undefined
  const state = (['failed', 'rejected', 'canceled'] as const).find((tag) => snapshot.tags.has(tag)) satisfies
    | OutcomeState
    | undefined
  const output = (snapshot.output ?? null) as Json
  if (!state) return { state: 'completed', output }
  return { state, failure: failureOf(output, CODES[state], `it ended in state ${JSON.stringify(snapshot.value)}`) }
}

/** Of a machine whose final state says how it ended and whose output says no more. */
const CODES = { failed: 'machine_failed', rejected: 'machine_rejected', canceled: 'canceled' } as const

/** A failure as it is; of anything else its text, and of nothing what is known. */
function failureOf(error: unknown, code: ErrorCode, otherwise: string): Failure {
  if (isObject(error) && typeof error.code === 'string' && typeof error.message === 'string') return error as unknown as Failure
  if (error === null || error === undefined || error === '') return { code, message: otherwise }
  return error instanceof Error || typeof error !== 'object' ? toFailure(error, code) : { code, message: JSON.stringify(error) }
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

/** Configuration as text, functions by their source: what changes when somebody edits the machine. */
function codeText(value: unknown, seen = new Set<unknown>()): string {
  if (typeof value === 'function') return value.toString() + codeText({ ...value }, seen)
  if (value === null || typeof value !== 'object') return typeof value === 'string' ? JSON.stringify(value) : String(value)
  if (seen.has(value)) return '…'
  seen.add(value)
  const fields = Object.entries(value).map(([key, field]) => `${key}:${codeText(field, seen)}`)
  return `{${fields.join(',')}}`
}
