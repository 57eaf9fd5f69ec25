/**
 * A Kubernetes object as it travels: raw JSON. Nothing here is parsed into a class, because a typed serializer drops the fields
 * that are newer than itself without an error, and a server-side apply would then delete them.
 */

export interface OwnerReference {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly uid: string
  readonly controller?: boolean
  readonly blockOwnerDeletion?: boolean
}

/** Who wrote which fields: kept by the server, read before an apply, dropped from what the reflector holds. */
export interface ManagedFields {
  readonly manager: string
  readonly operation: 'Apply' | 'Update'
  readonly apiVersion: string
  readonly time?: string
  readonly subresource?: string
  readonly fieldsType: 'FieldsV1'
  readonly fieldsV1: { readonly [field: string]: unknown }
}

export interface ObjectMeta {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  readonly resourceVersion?: string
  readonly generation?: number
  readonly creationTimestamp?: string
  readonly deletionTimestamp?: string
  readonly deletionGracePeriodSeconds?: number
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly ownerReferences?: readonly OwnerReference[]
  readonly finalizers?: readonly string[]
  readonly managedFields?: readonly ManagedFields[]
}

export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: ObjectMeta
  readonly spec?: unknown
  readonly status?: unknown
  readonly [key: string]: unknown
}

/** Where a kind lives in the API: `apps/v1` and `deployments`; `v1` is the core group. */
export interface Resource {
  readonly apiVersion: string
  readonly kind: string
  readonly plural: string
  /** false: the object has no namespace (a CRD, a node). */
  readonly namespaced: boolean
}

/** `namespace/name`, or the name alone where there is no namespace: the key of an object within its kind. */
export function keyOf(object: { readonly metadata: Pick<ObjectMeta, 'name' | 'namespace'> }): string {
  const { namespace, name } = object.metadata
  return namespace === undefined ? name : `${namespace}/${name}`
}

/** The owner that manages the object, as the garbage collector sees it. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((owner) => owner.controller === true)
}
