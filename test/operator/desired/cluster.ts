/** Resources as an API server has them, and an installation, for tests of what stands behind them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { agentSchema } from '../../../manifests/kinds/agent.ts'
import { mcpServerSchema } from '../../../manifests/kinds/mcp-server.ts'
import { modelApiSchema } from '../../../manifests/kinds/model-api.ts'
import { type AgentCircumstances, desiredAgent } from '../../../operator/desired/agent.ts'
import { type Installation, readInstallation } from '../../../operator/desired/installation.ts'
import { desiredMcpServer } from '../../../operator/desired/mcp-server.ts'
import { desiredModelApi } from '../../../operator/desired/model-api.ts'
import type { ClusterAgent, ClusterMcpServer, ClusterModelApi, Plan } from '../../../operator/desired/plan.ts'
import { readRegistry } from '../../../operator/desired/runtimes.ts'
import type { KubeObject } from '../../../operator/kube/object.ts'

export const registryText = `
runtimes:
  python-string:
    type: python
    image: registry.test/mcp-python-string:1
    description: Functions in Python
    paramsEnvVar: MCP_TOOLS_STRING
    transport: http
  kubernetes:
    type: go
    image: registry.test/mcp-kubernetes:0.7.8
    args: ["--port", "8000"]
    transport: http
  slack:
    type: nodejs
    image: registry.test/mcp-slack:1
    command: ["--transport", "http", "--port", "8000"]
    requiredEnv: [SLACK_BOT_TOKEN, SLACK_TEAM_ID]
  broken:
    image: registry.test/discord:1
    transport: stdio
`
export const registry = readRegistry(registryText)

/** A Helm value each, as the operator reads them. */
export function installation(values: Record<string, unknown> = {}): Installation {
  return readInstallation({
    namespace: 'kaos-system',
    images: { host: 'registry.test/kaos:1', litellm: 'registry.test/litellm:1', ollama: 'registry.test/ollama:1' },
    broker: { url: 'nats://nats.kaos-system:4222' },
    ...values,
  })
}

type Spec = Record<string, unknown>

const metadata = (kind: string, name: string) => ({ name, namespace: 'team', uid: `uid-${kind}-${name}`, generation: 1 })
const heading = (kind: string, name: string) => ({ apiVersion: 'kaos.tools/v1alpha1', kind, metadata: metadata(kind, name) })

export function agent(name: string, spec: Spec = {}): ClusterAgent {
  return agentSchema.parse({
    ...heading('Agent', name),
    spec: { modelAPI: 'models', model: 'gpt-4o-mini', ...spec },
  }) as ClusterAgent
}

export function mcpServer(name: string, spec: Spec = {}): ClusterMcpServer {
  return mcpServerSchema.parse({ ...heading('MCPServer', name), spec: { runtime: 'echo', ...spec } }) as ClusterMcpServer
}

export function proxy(proxyConfig: Spec = {}, more: Spec = {}): ClusterModelApi {
  const spec = { mode: 'Proxy', proxyConfig: { models: ['*'], ...proxyConfig }, ...more }
  return modelApiSchema.parse({ ...heading('ModelAPI', 'models'), spec }) as ClusterModelApi
}

export function hosted(model = 'smollm2:135m', more: Spec = {}): ClusterModelApi {
  const spec = { mode: 'Hosted', hostedConfig: { model }, ...more }
  return modelApiSchema.parse({ ...heading('ModelAPI', 'models'), spec }) as ClusterModelApi
}

export interface Cluster {
  readonly agents: readonly ClusterAgent[]
  readonly mcpServers: readonly ClusterMcpServer[]
  readonly modelApis: readonly ClusterModelApi[]
}

