/** What one look at an Agent does: streams, children, scaling and status, from what is there now. */
import type { AgentStatus } from '../../manifests/crd/status.ts'
import { type ResourceRef, refOf } from '../broker/owner.ts'
import type { StreamKeeper } from '../broker/streams.ts'
import { desiredAgent } from '../desired/agent.ts'
import type { Installation } from '../desired/installation.ts'
import type { ClusterAgent } from '../desired/plan.ts'
import type { KubeClient } from '../kube/client.ts'
import type { KubeObject } from '../kube/object.ts'
import { withMissingMounts } from '../mounts.ts'
import { type Outcome, soonest } from '../queue.ts'
import type { ScalingState } from '../scale/scaled-agent.ts'
import type { Scaler } from '../scale/scaler.ts'
import { agentStatus } from '../status/agent.ts'
import type { Moment } from '../status/conditions.ts'
import { readWorkload } from '../status/workload.ts'
import type { Children } from './children.ts'
import type { ClusterView } from './cluster-view.ts'
import type { Departures } from './departures.ts'
import { AGENTS } from './kinds.ts'
import { type DeploymentScales, replicasIn, scalingBefore, scalingTarget } from './scaling.ts'
import type { StatusWriter } from './status-writer.ts'
import { dependenciesOf, readAgent } from './stored.ts'
import type { Streams } from './streams.ts'

export interface AgentReconcilerOptions {
  readonly installation: Installation
  readonly client: KubeClient
  readonly view: ClusterView
  readonly streams: Streams
  readonly keeper: Pick<StreamKeeper, 'forget'>
  readonly departures: Departures
  readonly children: Children
  readonly scaler: Scaler
  /** Undefined: nothing was seen yet, and what the status said before holds. */
  readonly scalingOf: (agent: ResourceRef) => ScalingState | undefined
  readonly scales: Pick<DeploymentScales, 'beginExternal'>
  readonly statuses: StatusWriter
}

export class AgentReconciler {
  private readonly options: AgentReconcilerOptions

  constructor(options: AgentReconcilerOptions) {
    this.options = options
  }

  readonly reconcile = async (key: string, object: KubeObject | undefined, signal: AbortSignal): Promise<Outcome> => {
    const { departures, scaler, keeper, statuses } = this.options
    const ref = refOf(key)
    if (!object || departures.isLeaving(object)) {
      scaler.forget(ref)
      if (object) return departures.carryOut(AGENTS, object, signal)
      keeper.forget({ kind: 'agent', ...ref })
      return
    }
    const stored = readAgent(object)
    if ('problem' in stored) return statuses.writeUnreadable(AGENTS, object, stored.problem, signal)
    return this.keep(object, stored.resource, ref, signal)
  }

  /** Its pods stay as they are, whatever waits for them. */
  readonly whilePaused = async (key: string, object: KubeObject, signal: AbortSignal): Promise<Outcome> => {
    const { departures, scaler, statuses } = this.options
    scaler.forget(refOf(key))
    if (departures.isLeaving(object)) return departures.carryOut(AGENTS, object, signal)
    return statuses.writePaused(AGENTS, object, signal)
  }

  private async keep(object: KubeObject, agent: ClusterAgent, ref: ResourceRef, signal: AbortSignal): Promise<Outcome> {
    const { installation, client, view, streams, children, scaler, scalingOf, statuses } = this.options
    const { clusterDomain } = installation
    const streamsView = await streams.ensure(AGENTS, object, { kind: 'agent', ...ref }, signal)
    const replicas = await this.replicas(object, agent, ref, signal)
    const isRunning = children.deploymentOf(object) !== undefined
    const planned = desiredAgent(agent, {
      dependencies: dependenciesOf(agent, view),
      installation,
      replicas,
      isRunning,
    })
    // A pod without streams could only fail; one that is there had them.
    const mayStart = streamsView.is === 'created' || isRunning || agent.spec.external === true
    const carriedOut = mayStart
      ? await children.carryOut(object, planned, { signal, replicasNow: () => scaler.replicas(ref) })
      : { plan: planned }
    if (agent.spec.external) scaler.forget(ref)
    else scaler.watch(scalingTarget(agent, object.metadata))
    const found = readWorkload(carriedOut.deployment, view.podsOf('Agent', object))
    const workload = await withMissingMounts(found, carriedOut.deployment, { client, signal })
    const seen = {
      plan: carriedOut.plan,
      workload,
      streams: streamsView,
      clusterDomain,
    }
    const compose = (status: AgentStatus | undefined, moment: Moment) =>
      agentStatus(agent, { ...seen, scaling: scalingOf(ref) ?? scalingBefore(status, replicas), status }, moment)
    await statuses.write(AGENTS, object, compose, signal)
    return soonest(carriedOut.retryAfterMs, streams.retryAfterMs(streamsView), workload.lookAgainMs)
  }

  /** What the Deployment is to ask for: as the scaler says, or who scales in its place; before either has said anything, what is there. */
  private async replicas(object: KubeObject, { spec }: ClusterAgent, ref: ResourceRef, signal: AbortSignal): Promise<number> {
    const { children, scaler, scales } = this.options
    const there = replicasIn(children.deploymentOf(object))
    if (spec.scaling.scaler === 'Builtin') return scaler.replicas(ref) ?? there ?? spec.replicas ?? spec.scaling.minReplicas
    return spec.replicas ?? (await scales.beginExternal(object, there, signal))
  }
}
