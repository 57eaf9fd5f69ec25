/**
 * Names, labels, ports and addresses of what stands behind a resource: those of KAOS, so that what finds them there finds them
 * here.
 */
import { createHash } from 'node:crypto'

export type OwnedKind = 'Agent' | 'MCPServer' | 'ModelAPI'

interface KindNames {
  /** Value of the label `app`, key of the label with the name, and what names begin with. */
  readonly prefix: string
  /** The container that a resource's `container` changes. */
  readonly container: string
}

const kindNames: Readonly<Record<OwnedKind, KindNames>> = {
  Agent: { prefix: 'agent', container: 'agent' },
  MCPServer: { prefix: 'mcpserver', container: 'mcp-server' },
  ModelAPI: { prefix: 'modelapi', container: 'model-api' },
}

/** HTTP of agents, tool servers and model proxies. */
export const HTTP_PORT = 8_000
/** Health of the tool server beside a runtime, which has HTTP_PORT for itself. */
export const SIDECAR_PORT = 8_001
/** Where an Ollama serves. */
export const OLLAMA_PORT = 11_434

export const SIDECAR = 'tool-server'
export const INIT_CONTAINER = 'pull-model'
export const MANAGED_BY = 'kaos-operator'
export const MANAGED_BY_LABEL = 'app.kubernetes.io/managed-by'
/** On pod templates: a change of what the pods read at their start rolls them. */
export const CONFIG_HASH_ANNOTATION = 'kaos.tools/config-hash'
/** On pod templates of agents: uid of the ModelAPI whose key they are given. One that is made anew under the same name has another key. */
export const KEY_OWNER_ANNOTATION = 'kaos.tools/model-api-uid'

/** Of Deployment, Service, ServiceAccount, NetworkPolicy, PodDisruptionBudget and of the ConfigMap with the manifest. */
export function workloadName(kind: OwnedKind, name: string): string {
  return `${kindNames[kind].prefix}-${name}`
}

export function containerName(kind: OwnedKind): string {
  return kindNames[kind].container
}

export function litellmConfigName(modelApi: string): string {
  return `litellm-config-${modelApi}`
}

/** The Secret with the key that the proxy asks of its callers. */
export function masterKeySecretName(modelApi: string): string {
  return `${workloadName('ModelAPI', modelApi)}-master-key`
}
export const MASTER_KEY = 'master-key'

/** The Secret with a key that stands in the manifest, so that it stands nowhere else. */
export function apiKeySecretName(modelApi: string): string {
  return `${workloadName('ModelAPI', modelApi)}-api-key`
}
export const API_KEY = 'api-key'

/** What selects the pods. A Deployment's selector cannot be changed, so this cannot either. */
export function selectorOf(kind: OwnedKind, name: string): Readonly<Record<string, string>> {
  const { prefix } = kindNames[kind]
  return { app: prefix, [prefix]: name }
}

/** The selector as the scale subresource has it. */
export function selectorText(kind: OwnedKind, name: string): string {
  return Object.entries(selectorOf(kind, name))
    .map(([key, value]) => `${key}=${value}`)
    .join(',')
}

/** Of every child. Nothing in them changes with a version of the operator: pods would roll. */
export function labelsOf(kind: OwnedKind, name: string): Readonly<Record<string, string>> {
  return { ...selectorOf(kind, name), [MANAGED_BY_LABEL]: MANAGED_BY, 'app.kubernetes.io/part-of': 'kaos' }
}

export interface Place {
  readonly name: string
  readonly namespace: string
}

/** `http://agent-coordinator.default.svc.cluster.local:8000`, without a path. */
export function serviceUrl(kind: OwnedKind, { name, namespace }: Place, clusterDomain: string, port: number = HTTP_PORT): string {
  return `http://${workloadName(kind, name)}.${namespace}.svc.${clusterDomain}:${port}`
}

/** 16 hex digits that change with any of the texts. */
export function hashOf(texts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(texts)).digest('hex').slice(0, 16)
}
