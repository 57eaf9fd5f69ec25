/** Opens the bus on NATS: two connections, one to work on and one to read journals on. */
import type { NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '../telemetry/log.ts'
import type { BrokerSettings } from './access/settings.ts'
import { createBlobs } from './blobs.ts'
import { createCatalog } from './catalog.ts'
import { connectBroker, watchStatus } from './connection.ts'
import type { Bus, BusState } from './contracts.ts'
import { createClaims, createJournal } from './journal.ts'
import { createLiveness, createMailbox } from './mailbox.ts'
import { createPost, Publisher } from './publish/publish.ts'
import { Writer } from './publish/writer.ts'
import { Reader } from './read.ts'
import { createResults, createTraceIndex, type Results, type TraceIndex } from './results.ts'
import { type Party, partyText, type Subjects, subjectsOf } from './wire/subjects.ts'

/** How long the broker has to take what was sent last. */
const CLOSE_MS = 1_000

/** The bus, and what only clients and `kaos up` use of it. */
export interface NatsBus extends Bus {
  readonly connection: NatsConnection
  readonly subjects: Subjects
  readonly publisher: Publisher
  readonly reader: Reader
  readonly results: Results
  readonly traces: TraceIndex
}

export interface OpenOptions {
  readonly namespace: string
  /** Who connects: it names the inboxes, so that a broker can tell identities apart. */
  readonly as: Party
  readonly log: Logger
}

/** Throws what `connectBroker` throws. */
export async function openBus(settings: BrokerSettings, { namespace, as, log }: OpenOptions): Promise<NatsBus> {
  const subjects = subjectsOf(namespace)
  const inboxPrefix = `_INBOX.${namespace}.${partyText(as)}`
  const [connection, readConnection] = await Promise.all([
    connectBroker(settings, { name: `kaos ${partyText(as)}`, inboxPrefix, log }),
    connectBroker(settings, { name: `kaos ${partyText(as)} reads`, inboxPrefix, log }),
  ])
  const states = [connection, readConnection].map(watchState)
  const writer = new Writer(connection)
  const mailbox = createMailbox(connection, writer, inboxPrefix, subjects, log)
  const publisher = new Publisher(connection, writer, inboxPrefix, log)
  const reader = new Reader(readConnection, inboxPrefix, log)
  const blobs = createBlobs(publisher, reader, subjects)
  return {
    namespace,
    subjects,
    connection,
    publisher,
    reader,
    journal: createJournal(publisher, reader, subjects),
    claims: createClaims(publisher, reader, subjects),
    blobs,
    post: createPost(publisher, blobs),
    mailbox,
    liveness: createLiveness(connection, subjects, log),
    catalog: createCatalog(publisher, reader, subjects, log),
    results: createResults(connection, reader, blobs, subjects, log),
    traces: createTraceIndex(connection, reader, subjects),
    progress: {
      tell: (subject, event) => writer.publish(subject, JSON.stringify(event)),
    },
    state() {
      const broker = states.map((state) => state())
      const worst = broker.find((state) => state === 'closed') ?? broker.find((state) => state === 'reconnecting') ?? 'connected'
      return { broker: worst, unbound: mailbox.unbound() }
    },
    async close() {
      // Acks of this moment: the broker's answer to a ping says that it has read them.
      writer.flush()
      const late = new Promise<void>((resolve) => setTimeout(resolve, CLOSE_MS).unref())
      if (states[0]!() === 'connected') await Promise.race([connection.flush().catch(() => {}), late])
      await Promise.all([connection, readConnection].map((open) => open.close()))
    },
  }
}

function watchState(connection: NatsConnection): () => BusState['broker'] {
  let isConnected = true
  watchStatus(connection, {
    onDisconnect: () => {
      isConnected = false
    },
    onReconnect: () => {
      isConnected = true
    },
  })
  return () => (connection.isClosed() ? 'closed' : isConnected ? 'connected' : 'reconnecting')
}
