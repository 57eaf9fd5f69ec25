/** Makes what stands behind a resource as its plan says: creates, repairs, removes what is not wanted any more. */
import { randomBytes } from 'node:crypto'
import type { GeneratedSecret, Plan } from '../desired/plan.ts'
import { ApiError, isConflict } from '../kube/api-error.ts'
import { type Applier, FIELD_MANAGER } from '../kube/apply.ts'
import type { KubeClient } from '../kube/client.ts'
import { type KubeObject, keyOf, type Resource } from '../kube/object.ts'
import type { Finding } from '../status/reasons.ts'
import type { ClusterView } from './cluster-view.ts'
import { CONFIG_MAPS, childKinds, DEPLOYMENTS, SECRETS, SERVICE_ACCOUNTS } from './kinds.ts'
import type { Turns } from './turns.ts'

export interface ChildrenOptions {
  readonly client: KubeClient
  readonly applier: Applier
  readonly view: ClusterView
  /** Deployments are written one at a time, by whoever writes them. */
  readonly turns: Turns
}

export interface CarriedOut {
  /** The same, or that the API server does not take it. */
  readonly plan: Plan
  /** As it is now; undefined: there is none. */
  readonly deployment: KubeObject | undefined
  /** What was refused may be taken later, though nothing here changes: a quota, a policy. */
  readonly mayPass: boolean
}

type ChildrenPlan = Extract<Plan, { is: 'children' }>

export class Children {
  private readonly options: ChildrenOptions

  constructor(options: ChildrenOptions) {
    this.options = options
  }

  deploymentOf(owner: KubeObject): KubeObject | undefined {
    return this.options.view.childrenOf(owner, DEPLOYMENTS)[0]
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
    if (plan.is !== 'children') return { plan, deployment: this.deploymentOf(owner), mayPass: false }
    try {
      const deployment = await this.applyAll(plan, signal, replicasNow)
      await this.prune(owner, plan, signal)
      return { plan, deployment: deployment ?? this.deploymentOf(owner), mayPass: false }
    } catch (error) {
      const refusal = refusalOf(error)
      if (!refusal) throw error
      const { telemetry } = plan
      const refused: Plan = { is: 'refused', ...refusal, telemetry }
      return { plan: refused, deployment: this.deploymentOf(owner), mayPass: refusal.reason !== 'SpecInvalid' }
    }
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
    const { client, view } = this.options
    if (view.child(SECRETS, { metadata })) return
    const value = `${prefix}${randomBytes(bytes).toString('base64url')}`
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata, type: 'Opaque', stringData: { [key]: value } }
    try {
      await client.create(SECRETS, secret, { signal, fieldManager: FIELD_MANAGER })
    } catch (error) {
      // It is there and has not come to us yet.
      if (!isConflict(error)) throw error
    }
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

function isReadByPods({ kind }: KubeObject): boolean {
  return [SERVICE_ACCOUNTS, CONFIG_MAPS, SECRETS].some((resource) => resource.kind === kind)
}

function childKind({ kind }: KubeObject): Resource {
  const resource = childKinds.find((each) => each.kind === kind)
  if (!resource) throw new Error(`a plan has a "${kind}", which is no kind of a child`)
  return resource
}

/** What the server will say again as long as nothing changes; undefined: worth another try. */
function refusalOf(error: unknown): Finding | undefined {
  if (!(error instanceof ApiError)) return undefined
  const { status, message } = error
  if (status === 422 || status === 400) return { reason: 'SpecInvalid', message }
  // A namespace that is going takes nothing new: the resource goes with it.
  if (status !== 403 || error.causes.some(({ reason }) => reason === 'NamespaceTerminating')) return undefined
  return { reason: /exceeded quota/.test(message) ? 'QuotaExceeded' : 'ForbiddenByPolicy', message }
}
