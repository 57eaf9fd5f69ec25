/**
 * Where a system runs in one test process: on the bus in memory, or on a real nats-server. The same test body runs on both. A process is one
 * connection that can die, freeze and wake; `before` sees each of its operations and may fail or delay it.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { jetstreamManager } from '@nats-io/jetstream'
import type { BrokerSettings } from '../../bus/access/settings.ts'
import type { Bus, Delivery, Stored } from '../../bus/contracts.ts'
import { MemoryBroker, type MemoryBus } from '../../bus/memory.ts'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { rootTaskId } from '../../bus/wire/ids.ts'
import { sha256 } from '../../bus/wire/json.ts'
import { DELIVERY_LIMITS } from '../../bus/wire/limits.ts'
import { blobBody, parseBlobBody } from '../../bus/wire/message.ts'
import { agentParty, type Party, type Subjects, streamNames, subjectsOf, userParty } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from './broker.ts'

type Before = (operation: string, subject: string) => Promise<void> | void

/** One process on the bus. */
export interface Process {
  readonly bus: Bus
  before: Before | undefined
  /** SIGKILL: nothing it does reaches the broker any more. */
  kill(): void
  /** SIGSTOP and SIGCONT. */
  freeze(): void
  wake(): void
}

export interface DeadLetter {
  readonly body: string
  readonly header: (name: string) => string | undefined
}

export interface Place extends AsyncDisposable {
  readonly subjects: Subjects
  readonly ackWaitMs: number
  declare(agents: readonly string[], tools: readonly string[]): Promise<void>
  connect(): Promise<Process>
  /** As any client would. */
  publish(subject: string, body: string, headers?: Readonly<Record<string, string>>): Promise<void>
  journal(agent: string, task: string): Promise<readonly Stored[]>
  readBlob(agent: string, task: string, sha: string): Promise<string>
  /** Tasks of an agent that have a journal. */
  tasks(agent: string): Promise<readonly string[]>
  /** The stored result, as JSON text. */
  result(agent: string, key: string): Promise<string | undefined>
  /** How often a result was stored. */
  resultCount(agent: string, key: string): Promise<number>
  deadLetters(party: Party): Promise<readonly DeadLetter[]>
  /** The record of an actor in the index of traces, as JSON text. */
  indexed(traceId: string, agent: string, task: string): Promise<string | undefined>
  /** Messages that wait or are in hand, of agents and tools. */
  backlog(): Promise<number>
}

/** Sends a task that is too large for the door, as `kaos task send` does. */
export async function sendLarge(place: Place, from: Process, agent: string, key: string, body: string): Promise<void> {
  const self = agentParty(agent)
  const task = rootTaskId(agent, key)
  const sha = sha256(body)
  await from.bus.blobs.write(self, self, task, sha, body)
  const ref = blobBody({ owner: self, to: self, task, sha, bytes: Buffer.byteLength(body) })
  await place.publish(place.subjects.door(agent), ref, { 'Kaos-Key': key })
}

