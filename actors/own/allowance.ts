/** What an effect of a machine of your own may use of its task's limits. The built-in agent counts for itself; here the host does. */
import type { Limits } from '../../bus/wire/entry.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { DoorLimits } from '../../bus/wire/message.ts'
import type { EffectCall } from '../effects/effect.ts'

/** Throws the limit that forbids an effect by mail. The same call is judged the same whenever it is looked at. */
export function checkAllowed({ agent, limits, path, begun }: EffectCall, peer: string | undefined): void {
  const chain = [...path, agent]
  if (begun.siblings > limits.fanOut)
    throw new KaosError('fan_out_limit', `one decision asks for ${begun.siblings} effects; at most ${limits.fanOut} are allowed`)
  if (limits.toolCalls !== undefined && begun.toolCalls >= limits.toolCalls)
    throw new KaosError('tool_call_limit', `${begun.toolCalls} calls were made; at most ${limits.toolCalls} are allowed`)
  if (limits.tokens !== undefined && begun.tokens >= limits.tokens)
    throw new KaosError('token_limit', `${begun.tokens} tokens are used of ${limits.tokens}`)
  if (peer === undefined) return
  if (chain.includes(peer))
    throw new KaosError('delegation_cycle', `agent "${peer}" already works on this task: ${[...chain, peer].join(' → ')}`)
  if (chain.length > limits.depth)
    throw new KaosError('depth_limit', `delegations may nest ${limits.depth} deep: ${[...chain, peer].join(' → ')}`)
}

/** What a child may use: an equal share of what was left when it was begun, one share kept, so that the tree cannot overspend. */
export function shareOf({ limits, begun }: EffectCall): DoorLimits {
  const part = (limit: number, used: number) => Math.floor(Math.max(0, limit - used) / (begun.siblings + 1))
  const { tokens, toolCalls, deadlineAt, depth, fanOut }: Limits = limits
  return {
    ...(tokens !== undefined && { tokens: Math.max(1, part(tokens, begun.tokens)) }),
    ...(toolCalls !== undefined && { toolCalls: part(toolCalls, begun.toolCalls) }),
    ...(deadlineAt !== undefined && { deadlineAt }),
    depth,
    fanOut,
  }
}
