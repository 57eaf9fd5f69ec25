/** What the scaler tells: numbers for metrics, and when a status has to follow. */
import { type AgentRef, agentKey } from '../broker/owner.ts'
import type { ScalingMeter, ScalingState, ScalingWhy } from '../scale/scaled-agent.ts'
import type { Metrics } from './metrics.ts'

/** A backlog breathes with every message; the status is told a new one so often at most. What scaling does is told at once. */
const BACKLOG_EVERY_MS = 15_000

/** Decides when a changed state of scaling, or a backlog alone, is worth a look at the agent or tool server. */
export class StateChanges {
  private readonly look: (key: string) => void
  private readonly told = new Map<string, string>()
  private readonly later = new Map<string, NodeJS.Timeout>()

  constructor(look: (key: string) => void) {
    this.look = look
  }

  note(agent: AgentRef, { active, replicas }: Pick<ScalingState, 'active'> & Partial<Pick<ScalingState, 'replicas'>>): void {
    const key = agentKey(agent)
    const said = `${active} ${replicas}`
    if (this.told.get(key) !== said) {
      this.told.set(key, said)
      this.cancel(key)
      this.look(key)
      return
    }
    if (this.later.has(key)) return
    const timer = setTimeout(() => {
      this.later.delete(key)
      this.look(key)
    }, BACKLOG_EVERY_MS).unref()
    this.later.set(key, timer)
  }

  /** Whether anything was told of it: before that, what the scaler says is only that it has not looked yet. */
  hasTold(agent: AgentRef): boolean {
    return this.told.has(agentKey(agent))
  }

  forget(agent: AgentRef): void {
    this.told.delete(agentKey(agent))
    this.cancel(agentKey(agent))
  }

  stop(): void {
    for (const key of [...this.later.keys()]) this.cancel(key)
  }

  private cancel(key: string): void {
    clearTimeout(this.later.get(key))
    this.later.delete(key)
  }
}

/** `onForgotten`: the agent is not scaled any more. */
export function scalingMeter(metrics: Metrics, onForgotten: (agent: AgentRef) => void): ScalingMeter {
  const backlogs = new Map<string, { readonly agent: AgentRef; readonly messages: number }>()
  metrics.gauge('kaos_agent_backlog', () =>
    [...backlogs.values()].map(({ agent, messages }) => [{ namespace: agent.namespace, agent: agent.name }, messages] as const),
  )
  return {
    backlog: (agent, messages) => void backlogs.set(agentKey(agent), { agent, messages }),
    scaled(_agent: AgentRef, from: number, to: number, why: ScalingWhy) {
      metrics.add('kaos_operator_scale_total', { direction: to > from ? 'up' : 'down', why })
    },
    woke: (_agent, latencyMs) => metrics.observe('kaos_operator_wake_seconds', latencyMs / 1_000),
    listed: (ms, ok) => metrics.observe('kaos_operator_backlog_list_seconds', ms / 1_000, { result: ok ? 'ok' : 'failed' }),
    forgot(agent) {
      backlogs.delete(agentKey(agent))
      onForgotten(agent)
    },
  }
}
