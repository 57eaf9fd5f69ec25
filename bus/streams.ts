/** Every stream and consumer, and how they are created and removed: by `kaos up` or the operator, never by a host. */
import {
  AckPolicy,
  type ConsumerConfig,
  DeliverPolicy,
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import { errors, type NatsConnection } from '@nats-io/transport-node'
import { reasonOf } from './server/reason.ts'
import type { ErrorCode } from './wire/error-codes.ts'
import { KaosError } from './wire/errors.ts'
import { DELIVERY_LIMITS, MESSAGE_LIMITS, STREAM_LIMITS } from './wire/limits.ts'
import { type Party, streamNames, subjectsOf } from './wire/subjects.ts'

/** How many servers hold each stream. */
export type Replicas = 1 | 3 | 5

/** What runs on the bus. Default: one replica. */
export interface Inventory {
  readonly namespace: string
  readonly agents: readonly string[]
  readonly tools: readonly string[]
  readonly replicas?: Replicas
}

type Stream = Partial<StreamConfig> & { readonly name: string }
type Consumer = Partial<ConsumerConfig> & { readonly name: string }
export interface StreamPlan {
  readonly stream: Stream
  readonly consumers: readonly Consumer[]
  /** What was recorded stays when its agent or tool server is removed. */
  readonly isRecord?: true
}

const ms = (value: number) => value * 1e6
const IN_PARALLEL = 4

const baseOf = (replicas: Replicas) => ({
  storage: StorageType.File,
  num_replicas: replicas,
  max_msg_size: MESSAGE_LIMITS.messageBytesMax,
  max_consumers: STREAM_LIMITS.consumersMax,
  allow_direct: true,
})

const workQueueOf = (replicas: Replicas) => ({
  ...baseOf(replicas),
  retention: RetentionPolicy.Workqueue,
  discard: DiscardPolicy.New,
  discard_new_per_subject: true,
  max_msgs_per_subject: STREAM_LIMITS.doorMessagesMax,
  max_bytes: STREAM_LIMITS.mailBytesMax,
  duplicate_window: ms(STREAM_LIMITS.duplicateWindowMs),
})

/** What all namespaces share, without the catalog. */
function planShared(replicas: Replicas): readonly StreamPlan[] {
  const base = baseOf(replicas)
  return [
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
}

function planAgent(namespace: string, agent: string, replicas: Replicas): readonly StreamPlan[] {
  const subjects = subjectsOf(namespace)
  const { all, door, doors, mail, journal, blob } = subjects.agentWildcards(agent)
  return [
    {
      stream: {
        ...workQueueOf(replicas),
        name: streamNames.agentMail(namespace, agent),
        subjects: [door, doors, mail],
        // Tells who scales the agent that mail was stored: a core message without a body. Nobody listens: 2-3 us of the server for each.
        republish: { src: all, dest: subjects.wake(agent), headers_only: true },
      },
      consumers: [consumer('task', [door, doors]), consumer('mail', [mail])],
    },
    {
      // No age: what is not finished never expires. Entries are removed only by subject, after the actor has ended.
      stream: {
        ...baseOf(replicas),
        name: streamNames.agentJournal(namespace, agent),
        subjects: [journal, blob],
        discard: DiscardPolicy.New,
        deny_delete: true,
      },
      consumers: [],
      isRecord: true,
    },
  ]
}

function planTool(namespace: string, tool: string, replicas: Replicas): readonly StreamPlan[] {
  const { call, done, blob } = subjectsOf(namespace).toolWildcards(tool)
  return [
    {
      stream: { ...workQueueOf(replicas), name: streamNames.toolMail(namespace, tool), subjects: [call] },
      consumers: [consumer('call', [call])],
    },
    {
      stream: {
        ...baseOf(replicas),
        name: streamNames.toolDone(namespace, tool),
        subjects: [done, blob],
        max_age: ms(STREAM_LIMITS.doneAgeMs),
      },
      consumers: [],
      isRecord: true,
    },
  ]
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

/** What one agent or tool server has, as data. */
export function planStreamsOf(namespace: string, { kind, name }: Party, replicas: Replicas = 1): readonly StreamPlan[] {
  if (kind === 'user') return []
  return kind === 'agent' ? planAgent(namespace, name, replicas) : planTool(namespace, name, replicas)
}

/**
 * Makes the broker hold what is declared. What is there already is brought up to date; nothing is deleted.
 * Throws `broker_unreachable` or `stream_refused`; again is harmless.
 */
export async function createStreams(connection: NatsConnection, inventory: Inventory): Promise<void> {
  const { namespace, agents, tools, replicas = 1 } = inventory
  const manager = await managerOf(connection)
  await createCatalog(connection, manager, replicas)
  const owned = [
    ...agents.flatMap((agent) => planAgent(namespace, agent, replicas)),
    ...tools.flatMap((tool) => planTool(namespace, tool, replicas)),
  ]
  await createAll(manager, [...planShared(replicas), ...owned])
}

/** The part of `createStreams` that all namespaces share. */
export async function createSharedStreams(connection: NatsConnection, replicas: Replicas = 1): Promise<void> {
  const manager = await managerOf(connection)
  await createCatalog(connection, manager, replicas)
  await createAll(manager, planShared(replicas))
}

/** The part of `createStreams` that is one agent's or tool server's. */
export async function createStreamsOf(
  connection: NatsConnection,
  namespace: string,
  party: Party,
  replicas: Replicas = 1,
): Promise<void> {
  await createAll(await managerOf(connection), planStreamsOf(namespace, party, replicas))
}

/**
 * Removes the mail of an agent or tool server, with what still waits in it, and its record in the catalog. What was recorded stays: journals and
 * replies. Throws `broker_unreachable` or `stream_refused`; what is not there is no error, so again is harmless.
 */
export async function removeStreamsOf(connection: NatsConnection, namespace: string, party: Party): Promise<void> {
  const manager = await managerOf(connection)
  const absent = (error: unknown) => {
    if ((error as { code?: number }).code !== STREAM_NOT_FOUND) throw error
  }
  for (const { stream, isRecord } of planStreamsOf(namespace, party)) {
    if (isRecord) continue
    await manager.streams
      .delete(stream.name)
      .catch(absent)
      .catch(refusing(`remove stream "${stream.name}"`))
  }
  const key = subjectsOf(namespace).catalogKey(party)
  const filter = `$KV.${streamNames.catalogBucket}.${key}`
  await manager.streams
    .purge(streamNames.catalog, { filter })
    .catch(absent)
    .catch(refusing(`remove "${key}" from the catalog`))
}

const STREAM_NAME_IN_USE = 10058
const STREAM_NOT_FOUND = 10059
const CONSUMER_EXISTS = 10148

/** Does not ask for the account, as the client does by default: whoever connects has looked whether JetStream is there. */
const managerOf = (connection: NatsConnection): Promise<JetStreamManager> => jetstreamManager(connection, { checkAPI: false })

async function createCatalog(connection: NatsConnection, manager: JetStreamManager, replicas: Replicas): Promise<void> {
  const create = async () => {
    const bucket = await new Kvm(connection).create(streamNames.catalogBucket, { history: 1, replicas })
    const { replicas: current } = await bucket.status()
    if (current !== replicas) await manager.streams.update(streamNames.catalog, { num_replicas: replicas })
  }
  await create().catch(refusing(`create bucket "${streamNames.catalogBucket}"`))
}

async function createAll(manager: JetStreamManager, all: readonly StreamPlan[]): Promise<void> {
  const plans = [...all]
  const worker = async () => {
    for (let plan = plans.shift(); plan; plan = plans.shift()) await createStream(manager, plan)
  }
  await Promise.all(Array.from({ length: IN_PARALLEL }, worker))
}

/** The server takes a create again as long as nothing differs. */
async function createStream(
  { streams, consumers: consumersOf }: JetStreamManager,
  { stream, consumers }: StreamPlan,
): Promise<void> {
  const { name, ...config } = stream
  await streams
    .add(stream)
    .catch((error: { code?: number }) => {
      if (error.code !== STREAM_NAME_IN_USE) throw error
      return streams.update(name, config)
    })
    .catch(refusing(`create stream "${name}"`))
  for (const wanted of consumers) {
    await consumersOf
      .add(name, wanted)
      .catch((error: { code?: number }) => {
        if (error.code !== CONSUMER_EXISTS) throw error
        return consumersOf.update(name, wanted.name, wanted)
      })
      .catch(refusing(`create consumer "${wanted.name}" of stream "${name}"`))
  }
}

/** For `catch`: throws what happened as an error of ours. */
export function refusing(what: string): (error: unknown) => never {
  return (error) => {
    throw new KaosError(codeOf(error), `could not ${what}: ${reasonOf(error)}`, { cause: error })
  }
}

/** Who was not answered found a broker that is gone, or a cluster without a leader. */
function codeOf(error: unknown): ErrorCode {
  if (error instanceof errors.PermissionViolationError) return 'access_denied'
  return error instanceof JetStreamApiError ? 'stream_refused' : 'broker_unreachable'
}
