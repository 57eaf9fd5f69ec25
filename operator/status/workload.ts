/** What a Deployment and its pods say: how many work, and what keeps the others from it. */
import type { KubeObject } from '../kube/object.ts'
import type { Finding, Reason } from './reasons.ts'

type Map = Readonly<Record<string, unknown>>

export const WORKLOAD_LIMITS = {
  /** From being placed on a node: a pod whose volumes and network are not there by then waits for something. */
  prepareMs: 60_000,
} as const

export interface WorkloadView {
  readonly exists: boolean
  /** Pods that are asked for. */
  readonly wanted: number
  readonly total: number
  readonly ready: number
  readonly available: number
  readonly updated: number
  /** The Deployment's controller has seen it as it is now. */
  readonly isObserved: boolean
  /** No pod of before is left, as far as that controller has seen. */
  readonly isRolledOut: boolean
  /** What keeps pods from working, if anything does. */
  readonly problem?: Finding
  /** After this many ms a pod that is still the same is a problem, and nothing tells that the time has come. */
  readonly lookAgainMs?: number
  /** The pods did not become ready in the time that the Deployment gives them. */
  readonly isOverdue: boolean
  /** As the Deployment has them. */
  readonly conditions: readonly (Map & { readonly type: string; readonly status: string })[]
}

/** `pods`: those of the Deployment, in any order; absent or incomplete is allowed, then problems are told in fewer words. `now`: epoch ms. */
export function readWorkload(
  deployment: KubeObject | undefined,
  pods: readonly KubeObject[] = [],
  now: number = Date.now(),
): WorkloadView {
  if (!deployment) {
    return {
      exists: false,
      wanted: 0,
      total: 0,
      ready: 0,
      available: 0,
      updated: 0,
      isObserved: false,
      isRolledOut: false,
      isOverdue: false,
      conditions: [],
    }
  }
  const status = mapOf(deployment.status)
  const conditions: WorkloadView['conditions'] = listOf(status.conditions).flatMap((each) =>
    typeof each.type === 'string' && typeof each.status === 'string' ? [{ ...each, type: each.type, status: each.status }] : [],
  )
  const total = count(status.replicas)
  const updated = count(status.updatedReplicas)
  const isObserved = count(status.observedGeneration) >= (deployment.metadata.generation ?? 0)
  const wanted = mapOf(deployment.spec).replicas
  const overdue = conditions.find(
    ({ type, status: holds, reason }) => type === 'Progressing' && holds === 'False' && reason === 'ProgressDeadlineExceeded',
  )
  const unprepared = pods.map((pod) => unpreparedMs(pod, now)).filter((ms) => ms !== undefined)
  const late = unprepared.some((ms) => ms >= WORKLOAD_LIMITS.prepareMs) ? notPrepared(deployment) : undefined
  const soon = unprepared.filter((ms) => ms < WORKLOAD_LIMITS.prepareMs)
  const problem = podProblem(pods) ?? late ?? creationProblem(conditions) ?? deadlineProblem(overdue)
  return {
    exists: true,
    wanted: typeof wanted === 'number' ? wanted : 1, // the API server's own default
    total,
    ready: count(status.readyReplicas),
    available: count(status.availableReplicas),
    updated,
    isObserved,
    isRolledOut: updated >= total,
    ...(problem && { problem }),
    ...(soon.length > 0 && { lookAgainMs: WORKLOAD_LIMITS.prepareMs - Math.max(...soon) }),
    isOverdue: overdue !== undefined,
    conditions,
  }
}

const waitingReasons: Readonly<Record<string, Reason>> = {
  ErrImagePull: 'ImagePullFailed',
  ImagePullBackOff: 'ImagePullFailed',
  ErrImageNeverPull: 'ImagePullFailed',
  InvalidImageName: 'ImagePullFailed',
  CrashLoopBackOff: 'CrashLooping',
  CreateContainerConfigError: 'ContainerNotCreated',
  CreateContainerError: 'ContainerNotCreated',
  RunContainerError: 'ContainerNotCreated',
}

/** Without names of pods, times and counts: the same problem in another pod is the same message, and no write. */
function podProblem(pods: readonly KubeObject[]): Finding | undefined {
  const found = pods
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .flatMap((pod) => [...containerProblems(mapOf(pod.status)), ...schedulingProblems(mapOf(pod.status))])
  return found.toSorted((a, b) => severity(a) - severity(b) || compare(a.message, b.message))[0]
}

