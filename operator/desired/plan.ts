/** What a desired-state function answers, and the parts that all children have. */
import assert from 'node:assert/strict'
import type { Agent } from '../../manifests/kinds/agent.ts'
import type { McpServer } from '../../manifests/kinds/mcp-server.ts'
import type { ModelApi } from '../../manifests/kinds/model-api.ts'
import { apiVersion } from '../../manifests/metadata.ts'
import type { KubeObject, ObjectMeta } from '../kube/object.ts'
import type { Finding, Reason } from '../status/reasons.ts'
import { labelsOf, type OwnedKind } from './names.ts'
import type { EffectiveTelemetry } from './pod/telemetry.ts'

/** Resources as the API server has them: parsed with their schemas, in no file. */
export type ClusterAgent = Omit<Agent, 'source'>
export type ClusterMcpServer = Omit<McpServer, 'source'>
export type ClusterModelApi = Omit<ModelApi, 'source'>
export type ClusterResource = ClusterAgent | ClusterMcpServer | ClusterModelApi

/** A Secret that is created once with random content, and then left as it is: who reads it must not have to be the operator. */
export interface GeneratedSecret {
  readonly metadata: ObjectMeta
  readonly key: string
  /** What the value begins with; random characters of `randomBytes` bytes in base64url follow. */
  readonly prefix: string
  readonly randomBytes: number
}

export type Plan =
  | {
      readonly is: 'children'
      /** What carries our label and owner reference, and is neither among them nor among `secrets`, is to be removed. */
      readonly objects: readonly KubeObject[]
      readonly secrets: readonly GeneratedSecret[]
      /** What it depends on that is missing or not ready, while it works all the same. */
      readonly unmet: readonly Finding[]
      readonly telemetry: EffectiveTelemetry
    }
  /** Not yet: children that are there stay as they are. It is decided again when a dependency changes. */
  | { readonly is: 'waiting'; readonly reason: Reason; readonly message: string; readonly telemetry: EffectiveTelemetry }
  /** Never as it is declared: children that are there stay as they are. */
  | { readonly is: 'refused'; readonly reason: Reason; readonly message: string; readonly telemetry: EffectiveTelemetry }

/** Thrown and caught within this folder: the resource cannot become children as it is declared. */
export class RefusedError extends Error implements Finding {
  override readonly name = 'RefusedError'
  readonly reason: Reason

  constructor(reason: Reason, message: string) {
    super(message)
    this.reason = reason
  }
}

/** The plan that `build` makes; a RefusedError becomes the answer. */
export function planned(
  telemetry: EffectiveTelemetry,
  build: () => Omit<Extract<Plan, { is: 'children' }>, 'is' | 'telemetry'>,
): Plan {
  try {
    return { is: 'children', telemetry, ...build() }
  } catch (error) {
    if (error instanceof RefusedError) return { is: 'refused', reason: error.reason, message: error.message, telemetry }
    throw error
  }
}

/** Metadata of a child: it goes with its owner. */
export function childMeta(owner: ClusterResource, name: string): ObjectMeta {
  const { kind, metadata } = owner
  const uid = metadata.uid
  assert(typeof uid === 'string' && uid !== '', `${kind} "${metadata.name}" has no uid: it does not come from an API server`)
  return {
    name,
    namespace: metadata.namespace,
    labels: labelsOf(kind as OwnedKind, metadata.name),
    ownerReferences: [{ apiVersion, kind, name: metadata.name, uid, controller: true, blockOwnerDeletion: true }],
  }
}

/** The one of this name and namespace, whatever the order of the list. */
export function namedIn<Resource extends { readonly metadata: { readonly name: string; readonly namespace: string } }>(
  list: readonly Resource[],
  name: string,
  namespace: string,
): Resource | undefined {
  return list.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace)
}
