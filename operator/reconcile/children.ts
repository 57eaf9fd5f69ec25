/** Makes what stands behind a resource as its plan says: creates, repairs, removes what is not wanted any more. */
import { randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { type OwnedKind, workloadName } from '../desired/names.ts'
import type { GeneratedSecret, Plan } from '../desired/plan.ts'
import { ApiError, isConflict } from '../kube/api-error.ts'
import { type Applier, FIELD_MANAGER, NameTakenError } from '../kube/apply.ts'
import type { KubeClient } from '../kube/client.ts'
import { controllerOf, type KubeObject, keyOf, type Resource } from '../kube/object.ts'
import type { Finding } from '../status/reasons.ts'
import type { ClusterView } from './cluster-view.ts'
import { CONFIG_MAPS, childKinds, DEPLOYMENTS, SECRETS, SERVICE_ACCOUNTS } from './kinds.ts'
import { replicasIn, SCALE_MANAGER } from './scaling.ts'
import type { Turns } from './turns.ts'

export const CHILDREN_LIMITS = {
  /** What the API server refused is tried again after this: that a quota or a policy has changed, or another object is gone, nobody tells us. */
  refusedAgainMs: 60_000,
  /** A right that is missing for longer is told: an API server that has just begun says so too, until it has read its roles. */
  deniedMs: 30_000,
} as const

export interface ChildrenOptions {
  readonly client: KubeClient
  readonly applier: Applier
  readonly view: ClusterView
  /** Deployments are written one at a time, by whoever writes them. */
  readonly turns: Turns
  readonly limits?: Partial<Readonly<Record<keyof typeof CHILDREN_LIMITS, number>>>
}

export interface CarriedOut {
  /** The same, or that the API server does not take it. */
  readonly plan: Plan
  /** As it is now; undefined: there is none. */
  readonly deployment?: KubeObject | undefined
  /** What was refused may be taken later, though nothing here changes. */
  readonly retryAfterMs?: number
}

/** Resources for which a right is missing. One that is forgotten is tried for longer. */
const DENIED_MAX = 10_000

type ChildrenPlan = Extract<Plan, { is: 'children' }>

export class Children {
  private readonly options: ChildrenOptions
  private readonly limits: Readonly<Record<keyof typeof CHILDREN_LIMITS, number>>
  /** By uid of the owner, since when. */
  private readonly deniedSince = new LRUCache<string, number>({ max: DENIED_MAX })

  constructor(options: ChildrenOptions) {
    this.options = options
    this.limits = { ...CHILDREN_LIMITS, ...options.limits }
  }

  deploymentOf(owner: KubeObject): KubeObject | undefined {
    return this.options.view.childrenOf(owner, DEPLOYMENTS)[0]
  }

  /** Somebody has taken its Deployment from it, as `kubectl delete --cascade=orphan` does. */
  isLeftBehind({ kind, metadata }: KubeObject): boolean {
    const { name, namespace } = metadata
    const place = { name: workloadName(kind as OwnedKind, name), ...(namespace !== undefined && { namespace }) }
    const found = this.options.view.child(DEPLOYMENTS, { metadata: place })
    return found !== undefined && !controllerOf(found)
  }

  /**
   * `replicasNow`: what the Deployment is to ask for at the moment it is written, where that may have changed since it was planned. Rejects with
   * what may be over when it is tried again.
   */
  async carryOut(
    owner: KubeObject,
    plan: Plan,
    { signal, replicasNow }: { readonly signal: AbortSignal; readonly replicasNow?: () => number | undefined },
  ): Promise<CarriedOut> {
    if (plan.is !== 'children') return { plan, deployment: this.deploymentOf(owner) }
    try {
      const deployment = await this.applyAll(plan, signal, replicasNow)
      await this.prune(owner, plan, signal)
      this.deniedSince.delete(owner.metadata.uid ?? '')
      return { plan, deployment: deployment ?? this.deploymentOf(owner) }
    } catch (error) {
      const refusal = refusalOf(error)
      if (!refusal || (isDenied(error) && this.deniedMs(owner) < this.limits.deniedMs)) throw error
      const { telemetry } = plan
      const refused: Plan = { is: 'refused', ...refusal, telemetry }
      const { refusedAgainMs } = this.limits
      return {
        plan: refused,
        deployment: this.deploymentOf(owner),
        ...(refusal.reason !== 'SpecInvalid' && { retryAfterMs: refusedAgainMs }),
      }
    }
  }

  private deniedMs({ metadata }: KubeObject): number {
    const { uid = '' } = metadata
    const now = performance.now()
    const since = this.deniedSince.get(uid) ?? now
    this.deniedSince.set(uid, since)
    return now - since
  }

  /** Asks for no pod any more. The Deployment itself goes with its owner: what removes it would come later, if the garbage collector is busy. */
  async endPods(owner: KubeObject, signal: AbortSignal): Promise<void> {
    const { client, turns } = this.options
    const deployment = this.deploymentOf(owner)
    if (!deployment || replicasIn(deployment) === 0) return
    await turns.take(keyOf(deployment), async () => {
      await client.patch(DEPLOYMENTS, deployment.metadata, { spec: { replicas: 0 } }, { signal, fieldManager: SCALE_MANAGER })
    })
  }

  /** What pods read first, then all else. Resolves with the Deployment if it was written. */
  private async applyAll(
    plan: ChildrenPlan,
    signal: AbortSignal,
    replicasNow: (() => number | undefined) | undefined,
  ): Promise<KubeObject | undefined> {
    const read = plan.objects.filter(isReadByPods)
    const rest = plan.objects.filter((object) => !isReadByPods(object))
    await Promise.all([
      ...read.map((object) => this.apply(object, signal)),
      ...plan.secrets.map((secret) => this.createOnce(secret, signal)),
    ])
    const written = await Promise.all(rest.map((object) => this.apply(object, signal, replicasNow)))
    return written.find((object) => object?.kind === DEPLOYMENTS.kind)
  }

  private async apply(
    intent: KubeObject,
    signal: AbortSignal,
    replicasNow?: () => number | undefined,
  ): Promise<KubeObject | undefined> {
    const { applier, view, turns } = this.options
    const resource = childKind(intent)
    if (resource !== DEPLOYMENTS) return (await applier.apply(resource, intent, view.child(resource, intent), { signal })).object
    return turns.take(keyOf(intent), async () => {
      const replicas = replicasNow?.()
      const current = replicas === undefined ? intent : { ...intent, spec: { ...(intent.spec as object), replicas } }
      return (await applier.apply(resource, current, view.child(resource, intent), { signal })).object
    })
  }

  /** With random content, once: whoever reads it has it already. */
  private async createOnce({ metadata, key, prefix, randomBytes: bytes }: GeneratedSecret, signal: AbortSignal): Promise<void> {
    const { client, applier, view } = this.options
    const value = `${prefix}${randomBytes(bytes).toString('base64url')}`
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata, type: 'Opaque', stringData: { [key]: value } }
    const there = view.child(SECRETS, { metadata })
    if (there) {
      await applier.refuseForeign(SECRETS, secret, there, { signal })
      if (!isMarked(there, metadata)) await this.mark(metadata, signal)
      return
    }
    try {
      await client.create(SECRETS, secret, { signal, fieldManager: FIELD_MANAGER })
    } catch (error) {
      // It has not come to us yet, is somebody else's, or has lost the label by which it is seen.
      if (!isConflict(error) || !(await applier.isOurs(SECRETS, secret, { signal }))) throw error
      await this.mark(metadata, signal)
    }
  }

  /** Whose it is, without a look at what is in it. */
  private async mark(metadata: GeneratedSecret['metadata'], signal: AbortSignal): Promise<void> {
    const { labels, ownerReferences } = metadata
    await this.options.client.patch(SECRETS, metadata, { metadata: { labels, ownerReferences } }, { signal })
  }

  private async prune(owner: KubeObject, plan: ChildrenPlan, signal: AbortSignal): Promise<void> {
    const { applier, view } = this.options
    const wantedOf = ({ kind }: Resource) => [
      ...plan.objects.filter((object) => object.kind === kind).map(keyOf),
      ...(kind === SECRETS.kind ? plan.secrets.map(keyOf) : []),
    ]
    for (const resource of childKinds) {
      await applier.prune(resource, owner, view.childrenOf(owner, resource), new Set(wantedOf(resource)), { signal })
    }
  }
}

