/** Every stream and consumer, and how they are created: by `kaos up` or the operator, never by a host. */
import {
  AckPolicy,
  type ConsumerConfig,
  DeliverPolicy,
  DiscardPolicy,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import type { NatsConnection } from '@nats-io/transport-node'
import { KaosError } from './wire/errors.ts'
import { DELIVERY_LIMITS, MESSAGE_LIMITS, STREAM_LIMITS } from './wire/limits.ts'
import { streamNames, subjectsOf } from './wire/subjects.ts'

/** What runs on the bus. `replicas` is the number of servers that hold each stream. */
export interface Inventory {
  readonly namespace: string
  readonly agents: readonly string[]
  readonly tools: readonly string[]
  readonly replicas?: 1 | 3 | 5
}

type Stream = Partial<StreamConfig> & { readonly name: string }
type Consumer = Partial<ConsumerConfig> & { readonly name: string }
export interface StreamPlan {
  readonly stream: Stream
  readonly consumers: readonly Consumer[]
}

const ms = (value: number) => value * 1e6
const IN_PARALLEL = 4

/** The whole plan as data. */
export function planStreams({ namespace, agents, tools, replicas = 1 }: Inventory): readonly StreamPlan[] {
  const subjects = subjectsOf(namespace)
  const base = {
    storage: StorageType.File,
    num_replicas: replicas,
    max_msg_size: MESSAGE_LIMITS.messageBytesMax,
    max_consumers: STREAM_LIMITS.consumersMax,
    allow_direct: true,
  }
  const workQueue = {
    ...base,
    retention: RetentionPolicy.Workqueue,
    discard: DiscardPolicy.New,
    discard_new_per_subject: true,
    max_msgs_per_subject: STREAM_LIMITS.doorMessagesMax,
    max_bytes: STREAM_LIMITS.mailBytesMax,
    duplicate_window: ms(STREAM_LIMITS.duplicateWindowMs),
  }
  const shared: StreamPlan[] = [
    {
      stream: {
        ...base,
        name: streamNames.results,
        subjects: ['kaos.*.result.>'],
        discard: DiscardPolicy.Old,
        max_age: ms(STREAM_LIMITS.resultAgeMs),
      },
      consumers: [],
    },
    { stream: { ...base, name: streamNames.traces, subjects: ['kaos.*.trace.>'], max_msgs_per_subject: 1 }, consumers: [] },
    {
      stream: { ...base, name: streamNames.dead, subjects: ['kaos.*.dead.>'], max_age: ms(STREAM_LIMITS.deadAgeMs) },
      consumers: [],
    },
  ]
  const ofAgents = agents.flatMap((agent): StreamPlan[] => {
    const { door, doors, mail, journal, blob } = subjects.agentWildcards(agent)
    return [
      {
        stream: { ...workQueue, name: streamNames.agentMail(namespace, agent), subjects: [door, doors, mail] },
        consumers: [consumer('task', [door, doors]), consumer('mail', [mail])],
      },
      {
        // No age: what is not finished never expires. Entries are removed only by subject, after the actor has ended.
        stream: {
          ...base,
          name: streamNames.agentJournal(namespace, agent),
          subjects: [journal, blob],
          discard: DiscardPolicy.New,
          deny_delete: true,
        },
        consumers: [],
      },
    ]
  })
  const ofTools = tools.flatMap((tool): StreamPlan[] => {
    const { call, done, blob } = subjects.toolWildcards(tool)
    return [
      {
        stream: { ...workQueue, name: streamNames.toolMail(namespace, tool), subjects: [call] },
        consumers: [consumer('call', [call])],
      },
      {
        stream: {
          ...base,
          name: streamNames.toolDone(namespace, tool),
          subjects: [done, blob],
          max_age: ms(STREAM_LIMITS.doneAgeMs),
        },
        consumers: [],
      },
    ]
  })
  return [...shared, ...ofAgents, ...ofTools]
}

function consumer(name: string, filters: readonly string[]): Consumer {
  return {
    name,
    durable_name: name,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    ack_wait: ms(DELIVERY_LIMITS.ackWaitMs),
    max_deliver: -1,
    max_ack_pending: DELIVERY_LIMITS.ackPendingMax,
    ...(filters.length === 1 ? { filter_subject: filters[0]! } : { filter_subjects: [...filters] }),
  }
}

/** Makes the broker hold what the plan says. What is there already is brought up to date; nothing is deleted. */
export async function createStreams(connection: NatsConnection, inventory: Inventory): Promise<void> {
  const manager = await jetstreamManager(connection)
  await new Kvm(connection).create(streamNames.catalogBucket, { history: 1, replicas: inventory.replicas ?? 1 })
  const plans = [...planStreams(inventory)]
  const worker = async () => {
    for (let plan = plans.shift(); plan; plan = plans.shift()) await createStream(manager, plan)
  }
  await Promise.all(Array.from({ length: IN_PARALLEL }, worker))
}

const STREAM_NAME_IN_USE = 10058

async function createStream(manager: JetStreamManager, { stream, consumers }: StreamPlan): Promise<void> {
  try {
    await manager.streams.add(stream)
  } catch (error) {
    if ((error as { code?: number }).code !== STREAM_NAME_IN_USE) throw refused(stream.name, error)
    const { name, ...config } = stream
    await manager.streams.update(name, config).catch((reason: unknown) => {
      throw refused(name, reason)
    })
  }
  for (const config of consumers) {
    await manager.consumers.add(stream.name, config).catch((error: unknown) => {
      throw refused(`${stream.name} > ${config.name}`, error)
    })
  }
}

function refused(name: string, error: unknown): KaosError {
  return new KaosError('broker_failed', `could not create stream "${name}": ${(error as Error).message}`, { cause: error })
}
