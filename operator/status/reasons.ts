/**
 * Why a resource is as it is: the fixed list of reasons in conditions and Events. They are part of the API: scripts and alerts
 * match them, so a reason keeps its name and its meaning.
 */

export type Phase = 'Pending' | 'Waiting' | 'Ready' | 'Failed'

interface Row {
  /** What it means and what cures it, for the docs. */
  readonly meaning: string
  /** Phase of a resource whose Ready condition has it. */
  readonly phase: Phase
  /** Nothing changes until the resource, or something that it names, is changed. */
  readonly isStalled?: true
}

export const reasons = {
  // it works
  Available: row('Ready', 'At least one pod takes work.'),
  ScaledToZero: row('Ready', 'Asleep: no pod runs because nothing waits. The next task wakes it.'),
  WakingUp: row('Ready', 'Woken from zero: its first pod starts.'),
  External: row('Ready', 'A program of your own answers for it (spec.external); no pod runs here.'),

  // on the way
  Starting: row('Pending', 'Its pods were created, and none is ready yet.'),
  RollingOut: row('Ready', 'Pods of the last version are being replaced by those of this one.'),
  Unschedulable: row('Pending', 'No node takes the pod. The message says what is missing: CPU, memory, a taint, a volume.'),
  BrokerUnavailable: row(
    'Pending',
    'The NATS server cannot be reached, so streams cannot be created or read. Replicas stay as they are.',
  ),
  StreamsCreated: row('Ready', 'The streams and consumers are there.'),
  Paused: row('Pending', 'Its annotation kaos.tools/paused is "true": nothing is done for it until that is removed.'),

  // what it depends on
  DependenciesMet: row('Ready', 'Everything that it names is there and ready.'),
  ModelAPINotFound: row('Waiting', 'No ModelAPI of this name is in the namespace. Create it, or correct spec.modelAPI.'),
  WaitingForModelAPI: row('Waiting', 'The ModelAPI is not ready yet; look at its own conditions.'),
  ModelNotOffered: row(
    'Failed',
    'The ModelAPI does not offer this model. Add it to spec.proxyConfig.models there, or change spec.model.',
    true,
  ),
  MCPServerNotFound: row('Waiting', 'No MCPServer of this name is in the namespace. Create it, or correct spec.mcpServers.'),
  MCPServerNotReady: row('Waiting', 'An MCPServer is not ready yet; look at its own conditions.'),
  PeerNotFound: row(
    'Ready',
    'An agent of agentNetwork.access is not there. The agent works without it and is told when it appears.',
  ),

  // the declaration
  SpecInvalid: row('Failed', 'The specification contradicts itself. The message names the field.', true),
  UnknownRuntime: row(
    'Failed',
    'No runtime has this name: neither a built-in one nor one of the registry of the installation.',
    true,
  ),
  RequiredEnvMissing: row('Failed', 'The runtime needs a variable that spec.container.env does not set.', true),
  NameTaken: row(
    'Failed',
    'An object with the name of one of its children is there that is not ours. Remove that, or give the resource another name.',
    true,
  ),
  ForbiddenByPolicy: row(
    'Failed',
    'The installation, or a policy of the namespace such as Pod Security, forbids what the pod asks for.',
    true,
  ),

  // pods
  ImagePullFailed: row('Failed', 'The image of a pod cannot be pulled. The message has the name and the words of the node.'),
  CrashLooping: row('Failed', 'A container ends again and again. Read its log: kubectl logs.'),
  ContainerNotCreated: row(
    'Failed',
    'A container cannot be created, such as for a Secret, a ConfigMap or a key in one that is missing. The message names it.',
  ),
  PodNotPrepared: row(
    'Pending',
    'A node has not prepared a pod for its containers within a minute: a Secret, ConfigMap or volume that it mounts, or its network. The message says where to look.',
  ),
  QuotaExceeded: row('Failed', 'A quota of the namespace has no room for the pod.'),
  PodsNotCreated: row('Failed', 'The API server refuses to create the pods. The message has its words.'),
  ProgressDeadlineExceeded: row('Failed', 'The pods did not become ready in time.', true),

  // scaling
  ScaledByBacklog: row('Ready', 'Replicas follow the backlog.'),
  ScaledExternally: row(
    'Ready',
    'Somebody else sets the replicas: kubectl scale, an HPA or KEDA (spec.scaling.scaler External).',
  ),
  ReplicasOverridden: row(
    'Ready',
    'spec.replicas is set, as kubectl scale does, and holds until it is removed. With 0 no pod runs, and what is sent to it waits.',
  ),

  // telemetry
  TelemetryEndpointMissing: row(
    'Ready',
    'Telemetry is enabled and no endpoint is set: neither in spec.telemetry nor for the installation. Nothing is exported.',
  ),
  TelemetryEndpointInvalid: row(
    'Ready',
    'The endpoint is no host:port and no URL that begins with http, https or grpc, or has a user in it. Nothing is exported.',
  ),
  HostedModel: row(
    'Ready',
    'An Ollama has no OpenTelemetry, so nothing is exported by it. The spans of the agents show its time.',
  ),
} as const satisfies Readonly<Record<string, Row>>

export type Reason = keyof typeof reasons

/** What people should know, and why. */
export interface Finding {
  readonly reason: Reason
  readonly message: string
}

/** Reasons of Events that tell of a change and not of a state. */
export const eventReasons = {
  Updated: 'A new generation of the resource is carried out.',
  Resumed: 'It is not paused any more.',
  WokenUp: 'The first pods were asked for.',
  ScaledUp: 'More pods were asked for.',
  ScaledDown: 'Fewer pods were asked for.',
  PodsLeft: 'It is deleted, and its pods did not end in time: its streams went before them.',
  StreamsLeft:
    'It is gone, and its streams stay: the broker did not answer for minutes or refused, or its pods were left as orphans.',
} as const

export type EventReason = keyof typeof eventReasons

export function phaseOf(reason: Reason): Phase {
  return reasons[reason].phase
}

export function isStalled(reason: Reason): boolean {
  return (reasons[reason] as Row).isStalled === true
}

function row(phase: Phase, meaning: string, isStalled?: true): Row {
  return { phase, meaning, ...(isStalled && { isStalled }) }
}
