/** Whether a resource works, and why not: conditions that all kinds share, and the fields of KAOS that follow from them. */
import type { Condition, ModelApiStatus } from '../../manifests/crd/status.ts'
import type { Plan } from '../desired/plan.ts'
import type { EffectiveTelemetry } from '../desired/pod/telemetry.ts'
import { conditionOf, isTrue, type Moment, nextConditions, type Statement, type Statements } from './conditions.ts'
import { type Finding, isStalled, type Phase, phaseOf, type Reason } from './reasons.ts'
import type { WorkloadView } from './workload.ts'

/** What is known of the streams of an agent or tool server. */
export type StreamsView =
  | { readonly is: 'created' }
  /** The broker could not be asked; `message` says why. */
  | { readonly is: 'unknown'; readonly message: string }

export interface Seen {
  readonly plan: Plan
  readonly workload: WorkloadView
  /** Absent: it has none. */
  readonly streams?: StreamsView
  /** Nothing of it runs here. */
  readonly isExternal?: boolean
  /** Conditions that were written last. */
  readonly before: readonly Condition[]
}

type Shared = Pick<
  ModelApiStatus,
  'observedGeneration' | 'ready' | 'message' | 'conditions' | 'replicas' | 'deployment' | 'telemetry'
> & { readonly phase: Phase }

/** `more`: conditions of the kind itself. */
export function sharedStatus(seen: Seen, moment: Moment, more: Statements): Shared {
  const { plan, workload, isExternal } = seen
  const ready = readyStatement(seen)
  const isReady = ready.status === true
  const statements: Statements = {
    Ready: ready,
    Reconciling: reconcilingStatement(seen, ready),
    Stalled: stalledStatement(seen),
    Degraded: degradedStatement(seen, isReady),
    StreamsReady: streamsStatement(seen),
    WorkloadAvailable: isExternal ? undefined : workloadStatement(workload),
    ...more,
  }
  return {
    observedGeneration: moment.generation,
    phase: isReady ? 'Ready' : phaseOf(ready.reason),
    ready: isReady,
    message: ready.message,
    replicas: workload.total,
    ...(workload.exists && { deployment: deploymentFigures(workload) }),
    telemetry: telemetryFigures(plan.telemetry),
    conditions: nextConditions(seen.before, statements, moment),
  }
}

/**
 * Of a resource that its definition refuses, such as one that was stored before a rule was there. Nothing else can be said of it.
 */
export function unreadableStatus(
  problem: string,
  before: readonly Condition[],
  moment: Moment,
): Omit<Shared, 'replicas' | 'deployment' | 'telemetry'> {
  const statement: Statement = { status: false, reason: 'SpecInvalid', message: problem }
  const conditions = nextConditions(before, { Ready: statement, Stalled: { ...statement, status: true } }, moment)
  return { observedGeneration: moment.generation, phase: phaseOf('SpecInvalid'), ready: false, message: problem, conditions }
}

function readyStatement(seen: Seen): Statement {
  const { plan, workload, streams, isExternal, before } = seen
  if (plan.is !== 'children') return { status: false, reason: plan.reason, message: plan.message }
  // Streams that were there once are there still: an operator that has lost the broker says nothing about the pods.
  if (streams?.is === 'unknown' && !wereCreated(before))
    return { status: false, reason: 'BrokerUnavailable', message: streams.message }
  if (isExternal) return { status: true, reason: 'External', message: 'a program of your own answers for it' }
  return { ...workloadStatement(workload), ...(isWaking(workload, before) && waking) }
}

const waking: Statement = { status: true, reason: 'WakingUp', message: 'its first pod starts' }

/** To wake from zero is no failure, and whoever waits for Ready must not be told one: it sleeps and wakes all day. */
function isWaking({ exists, ready, wanted, problem }: WorkloadView, before: readonly Condition[]): boolean {
  if (!exists || ready > 0 || wanted === 0 || problem) return false
  const last = conditionOf(before, 'Ready')
  return last?.status === 'True' && (['ScaledToZero', 'WakingUp'] as readonly string[]).includes(last.reason)
}

function workloadStatement({ exists, wanted, ready, problem }: WorkloadView): Statement {
  const figures = `${ready}/${wanted} pods are ready`
  if (exists && wanted === 0) return { status: true, reason: 'ScaledToZero', message: 'asleep: no pod runs, for nothing waits' }
  if (ready > 0) return { status: true, reason: 'Available', message: figures }
  return problem
    ? { status: false, ...problem }
    : { status: false, reason: 'Starting', message: exists ? figures : 'its pods are not created yet' }
}

/** Under way, and nothing is known to be wrong. Scaling and waking are no change of the resource. */
function reconcilingStatement({ plan, workload, isExternal }: Seen, ready: Statement): Statement | undefined {
  if (plan.is === 'refused') return undefined
  if (ready.status === false) {
    const isUnderWay = plan.is === 'waiting' || ready.reason === 'BrokerUnavailable' || workload.problem === undefined
    return isUnderWay ? { ...ready, status: true } : undefined
  }
  if (isExternal || workload.isRolledOut || workload.problem) return undefined
  return { status: true, reason: 'RollingOut', message: `${workload.updated}/${workload.total} pods are of this version` }
}

function stalledStatement({ plan, workload }: Seen): Statement | undefined {
  if (plan.is === 'refused' && isStalled(plan.reason)) return { status: true, reason: plan.reason, message: plan.message }
  if (plan.is !== 'children' || !workload.isOverdue) return undefined
  const { message } = workload.problem!
  return { status: true, reason: 'ProgressDeadlineExceeded', message }
}

/** It works, and not as it was meant to. */
function degradedStatement({ plan, workload }: Seen, isReady: boolean): Statement | undefined {
  const findings = [
    ...(isReady && workload.problem ? [workload.problem] : []),
    ...(plan.telemetry.problem ? [plan.telemetry.problem] : []),
  ]
  return findings.length === 0 ? undefined : joined(findings, true)
}

function streamsStatement({ streams, before }: Seen): Statement | undefined {
  if (!streams) return undefined
  if (streams.is === 'created') return { status: true, reason: 'StreamsCreated', message: 'streams and consumers are there' }
  return { status: wereCreated(before) ? 'Unknown' : false, reason: 'BrokerUnavailable', message: streams.message }
}

function wereCreated(before: readonly Condition[]): boolean {
  const last = conditionOf(before, 'StreamsReady')
  return isTrue(before, 'StreamsReady') || last?.status === 'Unknown'
}

/** The reason of the first, the messages of all. */
export function joined(findings: readonly Finding[], status: boolean): Statement {
  const reason: Reason = findings[0]!.reason
  return { status, reason, message: findings.map(({ message }) => message).join('; ') }
}

function deploymentFigures({ total, ready, available, updated, conditions }: WorkloadView) {
  return { replicas: total, readyReplicas: ready, availableReplicas: available, updatedReplicas: updated, conditions }
}

function telemetryFigures({ url, enabledFrom, endpoint, endpointFrom }: EffectiveTelemetry) {
  return { enabled: url !== undefined, enabledFrom, ...(endpoint !== undefined && { endpoint, endpointFrom }) }
}
