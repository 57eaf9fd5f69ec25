/** All that only the leader does: a controller for each kind, the scaler, streams and Events. Begun when the lease is won, ended before it is given up. */
import { type Retention, type RetentionOptions, startRetention } from '../../bus/retention/retention.ts'
import type { RetentionRun } from '../../bus/retention/run.ts'
import type { Replicas } from '../../bus/streams.ts'
import type { Logger } from '../../telemetry/log.ts'
import { type BrokerLink, OPERATOR_INBOX } from '../broker/link.ts'
import { BrokerMail } from '../broker/mail.ts'
import { type ResourceRef, refKey } from '../broker/owner.ts'
import { StreamKeeper } from '../broker/streams.ts'
import { ToolBacklogs } from '../broker/tool-backlogs.ts'
import { ToolNames } from '../broker/tool-names.ts'
import { CONTROLLER_LIMITS, Controller, type ControllerOptions, ownerKeys, type Watch } from '../controller.ts'
import type { Installation } from '../desired/installation.ts'
import type { OwnedKind } from '../desired/names.ts'
import { Applier } from '../kube/apply.ts'
import type { KubeClient } from '../kube/client.ts'
import { EventRecorder } from '../kube/events.ts'
import { controllerOf, type KubeObject, keyOf } from '../kube/object.ts'
import type { Reflector } from '../kube/reflector.ts'
import type { Change } from '../kube/store.ts'
import { AgentReconciler } from '../reconcile/agent.ts'
import { Children, type ChildrenOptions } from '../reconcile/children.ts'
import { type ClusterView, podOwnerKeys } from '../reconcile/cluster-view.ts'
import { Departures, type DeparturesOptions } from '../reconcile/departures.ts'
import { DEPLOYMENTS, SECRETS } from '../reconcile/kinds.ts'
import { McpServerReconciler } from '../reconcile/mcp-server.ts'
import { ModelApiReconciler } from '../reconcile/model-api.ts'
import { DeploymentScales } from '../reconcile/scaling.ts'
import { StatusWriter } from '../reconcile/status-writer.ts'
import { mattersToOthers } from '../reconcile/stored.ts'
import { Streams, type StreamsOptions } from '../reconcile/streams.ts'
import { Turns } from '../reconcile/turns.ts'
import { Scaler } from '../scale/scaler.ts'
import { leftBehind } from './left-behind.ts'
import type { Metrics } from './metrics.ts'
import { TerminatingNamespaces } from './namespaces.ts'
import { scalingMeter } from './scaling-meter.ts'
import { StateChanges } from './state-changes.ts'

/** The first three together are less than ten seconds: so long a process that is told to end may take. */
const LEADING_LIMITS = {
  /** For reconciles that run when it ends; then they are aborted. */
  drainMs: 3_000,
  graceMs: 1_000,
  /** For Events that were not written yet. */
  eventsMs: 1_000,
  /** From a new Deployment to a look at its backlog. */
  lookAfterMs: 200,
  /** Between two looks at a resource of a namespace that may not be read. */
  deniedMs: 5_000,
} as const

const CONTROLLER_NAME = 'kaos.tools/operator'

export interface LeadingOptions {
  /** With the guard of the lease: whoever has lost it writes nothing. */
  readonly client: KubeClient
  readonly view: ClusterView
  readonly link: BrokerLink
  readonly installation: Installation
  /** Servers that hold each stream. */
  readonly streamReplicas: Replicas
  readonly identity: string
  readonly metrics: Metrics
  readonly log: Logger
  /** Whose resources are kept; absent: those of all namespaces. */
  readonly namespaces?: readonly string[] | undefined
  readonly streamLimits?: StreamsOptions['limits']
  readonly childrenLimits?: ChildrenOptions['limits']
  readonly departureLimits?: DeparturesOptions['limits']
  readonly retentionTimes?: Pick<RetentionOptions, 'now' | 'firstMs'>
}

export class Leading {
  private readonly controllers: Readonly<Record<'agents' | 'mcpServers' | 'modelApis', Controller>>
  private readonly scaler: Scaler
  private readonly stateChanges: StateChanges
  private readonly toolNames: ToolNames
  private readonly toolBacklogs: ToolBacklogs
  private readonly toolChanges: StateChanges
  private readonly terminating: TerminatingNamespaces
  private readonly recorder: EventRecorder
  private readonly options: LeadingOptions
  private readonly ends: (() => void)[] = []
  private look: NodeJS.Timeout | undefined
  private retention: Retention | undefined

