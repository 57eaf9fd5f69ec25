/** The status of an MCPServer. */
import type { McpServerStatus } from '../../manifests/crd/status.ts'
import { selectorText, serviceUrl } from '../desired/names.ts'
import type { ClusterMcpServer } from '../desired/plan.ts'
import type { Moment } from './conditions.ts'
import { type Seen, sharedStatus } from './ready.ts'

/** The CRD takes no more names. */
const TOOLS_MAX = 10_000

export interface McpServerSeen extends Omit<Seen, 'before' | 'isExternal' | 'asleep'> {
  /** Names of its tools, as it announced them; absent: not yet. */
  readonly tools?: readonly string[] | undefined
  readonly backlog?: number | undefined
  readonly clusterDomain: string
  readonly status?: McpServerStatus | undefined
}

export function mcpServerStatus({ metadata }: ClusterMcpServer, seen: McpServerSeen, moment: Moment): McpServerStatus {
  const { tools, backlog, clusterDomain, status } = seen
  const { phase, ...shared } = sharedStatus({ ...seen, before: status?.conditions ?? [] }, moment, {})
  return {
    ...shared,
    phase: phase === 'Waiting' ? 'Pending' : phase,
    endpoint: serviceUrl('MCPServer', metadata, clusterDomain),
    selector: selectorText('MCPServer', metadata.name),
    ...(tools && { availableTools: [...new Set(tools)].toSorted().slice(0, TOOLS_MAX) }),
    ...(backlog !== undefined && { backlog }),
  }
}
