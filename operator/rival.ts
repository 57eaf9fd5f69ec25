/**
 * KAOS's own operator reconciles the same kinds into the same names. With both of them each undoes what the other writes, for ever, so this one
 * does not start beside it.
 */
import { KaosError } from '../bus/wire/errors.ts'
import { ApiError } from './kube/api-error.ts'
import type { KubeClient } from './kube/client.ts'
import { LEASES } from './kube/lease.ts'
import { type KubeObject, keyOf, type Resource } from './kube/object.ts'

const DEPLOYMENTS: Resource = { apiVersion: 'apps/v1', kind: 'Deployment', plural: 'deployments', namespaced: true }

/** As its chart names them; the Deployment's name begins with the release. */
const RIVAL = {
  deployments: 'control-plane=controller-manager',
  config: 'kaos-operator-config',
  lease: 'kaos-operator.kaos.tools',
} as const

/** A lease that was renewed so long ago belongs to nobody; generous, because the clock that wrote it may be another. */
const LEASE_FRESH_MS = 60_000

interface PodTemplateHolder {
  readonly replicas?: number
  readonly template?: {
    readonly spec?: {
      readonly containers?: readonly { readonly envFrom?: readonly { readonly configMapRef?: { readonly name?: string } }[] }[]
    }
  }
}

export interface RivalSearch {
  /** Where its Deployment may stand; absent: anywhere. */
  readonly namespaces?: readonly string[] | undefined
  /** Where its lease may stand. */
  readonly leaseNamespaces: readonly string[]
}

/** Throws `rival_operator` with what to do. What this identity may not look at counts as not there. */
export async function refuseRival(client: KubeClient, { namespaces, leaseNamespaces }: RivalSearch): Promise<void> {
  for (const namespace of namespaces ?? [undefined]) {
    const list = () => client.list(DEPLOYMENTS, { namespace, labelSelector: RIVAL.deployments })
    const rival = (await ifAllowed(list))?.items.find(isRival)
    if (!rival) continue
    const { name, namespace: where } = rival.metadata
    throw new KaosError(
      'rival_operator',
      `could not start: KAOS's own operator runs as Deployment "${keyOf(rival)}"; end it with ` +
        `"kubectl -n ${where} scale deployment ${name} --replicas=0" and start again, its resources stay as they are`,
    )
  }
  for (const namespace of leaseNamespaces) {
    const lease = await ifAllowed(() => client.get(LEASES, { namespace, name: RIVAL.lease }))
    if (!lease || !isHeld(lease)) continue
    const { holderIdentity } = lease.spec as { holderIdentity: string }
    throw new KaosError(
      'rival_operator',
      `could not start: KAOS's own operator runs as "${holderIdentity}", which holds the lease "${keyOf(lease)}"; end it and start again`,
    )
  }
}

async function ifAllowed<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look()
  } catch (error) {
    if (error instanceof ApiError && error.status === 403) return undefined
    throw error
  }
}

function isRival({ spec }: KubeObject): boolean {
  const { replicas = 1, template } = spec as PodTemplateHolder
  const sources = template?.spec?.containers?.flatMap((container) => container.envFrom ?? []) ?? []
  return replicas > 0 && sources.some((source) => source.configMapRef?.name === RIVAL.config)
}

function isHeld({ spec }: KubeObject): boolean {
  const { holderIdentity, renewTime } = spec as { readonly holderIdentity?: string; readonly renewTime?: string }
  return !!holderIdentity && renewTime !== undefined && Date.now() - Date.parse(renewTime) < LEASE_FRESH_MS
}