function severity({ reason }: Finding): number {
  return ['CrashLooping', 'ImagePullFailed', 'ContainerNotCreated', 'Unschedulable'].indexOf(reason)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b)
}

function containerProblems(status: Map): readonly Finding[] {
  const containers = [...listOf(status.initContainerStatuses), ...listOf(status.containerStatuses)]
  return containers.flatMap((container): readonly Finding[] => {
    const waiting = mapOf(mapOf(container.state).waiting)
    const reason = waitingReasons[String(waiting.reason)]
    if (reason === undefined) return []
    const name = `container "${String(container.name)}"`
    if (reason === 'CrashLooping') return [{ reason, message: `${name} ends again and again${lastEnd(container)}` }]
    if (reason === 'ImagePullFailed')
      return [{ reason, message: `image "${String(container.image)}" of ${name} cannot be pulled: ${said(waiting)}` }]
    return [{ reason, message: `${name} cannot be created: ${said(waiting)}` }]
  })
}

function lastEnd(container: Map): string {
  const ended = mapOf(mapOf(container.lastState).terminated)
  return typeof ended.exitCode === 'number' ? `: exit code ${ended.exitCode}, ${String(ended.reason ?? 'Error')}` : ''
}

function schedulingProblems(status: Map): readonly Finding[] {
  return listOf(status.conditions)
    .filter(({ type, status: holds, reason }) => type === 'PodScheduled' && holds === 'False' && reason === 'Unschedulable')
    .map(({ message }) => ({ reason: 'Unschedulable', message: `no node takes the pod: ${String(message)}` }))
}

/**
 * How long its node has not prepared it for its containers; undefined: it has, or there is no node yet. A pull of an image comes after that, and may
 * take long. Times are those of the node, so they may be a little off.
 */
function unpreparedMs({ metadata, status }: KubeObject, now: number): number | undefined {
  const { phase, conditions } = mapOf(status)
  if (metadata.deletionTimestamp !== undefined || phase !== 'Pending') return undefined
  const of = (type: string) => listOf(conditions).find((condition) => condition.type === type)
  const placed = of('PodScheduled')
  const prepared = of('PodReadyToStartContainers')
  if (placed?.status !== 'True' || prepared?.status === 'True') return undefined
  const since = Date.parse(String((prepared ?? placed).lastTransitionTime))
  return Number.isNaN(since) ? undefined : Math.max(0, now - since)
}

/** Why, the node tells in an Event only. */
function notPrepared({ metadata, spec }: KubeObject): Finding {
  const labels = Object.entries(mapOf(mapOf(mapOf(spec).selector).matchLabels)).map(([name, value]) => `${name}=${String(value)}`)
  const command = `kubectl --namespace ${metadata.namespace} describe pods --selector ${labels.join(',')}`
  return {
    reason: 'PodNotPrepared',
    message: `a node does not get a pod ready for its containers: something that it mounts is missing, or its network; see ${command}`,
  }
}

/** Such as "Back-off pulling image": the node's own word and message. */
function said({ reason, message }: Map): string {
  return [reason, message].filter((word) => typeof word === 'string' && word !== '').join(': ')
}

function creationProblem(conditions: readonly Map[]): Finding | undefined {
  const failure = conditions.find(({ type, status }) => type === 'ReplicaFailure' && status === 'True')
  if (!failure) return undefined
  const message = `pods cannot be created: ${String(failure.message ?? failure.reason).replace(/^pods "[^"]*" is /, '')}`
  if (/exceeded quota|quota/i.test(message)) return { reason: 'QuotaExceeded', message }
  return { reason: /violates PodSecurity|forbidden|denied/i.test(message) ? 'ForbiddenByPolicy' : 'PodsNotCreated', message }
}

function deadlineProblem(overdue: Map | undefined): Finding | undefined {
  return (
    overdue && {
      reason: 'ProgressDeadlineExceeded',
      message: `pods did not become ready in time: ${String(overdue.message ?? '')}`,
    }
  )
}

function mapOf(value: unknown): Map {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Map) : {}
}

function listOf(value: unknown): readonly Map[] {
  return Array.isArray(value) ? value.map(mapOf) : []
}

function count(value: unknown): number {
  return typeof value === 'number' ? value : 0
}
