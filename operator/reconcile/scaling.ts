/** Where scaling meets the cluster: how many pods an agent's Deployment asks for, and who says so. */

import type { AgentStatus } from '../../manifests/crd/status.ts'
import type { ResourceRef } from '../broker/owner.ts'
import { workloadName } from '../desired/names.ts'
import type { ClusterAgent } from '../desired/plan.ts'
import { FIELD_MANAGER } from '../kube/apply.ts'
import type { KubeClient } from '../kube/client.ts'
import { type KubeObject, keyOf } from '../kube/object.ts'
import type { ScalingState, ScalingTarget, ScalingWhy, Workloads } from '../scale/scaled-agent.ts'
import { conditionOf } from '../status/conditions.ts'
import type { Reason } from '../status/reasons.ts'
import type { ClusterView } from './cluster-view.ts'
import { AGENTS, DEPLOYMENTS } from './kinds.ts'
import type { Turns } from './turns.ts'

/** Of the counts that the scaler writes: an apply of the whole Deployment then has the same one. */
export const SCALE_MANAGER = `${FIELD_MANAGER}-scale`

export interface DeploymentScalesOptions {
  readonly client: KubeClient
  readonly view: ClusterView
  readonly turns: Turns
}

export class DeploymentScales implements Workloads {
  private readonly options: DeploymentScalesOptions

  constructor(options: DeploymentScalesOptions) {
    this.options = options
  }

  replicas(agent: ResourceRef): number | undefined {
    return replicasIn(this.options.view.child(DEPLOYMENTS, { metadata: placeOf(agent) }))
  }

  async scale(agent: ResourceRef, replicas: number): Promise<void> {
    const { client, turns } = this.options
    const place = placeOf(agent)
    await turns.take(keyOf({ metadata: place }), async () => {
      await client.patch(DEPLOYMENTS, place, { spec: { replicas } }, { fieldManager: SCALE_MANAGER })
    })
  }

  /**
   * Writes the first count of an agent that others scale into `spec.replicas`, for an HPA does nothing where it finds none or 0. Resolves with the
   * count.
   */
  async beginExternal(object: KubeObject, current: number | undefined, signal: AbortSignal): Promise<number> {
    const replicas = Math.max(1, current ?? 1)
    await this.options.client.patch(
      AGENTS,
      object.metadata,
      { spec: { replicas } },
      { signal, subresource: 'scale', fieldManager: SCALE_MANAGER },
    )
    return replicas
  }
}

/** As the Deployment has it; undefined: there is no Deployment. */
export function replicasIn(deployment: KubeObject | undefined): number | undefined {
  if (!deployment) return undefined
  return (deployment.spec as { readonly replicas?: number } | undefined)?.replicas ?? 1
}

export function scalingTarget({ metadata, spec }: ClusterAgent, { generation = 0 }: KubeObject['metadata']): ScalingTarget {
  const { scaler, ...settings } = spec.scaling
  return {
    agent: { namespace: metadata.namespace, name: metadata.name },
    generation,
    scaler,
    settings,
    ...(scaler === 'Builtin' && { manualReplicas: spec.replicas }),
  }
}

/** What a status says of scaling, for a leader that has not looked yet: it would only take back what the one before has written. */
export function scalingBefore(status: AgentStatus | undefined, replicas: number): ScalingState | undefined {
  const condition = conditionOf(status?.conditions, 'ScalingActive')
  if (!condition) return undefined
  const why = whyOf[condition.reason as Reason]
  if (!why) return undefined
  return {
    active: condition.status,
    why,
    replicas: status?.desiredReplicas === undefined ? undefined : replicas,
    backlog: status?.backlog,
  }
}

const whyOf: Partial<Readonly<Record<Reason, ScalingWhy>>> = {
  ScaledByBacklog: 'Steady',
  BrokerUnavailable: 'BrokerUnavailable',
  ScaledExternally: 'External',
  ReplicasOverridden: 'ManualOverride',
}

function placeOf({ namespace, name }: ResourceRef) {
  return { namespace, name: workloadName('Agent', name) }
}
