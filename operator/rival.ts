/**
 * Two operators that reconcile the same resources into the same names: each undoes what the other writes, for ever. So this one does not start beside
 * KAOS's own, nor beside one of another release that was there before it and keeps a namespace that it keeps too.
 */
import { KaosError } from '../bus/wire/errors.ts'
import { ApiError } from './kube/api-error.ts'
import type { KubeClient } from './kube/client.ts'
import { LEASES } from './kube/lease.ts'
import { type KubeObject, keyOf, type Resource } from './kube/object.ts'

const DEPLOYMENTS: Resource = { apiVersion: 'apps/v1', kind: 'Deployment', plural: 'deployments', namespaced: true }

/** As KAOS's chart names them; the Deployment's name begins with the release. */
const RIVAL = {
  deployments: 'control-plane=controller-manager',
  config: 'kaos-operator-config',
  lease: 'kaos-operator.kaos.tools',
} as const

/** As our chart labels every operator, and what it runs. */
const OURS = { deployments: 'app.kubernetes.io/name=kaos-operator', command: 'operator' } as const

/** A lease that was renewed so long ago belongs to nobody; generous, because the clock that wrote it may be another. */
const LEASE_FRESH_MS = 60_000

interface PodTemplateHolder {
  readonly replicas?: number
  readonly template?: {
    readonly spec?: {
      readonly containers?: readonly {
        readonly args?: readonly string[]
        readonly envFrom?: readonly { readonly configMapRef?: { readonly name?: string } }[]
      }[]
    }
  }
}

export interface RivalSearch {
  /** Whose resources are kept, and where the Deployment of another may stand; absent: all. */
  readonly namespaces?: readonly string[] | undefined
  /** Where this operator is, and its lease if it has one: whoever has the same is another replica of it, or its next version. */
  readonly own: { readonly namespace: string; readonly lease?: string | undefined }
}

/** Throws `rival_operator` with what to do. What this identity may not look at counts as not there. */
export async function refuseRival(client: KubeClient, { namespaces, own }: RivalSearch): Promise<void> {
  const deployments = async (labelSelector: string) => {
    const found: KubeObject[] = []
    for (const namespace of namespaces ?? [undefined]) {
      const list = await ifAllowed(() => client.list(DEPLOYMENTS, { namespace, labelSelector }))
      found.push(...(list?.items ?? []))
    }
    return found
  }
  refuseKaos((await deployments(RIVAL.deployments)).find(isKaos))
  const lease = await ifAllowed(() => client.get(LEASES, { namespace: own.namespace, name: RIVAL.lease }))
  if (lease && isHeld(lease)) {
    const { holderIdentity } = lease.spec as { holderIdentity: string }
    throw new KaosError(
      'rival_operator',
      `could not start: KAOS's own operator runs as "${holderIdentity}", which holds the lease "${keyOf(lease)}"; end it and start again`,
    )
  }
  refuseEarlier(await deployments(OURS.deployments), { namespaces, own })
}

function refuseKaos(rival: KubeObject | undefined): void {
  if (!rival) return
  throw new KaosError(
    'rival_operator',
    `could not start: KAOS's own operator runs as Deployment "${keyOf(rival)}"; end it with ` +
      `"${endingOf(rival)}" and start again, its resources stay as they are`,
  )
}

/**
 * The one that was there first works on, whichever of them restarts: else a later one, which may be limited to a few namespaces, would end by its
 * presence the one that keeps all.
 */
function refuseEarlier(deployments: readonly KubeObject[], { namespaces, own }: RivalSearch): void {
  const operators = deployments.flatMap((deployment) => {
    const args = argsOf(deployment)
    return args ? [{ deployment, lease: flagsOf(args, '--lease').at(-1), namespaces: flagsOf(args, '--namespace') }] : []
  })
  const isOwn = ({ deployment, lease }: (typeof operators)[number]) =>
    deployment.metadata.namespace === own.namespace && lease !== undefined && lease === own.lease
  const since = operators.find(isOwn)?.deployment.metadata.creationTimestamp
  for (const other of operators) {
    const { deployment } = other
    if (isOwn(other) || !isReady(deployment) || !isBefore(deployment.metadata.creationTimestamp, since)) continue
    const shared = sharedBetween(namespaces ?? [], other.namespaces)
    if (shared === undefined) continue
    throw new KaosError(
      'rival_operator',
      `could not start: the operator of Deployment "${keyOf(deployment)}" keeps ${shared} too; give each of them other namespaces ` +
        `(watchNamespaces), or end that one with "${endingOf(deployment)}"`,
    )
  }
}

/** No list means all. Undefined: nothing. */
function sharedBetween(some: readonly string[], others: readonly string[]): string | undefined {
  if (some.length === 0 && others.length === 0) return 'all namespaces'
  const shared = some.length === 0 ? others : others.length === 0 ? some : some.filter((name) => others.includes(name))
  return shared.length === 0 ? undefined : `namespace ${shared.map((name) => `"${name}"`).join(', ')}`
}

async function ifAllowed<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look()
  } catch (error) {
    if (error instanceof ApiError && error.status === 403) return undefined
    throw error
  }
}

function isKaos({ spec }: KubeObject): boolean {
  const { replicas = 1, template } = spec as PodTemplateHolder
  const sources = template?.spec?.containers?.flatMap((container) => container.envFrom ?? []) ?? []
  return replicas > 0 && sources.some((source) => source.configMapRef?.name === RIVAL.config)
}

/** Of an operator of ours. */
function argsOf({ spec }: KubeObject): readonly string[] | undefined {
  const containers = (spec as PodTemplateHolder).template?.spec?.containers ?? []
  return containers.map(({ args = [] }) => args).find(([command]) => command === OURS.command)
}

/** Values of a flag that may stand several times, as `--flag=value` or `--flag value`. */
function flagsOf(args: readonly string[], flag: string): readonly string[] {
  return args.flatMap((arg, at) => {
    if (arg.startsWith(`${flag}=`)) return [arg.slice(flag.length + 1)]
    return arg === flag ? args.slice(at + 1, at + 2) : []
  })
}

/** One that is refused itself never becomes ready. */
function isReady({ metadata, status }: KubeObject): boolean {
  const { readyReplicas = 0 } = (status ?? {}) as { readonly readyReplicas?: number }
  return readyReplicas > 0 && metadata.deletionTimestamp === undefined
}

/** RFC 3339 in UTC, which sorts as text. Whoever has no Deployment that can be seen came last. */
function isBefore(other: string | undefined, since: string | undefined): boolean {
  return since === undefined || (other !== undefined && other < since)
}

function endingOf({ metadata: { name, namespace } }: KubeObject): string {
  return `kubectl -n ${namespace} scale deployment ${name} --replicas=0`
}

function isHeld({ spec }: KubeObject): boolean {
  const { holderIdentity, renewTime } = spec as { readonly holderIdentity?: string; readonly renewTime?: string }
  return !!holderIdentity && renewTime !== undefined && Date.now() - Date.parse(renewTime) < LEASE_FRESH_MS
}
