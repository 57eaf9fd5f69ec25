/** What one look at an Agent does: streams, children, scaling and status, from what is there now. */
import type { AgentRef } from '../broker/owner.ts'
import type { StreamKeeper } from '../broker/streams.ts'
import { desiredAgent } from '../desired/agent.ts'
import type { Installation } from '../desired/installation.ts'
import type { ClusterAgent } from '../desired/plan.ts'
import { type KubeObject, splitKey } from '../kube/object.ts'
import type { Outcome } from '../queue.ts'
import type { ScalingState } from '../scale/scaled-agent.ts'
import type { Scaler } from '../scale/scaler.ts'
import { agentStatus } from '../status/agent.ts'
import { unreadableStatus } from '../status/ready.ts'
import { readWorkload } from '../status/workload.ts'
import type { Children } from './children.ts'
import type { ClusterView } from './cluster-view.ts'
import { AGENTS } from './kinds.ts'
import { type DeploymentScales, replicasIn, scalingBefore, scalingTarget } from './scaling.ts'
import type { StatusWriter } from './status-writer.ts'
import { agentStatusOf, conditionsOf, dependenciesOf, readAgent } from './stored.ts'
import type { Streams } from './streams.ts'

/** A quota or a policy that refused may have changed: nothing tells us. */
const REFUSED_AGAIN_MS = 60_000

export interface AgentReconcilerOptions {
  readonly installation: Installation
  readonly view: ClusterView
  readonly streams: Streams
  readonly keeper: Pick<StreamKeeper, 'forget'>
  readonly children: Children
  readonly scaler: Scaler
  /** Undefined: nothing was seen yet, and what the status said before holds. */
  readonly scalingOf: (agent: AgentRef) => ScalingState | undefined
  readonly scales: Pick<DeploymentScales, 'beginExternal'>
  readonly statuses: StatusWriter
}

export class AgentReconciler {
  private readonly options: AgentReconcilerOptions

  constructor(options: AgentReconcilerOptions) {
    this.options = options
  }

  readonly reconcile = async (key: string, object: KubeObject | undefined, signal: AbortSignal): Promise<Outcome> => {
    const { streams, scaler, keeper, statuses } = this.options
    const { namespace = '', name } = splitKey(key)
    const ref: AgentRef = { namespace, name }
    const owner = { kind: 'agent', ...ref } as const
    if (!object || object.metadata.deletionTimestamp !== undefined) {
      scaler.forget(ref)
      if (object) await streams.release(AGENTS, object, owner, signal)
      else keeper.forget(owner)
      return
    }
    const stored = readAgent(object)
    if ('problem' in stored) {
      const seen = statuses.latest(object)
      const status = unreadableStatus(stored.problem, conditionsOf(seen), statuses.moment(seen))
      return statuses.write(AGENTS, seen, status, signal)
    }
    return this.keep(object, stored.resource, ref, signal)
  }

  /** While it is paused its pods stay as they are, whatever waits for them. */
  readonly whilePaused = async (key: string): Promise<void> => {
    const { namespace = '', name } = splitKey(key)
    this.options.scaler.forget({ namespace, name })
  }

  private async keep(object: KubeObject, agent: ClusterAgent, ref: AgentRef, signal: AbortSignal): Promise<Outcome> {
    const { installation, view, streams, children, scaler, scalingOf, statuses } = this.options
    const streamsView = await streams.ensure(AGENTS, object, { kind: 'agent', ...ref }, signal)
    const replicas = await this.replicas(object, agent, ref, signal)
    const isRunning = children.deploymentOf(object) !== undefined
    const planned = desiredAgent(agent, {
      dependencies: dependenciesOf(agent, view),
      installation,
      scale: { replicas, isExternal: false },
      isRunning,
    })
    // A pod without streams could only fail; one that is there had them.
    const mayStart = streamsView.is === 'created' || isRunning || agent.spec.external === true
    const { plan, deployment, mayPass } = mayStart
      ? await children.carryOut(object, planned, { signal, replicasNow: () => scaler.replicas(ref) })
      : { plan: planned, deployment: undefined, mayPass: false }
    if (agent.spec.external) scaler.forget(ref)
    else scaler.watch(scalingTarget(agent, object.metadata))
    const seen = statuses.latest(object)
    const status = agentStatus(
      agent,
      {
        plan,
        workload: this.workload(object, deployment),
        streams: streamsView,
        scaling: scalingOf(ref) ?? scalingBefore(agentStatusOf(seen), replicas),
        clusterDomain: installation.clusterDomain,
        status: agentStatusOf(seen),
      },
      statuses.moment(seen),
    )
    await statuses.write(AGENTS, seen, status, signal)
    return { afterMs: mayPass ? REFUSED_AGAIN_MS : streams.retryAfterMs(streamsView) }
  }

  private workload(object: KubeObject, deployment: KubeObject | undefined) {
    return readWorkload(deployment, this.options.view.podsOf('Agent', object))
  }

  /** What the Deployment is to ask for: as the scaler says, or who scales in its place; before either has said anything, what is there. */
  private async replicas(object: KubeObject, { spec }: ClusterAgent, ref: AgentRef, signal: AbortSignal): Promise<number> {
    const { children, scaler, scales } = this.options
    const there = replicasIn(children.deploymentOf(object))
    if (spec.scaling.scaler === 'Builtin') return scaler.replicas(ref) ?? there ?? spec.replicas ?? spec.scaling.minReplicas
    return spec.replicas ?? (await scales.beginExternal(object, there, signal))
  }
}
