/** Who has streams on the broker: an agent or a tool server of a namespace. */

export interface AgentRef {
  readonly namespace: string
  readonly name: string
}

export interface Owner extends AgentRef {
  readonly kind: 'agent' | 'tool'
}

/** As keys of Kubernetes objects are written. */
export const agentKey = ({ namespace, name }: AgentRef): string => `${namespace}/${name}`
export function refOf(key: string): AgentRef {
  const slash = key.indexOf('/')
  return { namespace: key.slice(0, slash), name: key.slice(slash + 1) }
}
export const ownerKey = ({ kind, namespace, name }: Owner): string => `${kind} ${namespace}/${name}`