export async function inMemory(): Promise<Place> {
  const broker = new MemoryBroker({ ackWaitMs: 60 })
  const { subjects } = broker
  const buses: MemoryBus[] = []
  const open = () => {
    const bus = broker.connect()
    buses.push(bus)
    return bus
  }
  const last = (subject: string) => broker.records.get(subject)?.at(-1)?.text
  return {
    subjects,
    ackWaitMs: broker.ackWaitMs,
    async declare(agents, tools) {
      for (const agent of agents) broker.declareAgent(agent)
      for (const tool of tools) broker.declareTool(tool)
    },
    async connect() {
      const bus = open()
      return {
        bus,
        get before() {
          return bus.before
        },
        set before(hook) {
          bus.before = hook
        },
        kill: () => bus.kill(),
        freeze: () => bus.freeze(),
        wake: () => bus.wake(),
      }
    },
    publish: async (subject, body, headers) => broker.publish(subject, body, headers),
    journal: async (agent, task) => broker.records.get(subjects.journal(agent, task)) ?? [],
    readBlob: (agent, task, sha) => open().blobs.read(agentParty(agent), agentParty(agent), task, sha),
    tasks: async (agent) => {
      const start = subjects.journal(agent, '')
      return [...broker.records.keys()]
        .filter((subject) => subject.startsWith(start))
        .map((subject) => subject.slice(start.length))
    },
    async result(agent, key) {
      const text = last(subjects.result(agent, key))
      const ref = text === undefined ? undefined : parseBlobBody(text)
      return ref ? open().blobs.read(ref.owner, ref.to, ref.task, ref.sha) : text
    },
    resultCount: async (agent, key) => broker.records.get(subjects.result(agent, key))?.length ?? 0,
    deadLetters: async (party) =>
      broker.sent
        .filter(({ subject }) => subject === subjects.dead(party))
        .map(({ body, headers = [] }) => ({ body, header: (name) => headers.find(([key]) => key === name)?.[1].toString() })),
    indexed: async (traceId, agent, task) => last(subjects.trace(traceId, agent, task)),
    backlog: async () => broker.backlog,
    async [Symbol.asyncDispose]() {
      for (const bus of buses) bus.kill()
      broker.close()
    },
  }
}

/** A broker for all tests of a file; each place on it is a namespace of its own. */
export async function startNatsPlaces(): Promise<
  { readonly settings: BrokerSettings; open(): Promise<Place> } & AsyncDisposable
> {
  const broker = await startTestBroker()
  let places = 0
  return {
    settings: broker.settings,
    open: () => onNats(broker, `place${places++}`),
    [Symbol.asyncDispose]: () => broker.stop(),
  }
}

async function onNats(broker: TestBroker, namespace: string): Promise<Place> {
  const subjects = subjectsOf(namespace)
  const declared = { namespace, agents: [] as string[], tools: [] as string[] }
  const processes: FaultyProcess[] = []
  const admin = await openBus(broker.settings, { namespace, as: userParty('test'), log: silentLog() })
  const manager = await jetstreamManager(admin.connection)
  const count = async (stream: string, filter: string) => {
    const { state } = await manager.streams.info(stream, { subjects_filter: filter })
    return Object.entries(state.subjects ?? {})
  }
  return {
    subjects,
    ackWaitMs: DELIVERY_LIMITS.ackWaitMs,
    async declare(agents, tools) {
      declared.agents.push(...agents)
      declared.tools.push(...tools)
      await createStreams(admin.connection, { namespace, agents, tools })
    },
    async connect() {
      const link = await startLink(broker.port)
      const settings = { ...broker.settings, servers: [link.url] }
      const bus = await openBus(settings, { namespace, as: userParty('test'), log: silentLog() })
      const process = new FaultyProcess(bus, link)
      processes.push(process)
      return process
    },
    async publish(subject, body, headers = {}) {
      await admin.publisher.publish(subject, body, Object.entries(headers))
    },
    journal: (agent, task) => admin.journal.read(agent, task, 0),
    readBlob: (agent, task, sha) => admin.blobs.read(agentParty(agent), agentParty(agent), task, sha),
    async tasks(agent) {
      const found = await count(streamNames.agentJournal(namespace, agent), subjects.journals(agent))
      return found.map(([subject]) => subject.split('.').at(-1)!)
    },
    result: (agent, key) => admin.results.get(agent, key),
    resultCount: async (agent, key) => (await count(streamNames.results, subjects.result(agent, key)))[0]?.[1] ?? 0,
    async deadLetters(party) {
      const messages = await admin.reader.getAll(streamNames.dead, subjects.dead(party), 1)
      return messages.map(({ text, header }) => ({ body: text, header }))
    },
    async indexed(traceId, agent, task) {
      return (await admin.traces.actors(traceId)).find((record) => record.agent === agent && record.task === task)?.text
    },
    async backlog() {
      const streams = [
        ...declared.agents.map((agent) => streamNames.agentMail(namespace, agent)),
        ...declared.tools.map((tool) => streamNames.toolMail(namespace, tool)),
      ]
      const infos = await Promise.all(streams.map((stream) => manager.streams.info(stream)))
      return infos.reduce((sum, { state }) => sum + state.messages, 0)
    },
    async [Symbol.asyncDispose]() {
      for (const process of processes) process.kill()
      await admin.close()
    },
  }
}

