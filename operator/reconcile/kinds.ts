/** The kinds that the operator reads and writes, as the API server names them. */
import { apiVersion } from '../../manifests/metadata.ts'
import type { Resource } from '../kube/object.ts'

const named = (version: string, kind: string, plural: string): Resource => ({
  apiVersion: version,
  kind,
  plural,
  namespaced: true,
})

export const AGENTS = named(apiVersion, 'Agent', 'agents')
export const MCP_SERVERS = named(apiVersion, 'MCPServer', 'mcpservers')
export const MODEL_APIS = named(apiVersion, 'ModelAPI', 'modelapis')

export const SERVICE_ACCOUNTS = named('v1', 'ServiceAccount', 'serviceaccounts')
export const CONFIG_MAPS = named('v1', 'ConfigMap', 'configmaps')
export const SECRETS = named('v1', 'Secret', 'secrets')
export const DEPLOYMENTS = named('apps/v1', 'Deployment', 'deployments')
export const SERVICES = named('v1', 'Service', 'services')
export const NETWORK_POLICIES = named('networking.k8s.io/v1', 'NetworkPolicy', 'networkpolicies')
export const BUDGETS = named('policy/v1', 'PodDisruptionBudget', 'poddisruptionbudgets')
export const PODS = named('v1', 'Pod', 'pods')

/** Whatever may stand behind a resource, in the order in which it is made: what a pod reads is there before the pod. */
export const childKinds: readonly Resource[] = [
  SERVICE_ACCOUNTS,
  CONFIG_MAPS,
  SECRETS,
  DEPLOYMENTS,
  SERVICES,
  NETWORK_POLICIES,
  BUDGETS,
]