/** Nobody has changed its labels, and it is no orphan of an owner before. */
function isMarked(secret: KubeObject, { labels = {} }: KubeObject['metadata']): boolean {
  const found = secret.metadata.labels
  return controllerOf(secret) !== undefined && Object.entries(labels).every(([key, value]) => found?.[key] === value)
}

function isReadByPods({ kind }: KubeObject): boolean {
  return [SERVICE_ACCOUNTS, CONFIG_MAPS, SECRETS].some((resource) => resource.kind === kind)
}

function childKind({ kind }: KubeObject): Resource {
  const resource = childKinds.find((each) => each.kind === kind)
  if (!resource) throw new Error(`a plan has a "${kind}", which is no kind of a child`)
  return resource
}

/** By who we are, not by what was asked. */
function isDenied(error: unknown): boolean {
  return error instanceof ApiError && error.status === 403 && / is forbidden: User ".*" cannot /.test(error.message)
}

/** What the server will say again as long as nothing changes; undefined: worth another try. */
function refusalOf(error: unknown): Finding | undefined {
  if (error instanceof NameTakenError) {
    return { reason: 'NameTaken', message: `${error.message}; remove that, or give this resource another name` }
  }
  if (!(error instanceof ApiError)) return undefined
  const { status, message } = error
  // Somebody was faster than we could see.
  if (status === 422 && /Only one reference can have Controller set to true/.test(message))
    return { reason: 'NameTaken', message }
  if (status === 422 || status === 400) return { reason: 'SpecInvalid', message }
  // A namespace that is going takes nothing new: the resource goes with it.
  if (status !== 403 || error.causes.some(({ reason }) => reason === 'NamespaceTerminating')) return undefined
  return { reason: /exceeded quota/.test(message) ? 'QuotaExceeded' : 'ForbiddenByPolicy', message }
}
