/**
 * The effects that a machine of your own names in `setup({ actors })`. Each is a typed source that XState never runs: the host carries it
 * out, journals its answer, and the machine gets it as `event.output`. What is under way survives the death of any process.
 */
import type { PromiseActorLogic } from 'xstate'
import { localEffectName } from '../../bus/wire/entry.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Json } from '../../bus/wire/json.ts'
import { effectSource } from '../machine.ts'

/** What a source stands for. */
export type EffectDeclaration =
  | { readonly kind: 'tool'; readonly server: string; readonly tool: string }
  | { readonly kind: 'delegate'; readonly agent: string }
  | { readonly kind: 'model' }
  | { readonly kind: 'local'; readonly run: LocalRun; readonly timeoutSeconds: number }

/** What a local effect is given. */
export interface LocalContext<Input = unknown> {
  readonly input: Input
  /** The effect's id: the same when it runs again after a crash. Hand it on to whatever must not happen twice. */
  readonly idempotencyKey: string
  /** Aborted when the answer is not needed any more, or the time is over. */
  readonly signal: AbortSignal
  /** W3C trace context whose span is this effect: for requests of your own. */
  readonly traceparent: string
  readonly tracestate?: string
  /**
   * Runs a function as a span of its own below this effect, or below the span that it is called in, and returns what the function returns. The span
   * ends when the function does, for a promise when it settles; what is thrown is thrown on. Without telemetry it only runs the function. The
   * name is the same each time, of 1 to 128 characters; else it throws `span_name`.
   *
   * @example
   * const price = await span('look up the price', () => fetch(url, { headers: { traceparent } }))
   */
  span<T>(name: string, run: () => T): T
}

type LocalRun = (context: LocalContext<never>) => unknown

/** Input of the effect `model`. */
export type ModelQuestion = {
  /** Instructions; absent: the model is told nothing but the prompt. */
  readonly system?: string
  /** Absent: as the agent's modelSettings say. */
  readonly temperature?: number
  readonly maxTokens?: number
} & (
  | { readonly prompt: string }
  | { readonly messages: readonly { readonly role: 'system' | 'user' | 'assistant'; readonly content: string }[] }
)

export interface ModelAnswer {
  readonly text: string
  /** `stop`, or `length` when it ran into maxTokens. */
  readonly finishReason: string
  /** The model that answered, in its own words. */
  readonly model: string
}

/** Longest time of a local effect that states none. */
const LOCAL_TIMEOUT_SECONDS = 60

/** What takes longer belongs to an agent or a tool server: a host that works on it cannot be replaced meanwhile without running it again. */
const LOCAL_TIMEOUT_SECONDS_MAX = 86_400

/** Two copies of this package in one process know each other's effects. */
const DECLARATION = Symbol.for('kaos-actors.effect')

/**
 * A tool of an MCPServer that the agent's `spec.mcpServers` names. `event.output` is what it answered: structured content, or its text. It
 * runs in the server's process; after a crash it is run again only if it declares itself idempotent or read-only, else the machine gets the
 * error `indeterminate`.
 */
export function toolOf<Input, Output>(server: string, tool: string): PromiseActorLogic<Output, Input> {
  for (const [what, given] of Object.entries({ server, tool }))
    if (typeof given !== 'string' || given === '')
      throw new KaosError(
        'machine_contract',
        `tool(server, name): the ${what === 'tool' ? 'name' : what} is ${shown(given)}; give a text`,
      )
  return declare({ kind: 'tool', server, tool })
}

/**
 * A task for another agent, one that `spec.agentNetwork.access` names. `event.output` is its answer, which may take days: nothing waits
 * meanwhile. A task that fails there is an error here.
 */
export function delegate<Input, Output>(agent: string): PromiseActorLogic<Output, Input> {
  if (typeof agent !== 'string' || agent === '')
    throw new KaosError('machine_contract', `delegate(agent): the agent is ${shown(agent)}; give its name`)
  return declare({ kind: 'delegate', agent })
}

/** One call to the agent's model (`spec.modelAPI` and `spec.model`). After a crash it may be made again, under the same idempotency key. */
export function model(): PromiseActorLogic<ModelAnswer, ModelQuestion> {
  return declare({ kind: 'model' })
}

/**
 * A function that runs in the agent's host. After a crash it runs again with the same `idempotencyKey`. What it returns must be JSON; it is
 * copied, as is the input. A throw is an error to the machine (`onError`): `event.error` is `{ code: 'effect_failed', message, details? }`,
 * with the error's own code in `details.code` if it has one. Past `timeoutSeconds` (default 60, at most a day) the code is `effect_timeout`,
 * past the time of the task `time_limit`.
 *
 * It shares its process with every other task. Code that computes without a pause for more than a second stops them all, and after four
 * another host takes the process for dead and runs the function again: give such work to a worker thread or to a tool. A promise that is left
 * to itself and rejects, or a throw in a timer, is logged under the effect's name and does no more harm.
 */
export function local<Input, Output>(
  run: (context: LocalContext<Input>) => Output | Promise<Output>,
  options: { readonly timeoutSeconds?: number } = {},
): PromiseActorLogic<Output, Input> {
  const { timeoutSeconds = LOCAL_TIMEOUT_SECONDS } = options
  if (typeof run !== 'function') throw new KaosError('machine_contract', `local(run): run is ${shown(run)}; give a function`)
  if (!(timeoutSeconds > 0 && timeoutSeconds <= LOCAL_TIMEOUT_SECONDS_MAX))
    throw new KaosError(
      'machine_contract',
      `local(run, { timeoutSeconds }): it is ${shown(timeoutSeconds)}; give a number above 0 and at most ${LOCAL_TIMEOUT_SECONDS_MAX}, a day`,
    )
  return declare({ kind: 'local', run: run as LocalRun, timeoutSeconds })
}

/** What a source of a machine declares; undefined for anything that was not made here. */
export function declarationOf(source: unknown): EffectDeclaration | undefined {
  if (source === null || typeof source !== 'object') return undefined
  return (source as { readonly [DECLARATION]?: EffectDeclaration })[DECLARATION]
}

/** How an effect stands in an entry: the same as those of the agent of this project, so that traces and replay need not tell them apart. */
export function toEffect(
  source: string,
  declaration: EffectDeclaration,
  input: Json,
): { readonly effect: string; readonly input: Json } {
  switch (declaration.kind) {
    case 'tool':
      return { effect: 'tool', input: { server: declaration.server, tool: declaration.tool, arguments: input ?? {} } }
    case 'delegate':
      return { effect: 'delegate', input: { peer: declaration.agent, task: input } }
    case 'model':
      return { effect: 'model', input: { request: requestOf(input as unknown as ModelQuestion) } }
    case 'local':
      return { effect: localEffectName(source), input }
  }
}

function requestOf(question: ModelQuestion): Json {
  const { system, temperature, maxTokens } = question
  const said = 'messages' in question ? question.messages : [{ role: 'user' as const, content: question.prompt }]
  const messages = [...(system === undefined ? [] : [{ role: 'system' as const, content: system }]), ...said]
  return {
    messages: messages as unknown as Json,
    ...(temperature !== undefined && { temperature }),
    ...(maxTokens !== undefined && { max_tokens: maxTokens }),
  }
}

function shown(given: unknown): string {
  return typeof given === 'string' ? `"${given}"` : String(given)
}

function declare<Output, Input>(declaration: EffectDeclaration): PromiseActorLogic<Output, Input> {
  // Not enumerable state of XState: it copies machines with `provide`, never their sources.
  return Object.assign(effectSource<Output, Input>(), { [DECLARATION]: declaration })
}
