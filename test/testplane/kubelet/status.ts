/** The status of a pod from the states of its containers, as a kubelet writes it. */
import type { Pod } from './pods.ts'

export type ContainerState =
  | { readonly waiting: { readonly reason: string; readonly message?: string } }
  | { readonly running: { readonly startedAt: string } }
  | {
      readonly terminated: {
        readonly exitCode: number
        readonly reason: string
        readonly startedAt: string
        readonly finishedAt: string
        readonly signal?: number
      }
    }

export interface ContainerReport {
  readonly name: string
  readonly image: string
  readonly state: ContainerState
  readonly lastState?: ContainerState
  readonly restartCount: number
  readonly ready: boolean
  readonly started: boolean
}

export interface PodReport {
  readonly startedAt: string
  readonly ip: string
  readonly hostIp: string
  readonly init: readonly ContainerReport[]
  readonly main: readonly ContainerReport[]
}

/** Whole seconds, as Kubernetes writes times. */
export function kubeTime(at: Date = new Date()): string {
  return at.toISOString().replace(/\.\d+Z$/, 'Z')
}

/** Turns reports into statuses; remembers when each condition last changed. */
export class PodStatus {
  private readonly pod: Pod
  private readonly conditions = new Map<string, { readonly status: string; readonly at: string }>()

  constructor(pod: Pod) {
    this.pod = pod
  }

  of({ startedAt, ip, hostIp, init, main }: PodReport): Readonly<Record<string, unknown>> {
    const isInitialized = init.every(({ state }) => 'terminated' in state && state.terminated.exitCode === 0)
    const isReady = isInitialized && main.length > 0 && main.every(({ ready }) => ready)
    const notReady = isReady ? undefined : 'ContainersNotReady'
    return {
      phase: this.phaseOf(isInitialized, main, init),
      startTime: startedAt,
      hostIP: hostIp,
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [
        this.condition('PodReadyToStartContainers', true),
        this.condition('Initialized', isInitialized, isInitialized ? undefined : 'ContainersNotInitialized'),
        this.condition('ContainersReady', isReady, notReady),
        this.condition('Ready', isReady, notReady),
      ],
      ...(init.length > 0 ? { initContainerStatuses: init.map(statusOf) } : {}),
      containerStatuses: main.map(statusOf),
    }
  }

  private phaseOf(isInitialized: boolean, main: readonly ContainerReport[], init: readonly ContainerReport[]): string {
    const { restartPolicy = 'Always' } = this.pod.spec
    const failedInit = init.some(({ state }) => 'terminated' in state && state.terminated.exitCode !== 0)
    if (failedInit && restartPolicy === 'Never') return 'Failed'
    if (!isInitialized) return 'Pending'
    const ended = main.map(({ state }) => ('terminated' in state ? state.terminated.exitCode : undefined))
    if (ended.every((code) => code !== undefined) && (restartPolicy !== 'Always' || this.pod.metadata.deletionTimestamp)) {
      return ended.every((code) => code === 0) ? 'Succeeded' : 'Failed'
    }
    const hasRun = main.every(({ state, lastState }) => !('waiting' in state) || lastState)
    return hasRun ? 'Running' : 'Pending'
  }

  private condition(type: string, isTrue: boolean, reason?: string): unknown {
    const status = isTrue ? 'True' : 'False'
    const before = this.conditions.get(type)
    const at = before?.status === status ? before.at : kubeTime()
    this.conditions.set(type, { status, at })
    // A strategic merge keeps fields that are not named: null takes the reason of before away.
    return { type, status, lastTransitionTime: at, reason: reason ?? null }
  }
}

const STATES = ['waiting', 'running', 'terminated'] as const

function statusOf({ lastState, state, ...rest }: ContainerReport): unknown {
  // Container statuses are replaced as a list, so nothing of before remains.
  return { ...rest, imageID: rest.image, state, ...(lastState ? { lastState } : {}) }
}

/** Which of the three it is. */
export function stateName(state: ContainerState): (typeof STATES)[number] {
  return STATES.find((name) => name in state)!
}
