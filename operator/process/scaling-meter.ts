/** What the scaler tells, as metrics. */
import { type ResourceRef, refKey } from '../broker/owner.ts'
import type { ScalingMeter, ScalingWhy } from '../scale/scaled-agent.ts'
import type { Metrics } from './metrics.ts'

/** `onForgotten`: the agent is not scaled any more. */
export function scalingMeter(metrics: Metrics, onForgotten: (agent: ResourceRef) => void): ScalingMeter {
  const backlogs = new Map<string, { readonly agent: ResourceRef; readonly messages: number }>()
  metrics.gauge('kaos_agent_backlog', () =>
    [...backlogs.values()].map(({ agent, messages }) => [{ namespace: agent.namespace, agent: agent.name }, messages] as const),
  )
  return {
    backlog(agent, messages) {
      if (messages === undefined) backlogs.delete(refKey(agent))
      else backlogs.set(refKey(agent), { agent, messages })
    },
    scaled(_agent: ResourceRef, from: number, to: number, why: ScalingWhy) {
      metrics.add('kaos_operator_scale_total', { direction: to > from ? 'up' : 'down', why })
    },
    woke: (_agent, latencyMs) => metrics.observe('kaos_operator_wake_seconds', latencyMs / 1_000),
    listed: (ms, ok) => metrics.observe('kaos_operator_backlog_list_seconds', ms / 1_000, { result: ok ? 'ok' : 'failed' }),
    forgot(agent) {
      backlogs.delete(refKey(agent))
      onForgotten(agent)
    },
  }
}
