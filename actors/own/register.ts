/** Takes a machine of your own into the contract: what it names must be effects of this project, to servers and agents that are declared. */
import type { AnyStateMachine } from 'xstate'
import { KaosError } from '../../bus/wire/errors.ts'
import { isObject } from '../../bus/wire/json.ts'
import { type Machine, registerMachine, type ToEffect } from '../machine.ts'
import { declarationOf, type EffectDeclaration, toEffect } from './effects.ts'

/** What the machine names in `setup({ actors })`, by the names it has there. */
type Declarations = ReadonlyMap<string, EffectDeclaration>

export interface OwnMachine {
  readonly machine: Machine
  readonly declarations: Declarations
}

/**
 * The task's input is the machine's input. Throws `machine_contract` or `machine_timer_unsupported` with what to write instead.
 *
 * @param options.source Text of the machine's file: with it an edit shows in the machine's id.
 * @param options.isPlain The commands keep the machine's own words, as tests read them.
 */
export function registerOwnMachine(
  name: string,
  logic: unknown,
  options: { readonly source?: string; readonly isPlain?: boolean } = {},
): OwnMachine {
  if (!isMachine(logic))
    throw new KaosError(
      'machine_contract',
      `machine "${name}" is no XState machine${isPromise(logic) ? ' but a promise; await it' : ''}; make it with setup({ … }).createMachine({ … })`,
    )
  // Without them an eventless cycle would stop the whole process.
  if (!isObject(logic.options))
    throw new KaosError(
      'machine_contract',
      `machine "${name}" was made with a copy of XState that is older than 5.33; in the folder of its file: npm install xstate@^5.33.0`,
    )
  const declarations = declarationsOf(name, logic)
  const effectOf: ToEffect = (source, input) => toEffect(source, declarations.get(source)!, input)
  const code = [...declarations].map(
    ([source, it]) => `${source} ${JSON.stringify(it)} ${it.kind === 'local' ? it.run.toString() : ''}`,
  )
  const machine = registerMachine({
    name,
    logic,
    toInput: ({ input }) => input,
    sources: [...code, options.source ?? ''],
    isForeign: true,
    ...(options.isPlain ? {} : { toEffect: effectOf }),
  })
  return { machine, declarations }
}

/** Throws `machine_contract` when the manifest does not grant what the machine asks for: there would be no stream to ask on. */
export function checkDeclared(
  { machine, declarations }: OwnMachine,
  granted: { readonly servers: readonly string[]; readonly agents: readonly string[]; readonly hasModel: boolean },
): void {
  for (const [source, declaration] of declarations) {
    const refuse = (what: string, cure: string): never => {
      throw new KaosError(
        'machine_contract',
        `machine "${machine.name}": "${source}" asks ${what}, which its agent does not declare; ${cure}`,
      )
    }
    if (declaration.kind === 'tool' && !granted.servers.includes(declaration.server))
      refuse(`tool server "${declaration.server}"`, `add it to spec.mcpServers (${granted.servers.join(', ') || 'empty'})`)
    if (declaration.kind === 'delegate' && !granted.agents.includes(declaration.agent))
      refuse(`agent "${declaration.agent}"`, `add it to spec.agentNetwork.access (${granted.agents.join(', ') || 'empty'})`)
    if (declaration.kind === 'model' && !granted.hasModel) refuse('a model', 'add spec.modelAPI and spec.model')
  }
}

function declarationsOf(name: string, logic: AnyStateMachine): Declarations {
  const found = Object.entries(logic.implementations.actors).map(([source, made]) => {
    const declaration = declarationOf(made)
    if (declaration) return [source, declaration] as const
    const cure = 'make it with local(async ({ input }) => …), tool(server, name), delegate(agent) or model() of "kaos-actors"'
    throw new KaosError(
      'machine_contract',
      `machine "${name}": nothing that survives a restart stands behind the source "${source}"; ${cure}`,
    )
  })
  return new Map(found)
}

function isPromise(logic: unknown): boolean {
  return typeof (logic as PromiseLike<unknown> | null | undefined)?.then === 'function'
}

/** By its shape: the machine may come from another copy of XState than ours. */
function isMachine(logic: unknown): logic is AnyStateMachine {
  const it = logic as Partial<AnyStateMachine> | null | undefined
  return (
    typeof it?.getInitialSnapshot === 'function' &&
    typeof it.transition === 'function' &&
    isObject(it.config) &&
    it.root !== undefined
  )
}
