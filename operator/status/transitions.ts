/** What Kubernetes Events tell of: the differences between two statuses of one resource. */
import {
  type AgentStatus,
  type Condition,
  type McpServerStatus,
  type ModelApiStatus,
  UNSEEN_GENERATION,
} from '../../manifests/crd/status.ts'
import { type ConditionType, conditionOf } from './conditions.ts'
import { type EventReason, phaseOf, type Reason } from './reasons.ts'

export type AnyStatus = AgentStatus | McpServerStatus | ModelApiStatus

/** An Event of events.k8s.io, but for whom and when. */
export interface Transition {
  readonly type: 'Normal' | 'Warning'
  readonly reason: Reason | EventReason
  /** Of any length: who writes it cuts it. */
  readonly note: string
  readonly action: 'Reconcile' | 'Scale'
}

/** None where nothing changed. `before` undefined: the first status. */
export function transitions(before: AnyStatus | undefined, after: AnyStatus): readonly Transition[] {
  const found = [
    ...updated(before, after),
    ...paused(before, after),
    ...scaled(before, after),
    ...readiness(before, after),
    ...warnings(before, after),
    ...dependencies(before, after),
  ]
  const isRepeated = ({ reason, note }: Transition, index: number) =>
    found.findIndex((other) => other.reason === reason && other.note === note) < index
  return found.filter((each, index) => !isRepeated(each, index))
}

function updated(before: AnyStatus | undefined, after: AnyStatus): readonly Transition[] {
  const from = before?.observedGeneration ?? UNSEEN_GENERATION
  if (from === UNSEEN_GENERATION || from === after.observedGeneration) return []
  return [
    { type: 'Normal', reason: 'Updated', note: `generation ${after.observedGeneration} is carried out`, action: 'Reconcile' },
  ]
}

function paused(before: AnyStatus | undefined, after: AnyStatus): readonly Transition[] {
  const was = conditionOf(before?.conditions, 'Paused')
  const is = conditionOf(after.conditions, 'Paused')
  if (is) return was ? [] : [told('Normal', is)]
  return was ? [{ type: 'Normal', reason: 'Resumed', note: 'it is not paused any more', action: 'Reconcile' }] : []
}

function scaled(before: AnyStatus | undefined, after: AnyStatus): readonly Transition[] {
  const from = before && 'desiredReplicas' in before ? before.desiredReplicas : undefined
  const to = 'desiredReplicas' in after ? after.desiredReplicas : undefined
  if (from === undefined || to === undefined || from === to) return []
  const backlog = 'backlog' in after && after.backlog !== undefined ? `; ${after.backlog} messages wait or are in hand` : ''
  const note = `from ${from} to ${to} pods${backlog}`
  return [{ type: 'Normal', reason: scaleReason(from, to), note, action: 'Scale' }]
}

function scaleReason(from: number, to: number): Reason | EventReason {
  if (from === 0) return 'WokenUp'
  if (to === 0) return 'ScaledToZero'
  return to > from ? 'ScaledUp' : 'ScaledDown'
}

/** Of these, scaling tells. */
const quiet: readonly string[] = [
  'ScaledToZero',
  'ReplicasOverridden',
  'ScaledExternally',
  'WakingUp',
  'Available',
] satisfies readonly Reason[]

function readiness(before: AnyStatus | undefined, after: AnyStatus): readonly Transition[] {
  const was = conditionOf(before?.conditions, 'Ready')
  const is = conditionOf(after.conditions, 'Ready')
  if (!is || isSame(was, is)) return []
  if (was?.status === 'True' && is.status === 'True' && quiet.includes(is.reason)) return []
  const isFailed = is.status === 'False' && phaseOf(is.reason as Reason) === 'Failed'
  const wasLost = was?.status === 'True' && is.status === 'False'
  return [told(isFailed || wasLost ? 'Warning' : 'Normal', is)]
}

function warnings(before: AnyStatus | undefined, after: AnyStatus): readonly Transition[] {
  return (['Degraded', 'TelemetryUnsupported'] satisfies readonly ConditionType[]).flatMap((type) => {
    const is = conditionOf(after.conditions, type)
    return !is || isSame(conditionOf(before?.conditions, type), is) ? [] : [told('Warning', is)]
  })
}

function dependencies(before: AnyStatus | undefined, after: AnyStatus): readonly Transition[] {
  const was = conditionOf(before?.conditions, 'DependenciesReady')
  const is = conditionOf(after.conditions, 'DependenciesReady')
  if (!is || isSame(was, is)) return []
  if (is.status === 'False') return [told('Warning', is)]
  return was ? [told('Normal', is)] : []
}

function isSame(was: Condition | undefined, is: Condition): boolean {
  return was?.status === is.status && was.reason === is.reason
}

function told(type: Transition['type'], { reason, message }: Condition): Transition {
  return { type, reason: reason as Reason, note: message, action: 'Reconcile' }
}
