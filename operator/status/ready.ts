/** Whether a resource works, and why not: conditions that all kinds share, and the fields of KAOS that follow from them. */
import type { Condition, ModelApiStatus } from '../../manifests/crd/status.ts'
import type { Plan } from '../desired/plan.ts'
import type { EffectiveTelemetry } from '../desired/pod/telemetry.ts'
import { conditionOf, isTrue, type Moment, nextConditions, type Statement, type Statements } from './conditions.ts'
import { type Finding, isStalled, type Phase, phaseOf, type Reason } from './reasons.ts'
import type { AnyStatus } from './transitions.ts'
import type { WorkloadView } from './workload.ts'

/** What is known of the streams of an agent or tool server. */
export type StreamsView =
  | { readonly is: 'created' }
  /** The broker could not be asked; `message` says why. */
  | { readonly is: 'unknown'; readonly message: string }

/** A pod that was asked for when everything slept has so long to become ready: the API server's own default for a rollout. */
const WAKING_MS_MAX = 600_000

export interface Seen {
  readonly plan: Plan
  readonly workload: WorkloadView
  /** Absent: it has none. */
  readonly streams?: StreamsView
  /** Nothing of it runs here. */
  readonly isExternal?: boolean
  /** Why no pod is asked for, where it is not the backlog that says so. */
  readonly asleep?: Statement | undefined
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
  const ready = readyStatement(seen, moment)
  const isReady = ready.status === true
  const stalled = stalledStatement(seen)
  const statements: Statements = {
    Ready: ready,
    Reconciling: stalled ? undefined : reconcilingStatement(seen, ready, moment),
    Stalled: stalled,
    Degraded: degradedStatement(seen, isReady),
    StreamsReady: streamsStatement(seen),
    WorkloadAvailable: isExternal ? undefined : workloadStatement(seen),
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
 * Of a resource that its definition refuses, such as one that was stored before a rule was there. What was made of it before stays as it is, and so
 * does what was said of that, which autoscalers read.
 */
export function unreadableStatus<Status extends AnyStatus>(problem: string, before: Status | undefined, moment: Moment): Status {
  const statement: Statement = { status: false, reason: 'SpecInvalid', message: problem }
  const statements: Statements = { Ready: statement, Stalled: { ...statement, status: true } }
  return {
    ...before,
    observedGeneration: moment.generation,
    phase: phaseOf('SpecInvalid'),
    ready: false,
    message: problem,
    conditions: nextConditions(before?.conditions ?? [], statements, moment),
  } as Status
}

function readyStatement(seen: Seen, moment: Moment): Statement {
  const { plan, streams, isExternal, before } = seen
  if (plan.is !== 'children') return { status: false, reason: plan.reason, message: plan.message }
  // Streams that were there once are there still: an operator that has lost the broker says nothing about the pods.
  if (streams?.is === 'unknown' && !wereCreated(before))
    return { status: false, reason: 'BrokerUnavailable', message: streams.message }
  if (isExternal) return { status: true, reason: 'External', message: 'a program of your own answers for it' }
  return isWaking(seen, moment) ? waking : workloadStatement(seen)
}

const waking: Statement = { status: true, reason: 'WakingUp', message: 'its first pod starts' }

/**
 * To wake from zero is no failure, and whoever waits for Ready must not be told one: it sleeps and wakes all day. That nothing comes of it is one,
 * though: the Deployment itself has no deadline for a pod that is only one more.
 */
function isWaking({ workload, before }: Seen, { now }: Moment): boolean {
  const { exists, ready, wanted, problem } = workload
  if (!exists || ready > 0 || wanted === 0 || problem) return false
  const last = conditionOf(before, 'Ready')
  if (last?.status !== 'True' || !wakeable.includes(last.reason)) return false
  const available = conditionOf(before, 'WorkloadAvailable')
  const since = available?.status === 'False' ? available.lastTransitionTime : now
  return Date.parse(now) - Date.parse(since) <= WAKING_MS_MAX
}

/** Reasons of Ready without a pod. */
const wakeable: readonly string[] = [
  'ScaledToZero',
  'ReplicasOverridden',
  'ScaledExternally',
  'WakingUp',
] satisfies readonly Reason[]

const asleepByBacklog: Statement = {
  status: true,
  reason: 'ScaledToZero',
  message: 'asleep: no pod runs, for nothing waits',
}

function workloadStatement({ workload, asleep }: Pick<Seen, 'workload' | 'asleep'>): Statement {
  const { exists, wanted, ready, problem } = workload
  const figures = `${ready}/${wanted} pods are ready`
  if (exists && wanted === 0) return asleep ?? asleepByBacklog
  if (ready > 0) return { status: true, reason: 'Available', message: figures }
  return problem
    ? { status: false, ...problem }
    : { status: false, reason: 'Starting', message: exists ? figures : 'its pods are not created yet' }
}

/**
 * Under way. Scaling and waking are no change of the resource. A new version that does not come up beside the one of before is under way until the
 * Deployment gives it up: whoever waits for it must not be told that it is there.
 */
function reconcilingStatement(seen: Seen, ready: Statement, moment: Moment): Statement | undefined {
  const { plan, workload, isExternal } = seen
  if (plan.is === 'refused') return undefined
  if (ready.status === false) {
    const isUnderWay = plan.is === 'waiting' || ready.reason === 'BrokerUnavailable' || workload.problem === undefined
    return isUnderWay ? { ...ready, status: true } : undefined
  }
  if (isExternal || !isRollingOut(seen, moment)) return undefined
  return { status: true, reason: 'RollingOut', message: `${workload.updated}/${workload.total} pods are of this version` }
}

/** A Deployment that its controller has yet to see was changed, or only scaled: that tells the generation. */
function isRollingOut({ workload, before }: Seen, { generation }: Moment): boolean {
  if (!workload.isRolledOut) return true
  if (workload.isObserved) return false
  return conditionOf(before, 'Ready')?.observedGeneration !== generation || isTrue(before, 'Reconciling')
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
