/** Resources as the API server stores them, checked with the definitions in `manifests/`, and what agents find of what they name. */
import type { z } from 'zod'
import type { Condition } from '../../manifests/crd/status.ts'
import { agentSchema } from '../../manifests/kinds/agent.ts'
import { mcpServerSchema } from '../../manifests/kinds/mcp-server.ts'
import { modelApiSchema } from '../../manifests/kinds/model-api.ts'
import { hasGeneratedKey } from '../desired/agent-environment.ts'
import type { AgentDependencies, Found } from '../desired/dependencies.ts'
import { masterKeySecretName } from '../desired/names.ts'
import type { ClusterAgent, ClusterMcpServer, ClusterModelApi, ClusterResource } from '../desired/plan.ts'
import { controllerOf, type KubeObject } from '../kube/object.ts'
import { isTrue } from '../status/conditions.ts'
import type { ClusterView } from './cluster-view.ts'
import { SECRETS } from './kinds.ts'

/** `problem`: the definition refuses it, which happens to what was stored before a rule was there, or where CEL has no words for a rule. */
export type Stored<Resource> = { readonly resource: Resource } | { readonly problem: string }

export const readAgent = reader<ClusterAgent>(agentSchema)
export const readMcpServer = reader<ClusterMcpServer>(mcpServerSchema)
export const readModelApi = reader<ClusterModelApi>(modelApiSchema)

/** Parsed once for each version of an object: peers are looked at far more often than they change. */
function reader<Resource extends ClusterResource>(schema: z.ZodType): (object: KubeObject) => Stored<Resource> {
  const known = new WeakMap<KubeObject, Stored<Resource>>()
  return (object) => {
    const before = known.get(object)
    if (before) return before
    const stored = parse<Resource>(schema, object)
    known.set(object, stored)
    return stored
  }
}

function parse<Resource extends ClusterResource>(schema: z.ZodType, object: KubeObject): Stored<Resource> {
  const { apiVersion, kind, metadata, spec } = object
  const { name, namespace, labels, annotations, uid, generation } = metadata
  const result = schema.safeParse({
    apiVersion,
    kind,
    metadata: { name, namespace, uid, generation, ...(labels && { labels }), ...(annotations && { annotations }) },
    spec,
  })
  if (result.success) return { resource: result.data as Resource }
  const mistakes = result.error.issues.map(({ path, message }) => `${path.join('.') || 'the whole'}: ${message}`)
  return { problem: mistakes.join('; ') }
}

export function conditionsOf({ status }: KubeObject): readonly Condition[] {
  return (status as { readonly conditions?: readonly Condition[] } | undefined)?.conditions ?? []
}

/** Only what the agent names. What cannot be read, or is being deleted, counts as not there. */
export function dependenciesOf({ metadata, spec }: ClusterAgent, view: ClusterView): AgentDependencies {
  const there = <Resource>(
    names: readonly string[],
    { store }: { readonly store: { get(key: string): KubeObject | undefined } },
    read: (object: KubeObject) => Stored<Resource>,
  ): readonly Found<Resource>[] =>
    names.flatMap((name) => {
      const object = store.get(`${metadata.namespace}/${name}`)
      if (!object || object.metadata.deletionTimestamp !== undefined) return []
      const stored = read(object)
      return 'problem' in stored ? [] : [{ resource: stored.resource, isReady: isTrue(conditionsOf(object), 'Ready') }]
    })
  return {
    modelApis: there(spec.modelAPI === undefined ? [] : [spec.modelAPI], view.modelApis, readModelApi).map((found) => ({
      ...found,
      isKeyMissing: hasGeneratedKey(found.resource) && !hasOwnKey(found.resource, view),
    })),
    mcpServers: there(spec.mcpServers, view.mcpServers, readMcpServer),
    peers: there(spec.agentNetwork.access, view.agents, readAgent).map(({ resource }) => resource),
  }
}

/** One of the same name may have been there before, and its Secret is still on its way out. */
function hasOwnKey({ metadata }: ClusterModelApi, view: ClusterView): boolean {
  const { name, namespace, uid } = metadata
  const secret = view.child(SECRETS, { metadata: { name: masterKeySecretName(name), namespace } })
  return secret !== undefined && controllerOf(secret)?.uid === uid
}

/** Whether a change of something that agents name can change anything for them: another spec, or ready and not ready. */
export function mattersToOthers(before: KubeObject, now: KubeObject): boolean {
  const isOther = before.metadata.generation !== now.metadata.generation
  const isGoing = before.metadata.deletionTimestamp !== now.metadata.deletionTimestamp
  return isOther || isGoing || isTrue(conditionsOf(before), 'Ready') !== isTrue(conditionsOf(now), 'Ready')
}
