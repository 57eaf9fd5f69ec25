/**
 * What the pods of a Deployment mount: a node that waits for a Secret or ConfigMap says which only in an Event. Those are the user's and are not
 * watched, so they are asked for, and only where a pod waits.
 */
import { ApiError } from './kube/api-error.ts'
import type { KubeClient } from './kube/client.ts'
import type { KubeObject, Resource } from './kube/object.ts'
import { CONFIG_MAPS, SECRETS } from './reconcile/kinds.ts'
import type { WorkloadView } from './status/workload.ts'

/** More than any pod of ours has; what is beyond is not looked for. */
const MOUNTS_MAX = 20

export interface Mount {
  readonly resource: Resource
  readonly name: string
}

interface Source {
  readonly secret?: { readonly secretName?: string; readonly name?: string; readonly optional?: boolean }
  readonly configMap?: { readonly name?: string; readonly optional?: boolean }
}

interface Volume extends Source {
  readonly projected?: { readonly sources?: readonly Source[] }
}

/** Without those that may be absent; each once. */
export function mountsOf({ spec }: KubeObject): readonly Mount[] {
  const { template } = spec as { readonly template?: { readonly spec?: { readonly volumes?: readonly Volume[] } } }
  const sources = (template?.spec?.volumes ?? []).flatMap((volume) => [volume, ...(volume.projected?.sources ?? [])])
  const found = sources.flatMap(({ secret, configMap }): readonly Mount[] => {
    const secretName = secret?.optional ? undefined : (secret?.secretName ?? secret?.name)
    const configMapName = configMap?.optional ? undefined : configMap?.name
    return [
      ...(secretName === undefined ? [] : [{ resource: SECRETS, name: secretName }]),
      ...(configMapName === undefined ? [] : [{ resource: CONFIG_MAPS, name: configMapName }]),
    ]
  })
  const isRepeated = ({ resource, name }: Mount, index: number) =>
    found.findIndex((other) => other.resource === resource && other.name === name) < index
  return found.filter((mount, index) => !isRepeated(mount, index)).slice(0, MOUNTS_MAX)
}

/** The same, and where a pod is not prepared because something that it mounts is not there, with its name. An answer that does not come is no error. */
export async function withMissingMounts(
  workload: WorkloadView,
  deployment: KubeObject | undefined,
  { client, signal }: { readonly client: Pick<KubeClient, 'list'>; readonly signal: AbortSignal },
): Promise<WorkloadView> {
  if (!deployment || workload.problem?.reason !== 'PodNotPrepared') return workload
  const { namespace } = deployment.metadata
  const missing: string[] = []
  try {
    for (const { resource, name } of mountsOf(deployment)) {
      const selection = { namespace, fieldSelector: `metadata.name=${name}`, isMetadataOnly: true }
      const { items } = await client.list(resource, selection, { signal })
      if (items.length === 0) missing.push(`${resource.kind} "${name}"`)
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
  }
  if (missing.length === 0) return workload
  const are = missing.length === 1 ? 'is' : 'are'
  const message = `its pods mount ${missing.join(' and ')}, which ${are} not in namespace "${namespace}": create ${missing.length === 1 ? 'it' : 'them'}`
  return { ...workload, problem: { reason: 'ContainerNotCreated', message } }
}
