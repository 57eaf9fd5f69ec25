/** Every limit of the sessions with MCP servers, with its unit in its name. */
import { MESSAGE_LIMITS } from '../bus/wire/limits.ts'

export const MCP_LIMITS = {
  /** Start of a process or first contact with a URL, and the MCP handshake. A first `npx` fetches its package meanwhile. */
  openMs: 30_000,
  /** All pages of a tool list. */
  listMs: 30_000,
  listPagesMax: 200,
  toolsMax: 1_000,
  /** The whole list has to fit into one catalog record. */
  toolListBytesMax: 512 * 1_024,
  toolNameLengthMax: 128,
  resultBytesMax: MESSAGE_LIMITS.bodyBytesMax,
  /** One message of a server. MCP asks servers to send a structured result a second time as text, hence twice the result. */
  messageBytesMax: 2 * MESSAGE_LIMITS.bodyBytesMax + 64 * 1_024,
  /** What a stdio server may leave unread before it counts as stuck. */
  stdinBytesMax: 32 * 1_024 * 1_024,
  stderrLineBytesMax: 4_096,
  /** Of a server's own words in a message of ours. */
  wordsLengthMax: 400,
  /** Of what a tool that runs in this process says when it fails. */
  toolErrorLengthMax: 4_096,
  /** Each of the steps of closing: end of input, SIGTERM, SIGKILL; or the DELETE of an HTTP session. */
  closeStepMs: 1_000,
  /** After its first loss a server is opened again at once, then after this, doubled each time. */
  reopenMinMs: 100,
  /** The longest that a call waits before a server that failed is tried again. */
  reopenMaxMs: 5_000,
  /** The same where nobody waits. */
  restoreMaxMs: 60_000,
  /** A tool that is not in a list older than this is looked up once more. */
  relistAfterMs: 1_000,
  /** Servers announce each of several changes of their list; they are passed on as one. */
  changeSettlesMs: 100,
  httpConnectionsMax: 256,
  /** How often a broken HTTP event stream is taken up again. */
  httpResumesMax: 2,
  httpResumeDelayMs: 500,
  /** Clients of `kaos tools serve --http`; past it the one that was silent longest loses its session and begins a new one. */
  servedSessionsMax: 100,
  servedConnectionsMax: 256,
  /** After the end of its input, how long `kaos tools serve` waits for tools that still run. */
  servedLastCallsMs: 10_000,
} as const
