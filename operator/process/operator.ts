/** An operator as a process: it sees the cluster from its start, and looks after it while it leads. */

import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BrokerSettings } from '../../bus/access/settings.ts'
import type { Replicas } from '../../bus/streams.ts'
import type { Logger } from '../../telemetry/log.ts'
import { BrokerLink } from '../broker/link.ts'
import type { Installation } from '../desired/installation.ts'
import { type Cluster, ClusterAccess } from '../kube/access.ts'
import { KubeClient } from '../kube/client.ts'
import { acquireLease, type LEASE_LIMITS, type Leadership } from '../kube/lease.ts'
import type { Answered } from '../kube/transport.ts'
import type { ChildrenOptions } from '../reconcile/children.ts'
import { ClusterView, type ClusterViewOptions } from '../reconcile/cluster-view.ts'
import type { DeparturesOptions } from '../reconcile/departures.ts'
import type { StreamsOptions } from '../reconcile/streams.ts'
import { refuseRival } from '../rival.ts'
import type { OperatorHealth } from './health-server.ts'
import { Leading, type LeadingOptions } from './leading.ts'
import { Metrics } from './metrics.ts'

export const LEASE_NAME = 'kaos-actors-operator'

/** So long without an answer of the API server, and this process is not ready. */
const SILENT_MS = 30_000

/** A leader that has just begun waits so long for its broker: looking without it would only write that it is not there, and take that back. */
const FIRST_BROKER_MS = 5_000

/** What was about to begin when it is told to end has so long to notice. */
const STOP_WAIT_MS = 1_000

export interface OperatorOptions {
  readonly installation: Installation
  readonly cluster: Cluster
  readonly broker: BrokerSettings
  readonly streamReplicas: Replicas
  /** Whose resources are kept; absent: those of all namespaces. */
  readonly namespaces?: readonly string[] | undefined
  /** Absent: it leads at once, and nobody must run beside it. */
  readonly lease?:
    | { readonly name: string; readonly limits?: Partial<Readonly<Record<keyof typeof LEASE_LIMITS, number>>> }
    | undefined
  readonly log: Logger
  readonly watchLimits?: ClusterViewOptions['limits']
  readonly streamLimits?: StreamsOptions['limits']
  readonly childrenLimits?: ChildrenOptions['limits']
  readonly departureLimits?: DeparturesOptions['limits']
  readonly retentionTimes?: LeadingOptions['retentionTimes']
}

export class Operator {
  /** Rejects when it cannot go on: with `lease_lost`, or with what kept it from beginning. Nothing is written from then on. */
  readonly failed: Promise<never>
  readonly health: OperatorHealth
  private readonly options: OperatorOptions
  private readonly client: KubeClient
  private readonly view: ClusterView
  private readonly link: BrokerLink
  private readonly metrics: Metrics
  private readonly stopping = new AbortController()
  private readonly fail: (reason: unknown) => void
  private readonly contact: ApiContact
  private leadership: Leadership | undefined
  private leading: Leading | undefined
  private hasBegun = false
  private run: Promise<void> = Promise.resolve()

  private constructor(options: OperatorOptions, client: KubeClient, metrics: Metrics, contact: ApiContact) {
    this.options = options
    this.client = client
    this.metrics = metrics
    this.contact = contact
    const { promise, reject } = Promise.withResolvers<never>()
    promise.catch(() => {})
    this.failed = promise
    this.fail = reject
    const { installation, namespaces, broker, log } = options
    this.view = new ClusterView({
      client,
      namespaces,
      systemNamespace: installation.namespace,
      log,
      ...(options.watchLimits && { limits: options.watchLimits }),
      onRestart: (kind, why) => metrics.add('kaos_operator_watch_restarts_total', { kind, why }),
    })
    this.link = new BrokerLink({ settings: broker, log })
    this.health = {
      isAlive: () => this.leadership === undefined || this.leadership.isHeld || this.stopping.signal.aborted,
      notReady: () => this.notReady(),
      metricsText: () => metrics.text(),
    }
    this.measure()
  }

  /** Resolves when it has begun to look; it leads later. Throws `rival_operator`, `cluster_settings`, `cluster_unreachable`, `cluster_denied`. */
  static async start(options: OperatorOptions): Promise<Operator> {
    const metrics = new Metrics()
    const contact = new ApiContact()
    const access = new ClusterAccess(options.cluster)
    const onAnswer = (answered: Answered) => {
      contact.note(answered)
      const { verb, kind, status, ms } = answered
      metrics.observe('kaos_operator_api_seconds', ms / 1_000, { verb, kind, code: String(status) })
    }
    const client = KubeClient.over(access, { onAnswer })
    try {
      const { namespaces, installation, lease } = options
      await refuseRival(client, { namespaces, own: { namespace: installation.namespace, lease: lease?.name } })
    } catch (error) {
      await client.close()
      throw error
    }
    const operator = new Operator(options, client, metrics, contact)
    operator.view.start()
    operator.run = operator.lead().catch((error: unknown) => operator.fail(error))
    return operator
  }

