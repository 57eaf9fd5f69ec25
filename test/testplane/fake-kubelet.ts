/**
 * Kubelets for the control plane of the tests, one for each namespace that wants one. `startFakePods` only pretends, for thousands of pods;
 * `startProcessPods` runs each container as a process of this machine (`kubelet/process-pods.ts` says what it honours).
 */
import { setTimeout as delay } from 'node:timers/promises'
import { followPods, type Pod, removePod, StatusWriter } from './kubelet/pods.ts'
import { type ContainerReport, type ContainerState, kubeTime, PodStatus } from './kubelet/status.ts'
import type { Plane } from './plane.ts'

export { type LocalImage, type ProcessPods, type ProcessPodsOptions, startProcessPods } from './kubelet/process-pods.ts'

/** What becomes of a pod: ready, running but never ready, crashing again and again, or waiting for an image that is nowhere. */
export type Fate = 'ready' | 'unready' | 'crash-loop' | 'image-missing'

export interface FakePodsOptions {
  /** Default: all. */
  readonly namespace?: string
  /** From bound to ready, default 0 ms. */
  readonly readyDelayMs?: number
  /** From deleted to gone, default 0 ms. */
  readonly stopDelayMs?: number
  /** Default: all become ready. */
  readonly fate?: (pod: Pod) => Fate
}

export interface FakePods extends AsyncDisposable {
  /** Pods whose status it has written, and pods that it has removed. */
  readonly counts: { readonly begun: number; readonly removed: number }
  /** The objects stay as they are. */
  stop(): Promise<void>
}

let lastAddress = 0

/** Makes pods ready that no process stands behind: 1000 take about 20 s. */
export function startFakePods(plane: Plane, options: FakePodsOptions = {}): FakePods {
  const { namespace, readyDelayMs = 0, stopDelayMs = 0, fate = () => 'ready' as const } = options
  const api = plane.clientFor(plane.address.tokens.kubelet)
  const stopping = new AbortController()
  const counts = { begun: 0, removed: 0 }
  const ended = new Set<string>()
  /** Undefined when it was stopped meanwhile. */
  const after = (ms: number) => (ms > 0 ? delay(ms, true, { signal: stopping.signal }).catch(() => false) : Promise.resolve(true))
  const begin = async (pod: Pod) => {
    if (!(await after(readyDelayMs)) || ended.has(pod.metadata.uid!)) return
    const writer = new StatusWriter(api, pod)
    writer.set(fakeStatus(pod, fate(pod)))
    await writer.written()
    counts.begun++
  }
  const end = async (pod: Pod) => {
    ended.add(pod.metadata.uid!)
    if (!(await after(stopDelayMs))) return
    await removePod(api, pod)
    counts.removed++
  }
  const runtime = {
    begin: (pod: Pod) => void begin(pod),
    end: (pod: Pod) => void end(pod),
    gone: (uid: string) => void ended.delete(uid),
  }
  const following = followPods(api, namespace, runtime, stopping.signal)
  const stop = async () => {
    stopping.abort()
    await following
    await api.close()
  }
  return { counts, stop, [Symbol.asyncDispose]: stop }
}

function fakeStatus(pod: Pod, fate: Fate): Readonly<Record<string, unknown>> {
  const at = kubeTime()
  lastAddress += 1
  const report = (
    { name, image }: { name: string; image: string },
    state: ContainerState,
    isReady: boolean,
  ): ContainerReport => ({
    name,
    image,
    state,
    ready: isReady,
    started: 'running' in state,
    restartCount: fate === 'crash-loop' ? 3 : 0,
    ...(fate === 'crash-loop' ? { lastState: exited(1, at) } : {}),
  })
  const { containers, initContainers = [] } = pod.spec
  return new PodStatus(pod).of({
    startedAt: at,
    ip: `10.${244 + (lastAddress >> 16)}.${(lastAddress >> 8) & 255}.${lastAddress & 255}`,
    hostIp: '192.0.2.1',
    init: initContainers.map((container: { name: string; image: string }) => report(container, exited(0, at), true)),
    main: containers.map((container: { name: string; image: string }) => report(container, stateOf(fate, at), fate === 'ready')),
  })
}

function stateOf(fate: Fate, at: string): ContainerState {
  if (fate === 'crash-loop')
    return { waiting: { reason: 'CrashLoopBackOff', message: 'back-off 10s restarting failed container' } }
  if (fate === 'image-missing') return { waiting: { reason: 'ImagePullBackOff', message: 'Back-off pulling image' } }
  return { running: { startedAt: at } }
}

function exited(exitCode: number, at: string): ContainerState {
  return { terminated: { exitCode, reason: exitCode === 0 ? 'Completed' : 'Error', startedAt: at, finishedAt: at } }
}
