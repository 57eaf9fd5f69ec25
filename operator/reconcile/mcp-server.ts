/** What one look at an MCPServer does: streams, children and status, from what is there now. */
import type { McpServerStatus } from '../../manifests/crd/status.ts'
import { refOf } from '../broker/owner.ts'
import type { StreamKeeper } from '../broker/streams.ts'
import type { ToolBacklogs } from '../broker/tool-backlogs.ts'
import type { ToolNames } from '../broker/tool-names.ts'
import type { Installation } from '../desired/installation.ts'
import { desiredMcpServer } from '../desired/mcp-server.ts'
import type { ClusterMcpServer } from '../desired/plan.ts'
import { readRegistry } from '../desired/runtimes.ts'
import type { KubeClient } from '../kube/client.ts'
import type { KubeObject } from '../kube/object.ts'
import { withMissingMounts } from '../mounts.ts'
import { type Outcome, soonest } from '../queue.ts'
import type { Moment } from '../status/conditions.ts'
import { mcpServerStatus } from '../status/mcp-server.ts'
import { readWorkload } from '../status/workload.ts'
import type { Children } from './children.ts'
import type { ClusterView } from './cluster-view.ts'
import type { Departures } from './departures.ts'
import { MCP_SERVERS } from './kinds.ts'
import type { StatusWriter } from './status-writer.ts'
import { readMcpServer } from './stored.ts'
import type { Streams } from './streams.ts'

export interface McpServerReconcilerOptions {
  readonly installation: Installation
  readonly client: KubeClient
  readonly view: ClusterView
  readonly streams: Streams
  readonly keeper: Pick<StreamKeeper, 'forget'>
  readonly departures: Departures
  readonly children: Children
  readonly toolNames: Pick<ToolNames, 'of' | 'forget'>
  readonly toolBacklogs: Pick<ToolBacklogs, 'watch' | 'of' | 'forget'>
  readonly statuses: StatusWriter
}

export class McpServerReconciler {
  private readonly options: McpServerReconcilerOptions

  constructor(options: McpServerReconcilerOptions) {
    this.options = options
  }

  readonly reconcile = async (key: string, object: KubeObject | undefined, signal: AbortSignal): Promise<Outcome> => {
    const { departures, keeper, toolNames, toolBacklogs, statuses } = this.options
    const ref = refOf(key)
    if (!object || departures.isLeaving(object)) {
      toolBacklogs.forget(ref)
      if (object) return departures.carryOut(MCP_SERVERS, object, signal)
      toolNames.forget(ref)
      keeper.forget({ kind: 'tool', ...ref })
      return
    }
    const stored = readMcpServer(object)
    if ('problem' in stored) return statuses.writeUnreadable(MCP_SERVERS, object, stored.problem, signal)
    return this.keep(object, stored.resource, signal)
  }

  readonly whilePaused = async (key: string, object: KubeObject, signal: AbortSignal): Promise<Outcome> => {
    const { departures, toolBacklogs, statuses } = this.options
    toolBacklogs.forget(refOf(key))
    if (departures.isLeaving(object)) return departures.carryOut(MCP_SERVERS, object, signal)
    return statuses.writePaused(MCP_SERVERS, object, signal)
  }

  private async keep(object: KubeObject, server: ClusterMcpServer, signal: AbortSignal): Promise<Outcome> {
    const { installation, client, view, streams, children, toolNames, toolBacklogs, statuses } = this.options
    const { namespace, name } = server.metadata
    const ref = { namespace, name }
    const streamsView = await streams.ensure(MCP_SERVERS, object, { kind: 'tool', ...ref }, signal)
    const planned = desiredMcpServer(server, { installation, registry: readRegistry(view.registryText()) })
    const mayStart = streamsView.is === 'created' || children.deploymentOf(object) !== undefined
    const carriedOut = mayStart ? await children.carryOut(object, planned, { signal }) : { plan: planned }
    toolBacklogs.watch(ref)
    const found = readWorkload(carriedOut.deployment, view.podsOf('MCPServer', object))
    const workload = await withMissingMounts(found, carriedOut.deployment, { client, signal })
    const seen = {
      plan: carriedOut.plan,
      workload,
      streams: streamsView,
      tools: await toolNames.of(ref),
      clusterDomain: installation.clusterDomain,
    }
    const compose = (status: McpServerStatus | undefined, moment: Moment) =>
      mcpServerStatus(server, { ...seen, backlog: toolBacklogs.of(ref, status?.backlog), status }, moment)
    await statuses.write(MCP_SERVERS, object, compose, signal)
    return soonest(carriedOut.retryAfterMs, streams.retryAfterMs(streamsView), workload.lookAgainMs)
  }
}
