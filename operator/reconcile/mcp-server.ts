/** What one look at an MCPServer does: streams, children and status, from what is there now. */

import type { StreamKeeper } from '../broker/streams.ts'
import type { ToolNames } from '../broker/tool-names.ts'
import type { Installation } from '../desired/installation.ts'
import { desiredMcpServer } from '../desired/mcp-server.ts'
import { readRegistry } from '../desired/runtimes.ts'
import { type KubeObject, splitKey } from '../kube/object.ts'
import type { Outcome } from '../queue.ts'
import { mcpServerStatus } from '../status/mcp-server.ts'
import { unreadableStatus } from '../status/ready.ts'
import { readWorkload } from '../status/workload.ts'
import type { Children } from './children.ts'
import type { ClusterView } from './cluster-view.ts'
import { MCP_SERVERS } from './kinds.ts'
import type { StatusWriter } from './status-writer.ts'
import { conditionsOf, mcpServerStatusOf, readMcpServer } from './stored.ts'
import type { Streams } from './streams.ts'

const REFUSED_AGAIN_MS = 60_000

export interface McpServerReconcilerOptions {
  readonly installation: Installation
  readonly view: ClusterView
  readonly streams: Streams
  readonly keeper: Pick<StreamKeeper, 'forget'>
  readonly children: Children
  readonly toolNames: Pick<ToolNames, 'of' | 'forget'>
  readonly statuses: StatusWriter
}

export class McpServerReconciler {
  private readonly options: McpServerReconcilerOptions

  constructor(options: McpServerReconcilerOptions) {
    this.options = options
  }

  readonly reconcile = async (key: string, object: KubeObject | undefined, signal: AbortSignal): Promise<Outcome> => {
    const { installation, view, streams, keeper, children, toolNames, statuses } = this.options
    const { namespace = '', name } = splitKey(key)
    const owner = { kind: 'tool', namespace, name } as const
    if (!object) {
      keeper.forget(owner)
      toolNames.forget(owner)
      return
    }
    if (object.metadata.deletionTimestamp !== undefined) return streams.release(MCP_SERVERS, object, owner, signal)
    const workload = (deployment: KubeObject | undefined) => readWorkload(deployment, view.podsOf('MCPServer', object))
    const stored = readMcpServer(object)
    if ('problem' in stored) {
      const seen = statuses.latest(object)
      const status = unreadableStatus(stored.problem, conditionsOf(seen), statuses.moment(seen))
      return statuses.write(MCP_SERVERS, seen, status, signal)
    }
    const server = stored.resource
    const streamsView = await streams.ensure(MCP_SERVERS, object, owner, signal)
    const planned = desiredMcpServer(server, { installation, registry: readRegistry(view.registryText()) })
    const mayStart = streamsView.is === 'created' || children.deploymentOf(object) !== undefined
    const { plan, deployment, mayPass } = mayStart
      ? await children.carryOut(object, planned, { signal })
      : { plan: planned, deployment: undefined, mayPass: false }
    const tools = await toolNames.of(owner)
    const seen = statuses.latest(object)
    const status = mcpServerStatus(
      server,
      {
        plan,
        workload: workload(deployment),
        streams: streamsView,
        tools,
        clusterDomain: installation.clusterDomain,
        status: mcpServerStatusOf(seen),
      },
      statuses.moment(seen),
    )
    await statuses.write(MCP_SERVERS, seen, status, signal)
    return { afterMs: mayPass ? REFUSED_AGAIN_MS : streams.retryAfterMs(streamsView) }
  }
}
