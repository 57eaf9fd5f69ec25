/**
 * Which of the namespaces that an operator is limited to are being deleted. Its rights there go with them, in any order; five seconds after the
 * namespace is marked the server begins. Whoever holds a finalizer has to let go before that, or the namespace stays for ever.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from '../../telemetry/log.ts'
import { ApiError } from '../kube/api-error.ts'
import type { KubeClient } from '../kube/client.ts'
import type { Resource } from '../kube/object.ts'
import { REFLECTOR_LIMITS } from '../kube/reflector.ts'
import { watchEvents } from '../kube/watch.ts'

const NAMESPACE_LIMITS = {
  retryMs: 1_000,
  /** Between two tries without the right to watch. */
  deniedMs: 60_000,
} as const

export interface TerminatingNamespacesOptions {
  readonly client: KubeClient
  readonly namespaces: readonly string[]
  readonly onTerminating: (namespace: string) => void
  readonly log: Logger
}

export class TerminatingNamespaces {
  private readonly options: TerminatingNamespacesOptions
  private readonly terminating = new Set<string>()
  private readonly stopping = new AbortController()
  private readonly running: Promise<unknown>

  constructor(options: TerminatingNamespacesOptions) {
    this.options = options
    this.running = Promise.all(options.namespaces.map((namespace) => this.follow(namespace)))
  }

  has(namespace: string | undefined): boolean {
    return namespace !== undefined && this.terminating.has(namespace)
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    await this.running
  }

  private async follow(namespace: string): Promise<void> {
    const { log } = this.options
    const { signal } = this.stopping
    let isDenied = false
    while (!signal.aborted) {
      let pauseMs: number = NAMESPACE_LIMITS.retryMs
      try {
        await this.watchOnce(namespace)
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof ApiError && error.status === 403) {
          pauseMs = NAMESPACE_LIMITS.deniedMs
          if (!isDenied && !this.has(namespace)) log.warn({ namespace, err: error }, 'cannot see whether a namespace is deleted')
          isDenied = true
        }
      }
      await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {})
    }
  }

  private async watchOnce(namespace: string): Promise<void> {
    const { client } = this.options
    const { watchMinMs, watchMaxMs, idleMs } = REFLECTOR_LIMITS
    const seconds = Math.ceil((watchMinMs + Math.random() * (watchMaxMs - watchMinMs)) / 1_000)
    // Without a version it begins with what there is.
    const options = { resourceVersion: '', seconds, idleMs, signal: this.stopping.signal }
    for await (const { type, object } of watchEvents(client, watchedAs(namespace), {}, options)) {
      if (type === 'DELETED') this.terminating.delete(namespace)
      else if (type !== 'BOOKMARK') this.note(namespace, object.metadata.deletionTimestamp !== undefined)
    }
  }

  private note(namespace: string, isTerminating: boolean): void {
    if (isTerminating === this.terminating.has(namespace)) return
    if (!isTerminating) {
      this.terminating.delete(namespace)
      return
    }
    this.terminating.add(namespace)
    this.options.onTerminating(namespace)
  }
}

/** The one form of a watch that a Role of the namespace itself can allow: a list of namespaces, with whatever selector, is of the whole cluster. */
function watchedAs(namespace: string): Resource {
  return { apiVersion: 'v1', kind: 'Namespace', plural: `watch/namespaces/${encodeURIComponent(namespace)}`, namespaced: false }
}
