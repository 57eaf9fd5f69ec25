/**
 * What the operator sees of the cluster: a store for each kind that it declares things in or makes. Whoever reconciles reads here and asks the
 * API server nothing. Followers keep it as well, so that a new leader can begin at once.
 */
import type { Logger } from '../../telemetry/log.ts'
import { MANAGED_BY, MANAGED_BY_LABEL, type OwnedKind, selectorOf } from '../desired/names.ts'
import { REGISTRY_CONFIG_MAP, REGISTRY_KEY } from '../desired/runtimes.ts'
import type { KubeClient } from '../kube/client.ts'
import { controllerOf, type KubeObject, keyOf, type Resource } from '../kube/object.ts'
import { Reflector, type ReflectorOptions, type Restart } from '../kube/reflector.ts'
import type { Indexer } from '../kube/store.ts'
import { AGENTS, CONFIG_MAPS, childKinds, DEPLOYMENTS, MCP_SERVERS, MODEL_APIS, PODS, SECRETS } from './kinds.ts'

export interface ClusterViewOptions {
  readonly client: KubeClient
  /** Namespaces whose resources are kept; absent: all. */
  readonly namespaces?: readonly string[] | undefined
  /** Of the operator: where the registry of runtimes stands. */
  readonly systemNamespace: string
  readonly log: Logger
  readonly onRestart?: (kind: string, why: Restart) => void
  readonly limits?: ReflectorOptions['limits']
}

/** Names of indexes: agents by what they name, children by the uid of their controller, pods by the workload that they belong to. */
const BY_MODEL_API = 'modelAPI'
const BY_MCP_SERVER = 'mcpServer'
const BY_PEER = 'peer'
const BY_OWNER = 'owner'
const BY_WORKLOAD = 'workload'

interface AgentReferences {
  readonly modelAPI?: string
  readonly mcpServers?: readonly string[]
  readonly agentNetwork?: { readonly access?: readonly string[] }
}

/** Objects of one namespace, by the names that an agent says. */
const naming =
  (names: (spec: AgentReferences) => readonly string[]): Indexer =>
  ({ metadata, spec }) =>
    names((spec ?? {}) as AgentReferences).map((name) => placeKey(metadata.namespace, name))

const ofOwner: Indexer = (object) => {
  const uid = controllerOf(object)?.uid
  return uid === undefined ? [] : [uid]
}

export class ClusterView {
  readonly agents: Reflector
  readonly mcpServers: Reflector
  readonly modelApis: Reflector
  readonly pods: Reflector
  /** Of the ConfigMap with the registry of runtimes, and nothing else. */
  readonly registry: Reflector
  private readonly childrenByKind: ReadonlyMap<string, Reflector>

  constructor({ client, namespaces, systemNamespace, log, onRestart, limits }: ClusterViewOptions) {
    const follow = (resource: Resource, more: Partial<ConstructorParameters<typeof Reflector>[0]> = {}) =>
      new Reflector({
        client,
        resource,
        namespaces,
        // One of many must not hold up the others: its Role goes with it when it is deleted.
        canBeDenied: true,
        log,
        ...(limits && { limits }),
        ...(onRestart && { onRestart: (why: Restart) => onRestart(resource.kind, why) }),
        ...more,
      })
    const labelSelector = `${MANAGED_BY_LABEL}=${MANAGED_BY}`
    this.agents = follow(AGENTS, {
      indexers: {
        [BY_MODEL_API]: naming(({ modelAPI }) => (modelAPI === undefined ? [] : [modelAPI])),
        [BY_MCP_SERVER]: naming(({ mcpServers = [] }) => mcpServers),
        [BY_PEER]: naming(({ agentNetwork }) => agentNetwork?.access ?? []),
      },
    })
    this.mcpServers = follow(MCP_SERVERS)
    this.modelApis = follow(MODEL_APIS)
    this.pods = follow(PODS, { selection: { labelSelector }, indexers: { [BY_WORKLOAD]: workloadOf }, trim: podInBrief })
    this.registry = follow(CONFIG_MAPS, {
      namespaces: [systemNamespace],
      canBeDenied: false,
      selection: { fieldSelector: `metadata.name=${REGISTRY_CONFIG_MAP}` },
    })
    this.childrenByKind = new Map(
      childKinds.map((resource) => {
        // Content of Secrets does not belong into this process.
        const selection = { labelSelector, isMetadataOnly: resource === SECRETS }
        return [resource.kind, follow(resource, { selection, indexers: { [BY_OWNER]: ofOwner } })] as const
      }),
    )
  }

  start(): void {
    for (const reflector of this.all()) reflector.start()
  }

  async stop(): Promise<void> {
    await Promise.all(this.all().map((reflector) => reflector.stop()))
  }

  /** Every kind was read completely. Throws `cluster_unreachable`, which names one that was not. */
  async whenSynced(deadlineMs: number): Promise<void> {
    await Promise.all(this.all().map((reflector) => reflector.whenSynced(deadlineMs)))
  }