  /** Whether it looks after the cluster now. */
  get isLeading(): boolean {
    return this.hasBegun && this.leadership?.isHeld === true
  }

  /** Ends what runs, gives up the lease, closes everything. */
  async stop(): Promise<void> {
    this.stopping.abort()
    // It may wait for a cluster that does not answer.
    await Promise.race([this.run, sleep(STOP_WAIT_MS, undefined, { ref: false })])
    await this.leading?.stop()
    await this.leadership?.release()
    await this.view.stop()
    await this.link.close()
    await this.client.close()
  }

  private async lead(): Promise<void> {
    const { installation, namespaces, lease, streamReplicas, streamLimits, childrenLimits, departureLimits, log } = this.options
    const { retentionTimes } = this.options
    const { client, view, link, metrics } = this
    const identity = `${hostname()}_${randomUUID().slice(0, 8)}`
    const { signal } = this.stopping
    try {
      this.leadership = lease
        ? await acquireLease(
            {
              client,
              namespace: installation.namespace,
              name: lease.name,
              identity,
              log,
              ...(lease.limits && { limits: lease.limits }),
            },
            signal,
          )
        : alone
    } catch (error) {
      if (signal.aborted) return
      throw error
    }
    const { leadership } = this
    leadership.signal.addEventListener('abort', () => this.fail(leadership.signal.reason))
    await this.brokerOrLater()
    const guarded = client.withGuard(leadership.check)
    const options = { client: guarded, view, link, installation, streamReplicas, identity, metrics, log }
    this.leading = new Leading({
      ...options,
      namespaces,
      ...(streamLimits && { streamLimits }),
      ...(childrenLimits && { childrenLimits }),
      ...(departureLimits && { departureLimits }),
      ...(retentionTimes && { retentionTimes }),
    })
    if (signal.aborted) return
    await this.leading.start()
    this.hasBegun = true
    if (!signal.aborted) log.info({ identity, namespace: installation.namespace }, 'looking after the cluster')
  }

  private async brokerOrLater(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, FIRST_BROKER_MS)
    this.stopping.signal.addEventListener('abort', () => resolve(), { once: true })
    const end = this.link.onConnect(resolve)
    await promise
    clearTimeout(timer)
    end()
  }

  private notReady(): string | undefined {
    const unsynced = this.view.unsynced()
    if (unsynced.length > 0) return `not read yet: ${unsynced.join(', ')}`
    const { namespaces = [] } = this.options
    if (namespaces.length > 0 && namespaces.every((namespace) => this.view.denied(namespace).length > 0)) {
      return `it may not read what it is to look after: namespace "${namespaces.join('", "')}"`
    }
    const silentMs = this.contact.silentMs()
    return silentMs > SILENT_MS ? `the API server has not answered for ${Math.round(silentMs / 1_000)} s` : undefined
  }

  private measure(): void {
    const { metrics, view, link } = this
    metrics.gauge('kaos_operator_leader', () => [[{}, Number(this.isLeading)]])
    metrics.gauge('kaos_operator_broker_connected', () => [[{}, Number(link.unreachableMs() === 0)]])
    metrics.gauge('kaos_operator_resources', () =>
      [view.agents, view.mcpServers, view.modelApis, view.pods, ...view.allChildren()].map(
        ({ resource, store }) => [{ kind: resource.kind }, store.size] as const,
      ),
    )
    metrics.gauge('kaos_operator_kinds_denied', () =>
      (this.options.namespaces ?? []).map((namespace) => [{ namespace }, view.denied(namespace).length] as const),
    )
    // Of the leader alone, or a sum over all processes would count each pod several times.
    metrics.gauge('kaos_agent_replicas', () => (this.isLeading ? view.agentReplicas() : []))
  }
}

/** Nobody else is there to lead. */
const alone: Leadership = {
  signal: new AbortController().signal,
  isHeld: true,
  check: () => {},
  release: async () => {},
}

/** Whether the API server answers. A quiet cluster asks nothing for minutes, which is no silence. */
class ApiContact {
  private silentSince: number | undefined

  note({ status }: Answered): void {
    if (status > 0 && status < 500) this.silentSince = undefined
    else this.silentSince ??= performance.now()
  }

  silentMs(): number {
    return this.silentSince === undefined ? 0 : performance.now() - this.silentSince
  }
}
