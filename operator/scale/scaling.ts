/** How many pods an agent should have: a pure function of its backlog, its bounds and what was seen before. Clock and broker stay outside. */
import { DELIVERY_LIMITS } from '../../bus/wire/limits.ts'
import type { Scaling } from '../../manifests/kinds/scaling.ts'

export const SCALING_LIMITS = {
  /** Down only to the highest recommendation of so long, and only one change in so long. */
  downWindowMs: 60_000,
  /** In each such period up by at most `upStepMin` pods or by `upFactor` times, whichever is more; not limited from zero. */
  upPeriodMs: 15_000,
  upStepMin: 4,
  upFactor: 2,
  /** A backlog that differs by no more than this from what the pods are meant for changes nothing. */
  tolerance: 0.1,
  /** More pods than this find nothing to pull: the broker hands out no more messages of one agent at a time. */
  replicasUseful: Math.ceil(DELIVERY_LIMITS.ackPendingMax / Math.max(DELIVERY_LIMITS.mailSlots, DELIVERY_LIMITS.taskSlots)),
} as const

/** As declared in `spec.scaling`. */
export type ScalingSettings = Omit<Scaling, 'scaler'>

export interface Look {
  /** Messages that wait or are in hand. */
  readonly backlog: number
  /** Pods that are asked for now, ready or not. */
  readonly current: number
  /** Milliseconds of a clock that never goes back. */
  readonly now: number
}

/** What is remembered of one agent, newest last. */
export interface ScalingHistory {
  /** Recommendations within the down window, falling. */
  readonly recommended: readonly { readonly at: number; readonly replicas: number }[]
  /** Pods that were added within the up period. */
  readonly added: readonly { readonly at: number; readonly replicas: number }[]
  /** When there was backlog last, or when the looking began. */
  readonly busyAt: number
  /** When pods were taken away last. */
  readonly loweredAt: number
}

export const SCALING_REASONS = [
  /** The count is right. */
  'Steady',
  /** More mail than the pods are meant for. */
  'BacklogGrew',
  'BacklogFell',
  /** From zero. */
  'WokenUp',
  'ScaledToZero',
  /** Nothing to do, but not for long enough to sleep. */
  'CoolingDown',
  /** Fewer pods would do, but not for long enough. */
  'Stabilizing',
  /** More pods are wanted; they come in steps. */
  'RateLimited',
  'AtMaximum',
  'AtMinimum',
] as const
export type ScalingReason = (typeof SCALING_REASONS)[number]

export interface Decision {
  readonly replicas: number
  readonly why: ScalingReason
  /** With this look in it. That the count was changed is added by `noteChange`, once it was. */
  readonly history: ScalingHistory
}

/** Of somebody who has just begun to look: nothing is taken away before a whole window has been seen. */
export function beginHistory(current: number, now: number): ScalingHistory {
  return { recommended: [{ at: now, replicas: current }], added: [], busyAt: now, loweredAt: Number.NEGATIVE_INFINITY }
}

/** The count was changed. */
export function noteChange(history: ScalingHistory, from: number, to: number, now: number): ScalingHistory {
  if (to < from) return { ...history, loweredAt: now }
  return { ...history, added: [...history.added, { at: now, replicas: to - from }] }
}

export function decide(look: Look, settings: ScalingSettings, history: ScalingHistory): Decision {
  const { backlog, current, now } = look
  const min = settings.minReplicas
  const max = Math.max(min, Math.min(settings.maxReplicas, SCALING_LIMITS.replicasUseful))
  const floor = backlog > 0 ? Math.max(min, 1) : min
  const needed = isNear(look, settings) ? current : Math.ceil(backlog / settings.targetBacklogPerReplica)
  const wanted = clamp(needed, floor, max)
  const seen: ScalingHistory = {
    // Only the highest of the window is asked for, so what is not above a later one can go.
    recommended: [
      ...within(history.recommended, now - SCALING_LIMITS.downWindowMs).filter(({ replicas }) => replicas > wanted),
      { at: now, replicas: wanted },
    ],
    added: within(history.added, now - SCALING_LIMITS.upPeriodMs),
    busyAt: backlog > 0 ? now : history.busyAt,
    loweredAt: history.loweredAt,
  }
  const answer = (replicas: number, why: ScalingReason): Decision => ({ replicas, why, history: seen })

  if (current > max) return answer(max, 'AtMaximum')
  if (current === 0 && wanted > 0) return answer(wanted, backlog > 0 ? 'WokenUp' : 'AtMinimum')
  if (current < min) return answer(min, 'AtMinimum')
  if (wanted > current) {
    const limit = upLimit(current, seen)
    if (wanted > limit) return answer(Math.max(limit, current), 'RateLimited')
    return answer(wanted, wanted < needed ? 'AtMaximum' : 'BacklogGrew')
  }
  if (wanted === current) return answer(current, steadyReason(needed, wanted, max))
  if (backlog === 0 && min === 0 && now - seen.busyAt >= settings.cooldownSeconds * 1_000) return answer(0, 'ScaledToZero')
  return lower()

  function lower(): Decision {
    // The last pod goes after the cooldown, not after the window.
    const target = Math.max(1, ...seen.recommended.map(({ replicas }) => replicas))
    if (target < current && now - seen.loweredAt >= SCALING_LIMITS.downWindowMs) return answer(target, 'BacklogFell')
    return answer(current, backlog === 0 && current === 1 ? 'CoolingDown' : 'Stabilizing')
  }
}

/** Whether the backlog is about what the pods are meant for. */
function isNear({ backlog, current }: Look, { targetBacklogPerReplica }: ScalingSettings): boolean {
  const meant = current * targetBacklogPerReplica
  return backlog > 0 && Math.abs(backlog - meant) <= meant * SCALING_LIMITS.tolerance
}

/** Counted from what there was when the period began; an agent that slept then may have as many as it needs. */
function upLimit(current: number, { added }: ScalingHistory): number {
  const before = current - added.reduce((sum, { replicas }) => sum + replicas, 0)
  if (before <= 0) return Number.POSITIVE_INFINITY
  return Math.max(before + SCALING_LIMITS.upStepMin, before * SCALING_LIMITS.upFactor)
}

function steadyReason(needed: number, wanted: number, max: number): ScalingReason {
  if (needed > max) return 'AtMaximum'
  return needed < wanted && wanted > 1 ? 'AtMinimum' : 'Steady'
}

const within = <T extends { readonly at: number }>(list: readonly T[], after: number): readonly T[] =>
  list.filter(({ at }) => at > after)

const clamp = (value: number, low: number, high: number): number => Math.min(high, Math.max(low, value))
