/** What an effect of a machine of your own may use of its task's limits. The built-in agent counts for itself; here the host does. */
import { KaosError } from '../../bus/wire/errors.ts'
import type { DoorLimits } from '../../bus/wire/message.ts'
import { delegationRefusal, shareOf } from '../agent/calls.ts'
import type { EffectCall } from '../effects/effect.ts'

/** Throws the limit that forbids an effect by mail. The same call is judged the same whenever it is looked at. */
export function checkAllowed({ agent, limits, path, begun }: EffectCall, peer: string | undefined): void {
  if (begun.siblings > limits.fanOut)
    throw new KaosError('fan_out_limit', `one decision asks for ${begun.siblings} effects; at most ${limits.fanOut} are allowed`)
  if (limits.toolCalls !== undefined && begun.toolCalls >= limits.toolCalls)
    throw new KaosError('tool_call_limit', `${begun.toolCalls} calls were made; at most ${limits.toolCalls} are allowed`)
  if (limits.tokens !== undefined && begun.tokens >= limits.tokens)
    throw new KaosError('token_limit', `${begun.tokens} tokens are used of ${limits.tokens}`)
  const failure = peer === undefined ? undefined : delegationRefusal(peer, [...path, agent], limits)
  if (failure) throw new KaosError(failure.code, failure.message)
}

/** What a child may use: an equal share of what was left when it was begun. */
export function shareOfCall({ limits, begun }: EffectCall): DoorLimits {
  const share = shareOf(limits, begun, begun.siblings + 1)
  // No task can be asked for with none.
  return share.tokens === 0 ? { ...share, tokens: 1 } : share
}
