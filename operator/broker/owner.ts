/** Who has streams on the broker: an agent or a tool server of a namespace. */

/** One of a kind that is known where it is used. */
export interface ResourceRef {
  readonly namespace: string
  readonly name: string
}

export interface Owner extends ResourceRef {
  readonly kind: 'agent' | 'tool'
}

/** As keys of Kubernetes objects are written. */
export const refKey = ({ namespace, name }: ResourceRef): string => `${namespace}/${name}`
export function refOf(key: string): ResourceRef {
  const slash = key.indexOf('/')
  return { namespace: key.slice(0, slash), name: key.slice(slash + 1) }
}
export const ownerKey = ({ kind, namespace, name }: Owner): string => `${kind} ${namespace}/${name}`
