/**
 * What a durable machine may not use, found when it is loaded: whatever would act outside of an effect, could not be answered by a message, or
 * would never come to rest. Each refusal says what to write instead.
 */
import type { AnyStateMachine, StateNode } from 'xstate'
import { KaosError } from '../bus/wire/errors.ts'
import { isObject } from '../bus/wire/json.ts'

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

/** Throws `machine_contract`, or `machine_timer_unsupported` for whatever waits for the clock. */
export function checkContract(name: string, logic: AnyStateMachine): void {
  checkNode(name, logic, logic.root)
  // Those that only enqueueActions names show nowhere else before they are reached.
  for (const action of Object.keys(logic.implementations.actions)) checkAction(name, logic, action)
  checkCycles(name, logic)
}

type AnyStateNode = StateNode<never, never, never, never>

function checkNode(name: string, logic: AnyStateMachine, node: unknown): void {
  const state = node as AnyStateNode & { invoke: readonly { src: string; systemId?: string; onSnapshot?: unknown }[] }
  for (const { src, systemId, onSnapshot } of state.invoke) {
    if (src.startsWith('xstate.invoke.')) throw refusedAt(name, ...useOf.inlineSource)
    if (onSnapshot !== undefined) throw refusedAt(name, ...useOf.snapshots(src))
    checkSource(name, logic, src, systemId)
  }
  const transitions = [...state.transitions.values()].flat()
  for (const { eventType } of transitions) {
    if (String(eventType).startsWith('xstate.after.')) throw timer(`machine "${name}" uses "after" in state "${state.id}"`)
  }
  for (const { guard } of [...transitions, ...(state.always ?? [])]) checkGuard(name, logic, guard)
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
  const given: Record<string, unknown> = logic.implementations.actions
  if (named !== undefined && !Object.hasOwn(given, named)) throw refusedAt(name, ...useOf.unnamedAction(named))
  const resolved = named === undefined ? action : given[named]
  const { type, src, id, systemId, delay, syncSnapshot } = (resolved ?? {}) as {
    type?: string
    src?: unknown
    id?: unknown
    systemId?: string
    delay?: unknown
    syncSnapshot?: boolean
  }
  if (type === 'xstate.sendTo') throw refusedAt(name, ...useOf.sendTo)
  if (type === undefined || !FREE_ACTIONS.has(type)) throw refusedAt(name, ...useOf.action(named ?? type ?? '(inline)'))
  if (type === 'xstate.raise' && delay !== undefined) throw timer(`machine "${name}" uses a raise with a delay`)
  if (type !== 'xstate.spawnChild') return
  if (typeof src !== 'string') throw refusedAt(name, ...useOf.inlineSource)
  checkSource(name, logic, src, systemId)
  if (id === undefined) throw refusedAt(name, ...useOf.noName(src))
  if (syncSnapshot) throw refusedAt(name, ...useOf.snapshots(src))
}

/** XState looks a guard up when it is needed, which may be after days. */
function checkGuard(name: string, logic: AnyStateMachine, guard: unknown): void {
  const { guards = [] } = (guard ?? {}) as { readonly guards?: readonly unknown[] }
  if (typeof guard === 'function') for (const part of guards) checkGuard(name, logic, part)
  const named = typeof guard === 'string' ? guard : isObject(guard) ? String(guard.type) : undefined
  if (named !== undefined && !Object.hasOwn(logic.implementations.guards, named))
    throw refusedAt(name, ...useOf.unnamedGuard(named))
}

function checkSource(name: string, logic: AnyStateMachine, src: string, systemId: string | undefined): void {
  if (!Object.hasOwn(logic.implementations.actors, src)) throw refusedAt(name, ...useOf.unknownSource(src))
  if (systemId !== undefined) throw refusedAt(name, ...useOf.systemId(systemId))
}

/** Follows what no guard can stop. Cycles with guards end or not by what the context says: those are caught when they run. */
function checkCycles(name: string, logic: AnyStateMachine): void {
  const seen = new Set<AnyStateNode>()
  const check = (node: AnyStateNode): void => {
    const path: AnyStateNode[] = []
    for (let at: AnyStateNode | undefined = node; at && !seen.has(at); at = leftAtOnce(at)) {
      if (path.includes(at)) {
        const ids = [...path.slice(path.indexOf(at)), at].map(({ id }) => `"${id}"`)
        throw refusedAt(name, `an eventless cycle (${ids.join(' → ')})`, 'give one of its "always" a guard or wait for an effect')
      }
      path.push(at)
    }
    for (const each of path) seen.add(each)
    for (const child of Object.values(node.states)) check(child as AnyStateNode)
  }
  check(logic.root as unknown as AnyStateNode)
}

/** Where an entered state goes on to without any event and without a choice. Itself, where an `always` names no target. */
function leftAtOnce(entered: AnyStateNode): AnyStateNode | undefined {
  let leaf = entered
  while (leaf.type === 'compound') leaf = leaf.initial.target[0] as unknown as AnyStateNode
  for (let node: AnyStateNode | undefined = leaf; node; node = node.parent as AnyStateNode | undefined) {
    const [first] = node.always ?? []
    if (first) return first.guard ? undefined : ((first.target?.[0] as AnyStateNode | undefined) ?? node)
    if (node.type === 'parallel') return undefined
  }
  return undefined
}

type Use = readonly [what: string, instead: string]

/** What a durable machine may not use, and what to write instead. */
export const useOf = {
  inlineSource: ['an inline source', 'name it in setup({ actors }) and invoke or spawn it by its name'],
  unknownSource: (src: string): Use => [`the source "${src}", which setup({ actors }) does not name`, 'add it there'],
  unnamedAction: (action: string): Use => [`the action "${action}", which setup({ actions }) does not name`, 'add it there'],
  unnamedGuard: (guard: string): Use => [`the guard "${guard}", which setup({ guards }) does not name`, 'add it there'],
  snapshots: (src: string): Use => [
    `snapshots of "${src}" (onSnapshot, syncSnapshot)`,
    'an effect has none: take its answer in onDone, its failure in onError',
  ],
  sendTo: [
    'sendTo',
    'an effect takes its input and nothing later; to move this machine on use raise, to tell somebody use an effect or emit',
  ],
  self: (use: string): Use => [`self.${use}`, 'the event and the context are all there is; to move the machine on use raise'],
  systemId: (systemId: string): Use => [`systemId "${systemId}"`, 'leave it out'],
  // XState would number it, and the number is another at the next decision.
  noName: (src: string): Use => [`spawnChild of "${src}" without an id`, 'give it an id'],
  nameTwice: (as: string): Use => [`the id "${as}" for two effects at once`, 'give each its own id'],
  action: (action: string): Use => [
    `the action "${action}"`,
    'make it an invoked effect; assign, raise, emit and enqueueActions are fine',
  ],
} as const satisfies Record<string, Use | ((text: string) => Use)>

export function refused(what: string, instead: string): KaosError {
  return new KaosError('machine_contract', `${what} cannot be durable; ${instead}`)
}

/** Durable timers are not there yet; a clock of the process would be forgotten with it. */
export function timer(what: string): KaosError {
  const instead = 'wait for an effect or a message (a local effect has timeoutSeconds)'
  return new KaosError('machine_timer_unsupported', `${what}, and there are no durable timers yet; ${instead}`)
}

function refusedAt(machine: string, what: string, instead: string): KaosError {
  return new KaosError('machine_contract', `machine "${machine}" uses ${what}; ${instead}`)
}
