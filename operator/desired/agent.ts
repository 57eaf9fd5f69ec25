/**
 * What stands behind an Agent: ServiceAccount, ConfigMap, Deployment, and as far as wanted Service, NetworkPolicy and
 * PodDisruptionBudget.
 */
import type { KubeObject } from '../kube/object.ts'
import { agentVars, hasGeneratedKey, isGivenKey } from './agent-environment.ts'
import { type AgentDependencies, judgeDependencies } from './dependencies.ts'
import type { Installation } from './installation.ts'
import { agentManifest, hostArgs, MANIFEST_KEY, manifestMount, manifestVolume } from './manifest.ts'
import { containerName, HTTP_PORT, hashOf, KEY_OWNER_ANNOTATION, selectorOf, workloadName } from './names.ts'
import { networkPolicyOf } from './network.ts'
import { type ClusterAgent, type ClusterModelApi, childMeta, type Plan, planned, RefusedError } from './plan.ts'
import { brokerAccess } from './pod/environment.ts'
import { type Container, configMapOf, deploymentOf, HOST_GRACE_SECONDS, httpProbe, serviceOf } from './pod/pod.ts'
import { type EffectiveTelemetry, effectiveTelemetry } from './pod/telemetry.ts'

export interface AgentCircumstances {
  readonly dependencies: AgentDependencies
  readonly installation: Installation
  /** Pods that its Deployment is to ask for. */
  readonly replicas: number
  /** Its Deployment is there: then dependencies that are not ready no longer hold it back. */
  readonly isRunning: boolean
}

/** Pure: the same for the same, in whatever order the dependencies are. An external agent has no children. */
export function desiredAgent(agent: ClusterAgent, circumstances: AgentCircumstances): Plan {
  const { dependencies, installation, isRunning } = circumstances
  const { spec, metadata } = agent
  const telemetry = effectiveTelemetry(spec.telemetry ?? spec.config.telemetry, installation)
  if (spec.external) return { is: 'children', objects: [], secrets: [], unmet: [], telemetry }
  const verdict = judgeDependencies(agent, dependencies, isRunning)
  if (verdict.is !== 'go') return { ...verdict, telemetry }
  return planned(telemetry, () => {
    if (spec.mcpServers.includes(metadata.name)) {
      throw new RefusedError(
        'SpecInvalid',
        `spec.mcpServers names "${metadata.name}", which is the name of the agent too: its pod could not tell them apart, so rename one`,
      )
    }
    return { objects: childrenOf(agent, telemetry, circumstances), secrets: [], unmet: verdict.unmet }
  })
}

function childrenOf(
  agent: ClusterAgent,
  telemetry: EffectiveTelemetry,
  circumstances: AgentCircumstances,
): readonly KubeObject[] {
  const { dependencies, installation, replicas } = circumstances
  const { spec, metadata } = agent
  const name = workloadName('Agent', metadata.name)
  const isNeighbour = (other: { readonly metadata: { readonly namespace: string } }) =>
    other.metadata.namespace === metadata.namespace
  const peers = dependencies.peers.filter((peer) => isNeighbour(peer) && spec.agentNetwork.access.includes(peer.metadata.name))
  const modelApi = dependencies.modelApis
    .map(({ resource }) => resource)
    .find((api) => isNeighbour(api) && api.metadata.name === spec.modelAPI)
  const manifest = agentManifest(agent, { peers, workingDir: spec.container?.workingDir ?? installation.workingDir })
  const access = brokerAccess(installation)
  const env = agentVars(agent, { modelApi, peers: peers.map((peer) => peer.metadata.name), telemetry, installation })
  const workload = {
    name,
    configHash: hashOf([manifest]),
    annotations: keyOwner(agent, modelApi),
    replicas,
    pod: {
      main: { ...hostContainer(metadata.name, installation), env, volumeMounts: [manifestMount, ...access.volumeMounts] },
      volumes: [manifestVolume(name), ...access.volumes],
      serviceAccountName: name,
      graceSeconds: HOST_GRACE_SECONDS,
    },
  }
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: childMeta(agent, name), automountServiceAccountToken: false },
    configMapOf(agent, name, { [MANIFEST_KEY]: manifest }),
    deploymentOf(agent, workload, installation),
    ...(spec.agentNetwork.expose ? [serviceOf(agent, name, HTTP_PORT)] : []),
    ...(installation.networkPolicy.enabled
      ? [networkPolicyOf(agent, { modelApi, telemetryUrl: telemetry.url }, installation)]
      : []),
    ...(replicas >= 2 ? [disruptionBudget(agent, name)] : []),
  ]
}

function keyOwner(agent: ClusterAgent, modelApi: ClusterModelApi | undefined): Readonly<Record<string, string>> {
  const uid = modelApi?.metadata.uid
  if (!modelApi || typeof uid !== 'string' || !isGivenKey(agent, modelApi) || !hasGeneratedKey(modelApi)) return {}
  return { [KEY_OWNER_ANNOTATION]: uid }
}

function hostContainer(name: string, installation: Installation): Omit<Container, 'env' | 'volumeMounts'> {
  return {
    name: containerName('Agent'),
    image: installation.images.host,
    command: installation.hostCommand,
    args: hostArgs(name),
    ports: [{ name: 'http', containerPort: HTTP_PORT, protocol: 'TCP' }],
    resources: installation.resources.agent,
    // Work is pulled whether or not the pod is ready; only callers of HTTP wait for it.
    livenessProbe: httpProbe('/health', HTTP_PORT, {
      initialDelaySeconds: 5,
      periodSeconds: 10,
      timeoutSeconds: 3,
      failureThreshold: 3,
    }),
    readinessProbe: httpProbe('/ready', HTTP_PORT, {
      initialDelaySeconds: 1,
      periodSeconds: 2,
      timeoutSeconds: 2,
      failureThreshold: 3,
    }),
  }
}

function disruptionBudget(agent: ClusterAgent, name: string): KubeObject {
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: childMeta(agent, name),
    spec: { maxUnavailable: 1, selector: { matchLabels: selectorOf('Agent', agent.metadata.name) } },
  }
}
