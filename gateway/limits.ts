/** Every limit of the HTTP door, with its unit in its name. */
import { MESSAGE_LIMITS } from '../bus/wire/limits.ts'

const SECOND_MS = 1_000
const MiB = 1_048_576

export const HTTP_LIMITS = {
  /** Chat requests that wait at once; each is a subscription and a timer here. */
  requestsMax: 1_000,
  /** Far above `requestsMax`, so that probes get through while all of those wait. Connections beyond are closed at once. */
  connectionsMax: 4_096,
  /** What an agent can keep of one task. */
  bodyBytesMax: MESSAGE_LIMITS.journalBodyBytesMax,
  /** A body up to here always has room; what is larger goes another way to the agent too. */
  smallBodyBytesMax: MESSAGE_LIMITS.doorBytesMax,
  /** All larger bodies that are read or sent on at one time: each takes some times its length in memory, and a pod has 512 MiB. */
  largeBodiesBytesMax: 32 * MiB,
  headerBytesMax: 16_384,
  /** All headers of a request. */
  headersMs: 5 * SECOND_MS,
  /** A whole request, its body included. */
  receiveMs: 30 * SECOND_MS,
  /** An idle connection; above the 60 s of most proxies, which must be the first to close. */
  idleMs: 65 * SECOND_MS,
  /** The longest that a result is waited for, from the request on; the default of KAOS's route. */
  waitMs: 300 * SECOND_MS,
  /** A stream that says nothing for so long sends a comment, or proxies take it for dead. */
  quietMs: 15 * SECOND_MS,
  /** A reader that takes nothing of its answer for so long is cut off. */
  takeMs: 60 * SECOND_MS,
  /** How long requests that wait may take to be answered when the process ends. */
  shutMs: 2 * SECOND_MS,
  messagesMax: 2_000,
  /** Characters of a session id, a model's name and an Idempotency-Key. */
  nameCharsMax: 256,
  /** Characters in one piece of a streamed answer: some readers of events bound a line at 64 KiB. */
  deltaCharsMax: 8_192,
  /** Events that a slow reader has not taken; beyond these what is not the answer itself is left out. */
  unsentEventsMax: 64,
  /** How many names an error lists. */
  namesShownMax: 20,
  /** How long an agent card waits for the tool lists; without them it names no skills. */
  cardMs: 2 * SECOND_MS,
} as const
