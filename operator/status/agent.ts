/** The status of an Agent. */
import type { AgentStatus, Condition } from '../../manifests/crd/status.ts'
import { HTTP_PORT, selectorText, serviceUrl } from '../desired/names.ts'
import type { ClusterAgent } from '../desired/plan.ts'
import type { ScalingState } from '../scale/scaled-agent.ts'
import type { Moment, Statement } from './conditions.ts'
import { joined, type Seen, sharedStatus } from './ready.ts'

export interface AgentSeen extends Omit<Seen, 'before' | 'isExternal' | 'asleep'> {
  /** Absent: it is not scaled yet. */
  readonly scaling?: ScalingState | undefined
  readonly clusterDomain: string
  /** As it was written last. */
  readonly status?: AgentStatus | undefined
}

export function agentStatus(agent: ClusterAgent, seen: AgentSeen, moment: Moment): AgentStatus {
  const { metadata, spec } = agent
  const { plan, workload, scaling, clusterDomain } = seen
  const isExternal = spec.external === true
  const before: readonly Condition[] = seen.status?.conditions ?? []
  const desired = scaling?.replicas ?? (workload.exists ? workload.wanted : undefined)
  return {
    ...sharedStatus({ ...seen, before, isExternal, asleep: scaling && asleepStatement(scaling) }, moment, {
      DependenciesReady: dependenciesStatement(plan),
      ScalingActive: isExternal || !scaling ? undefined : scalingStatement(scaling),
    }),
    ...(spec.agentNetwork.expose && !isExternal && { endpoint: serviceUrl('Agent', metadata, clusterDomain, HTTP_PORT) }),
    ...(spec.modelAPI !== undefined && { linkedResources: { modelapi: spec.modelAPI } }),
    ...(!isExternal && { selector: selectorText('Agent', metadata.name) }),
    ...(desired !== undefined && !isExternal && { desiredReplicas: desired }),
    ...(scaling?.backlog !== undefined && { backlog: scaling.backlog }),
  }
}

function dependenciesStatement(plan: Seen['plan']): Statement | undefined {
  if (plan.is === 'refused') {
    return plan.reason === 'ModelNotOffered' ? { status: false, reason: plan.reason, message: plan.message } : undefined
  }
  if (plan.is === 'waiting') return { status: false, reason: plan.reason, message: plan.message }
  if (plan.unmet.length > 0) return joined(plan.unmet, false)
  return { status: true, reason: 'DependenciesMet', message: 'all that it names is there and ready' }
}

/** Why no pod is asked for, if not by the backlog: then no task wakes it. */
function asleepStatement({ why }: ScalingState): Statement | undefined {
  if (why === 'ManualOverride') {
    const message = 'no pod runs, for spec.replicas is 0: what is sent to it waits until that is changed'
    return { status: true, reason: 'ReplicasOverridden', message }
  }
  if (why !== 'External') return undefined
  const message = 'no pod runs, as whoever sets the replicas says: what is sent to it waits until that is changed'
  return { status: true, reason: 'ScaledExternally', message }
}

/** Without the reason of each decision: that would be a write for every breath of the backlog. */
function scalingStatement({ active, why }: ScalingState): Statement {
  if (active === 'True') return { status: true, reason: 'ScaledByBacklog', message: 'replicas follow the backlog' }
  if (active === 'Unknown') {
    return { status: 'Unknown', reason: 'BrokerUnavailable', message: 'the backlog is not known; replicas stay as they are' }
  }
  if (why === 'External')
    return {
      status: false,
      reason: 'ScaledExternally',
      message: 'spec.scaling.scaler is External: somebody else sets the replicas',
    }
  if (why === 'ManualOverride')
    return { status: false, reason: 'ReplicasOverridden', message: 'spec.replicas is set; remove it to follow the backlog again' }
  return { status: false, reason: 'Starting', message: 'there is no Deployment yet' }
}
