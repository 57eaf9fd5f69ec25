/** What every kind of kubelet here does: sees which pods are its own to run, tells a runtime, and writes their status. */
import { setTimeout as delay } from 'node:timers/promises'
import { type AnyObject, type ApiClient, ApiError, type OnChange } from '../api.ts'

const RETRY_MS = 200
const RETRIES_MAX = 300

export type Pod = AnyObject

/** Runs pods. Each is begun once, then ended or gone; none of these may throw. */
export interface PodRuntime {
  begin(pod: Pod): void
  /** Somebody has deleted the pod: its grace period begins. The runtime removes it with `removePod` when it has ended. */
  end(pod: Pod): void
  /** The object is gone without waiting for its end. */
  gone(uid: string): void
}

/** Follows the pods that are bound to a node, of one namespace or of all. Stops on the signal; resolves when it has stopped. */
export async function followPods(
  api: ApiClient,
  namespace: string | undefined,
  runtime: PodRuntime,
  signal: AbortSignal,
): Promise<void> {
  const place = namespace === undefined ? '' : `/namespaces/${namespace}`
  /** What the runtime knows, by namespace and name. */
  const known = new Map<string, { readonly uid: string; isEnding: boolean }>()
  const look = (key: string, pod: Pod | undefined) => {
    const before = known.get(key)
    if (before && before.uid !== pod?.metadata.uid) {
      known.delete(key)
      runtime.gone(before.uid)
    }
    if (!pod) return
    const found = known.get(key)
    if (!found && !isFinished(pod)) runtime.begin(pod)
    const isEnding = pod.metadata.deletionTimestamp !== undefined
    if (isEnding && !found?.isEnding) runtime.end(pod)
    known.set(key, { uid: pod.metadata.uid!, isEnding })
  }
  const path = `/api/v1${place}/pods?fieldSelector=spec.nodeName%21%3D`
  const onChange: OnChange = (pods, changed) => {
    for (const key of changed) look(key, pods.get(key))
  }
  await api.follow(path, onChange, signal)
}

function isFinished({ status }: Pod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed'
}

export function podPath({ metadata }: Pod): string {
  return `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}`
}

/** Takes the object away, as a kubelet does when all containers have ended. Nothing happens to another pod of that name. */
export async function removePod(api: ApiClient, pod: Pod): Promise<void> {
  await untilAnswered(() => api.delete(podPath(pod), { graceSeconds: 0, uid: pod.metadata.uid! }))
}

/** Writes the newest status of one pod; what was overtaken before it left is not written. */
export class StatusWriter {
  private readonly api: ApiClient
  private readonly pod: Pod
  private next: Readonly<Record<string, unknown>> | undefined
  private writing: Promise<void> | undefined
  private lastWritten = ''

  constructor(api: ApiClient, pod: Pod) {
    this.api = api
    this.pod = pod
  }

  set(status: Readonly<Record<string, unknown>>): void {
    this.next = status
    this.writing ??= this.write()
  }

  /** Resolves when what was set last is written, or the pod is gone. */
  async written(): Promise<void> {
    await this.writing
  }

  private async write(): Promise<void> {
    while (this.next) {
      const status = this.next
      this.next = undefined
      const text = JSON.stringify(status)
      if (text === this.lastWritten) continue
      // The uid keeps it from the next pod of that name.
      const body = { metadata: { uid: this.pod.metadata.uid }, status }
      await untilAnswered(() => this.api.patch(`${podPath(this.pod)}/status`, body, 'strategic'))
      this.lastWritten = text
    }
    this.writing = undefined
  }
}

/** Tries again while the server is away or overloaded. A pod that is gone, or is another one now, needs nothing any more. */
async function untilAnswered(ask: () => Promise<unknown>): Promise<void> {
  for (let tries = 0; tries < RETRIES_MAX; tries++) {
    try {
      await ask()
      return
    } catch (error) {
      const code = error instanceof ApiError ? error.code : 0
      if (code === 404 || code === 409) return
      if (code >= 400 && code < 500 && code !== 429) {
        console.error(`fake kubelet: ${(error as Error).message}`)
        return
      }
      if (isClosed(error)) return
    }
    await delay(RETRY_MS)
  }
}

/** The client was closed: the test is over. */
function isClosed(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'UND_ERR_DESTROYED' || error.code === 'UND_ERR_CLOSED')
}
