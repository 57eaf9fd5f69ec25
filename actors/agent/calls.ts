/** What a model's reply asks for: each call is either carried out or answered at once with why it cannot be. */
import type { Limits } from '../../bus/wire/entry.ts'
import type { Failure } from '../../bus/wire/errors.ts'
import { isObject, isTooDeep, type Json } from '../../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../../bus/wire/limits.ts'
import type { DoorLimits } from '../../bus/wire/message.ts'
import type { ToolCall } from '../effects/chat.ts'
import type { ChatMessage } from './conversation.ts'
import { type AgentDefinition, delegateName } from './definition.ts'

/** Input of the effect `tool`. */
export interface ToolInput {
  readonly server: string
  readonly tool: string
  readonly arguments: Json
  /** Epoch ms after which the result is of no use. */
  readonly deadlineAt?: number
}

/** Input of the effect `delegate`. */
export interface DelegateInput {
  readonly peer: string
  readonly task: string
  readonly context: readonly ChatMessage[]
  readonly limits: DoorLimits
  readonly path: readonly string[]
}

export type PlannedCall =
  | { readonly as: string; readonly id: string; readonly effect: 'tool'; readonly input: ToolInput }
  | { readonly as: string; readonly id: string; readonly effect: 'delegate'; readonly input: DelegateInput }
  | { readonly as: string; readonly id: string; readonly effect: 'none'; readonly failure: Failure }

export interface Spent {
  readonly tokens: number
  readonly toolCalls: number
}

export interface Situation {
  readonly definition: AgentDefinition
  readonly limits: Limits
  /** Agents from the root down to and including this one. */
  readonly path: readonly string[]
  readonly round: number
  readonly spent: Spent
  /** What a peer is told of the conversation. */
  readonly context: readonly ChatMessage[]
}

/** Pairs every call of a reply with its effect. `as` names are unique over rounds, whatever ids the model invents. */
export function planCalls(calls: readonly ToolCall[], situation: Situation): readonly PlannedCall[] {
  const delegations = calls.filter((call) =>
    situation.definition.peers.some((peer) => delegateName(peer.name) === call.name),
  ).length
  const { deadlineAt } = situation.limits
  const deadline = deadlineAt === undefined ? {} : { deadlineAt }
  return calls.map((call, k) => {
    const as = `c${situation.round}-${k}`
    const { id } = call
    const refuse = (failure: Failure): PlannedCall => ({ as, id, effect: 'none', failure })

    const args = readArguments(call)
    if ('code' in args) return refuse(args)
    const peer = situation.definition.peers.find(({ name }) => delegateName(name) === call.name)
    if (peer) {
      const failure = taskMistake(peer.name, args.value) ?? delegationRefusal(peer.name, situation.path, situation.limits)
      if (failure) return refuse(failure)
      const { tokens, toolCalls } = situation.spent
      const limits = shareOf(situation.limits, { tokens, toolCalls: toolCalls + calls.length }, delegations + 1)
      if (limits.tokens === 0) {
        const message = `${tokens} of ${situation.limits.tokens} tokens are used: too few are left to hand any on`
        return refuse({ code: 'token_limit', message })
      }
      const task = (args.value as { task: string }).task
      const { context, path } = situation
      return { as, id, effect: 'delegate', input: { peer: peer.name, task, context, limits, path } }
    }
    const tool = situation.definition.tools.find(({ name }) => name === call.name)
    if (!tool) return refuse(unknownTool(call.name, situation.definition))
    return { as, id, effect: 'tool', input: { server: tool.server, tool: tool.tool, arguments: args.value, ...deadline } }
  })
}

/** The text that the model is given for a call's answer. */
export function answerText(value: Json): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

export function failureText(failure: Failure): string {
  return JSON.stringify({ error: { code: failure.code, message: failure.message } })
}

function readArguments(call: ToolCall): { readonly value: Json } | Failure {
  const text = call.arguments.trim() === '' ? '{}' : call.arguments
  if (isTooDeep(text)) {
    const message = `the arguments of "${call.name}" nest deeper than ${MESSAGE_LIMITS.jsonDepthMax} levels`
    return { code: 'bad_arguments', message }
  }
  try {
    const value = JSON.parse(text) as Json
    if (isObject(value)) return { value }
    return { code: 'bad_arguments', message: `the arguments of "${call.name}" are not a JSON object: ${text.slice(0, 200)}` }
  } catch (error) {
    return {
      code: 'bad_arguments',
      message: `the arguments of "${call.name}" are not valid JSON (${(error as Error).message}): ${text.slice(0, 200)}`,
    }
  }
}

function taskMistake(peer: string, args: Json): Failure | undefined {
  const task = (args as { task?: Json }).task
  if (typeof task === 'string' && task.trim() !== '') return undefined
  return {
    code: 'bad_arguments',
    message: `"${delegateName(peer)}" needs a field "task" with text; it was ${JSON.stringify(task ?? null).slice(0, 100)}`,
  }
}

/** Why an agent may not work on a task; `path` names those that do, from the root down. */
export function delegationRefusal(agent: string, path: readonly string[], { depth }: Pick<Limits, 'depth'>) {
  const chain = [...path, agent].join(' → ')
  if (path.includes(agent))
    return { code: 'delegation_cycle', message: `agent "${agent}" already works on this task: ${chain}` } as const
  if (path.length > depth) return { code: 'depth_limit', message: `delegations may nest ${depth} deep: ${chain}` } as const
  return undefined
}

function unknownTool(name: string, definition: AgentDefinition): Failure {
  const known = [...definition.tools.map((tool) => tool.name), ...definition.peers.map((peer) => delegateName(peer.name))]
  const list = known.length > 0 ? `there are: ${known.slice(0, 50).join(', ')}` : 'there are none'
  return { code: 'unknown_tool', message: `there is no tool "${name.slice(0, 100)}"; ${list}` }
}

/** What a child may use: one of `parts` equal shares of what is left. One share is kept, so that the tree cannot overspend. */
export function shareOf({ tokens, toolCalls, deadlineAt, depth, fanOut }: Limits, used: Spent, parts: number): DoorLimits {
  const part = (limit: number, spent: number) => Math.floor(Math.max(0, limit - spent) / parts)
  return {
    ...(tokens !== undefined && { tokens: part(tokens, used.tokens) }),
    ...(toolCalls !== undefined && { toolCalls: part(toolCalls, used.toolCalls) }),
    ...(deadlineAt !== undefined && { deadlineAt }),
    depth,
    fanOut,
  }
}