/** A manifest of KAOS's own fields, as applied. */
export function sample(file: string): Cluster {
  const text = readFileSync(join(import.meta.dirname, '..', '..', 'manifests', 'kaos', file), 'utf8')
  const objects = parseAllDocuments(text, { merge: true }).map((document) => document.toJS() as KubeObject)
  const applied = objects.map((object) => ({
    ...object,
    metadata: { ...object.metadata, uid: `uid-${object.kind}-${object.metadata.name}` },
  }))
  const all = <Resource>(kind: string, schema: { parse(value: unknown): unknown }) =>
    applied.filter((object) => object.kind === kind).map((object) => schema.parse(object) as Resource)
  return {
    agents: all('Agent', agentSchema),
    mcpServers: all('MCPServer', mcpServerSchema),
    modelApis: all('ModelAPI', modelApiSchema),
  }
}

const isReady = true

export function dependenciesOf({ agents, mcpServers, modelApis }: Cluster): AgentCircumstances['dependencies'] {
  return {
    peers: agents,
    mcpServers: mcpServers.map((resource) => ({ resource, isReady })),
    modelApis: modelApis.map((resource) => ({ resource, isReady })),
  }
}

/** With everything ready, of one pod. */
export function planAgent(
  subject: ClusterAgent,
  around: Partial<Cluster> = {},
  circumstances: Partial<AgentCircumstances> = {},
): Plan {
  const cluster = { agents: [], mcpServers: [], modelApis: [proxy()], ...around }
  return desiredAgent(subject, {
    dependencies: dependenciesOf(cluster),
    installation: installation(),
    replicas: 1,
    isRunning: false,
    ...circumstances,
  })
}

export function planServer(subject: ClusterMcpServer, values: Record<string, unknown> = {}): Plan {
  return desiredMcpServer(subject, { installation: installation(values), registry })
}

export function planApi(subject: ClusterModelApi, values: Record<string, unknown> = {}): Plan {
  return desiredModelApi(subject, { installation: installation(values) })
}

/** Throws with the answer when there are none. */
export function childrenOf(plan: Plan): readonly KubeObject[] {
  if (plan.is === 'children') return plan.objects
  throw new Error(`${plan.is}: ${plan.reason}: ${plan.message}`)
}

interface EnvVar {
  readonly name: string
  readonly value?: string
  readonly valueFrom?: Record<string, unknown>
}

interface ContainerSpec {
  readonly name: string
  readonly image: string
  readonly command?: readonly string[]
  readonly args?: readonly string[]
  readonly env: readonly EnvVar[]
  readonly resources?: unknown
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
  readonly securityContext: Record<string, unknown>
}

export interface PodSpec {
  readonly containers: readonly ContainerSpec[]
  readonly initContainers?: readonly ContainerSpec[]
  readonly volumes: readonly Record<string, unknown>[]
  readonly serviceAccountName?: string
  readonly automountServiceAccountToken: boolean
  readonly securityContext: Record<string, unknown>
  readonly [field: string]: unknown
}

interface DeploymentSpec {
  readonly replicas?: number
  readonly strategy?: unknown
  readonly template: { readonly metadata: { readonly annotations: Record<string, string> }; readonly spec: PodSpec }
}

export function child(plan: Plan, kind: string): KubeObject | undefined {
  return childrenOf(plan).find((object) => object.kind === kind)
}

export function deployment(plan: Plan): DeploymentSpec {
  return child(plan, 'Deployment')!.spec as DeploymentSpec
}

export function pod(plan: Plan): PodSpec {
  return deployment(plan).template.spec
}

export function container(plan: Plan, name?: string): ContainerSpec {
  const { containers, initContainers = [] } = pod(plan)
  return [...containers, ...initContainers].find((each) => name === undefined || each.name === name)!
}

/** Variables of the first container, or of the one named: name to value, or to the kind of its source. */
export function env(plan: Plan, name?: string): Record<string, string> {
  const source = (from: Record<string, unknown> | undefined) => (from === undefined ? '' : Object.keys(from).join())
  return Object.fromEntries(container(plan, name).env.map((each) => [each.name, each.value ?? source(each.valueFrom)]))
}

/** The text of the only ConfigMap. */
export function configText(plan: Plan): string {
  return Object.values(child(plan, 'ConfigMap')!.data as Record<string, string>).join()
}