  constructor(options: LeadingOptions) {
    this.options = options
    const { client, view, link, installation, streamReplicas, identity, metrics, log } = options
    const onDropped = () => metrics.add('kaos_operator_events_dropped_total')
    this.recorder = new EventRecorder({ client, controller: CONTROLLER_NAME, instance: identity, log, onDropped })
    const { recorder } = this
    const applier = new Applier(client)
    const turns = new Turns()
    const keeper = new StreamKeeper(link, { replicas: streamReplicas })
    const { namespaces = [], streamLimits, childrenLimits, departureLimits } = options
    const onLeft = leftBehind({ recorder, metrics, log })
    const streams = new Streams({ client, keeper, link, onLeft, ...(streamLimits && { limits: streamLimits }) })
    const children = new Children({ client, applier, view, turns, ...(childrenLimits && { limits: childrenLimits }) })
    const onTerminating = (namespace: string) => this.addAllOf(namespace)
    this.terminating = new TerminatingNamespaces({ client, namespaces, onTerminating, log })
    const departures = new Departures({
      streams,
      children,
      view,
      onLeft,
      isTerminating: (namespace) => this.terminating.has(namespace),
      ...(departureLimits && { limits: departureLimits }),
    })
    const statuses = new StatusWriter({ applier, recorder })
    const scales = new DeploymentScales({ client, view, turns })
    this.stateChanges = new StateChanges((key) => this.controllers.agents.add(key))
    this.scaler = new Scaler({
      mail: new BrokerMail(link, log),
      workloads: scales,
      meter: scalingMeter(metrics, (agent) => this.stateChanges.forget(agent)),
      log,
      onState: (agent) => {
        const state = this.scaler.state(agent)
        if (state) this.stateChanges.note(agent, `${state.active} ${state.replicas}`)
      },
      onStreamMissing: (agent) => {
        keeper.forget({ kind: 'agent', ...agent })
        this.controllers.agents.add(refKey(agent))
      },
    })
    this.toolNames = new ToolNames({ link, log, onChange: (server) => this.controllers.mcpServers.add(refKey(server)) })
    this.toolChanges = new StateChanges((key) => this.controllers.mcpServers.add(key))
    this.toolBacklogs = new ToolBacklogs({
      link,
      log,
      onChange: (server, backlog) => this.toolChanges.note(server, backlog === undefined ? 'unknown' : 'known'),
      onMissing: (server) => {
        keeper.forget({ kind: 'tool', ...server })
        this.controllers.mcpServers.add(refKey(server))
      },
      onForgotten: (server) => this.toolChanges.forget(server),
    })
    const shared = { installation, client, view, streams, keeper, departures, children, statuses }
    const scalingOf = (agent: ResourceRef) => (this.stateChanges.hasTold(agent) ? this.scaler.state(agent) : undefined)
    const agents = new AgentReconciler({ ...shared, scaler: this.scaler, scales, scalingOf })
    const mcpServers = new McpServerReconciler({ ...shared, toolNames: this.toolNames, toolBacklogs: this.toolBacklogs })
    const modelApis = new ModelApiReconciler(shared)
    this.controllers = {
      agents: this.controller('Agent', view.agents, agents),
      mcpServers: this.controller('MCPServer', view.mcpServers, mcpServers),
      modelApis: this.controller('ModelAPI', view.modelApis, modelApis),
    }
    this.measure()
  }

  /** Resolves when everything is known and looked after. Throws `cluster_unreachable`. */
  async start(): Promise<void> {
    const { view, link } = this.options
    const { agents, mcpServers } = this.controllers
    // All of it, before anything is looked at: what is only not read yet would be taken for gone, and an agent be told that its peers are.
    await view.whenSynced(CONTROLLER_LIMITS.syncMs)
    await Promise.all(Object.values(this.controllers).map((controller) => controller.start()))
    this.onChange(view.modelApis, ({ object }) => addAll(agents, view.agentsWithModelApi(object)))
    this.onChange(view.mcpServers, ({ object }) => addAll(agents, view.agentsWithMcpServer(object)))
    this.onChange(view.agents, ({ object }) => addAll(agents, view.agentsWithPeer(object)))
    this.onChange(
      view.registry,
      () => addAll(mcpServers, view.mcpServers.store.list()),
      () => true,
    )
    // The key that a ModelAPI asks for comes after the ModelAPI.
    this.onChange(
      view.children(SECRETS),
      ({ object }) => {
        const owner = controllerOf(object)
        if (owner?.kind !== 'ModelAPI') return
        addAll(agents, view.agentsWithModelApi({ ...object, metadata: { ...object.metadata, name: owner.name } }))
      },
      () => true,
    )
    // Its first look was perhaps before there was anything to scale.
    this.onChange(view.children(DEPLOYMENTS), ({ type }) => {
      if (type === 'added') this.lookLater()
    })
    this.scaler.start()
    this.retention = this.startRetention()
    // What could not be done without the broker; and it may be another one.
    this.ends.push(
      link.onConnect(() => {
        addAll(agents, view.agents.store.list())
        addAll(mcpServers, view.mcpServers.store.list())
      }),
    )
  }

