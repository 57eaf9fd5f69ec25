/** Every limit of messages, streams and doors, with its unit in its name. */

const KiB = 1024
const MiB = 1024 * KiB
const SECOND_MS = 1_000
const DAY_MS = 86_400 * SECOND_MS

export const MESSAGE_LIMITS = {
  /** What the server takes in one message; its own default. */
  messageBytesMax: 1 * MiB,
  /** Above this `kaos task send` puts a task beside its message, as a blob. Any client may send what the server takes in one message. */
  doorBytesMax: 64 * KiB,
  /** A body above this leaves its message or entry and becomes a blob. */
  inlineBytesMax: 64 * KiB,
  /** The largest body there is. */
  bodyBytesMax: 8 * MiB,
  /** The largest body in a journal: the message that carries it to somebody else has other fields too. */
  journalBodyBytesMax: 8 * MiB - 4 * KiB,
  blobPartBytes: 512 * KiB,
  /** Blob parts that one process has under way: more lanes raise the append's p99 from 7 to 166 ms. */
  blobPartsInFlightMax: 2,
  /** A part that is there already and older than this is stored again: what is about to be removed must not be relied upon. */
  blobFreshMs: DAY_MS,
  /** An entry with everything in it. Bodies become blobs until it fits. */
  entryBytesMax: 512 * KiB,
  /** A string or list element of at least this many bytes is stored once per journal, by its hash. */
  partBytesMin: 256,
  /** A list or object with at least so many characters that are no bodies themselves is a body as a whole. */
  partOfSmallCharsMin: 2 * KiB,
  /** Of a message's id or cause, and of any header that we pass on: the server takes 64 KiB of headers in all, ours among them. */
  idCharsMax: 1_024,
  /** How deep JSON may nest: JSON.parse takes any depth, and what comes after it recurses. */
  jsonDepthMax: 256,
} as const

export const STREAM_LIMITS = {
  /** Unread tasks at one door subject of one agent; past it the broker refuses (10077) and nobody else notices. */
  doorMessagesMax: 10_000,
  /** A guard for the disk, far above what the door lets in. */
  mailBytesMax: 4_096 * MiB,
  consumersMax: 16,
  /** Only the door has message ids; the journal is the real guard. */
  duplicateWindowMs: 10 * SECOND_MS,
  doneAgeMs: 7 * DAY_MS,
  resultAgeMs: 30 * DAY_MS,
  deadAgeMs: 30 * DAY_MS,
  /** Mail that waited longer is refused: the journal that could answer "once" may be gone. */
  taskAgeMs: 30 * DAY_MS,
} as const

export const DELIVERY_LIMITS = {
  /** How long the broker waits for a sign of life before it hands a message to another host. */
  ackWaitMs: 4 * SECOND_MS,
  workingEveryMs: 1 * SECOND_MS,
  pullExpiresMs: 2 * SECOND_MS,
  /** Messages that all hosts of one agent may hold together; above replicas times slots, or the consumer stalls silently. */
  ackPendingMax: 20_000,
  /**
   * Turns that one host holds per agent; a turn lasts as long as its model call. With 16 for tasks a model of 50 ms bounded a host to half of
   * the tasks that it can do (276 against 545 tasks/s with 256 waiting); twice as many again brought nothing.
   */
  mailSlots: 128,
  taskSlots: 64,
  callSlots: 64,
  /** How long the holder of a delivery has to say that it lives. */
  livenessMs: 300,
  unknownEffectRetryMs: 1 * SECOND_MS,
  unknownEffectAgeMs: 30 * SECOND_MS,
  nakMs: 300,
  nakMaxMs: 10 * SECOND_MS,
} as const

export const PUBLISH_LIMITS = {
  inFlightMax: 4_096,
  /** One try. */
  deadlineMs: 3 * SECOND_MS,
  /** All tries of one message or append; a frozen leader took 15 s. */
  settleMs: 30 * SECOND_MS,
  gateProbeMinMs: 50,
  gateProbeMaxMs: 500,
} as const

export const READ_LIMITS = {
  deadlineMs: 3 * SECOND_MS,
  settleMs: 15 * SECOND_MS,
  batch: 1_000,
} as const

export const RETENTION_LIMITS = {
  /** How long what has ended is kept where nobody says otherwise. */
  daysDefault: 30,
  /** As long as tool servers know what they answered: a task whose id is used again must not be given the answers of the one before. */
  daysMin: 7,
  daysMax: 36_500,
  /** What belongs to an end may be stored so much later than the record of it: a result, a large body. */
  settleMs: 3_600 * SECOND_MS,
  /** Mail this much past its greatest age is refused by every host, whatever its clock says. */
  clockSkewMs: DAY_MS,
  /** From the start of a process to its first run. */
  firstMs: 60 * SECOND_MS,
  everyMs: 3_600 * SECOND_MS,
  /** After a run that left something. */
  soonMs: 60 * SECOND_MS,
  /** Share by which pauses differ. */
  jitter: 0.1,
  /** Of one run. */
  tracesMax: 10_000,
  runMs: 300 * SECOND_MS,
  /** Records of the index that are fetched at once. */
  pageMax: 500,
  /** Traces that a run remembers to have looked at. */
  seenMax: 10_000,
  /** A trace with more is kept, and the log says so. */
  actorsMax: 100_000,
  /** Streams whose state a run remembers. */
  streamsMax: 10_000,
  requestMs: 5 * SECOND_MS,
} as const

/** Which numbers of days can be kept, in words. */
export const RETENTION_DAYS = `whole days from ${RETENTION_LIMITS.daysMin} to ${RETENTION_LIMITS.daysMax}, or 0: for ever`

export function isRetentionDays(days: number): boolean {
  const { daysMin, daysMax } = RETENTION_LIMITS
  return Number.isInteger(days) && (days === 0 || (days >= daysMin && days <= daysMax))
}

export const HOST_LIMITS = {
  /** Actors kept in memory after their turn. */
  actorsCachedMax: 2_000,
  /** Bytes of journal text behind the cached actors; past it the least recently used are forgotten. */
  actorBytesCachedMax: 256 * MiB,
  /** Mail that refers to what is not there: how much of it is remembered with its first look. */
  missedMailMax: 10_000,
  /** A snapshot goes into every so many entries. */
  snapshotEvery: 50,
  /** Owners of deliveries that an actor remembers beyond those that own something pending. */
  ownersMax: 256,
  /** Takeovers, failed delegations and signals that an actor remembers until its end, for the span that ends then. */
  marksMax: 64,
  /** Deliveries whose spans were recorded: how many are remembered, for one that comes again because its ack was lost. */
  recordedSpansMax: 10_000,
  /** An actor that took longer than this to be read from its journal is worth a line in the log. */
  activationMs: 200,
  /** How often the tool lists are read again. */
  catalogEveryMs: 5 * SECOND_MS,
  /** How long a start waits for the tool lists of its agent before the task fails. */
  toolListWaitMs: 60 * SECOND_MS,
} as const

/** Limits of a task where neither the sender nor the agent sets one. */
export const TASK_LIMITS = { depth: 8, fanOut: 16 } as const
