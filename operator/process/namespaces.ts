/**
 * Which of the namespaces that an operator is limited to are being deleted. Its rights there go with them, in any order; five seconds after the
 * namespace is marked the server begins. Whoever holds a finalizer has to let go before that, or the namespace stays for ever.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { isForbidden } from '../kube/api-error.ts'
import type { KubeClient } from '../kube/client.ts'
import type { Resource } from '../kube/object.ts'
import { REFLECTOR_LIMITS } from '../kube/reflector.ts'
import { watchEvents } from '../kube/watch.ts'

const NAMESPACE_LIMITS = {
  /** From the end of a watch to the next. After failures it doubles, up to the second of these. */
  retryMs: 1_000,
  retryMaxMs: 10_000,
  /** What the server may ask us to wait. */
  retryAfterMaxMs: 30_000,
  /** Between two tries without the right to watch. */
  deniedMs: 60_000,
} as const

type NamespaceLimits = Readonly<Record<keyof typeof NAMESPACE_LIMITS, number>>

export interface TerminatingNamespacesOptions {
  readonly client: KubeClient
  readonly namespaces: readonly string[]
  readonly onTerminating: (namespace: string) => void
  readonly log: Logger
  readonly limits?: Partial<NamespaceLimits>
}

export class TerminatingNamespaces {
  private readonly options: TerminatingNamespacesOptions
  private readonly limits: NamespaceLimits
  private readonly terminating = new Set<string>()
  private readonly stopping = new AbortController()
  private readonly running: Promise<unknown>

  constructor(options: TerminatingNamespacesOptions) {
    this.options = options
    this.limits = { ...NAMESPACE_LIMITS, ...options.limits }
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
    let failures = 0
    let isTold = false
    const onOpen = () => {
      if (isTold) log.info({ namespace }, 'sees again whether a namespace is deleted')
      failures = 0
      isTold = false
    }
    while (!signal.aborted) {
      let pauseMs = this.limits.retryMs
      try {
        await this.watchOnce(namespace, onOpen)
      } catch (error) {
        if (signal.aborted) return
        failures++
        pauseMs = pauseAfter(error, failures, this.limits)
        // A connection that breaks is no news, and that the rights go with the namespace neither.
        const isNews: boolean = !isTold && !this.has(namespace) && (failures > 1 || isForbidden(error))
        log[isNews ? 'warn' : 'debug']({ namespace, err: error, failures }, 'cannot see whether a namespace is deleted')
        isTold ||= isNews
      }
      await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {})
    }
  }

  private async watchOnce(namespace: string, onOpen: () => void): Promise<void> {
    const { client } = this.options
    const { watchMinMs, watchMaxMs, idleMs } = REFLECTOR_LIMITS
    const seconds = Math.ceil((watchMinMs + Math.random() * (watchMaxMs - watchMinMs)) / 1_000)
    // Without a version it begins with what there is.
    const options = { resourceVersion: '', seconds, idleMs, onOpen, signal: this.stopping.signal }
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

function pauseAfter(error: unknown, failures: number, limits: NamespaceLimits): number {
  const { retryMs, retryMaxMs, retryAfterMaxMs, deniedMs } = limits
  if (isForbidden(error)) return deniedMs
  const asked = error instanceof KaosError ? Math.min(error.retryAfterMs ?? 0, retryAfterMaxMs) : 0
  return Math.max(asked, Math.min(retryMaxMs, retryMs * 2 ** Math.min(failures - 1, 20)))
}

/** The one form of a watch that a Role of the namespace itself can allow: a list of namespaces, with whatever selector, is of the whole cluster. */
function watchedAs(namespace: string): Resource {
  return { apiVersion: 'v1', kind: 'Namespace', plural: `watch/namespaces/${encodeURIComponent(namespace)}`, namespaced: false }
}