  /** Begins nothing any more; what runs ends, or is aborted. */
  async stop(): Promise<void> {
    for (const end of this.ends.splice(0)) end()
    clearTimeout(this.look)
    this.stateChanges.stop()
    this.toolChanges.stop()
    this.toolBacklogs.close()
    await this.terminating.stop()
    const controllers = Object.values(this.controllers)
    await Promise.all([this.scaler.stop(), this.retention?.stop(), ...controllers.map((controller) => controller.stop())])
    this.toolNames.close()
    await within(LEADING_LIMITS.eventsMs, this.recorder.flush())
  }

  private startRetention(): Retention {
    const { link, namespaces, installation, metrics, log, retentionTimes } = this.options
    return startRetention({
      settings: link.settings,
      inboxPrefix: OPERATOR_INBOX,
      namespaces,
      days: installation.retention.days,
      log,
      onRun: (run, ms) => measureRetention(metrics, run, ms),
      ...retentionTimes,
    })
  }

  /** Whatever holds a finalizer there. */
  private addAllOf(namespace: string): void {
    const { agents, mcpServers } = this.options.view
    const isThere = ({ metadata }: KubeObject) => metadata.namespace === namespace
    addAll(this.controllers.agents, agents.store.list().filter(isThere))
    addAll(this.controllers.mcpServers, mcpServers.store.list().filter(isThere))
  }

  /** Once for all that come within this time: there may be a thousand new ones. */
  private lookLater(): void {
    this.look ??= setTimeout(() => {
      this.look = undefined
      void this.scaler.look()
    }, LEADING_LIMITS.lookAfterMs)
  }

  private controller(
    kind: OwnedKind,
    primary: Reflector,
    { reconcile, whilePaused }: Pick<ControllerOptions, 'reconcile' | 'whilePaused'>,
  ): Controller {
    const { view, metrics, log } = this.options
    const { drainMs, graceMs, deniedMs } = LEADING_LIMITS
    const children: readonly Watch[] = view.allChildren().map((reflector) => ({ reflector, keysOf: ownerKeys(kind) }))
    return new Controller({
      name: primary.resource.plural,
      primary,
      watches: [
        ...children,
        { reflector: view.pods, keysOf: podOwnerKeys(kind) },
        { reflector: view.registry, keysOf: () => [] },
      ],
      // What is not seen there would be taken for gone, or made again.
      reconcile: async (key, object, signal) => {
        const isDenied = object !== undefined && view.denied(object.metadata.namespace).length > 0
        return isDenied ? { afterMs: deniedMs } : reconcile(key, object, signal)
      },
      ...(whilePaused && { whilePaused }),
      onRun: ({ ms, waitedMs, failed }) => {
        metrics.observe('kaos_operator_reconcile_seconds', ms / 1_000, { kind, result: failed ? 'failed' : 'ok' })
        metrics.observe('kaos_operator_queue_wait_seconds', waitedMs / 1_000, { kind })
      },
      log,
      limits: { drainMs },
      queue: { graceMs },
    })
  }

  /** Of changes that come from now on, those that can concern somebody else: `matters` says it of updates. */
  private onChange(reflector: Reflector, handler: (change: Change) => void, matters = mattersToOthers): void {
    let isNew = false
    const end = reflector.subscribe((change) => {
      if (!isNew) return
      if (change.type === 'updated' && !matters(change.before, change.object)) return
      handler(change)
    })
    isNew = true
    this.ends.push(end)
  }

  private measure(): void {
    const { metrics, view } = this.options
    const queues = Object.values(this.controllers).map((controller) => controller.queue)
    const kinds = [view.agents, view.mcpServers, view.modelApis].map(({ resource }) => resource.kind)
    const each = (value: (queue: (typeof queues)[number]) => number) =>
      queues.map((queue, i) => [{ kind: kinds[i]! }, value(queue)] as const)
    metrics.gauge('kaos_tool_backlog', () =>
      [...this.toolBacklogs.all()].map(([{ namespace, name }, calls]) => [{ namespace, tool: name }, calls] as const),
    )
    metrics.gauge('kaos_operator_queue_depth', () => each(({ depth }) => depth))
    metrics.gauge('kaos_operator_queue_running', () => each(({ running }) => running))
    metrics.gauge('kaos_operator_queue_oldest_seconds', () => each(({ waitedMs }) => waitedMs / 1_000))
    metrics.gauge('kaos_operator_queue_failing', () => each(({ failing }) => failing))
  }
}

function measureRetention(metrics: Metrics, run: RetentionRun | undefined, ms: number): void {
  const result = run && run.failed === 0 ? 'ok' : 'failed'
  metrics.observe('kaos_operator_retention_seconds', ms / 1_000, { result })
  for (const what of ['traces', 'tasks', 'messages'] as const)
    metrics.add('kaos_operator_retention_removed_total', { what }, run?.[what] ?? 0)
}

function addAll(controller: Controller, objects: readonly KubeObject[]): void {
  for (const object of objects) controller.add(keyOf(object))
}

async function within(ms: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms)
  await Promise.race([work, promise])
  clearTimeout(timer)
}
