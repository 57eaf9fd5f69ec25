/** Conditions as kstatus reads them: what Helm, Flux, Argo CD and `kubectl wait` wait for. */
import type { Condition } from '../../manifests/crd/status.ts'
import type { Reason } from './reasons.ts'

/**
 * In the order in which they are shown. Reconciling, Stalled, Paused, Degraded and TelemetryUnsupported tell of something unusual: they
 * are there only while they are true.
 */
export const conditionTypes = [
  'Ready',
  'Reconciling',
  'Stalled',
  'Paused',
  'Degraded',
  'DependenciesReady',
  'StreamsReady',
  'WorkloadAvailable',
  'ScalingActive',
  'TelemetryUnsupported',
] as const
export type ConditionType = (typeof conditionTypes)[number]

/** The CRDs take no longer one. */
const MESSAGE_CHARS_MAX = 32_768

export interface Statement {
  readonly status: boolean | 'Unknown'
  readonly reason: Reason
  readonly message: string
}

export type Statements = Readonly<Partial<Record<ConditionType, Statement | undefined>>>

export interface Moment {
  readonly generation: number
  /** RFC 3339, whole seconds. */
  readonly now: string
}

/**
 * Since when each is so is kept for as long as its status is the same; reason and message move nothing. What is not stated is gone, unless it is
 * among `kept`.
 */
export function nextConditions(
  before: readonly Condition[],
  statements: Statements,
  { generation, now }: Moment,
  kept: readonly Condition[] = [],
): readonly Condition[] {
  return conditionTypes.flatMap((type): readonly Condition[] => {
    const statement = statements[type]
    if (!statement) return kept.filter((condition) => condition.type === type)
    const status = statement.status === 'Unknown' ? 'Unknown' : statement.status ? 'True' : 'False'
    const last = conditionOf(before, type)
    const lastTransitionTime = last?.status === status ? last.lastTransitionTime : now
    const message = statement.message.slice(0, MESSAGE_CHARS_MAX)
    return [{ type, status, observedGeneration: generation, lastTransitionTime, reason: statement.reason, message }]
  })
}

export function conditionOf(conditions: readonly Condition[] | undefined, type: ConditionType): Condition | undefined {
  return conditions?.find((condition) => condition.type === type)
}

export function isTrue(conditions: readonly Condition[] | undefined, type: ConditionType): boolean {
  return conditionOf(conditions, type)?.status === 'True'
}