  /** Kinds that were never read completely. */
  unsynced(): readonly string[] {
    return this.all()
      .filter((reflector) => !reflector.isSynced)
      .map(({ resource }) => resource.plural)
  }

  /** Kinds of this namespace that we may not read now. With one of them missing, what others show would be taken for all that there is. */
  denied(namespace: string | undefined): readonly string[] {
    if (namespace === undefined) return []
    return this.all()
      .filter((reflector) => reflector.denied.has(namespace))
      .map(({ resource }) => resource.plural)
  }

  /** Of one kind among `childKinds`. */
  children({ kind }: Pick<Resource, 'kind'>): Reflector {
    const reflector = this.childrenByKind.get(kind)
    if (!reflector) throw new Error(`"${kind}" is no kind of a child`)
    return reflector
  }

  allChildren(): readonly Reflector[] {
    return [...this.childrenByKind.values()]
  }

  /** As last seen; undefined: none that carries our label. */
  child(resource: Resource, { metadata }: Pick<KubeObject, 'metadata'>): KubeObject | undefined {
    return this.children(resource).store.get(keyOf({ metadata }))
  }

  childrenOf(owner: KubeObject, resource: Resource): readonly KubeObject[] {
    return this.children(resource).store.find(BY_OWNER, owner.metadata.uid ?? '')
  }

  podsOf(kind: OwnedKind, { metadata }: Pick<KubeObject, 'metadata'>): readonly KubeObject[] {
    return this.pods.store.find(BY_WORKLOAD, workloadKey(kind, metadata.namespace, metadata.name))
  }

  agentsWithModelApi(api: KubeObject): readonly KubeObject[] {
    return this.agents.store.find(BY_MODEL_API, keyOf(api))
  }

  agentsWithMcpServer(server: KubeObject): readonly KubeObject[] {
    return this.agents.store.find(BY_MCP_SERVER, keyOf(server))
  }

  /** Those that may delegate to it. */
  agentsWithPeer(peer: KubeObject): readonly KubeObject[] {
    return this.agents.store.find(BY_PEER, keyOf(peer))
  }

  /** What stands in the registry of runtimes; undefined: there is none. */
  registryText(): string | undefined {
    const [configMap] = this.registry.store.list()
    return (configMap?.data as Readonly<Record<string, string>> | undefined)?.[REGISTRY_KEY]
  }

  /** Of all agents, for metrics. */
  *agentReplicas(): Generator<readonly [Readonly<Record<string, string>>, number]> {
    for (const { metadata, spec, status } of this.children(DEPLOYMENTS).store.list()) {
      const agent = metadata.labels?.app === 'agent' ? metadata.labels.agent : undefined
      if (agent === undefined) continue
      const labels = { namespace: metadata.namespace ?? '', agent }
      yield [{ ...labels, state: 'desired' }, (spec as { readonly replicas?: number }).replicas ?? 1]
      yield [{ ...labels, state: 'ready' }, (status as { readonly readyReplicas?: number } | undefined)?.readyReplicas ?? 0]
    }
  }

  private all(): readonly Reflector[] {
    return [this.agents, this.mcpServers, this.modelApis, this.pods, this.registry, ...this.childrenByKind.values()]
  }
}

/** The key of the resource that a pod works for; none: it is no pod of ours. A pod is controlled by a ReplicaSet, which says nothing of it. */
export function podOwnerKeys(kind: OwnedKind): (pod: KubeObject) => readonly string[] {
  const [app, nameLabel] = Object.entries(selectorOf(kind, ''))
  return ({ metadata }) => {
    const { labels = {}, namespace } = metadata
    const name = labels[nameLabel![0]]
    return labels.app !== app![1] || name === undefined ? [] : [placeKey(namespace, name)]
  }
}

const workloadOf: Indexer = (pod) =>
  (['Agent', 'MCPServer', 'ModelAPI'] as const).flatMap((kind) => podOwnerKeys(kind)(pod).map((key) => `${kind} ${key}`))

function workloadKey(kind: OwnedKind, namespace: string | undefined, name: string): string {
  return `${kind} ${placeKey(namespace, name)}`
}

function placeKey(namespace: string | undefined, name: string): string {
  return keyOf({ metadata: namespace === undefined ? { name } : { namespace, name } })
}

/** What `readWorkload` looks at: a pod is some kilobytes, and there may be a thousand of them. */
function podInBrief({ apiVersion, kind, metadata, status }: KubeObject): KubeObject {
  const {
    annotations: _annotations,
    managedFields: _fields,
    ownerReferences: _owners,
    finalizers: _finalizers,
    ...seen
  } = metadata
  const { phase, conditions, initContainerStatuses, containerStatuses } = (status ?? {}) as Readonly<Record<string, unknown>>
  return {
    apiVersion,
    kind,
    metadata: seen,
    status: { phase, conditions, initContainerStatuses, containerStatuses },
  }
}