interface Link {
  readonly url: string
  pause(): void
  resume(): void
  cut(): void
}

/** A TCP line to the broker that can be held, as the socket of a stopped process is, or cut. */
async function startLink(port: number): Promise<Link> {
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1')
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.on('data', (chunk) => void to.write(chunk))
      from.on('error', () => {}) // told by the close that follows
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
    pause() {
      for (const socket of sockets) socket.pause()
    },
    resume() {
      for (const socket of sockets) socket.resume()
    },
    cut() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** A process on NATS with the faults that MemoryBus has of its own: the dead never begin another operation, the frozen when they wake. */
class FaultyProcess implements Process {
  readonly bus: Bus
  before: Before | undefined
  private readonly inner: NatsBus
  private readonly link: Link
  private isDead = false
  private frozen: Promise<void> | undefined
  private thaw: (() => void) | undefined

  constructor(inner: NatsBus, link: Link) {
    this.inner = inner
    this.link = link
    const { journal, blobs, post, mailbox, liveness, claims, catalog, progress, namespace } = inner
    const around = async <T>(operation: string, subject: string, work: () => Promise<T>, after?: string): Promise<T> => {
      await this.pass(operation, subject)
      const answer = await work()
      if (after) await this.pass(after, subject)
      else if (this.isDead || this.frozen) await this.pass()
      return answer
    }
    this.bus = {
      namespace,
      journal: {
        read: (agent, task, sequence) => around('read', task, () => journal.read(agent, task, sequence)),
        readFromSnapshot: (agent, task) => around('read', task, () => journal.readFromSnapshot(agent, task)),
        append: (append) => around('append', append.task, () => journal.append(append), 'appended'),
      },
      blobs: {
        write: (owner, to, task, sha, body) => around('blob', task, () => blobs.write(owner, to, task, sha, body)),
        read: (owner, to, task, sha) => around('read', task, () => blobs.read(owner, to, task, sha)),
      },
      post: { send: (message) => around('send', message.subject, () => post.send(message), 'sent') },
      mailbox: {
        open: (consumer, slots, receive) =>
          mailbox.open(consumer, slots, (delivery) => {
            if (!this.isDead) receive(this.held(delivery))
          }),
        holds: (party, delivery) => mailbox.holds(party, delivery),
      },
      liveness: {
        asks: (party, hostId, delivery) => around('ask', hostId, () => liveness.asks(party, hostId, delivery)),
        serve: (party, hostId, holds) => liveness.serve(party, hostId, holds),
      },
      claims: {
        read: (tool, effect) => around('read', effect, () => claims.read(tool, effect)),
        put: (tool, effect, record) => around('append', effect, () => claims.put(tool, effect, record)),
      },
      catalog,
      progress: { tell: (subject, event) => void (this.isDead || progress.tell(subject, event)) },
      state: () => inner.state(),
      close: async () => this.kill(),
    }
  }

  kill(): void {
    this.isDead = true
    this.link.cut()
    void this.inner.close()
  }

  freeze(): void {
    this.link.pause()
    this.frozen ??= new Promise((resolve) => {
      this.thaw = resolve
    })
  }

  wake(): void {
    this.link.resume()
    this.thaw?.()
    this.frozen = undefined
  }

  private held(delivery: Delivery): Delivery {
    const later = (tell: () => void) => void this.pass().then(tell)
    return {
      message: delivery.message,
      get count() {
        return delivery.count
      },
      get isStale() {
        return delivery.isStale
      },
      ack: () => later(() => delivery.ack()),
      nak: (delayMs) => later(() => delivery.nak(delayMs)),
      release: () => later(() => delivery.release()),
    }
  }

  private async pass(operation = '', subject = ''): Promise<void> {
    if (this.isDead) return new Promise(() => {})
    if (operation) await this.before?.(operation, subject)
    if (this.frozen) await this.frozen
    if (this.isDead) return new Promise(() => {})
  }
}
