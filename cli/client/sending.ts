/** Sending: a task at an agent's door with an id of its own, and a signal to a task that has begun. */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { NatsBus } from '../../bus/open.ts'
import { type HeaderPairs, JS_CODES, PublishFailed } from '../../bus/publish/publish.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { keyOf, rootTaskId } from '../../bus/wire/ids.ts'
import { type Json, sha256 } from '../../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../../bus/wire/limits.ts'
import { blobBody, HEADERS } from '../../bus/wire/message.ts'
import { agentParty, userParty } from '../../bus/wire/subjects.ts'
import { nearestTo } from '../../manifests/loading/nearest.ts'
import type { TaskAddress } from './lookup.ts'
import { type SendTrace, type SendTraceOptions, sendTrace } from './send-trace.ts'

export type SentTask = TaskAddress & Pick<SendTrace, 'traceId' | 'refused'>

const TRIES = 5
const NAMED_MAX = 20
const NAMES_MS = 1_000

/**
 * Publishes a task at an agent's door, with an id, so that its result has a known subject and sending again is harmless. Throws `door_full`
 * and `unknown_agent`, which a plain `nats pub` cannot be told.
 */
export async function sendTask(
  bus: NatsBus,
  agent: string,
  input: string,
  options: { readonly id?: string | undefined } & Pick<SendTraceOptions, 'telemetry' | 'env'> = {},
): Promise<SentTask> {
  const { id = newId(), telemetry, env } = options
  const key = keyOf(bus.namespace, agent, id)
  const address = { agent, key, task: rootTaskId(agent, key) }
  const trace = sendTrace({ namespace: bus.namespace, address, telemetry, env })
  await trace.record(async () => {
    const body = await doorBody(bus, agent, address.task, input)
    await publishTask(bus, agent, body, [[HEADERS.messageId, id], ...trace.headers])
  })
  return { ...address, traceId: trace.traceId, refused: trace.refused }
}

async function publishTask(bus: NatsBus, agent: string, body: string, headers: HeaderPairs): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await bus.publisher.publish(bus.subjects.door(agent), body, headers)
      return
    } catch (error) {
      if (!(error instanceof PublishFailed)) throw error
      if (error.kind === 'no-stream') throw await unknownAgent(bus, agent)
      if (error.code === JS_CODES.full)
        throw new KaosError('door_full', `the door of agent "${agent}" is full: ${error.message}`, { cause: error })
      if (tries === TRIES)
        throw new KaosError('publish_timeout', `could not send a task to agent "${agent}": ${error.message}`, { cause: error })
    }
  }
}

/** A task too large for the door lies as a blob in the agent's own store. */
async function doorBody(bus: NatsBus, agent: string, task: string, input: string): Promise<string> {
  if (Buffer.byteLength(input) <= MESSAGE_LIMITS.doorBytesMax - 64) return input
  // Where there is no such agent a write of its blob would be repeated for half a minute.
  const known = await bus.catalog.agents().catch(() => undefined)
  if (known && !known.some(({ name }) => name === agent)) throw await unknownAgent(bus, agent)
  const self = agentParty(agent)
  const sha = sha256(input)
  const bytes = Buffer.byteLength(input)
  await bus.blobs.write(self, self, task, sha, input)
  return blobBody({ owner: self, to: self, task, sha, bytes })
}

async function unknownAgent(bus: NatsBus, agent: string): Promise<KaosError> {
  // The names are a courtesy: a broker that nobody used before has no catalog, and a read of none is repeated for long.
  const agents = bus.catalog.agents().catch(() => [])
  const known = (await Promise.race([agents, delay(NAMES_MS, [], { ref: false })])).map(({ name }) => name)
  return new KaosError('unknown_agent', `there is no agent "${agent}" in namespace "${bus.namespace}"${hint(agent, known)}`)
}

/** What was meant, or what there is. */
export function hint(given: string, known: readonly string[]): string {
  const nearest = nearestTo(given, known)
  if (nearest !== undefined) return `; did you mean "${nearest}"?`
  const more = known.length > NAMED_MAX ? ', …' : ''
  return known.length > 0 ? `; there are: ${known.toSorted().slice(0, NAMED_MAX).join(', ')}${more}` : ''
}

/** For what nobody gave an id. */
export function newId(): string {
  return randomBytes(8).toString('hex')
}

/** Tells a task something: `cancel`, or an event of its machine. Resolves when it is stored; whether the task listens shows in its trace. */
export async function sendSignal(
  bus: NatsBus,
  { agent, task }: { readonly agent: string; readonly task: string },
  name: string,
  data: Json,
): Promise<void> {
  const id = newId()
  await bus.post.send({
    subject: bus.subjects.signal(agent, name, userParty('cli'), task),
    id,
    body: JSON.stringify(data),
    overflow: { owner: agentParty(agent), to: agentParty(agent), task },
  })
}
