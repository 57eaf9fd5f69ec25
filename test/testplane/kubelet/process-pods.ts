/**
 * Pods whose containers are processes of this machine. Honoured: command, args, env with all references, volumes (translated, see
 * `volumes.ts`), init containers, probes, restart policy, preStop, grace period, exit codes. Not: images and their file systems, users,
 * resource limits, security contexts, sidecar containers, network policies. For what may run on the developer's machine only.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { startGuard } from '../guard.ts'
import type { Plane } from '../plane.ts'
import { PodNetwork } from './network.ts'
import { followPods, type Pod, removePod } from './pods.ts'
import { ProcessPod, type ProcessPodPlace } from './process-pod.ts'

const FOLDER_PREFIX = 'kaos-testplane-pods-'

/** What stands for an image here. */
export interface LocalImage {
  /** ENTRYPOINT and CMD: runs where the container names no command; `args` are appended as Kubernetes does. */
  readonly entrypoint?: readonly string[]
  readonly command?: readonly string[]
  readonly workingDir?: string
  readonly environment?: Readonly<Record<string, string>>
  /** Paths inside the image and what they are here: `{ '/app': '/home/me/kaos' }`. */
  readonly paths?: Readonly<Record<string, string>>
}

export interface ProcessPodsOptions {
  /** Default: all. */
  readonly namespace?: string
  /** Undefined: the pull fails. Default: every image is there, and a container without a command fails to start. */
  readonly imageOf?: (image: string) => LocalImage | undefined
  /** Host names that lead to an address of this machine, such as `nats.kaos-system`; ports are not changed. */
  readonly names?: Readonly<Record<string, string>>
  /** Before a container that ended twice is started again, doubled each time. Default 1000. */
  readonly backoffMs?: number
}

export interface RunningPod {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  /** Where its ports are. */
  readonly ip: string
  readonly isReady: boolean
  /** `pid` is undefined while it does not run. */
  readonly containers: readonly {
    readonly name: string
    readonly pid: number | undefined
    readonly restarts: number
    readonly logFile: string
  }[]
}

export interface ProcessPods extends AsyncDisposable {
  /** All that have begun and are not gone. */
  list(): readonly RunningPod[]
  /** Sends it to every main process of the pod. False if there is no such pod, or none of its processes runs. */
  kill(podName: string, signal?: NodeJS.Signals): boolean
  /** All that its containers have written, of earlier starts too. Also of pods that are gone. */
  logs(podName: string): Promise<string>
  /** Kills all processes at once and removes their folders. The objects stay: stop it after the namespace's work is done. */
  stop(): Promise<void>
}

/** They end with this process, however it ends. */
export async function startProcessPods(plane: Plane, options: ProcessPodsOptions = {}): Promise<ProcessPods> {
  const { namespace, imageOf = () => ({}), names = {}, backoffMs = 1_000 } = options
  const folder = await mkdtemp(join(tmpdir(), FOLDER_PREFIX))
  const guard = startGuard(folder)
  const network = new PodNetwork(folder, names)
  const { address } = plane
  const api = plane.clientFor(address.tokens.kubelet)
  const variables = {
    PATH: `${dirname(process.execPath)}:${process.env.PATH ?? ''}`,
    KUBERNETES_SERVICE_HOST: '127.0.0.1',
    KUBERNETES_SERVICE_PORT: String(address.ports.api),
  }
  const place: ProcessPodPlace = { api, folder, guard, network, imageOf, variables, backoffMs }
  const pods = new Map<string, ProcessPod>()
  const logFiles = new Map<string, string[]>()
  const begin = (pod: Pod) => {
    const running = new ProcessPod(pod, place)
    pods.set(pod.metadata.uid!, running)
    const { name } = pod.metadata
    logFiles.set(name, [...(logFiles.get(name) ?? []), ...running.logFiles])
    void running.run()
  }
  const end = async (pod: Pod) => {
    await pods.get(pod.metadata.uid!)?.end(pod)
    await removePod(api, pod)
  }
  const gone = (uid: string) => {
    void pods.get(uid)?.kill()
    pods.delete(uid)
  }
  const stopping = new AbortController()
  const following = [
    followPods(api, namespace, { begin, end: (pod) => void end(pod), gone }, stopping.signal),
    network.follow(api, namespace, stopping.signal),
  ]
  const named = (name: string) => [...pods.values()].filter((pod) => pod.name === name)
  const stop = async () => {
    stopping.abort()
    await Promise.all(following)
    await Promise.all([...pods.values()].map((pod) => pod.kill()))
    await api.close()
    guard.leave()
    await rm(folder, { recursive: true, force: true })
  }
  return {
    list: () => [...pods.values()].map((pod) => pod.seen()),
    // Every pod is asked: one of the same name may be ending.
    kill: (name, signal = 'SIGKILL') => named(name).filter((pod) => pod.signal(signal)).length > 0,
    async logs(name) {
      const texts = (logFiles.get(name) ?? []).map((file) => readFile(file, 'utf8').catch(() => ''))
      return (await Promise.all(texts)).join('')
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
}
