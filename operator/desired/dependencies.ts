/** Whether an agent may start: what it depends on, as it is found. Decides, and asks nobody. */
import { offeredModels, offersModel } from '../../manifests/kinds/model-api.ts'
import type { Finding, Reason } from '../status/reasons.ts'
import { isGivenKey } from './agent-environment.ts'
import { type ClusterAgent, type ClusterMcpServer, type ClusterModelApi, namedIn } from './plan.ts'

/** A resource and whether its Ready condition is true. */
export interface Found<Resource> {
  readonly resource: Resource
  readonly isReady: boolean
}

export interface FoundModelApi extends Found<ClusterModelApi> {
  /** The key that is made for its callers is not there yet, or is still that of another one of its name. Default false. */
  readonly isKeyMissing?: boolean
}

/** Whatever is there of the same namespace, in any order; more than the agent names does no harm. */
export interface AgentDependencies {
  readonly modelApis: readonly FoundModelApi[]
  readonly mcpServers: readonly Found<ClusterMcpServer>[]
  readonly peers: readonly ClusterAgent[]
}

export type Verdict =
  | { readonly is: 'go'; readonly unmet: readonly Finding[] }
  | { readonly is: 'waiting' | 'refused'; readonly reason: Reason; readonly message: string }

/**
 * A ModelAPI that is not there, does not offer the model, or has no key for the agent yet, stops the agent in any case. One that
 * is not ready, and MCPServers, stop only its first start, and only with waitForDependencies: pods that run go on, for what they ask
 * waits as mail. Peers stop nothing.
 *
 * @param isRunning Its Deployment is there.
 */
export function judgeDependencies(agent: ClusterAgent, dependencies: AgentDependencies, isRunning: boolean): Verdict {
  const { spec, metadata } = agent
  const api: FoundModelApi | undefined =
    spec.modelAPI === undefined ? undefined : found(dependencies.modelApis, spec.modelAPI, metadata.namespace)
  if (spec.modelAPI !== undefined) {
    if (!api)
      return {
        is: 'waiting',
        reason: 'ModelAPINotFound',
        message: `no ModelAPI "${spec.modelAPI}" in namespace "${metadata.namespace}": create it, or correct spec.modelAPI`,
      }
    const offered = offeredModels(api.resource.spec)
    if (!offersModel(offered, spec.model!)) {
      const message = `ModelAPI "${spec.modelAPI}" does not offer the model "${spec.model}" of spec.model; it offers ${offered.join(', ') || 'none'}: add it to spec.proxyConfig.models there, or change spec.model`
      return { is: 'refused', reason: 'ModelNotOffered', message }
    }
    if (api.isKeyMissing && isGivenKey(agent, api.resource))
      return { is: 'waiting', reason: 'WaitingForModelAPI', message: `the key of ModelAPI "${spec.modelAPI}" is not made yet` }
  }
  const blocking = [...unreadyModel(spec.modelAPI, api), ...unreadyServers(agent, dependencies)]
  const [first] = blocking
  if (first && spec.waitForDependencies && !isRunning) {
    return { is: 'waiting', reason: first.reason, message: blocking.map(({ message }) => message).join('; ') }
  }
  return { is: 'go', unmet: [...blocking, ...missingPeers(agent, dependencies)] }
}

function unreadyModel(name: string | undefined, api: Found<ClusterModelApi> | undefined): readonly Finding[] {
  if (name === undefined || api?.isReady) return []
  return [{ reason: 'WaitingForModelAPI', message: `ModelAPI "${name}" is not ready` }]
}

function unreadyServers({ spec, metadata }: ClusterAgent, { mcpServers }: AgentDependencies): readonly Finding[] {
  return spec.mcpServers.flatMap((name): readonly Finding[] => {
    const server = found(mcpServers, name, metadata.namespace)
    if (!server) {
      const message = `no MCPServer "${name}" in namespace "${metadata.namespace}": create it, or correct spec.mcpServers`
      return [{ reason: 'MCPServerNotFound', message }]
    }
    return server.isReady ? [] : [{ reason: 'MCPServerNotReady', message: `MCPServer "${name}" is not ready` }]
  })
}

function missingPeers(agent: ClusterAgent, { peers }: AgentDependencies): readonly Finding[] {
  const { namespace } = agent.metadata
  const missing = agent.spec.agentNetwork.access.filter((name) => !namedIn(peers, name, namespace))
  return missing.map((name) => ({
    reason: 'PeerNotFound',
    message: `no Agent "${name}" in namespace "${namespace}"; it is left out`,
  }))
}

function found<Resource extends ClusterMcpServer | ClusterModelApi>(
  list: readonly Found<Resource>[],
  name: string,
  namespace: string,
): Found<Resource> | undefined {
  return list.find(({ resource: { metadata } }) => metadata.name === name && metadata.namespace === namespace)
}
