/** A namespace as two operators that were declared the same must leave it, whatever happened to one of them: without names, times and uids. */
import { isDeepStrictEqual } from 'node:util'
import { CONFIG_HASH_ANNOTATION, KEY_OWNER_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL } from '../../../operator/desired/names.ts'
import type { AnyObject } from '../../testplane/api.ts'
import { conditionOf, type OperatorStand } from '../stand/stand.ts'
import type { SeenKind, Sight } from './sight.ts'

const CHILDREN = [
  'Deployment',
  'Service',
  'ConfigMap',
  'ServiceAccount',
  'Secret',
  'PodDisruptionBudget',
] as const satisfies readonly SeenKind[]

export interface Place {
  readonly stand: OperatorStand
  readonly sight: Sight
}

export type Likeness = Readonly<Record<string, unknown>>

/** Nothing is under way, by what the resource says itself. */
export function isSettled(object: AnyObject): boolean {
  const { kind, metadata, spec, status } = object
  if (status?.observedGeneration !== metadata.generation || metadata.deletionTimestamp !== undefined) return false
  if (conditionOf(object, 'Ready')?.status !== 'True' || conditionOf(object, 'Reconciling')) return false
  if (kind === 'Agent' && spec.external) return true
  if (kind !== 'ModelAPI' && status.backlog !== 0) return false
  const { replicas, availableReplicas, updatedReplicas } = status.deployment ?? {}
  if (replicas !== availableReplicas || replicas !== updatedReplicas) return false
  if (kind !== 'Agent') return replicas === 1
  const wanted = spec.replicas ?? spec.scaling.minReplicas
  const scaling = conditionOf(object, 'ScalingActive')
  const isCounted = spec.scaling.scaler === 'Builtin' || spec.replicas !== undefined
  return isCounted && replicas === wanted && scaling !== undefined && !['Starting', 'BrokerUnavailable'].includes(scaling.reason)
}

/** Children with their owners, and statuses. */
export function likenessOf({ stand, sight }: Place): Likeness {
  const resources = sight.resources()
  const byUid = new Map(resources.map((object) => [object.metadata.uid, `${object.kind} ${object.metadata.name}`]))
  const children = CHILDREN.flatMap((kind) => sight.of(kind).filter(isManaged))
  const shapes = children.map((child) => [`${child.kind} ${child.metadata.name}`, childShape(child, byUid)])
  const statuses = resources.map(({ kind, metadata, spec, status }) => [
    `${kind} ${metadata.name}`,
    { finalizers: metadata.finalizers ?? [], spec, status: statusShape(status) },
  ])
  const text = JSON.stringify([...shapes, ...statuses])
    .replaceAll(stand.namespace, 'NAMESPACE')
    .replaceAll(stand.broker.url, 'BROKER')
  return Object.fromEntries(JSON.parse(text) as [string, unknown][])
}

function childShape(child: AnyObject, byUid: ReadonlyMap<string | undefined, string>): unknown {
  const { metadata, spec, data, kind } = child
  const owners = (metadata.ownerReferences ?? []).map(({ uid }) => byUid.get(uid) ?? 'gone')
  const { automountServiceAccountToken } = child as AnyObject & { readonly automountServiceAccountToken?: boolean }
  const isSecretOfOurs = kind === 'Secret' && metadata.name.endsWith('master-key')
  return {
    owners,
    labels: metadata.labels,
    isGoing: metadata.deletionTimestamp !== undefined,
    spec: withoutChance(spec, byUid),
    data: isSecretOfOurs ? Object.keys(data) : data,
    automountServiceAccountToken,
  }
}

/** Addresses that the server gives, and hashes of texts with the namespace in them. */
function withoutChance(spec: unknown, byUid: ReadonlyMap<string | undefined, string>): unknown {
  const text = JSON.stringify(spec ?? {}, (key, value) => {
    if (key === 'clusterIP' || key === 'clusterIPs' || key === CONFIG_HASH_ANNOTATION) return ''
    return key === KEY_OWNER_ANNOTATION ? (byUid.get(value) ?? 'gone') : value
  })
  return JSON.parse(text)
}

function statusShape(status: AnyObject['status']): unknown {
  const timeless = (conditions: readonly Record<string, unknown>[] = []) =>
    conditions.map(({ lastTransitionTime: _changed, lastUpdateTime: _updated, observedGeneration: _seen, ...rest }) => rest)
  const { observedGeneration: _generation, conditions, deployment, ...rest } = status ?? {}
  // Messages of the Deployment name the ReplicaSet.
  const figures = deployment && {
    ...deployment,
    conditions: timeless(deployment.conditions)
      .map(({ message: _message, ...each }) => each)
      .toSorted((one, other) => String(one.type).localeCompare(String(other.type))),
  }
  return { ...rest, conditions: timeless(conditions), deployment: figures }
}

function isManaged({ metadata }: AnyObject): boolean {
  return metadata.labels?.[MANAGED_BY_LABEL] === MANAGED_BY
}

/** What differs, by name: of `place` and of `fresh`. `strays` are left out where only `place` has them, and nobody owns them. */
export function differences(place: Likeness, fresh: Likeness, strays: ReadonlySet<string>): readonly unknown[] {
  const names = [...new Set([...Object.keys(place), ...Object.keys(fresh)])].toSorted()
  return names
    .filter(
      (name) => !isDeepStrictEqual(place[name], fresh[name]) && !(isStray(place[name]) && !(name in fresh) && strays.has(name)),
    )
    .map((name) => ({ name, ...narrowed(place[name], fresh[name]) }))
}

function isStray(shape: unknown): boolean {
  return Array.isArray((shape as { owners?: unknown })?.owners) && (shape as { owners: unknown[] }).owners.length === 0
}

/** The smallest part of both that holds all that differs. */
function narrowed(
  is: unknown,
  wanted: unknown,
  path = '',
): { readonly path: string; readonly is: unknown; readonly wanted: unknown } {
  if (!isMap(is) || !isMap(wanted)) return { path, is, wanted }
  const keys = [...new Set([...Object.keys(is), ...Object.keys(wanted)])].filter(
    (key) => !isDeepStrictEqual(is[key], wanted[key]),
  )
  return keys.length === 1 ? narrowed(is[keys[0]!], wanted[keys[0]!], `${path}.${keys[0]}`) : { path, ...both(is, wanted, keys) }
}

function both(is: Likeness, wanted: Likeness, keys: readonly string[]) {
  const chosen = (all: Likeness) => Object.fromEntries(keys.map((key) => [key, all[key]]))
  return { is: chosen(is), wanted: chosen(wanted) }
}

function isMap(value: unknown): value is Likeness {
  return typeof value === 'object' && value !== null
}

/** Streams with their consumers, without the namespace. */
export async function streamsOf({ connection, namespace }: OperatorStand): Promise<Readonly<Record<string, readonly string[]>>> {
  const { streams } = (await connection.request('$JS.API.STREAM.NAMES', '')).json<{ streams: readonly string[] | null }>()
  const found: Record<string, readonly string[]> = {}
  for (const stream of (streams ?? []).toSorted()) {
    const answer = await connection.request(`$JS.API.CONSUMER.NAMES.${stream}`, '')
    const { consumers } = answer.json<{ consumers: readonly string[] | null }>()
    found[stream.replace(namespace, 'NAMESPACE')] = (consumers ?? []).toSorted()
  }
  return found
}
