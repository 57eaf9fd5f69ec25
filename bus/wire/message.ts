/** Messages: what stands in their headers and bodies. Encoded and decoded here; nothing else reads a raw body. */
import { z } from 'zod'
import type { Limits, Usage, Work } from './entry.ts'
import { type Failure, KaosError } from './errors.ts'
import { isName, isTaskId, keyOf, keyOfCause, parseEffectId, rootTaskId } from './ids.ts'
import { isTooDeep, type Json } from './json.ts'
import { MESSAGE_LIMITS } from './limits.ts'
import { type Party, parseMailSubject } from './subjects.ts'
import { readTrace, type TraceContext } from './trace.ts'

/** Readers ignore fields they do not know and refuse a higher version. */
export const MESSAGE_VERSION = 1

export const HEADERS = {
  version: 'Kaos-V',
  /** The logical id of one of our own messages: the same when it is sent again. */
  id: 'Kaos-Id',
  /** On an entry: its id. */
  slot: 'Kaos-Slot',
  /** On an entry: `<host id>.<append counter>`. Ownership looks at the host id. */
  writer: 'Kaos-Writer',
  /** On an entry: stream sequence of the last entry with a snapshot before it, 0 for none. */
  snap: 'Kaos-Snap',
  key: 'Kaos-Key',
  cause: 'Kaos-Cause',
  messageId: 'Nats-Msg-Id',
} as const

/** A body that lies as a blob in its sender's store, because it is larger than a message may carry. */
export interface BlobRef {
  readonly owner: Party
  readonly to: Party
  readonly task: string
  readonly sha: string
  readonly bytes: number
}

/** What a sender hands to the bus. `body` is JSON text or a task's plain text. */
export interface Outgoing {
  readonly subject: string
  readonly body: string
  /** Logical id, sent as Kaos-Id. */
  readonly id: string
  readonly headers?: readonly (readonly [string, string | number])[]
  /** Where the body goes when it is too large for a message; absent for records that stay small. */
  readonly overflow?: { readonly owner: Party; readonly to: Party; readonly task: string }
  /** The message must be the first on its subject; one that is there already counts as sent. */
  readonly once?: boolean
}

/** What came from the bus, before it is understood. */
export interface Incoming {
  readonly subject: string
  readonly body: string
  /** False where the bytes are no UTF-8: `body` then has replacement characters. Absent: they are. */
  readonly isUtf8?: boolean
  readonly header: (name: string) => string | undefined
  /** `<stream sequence>-<server timestamp in ns>`: this physical message and no other. */
  readonly delivery: string
  /** Server time of the message, epoch ms. */
  readonly sentAt: number
}

/** Mail for an actor. `id` is its cause: the logical id by which an input is decided once. */
export type Mail = {
  readonly id: string
  readonly agent: string
  readonly task: string
  readonly from: Party
  readonly trace: TraceContext
} & (
  | { readonly kind: 'task' | 'start'; readonly start: StartBody; readonly effect?: string }
  | { readonly kind: 'reply'; readonly effect: string; readonly reply: ReplyBody }
  | { readonly kind: 'signal'; readonly verb: string; readonly data: Json }
)

export interface StartBody {
  readonly input: Json
  readonly session?: string | undefined
  readonly limits?: DoorLimits | undefined
  /** Only in a delegation. */
  readonly path?: readonly string[] | undefined
  readonly context?: Json | undefined
}

export type ReplyBody =
  | { readonly kind: 'result'; readonly value: Json; readonly usage?: Usage | undefined; readonly work?: Work | undefined }
  | { readonly kind: 'error'; readonly failure: Failure; readonly usage?: Usage | undefined; readonly work?: Work | undefined }

export interface CallBody {
  readonly tool: string
  readonly arguments: Json
  /** Epoch ms after which the result is of no use. */
  readonly deadlineAt?: number | undefined
}

/** What JSON.parse gave is JSON already; only its absence is a mistake. */
const json = z.custom<Json>((value) => value !== undefined, 'missing')
const count = z.int().min(0)
export const usageShape = z
  .object({ inputTokens: count, outputTokens: count, modelCalls: count, toolCalls: count })
  .describe('What was used, with all that it caused.')
export const workShape = z
  .object({
    startedAt: z.number().describe('Epoch ms.'),
    endedAt: z.number().describe('Epoch ms.'),
    attempts: count,
    host: z.string().describe('Who did it; any text.'),
    responseId: z.string().optional().describe("Of a model's answer: its id."),
    firstChunkMs: z.number().optional().describe("Of a model's answer: ms from the request to its first piece."),
    address: z.string().optional().describe('"host:port" of the model.'),
  })
  .describe('When and where the work was done: for people who look at the trace.')
export const failureShape = z.object({
  code: z.string().describe('One of docs/errors.md, or a code of your own.'),
  message: z.string().describe('What was attempted, then why it failed.'),
  details: json.optional(),
})

/** Limits as a sender states them: `seconds` from now, or as a parent hands them down: `deadlineAt`. */
const doorLimitsShape = z.object({
  steps: z.int().min(1).max(100).optional().describe('Model rounds of this agent.'),
  toolCalls: z.int().min(0).max(100_000).optional().describe('Tool calls and delegations of the whole tree.'),
  tokens: z.int().min(1).optional().describe('Input and output tokens of the whole tree.'),
  seconds: z.number().positive().max(31_536_000).optional().describe('From the moment in which the task begins.'),
  deadlineAt: z.number().positive().optional().describe('Epoch ms after which nothing new is begun.'),
  depth: z.int().min(0).max(32).optional().describe('How deep delegations may nest below.'),
  fanOut: z.int().min(1).max(256).optional().describe('Calls and delegations in one reply of a model.'),
})
export type DoorLimits = z.infer<typeof doorLimitsShape>

const startShape = z.object({
  input: json.describe('The task: text, or any JSON that the agent understands.'),
  session: z.string().min(1).max(256).optional().describe('The conversation that the task belongs to.'),
  limits: doorLimitsShape.optional().describe('What the task may use.'),
  path: z.array(z.string()).max(64).optional().describe('The agents from the root down to who asks.'),
  context: json.optional().describe('What was said before: a list of chat messages.'),
})
const replyShape = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('result'), value: json, usage: usageShape.optional(), work: workShape.optional() }),
  z.object({ kind: z.literal('error'), failure: failureShape, usage: usageShape.optional(), work: workShape.optional() }),
])
const callShape = z.object({
  tool: z.string().min(1).describe('As its server calls it.'),
  arguments: json.describe('As the inputSchema of the tool says.'),
  deadlineAt: z.number().optional().describe('Epoch ms after which the result is of no use.'),
})
export const partyShape = z.object({
  kind: z.enum(['agent', 'tool', 'user']),
  name: z.string().refine(isName, 'not a name').describe('A DNS label of at most 40 characters.'),
})
const blobShape = z.object({
  $blob: z.object({
    owner: partyShape,
    to: partyShape,
    // It becomes part of a subject that we read.
    task: z.string().refine(isTaskId, 'not a task id'),
    sha: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .describe('sha256 of the body, in hex.'),
    bytes: count.max(MESSAGE_LIMITS.bodyBytesMax),
  }),
})

/** What a JSON body at the door may say; the rest is for delegations. */
const taskShape = startShape.omit({ path: true, context: true })

/** The schemas by message, for the published JSON Schema. What is written and not checked when it is read stands in shapes.ts. */
export const messageShapes = { task: taskShape, start: startShape, reply: replyShape, call: callShape, blob: blobShape } as const

/** The body of a message whose real body is a blob. */
export function blobBody(ref: BlobRef): string {
  return JSON.stringify({ $blob: ref })
}

/** The blob that a body stands for; undefined when the body is itself. */
export function parseBlobBody(body: string): BlobRef | undefined {
  if (!body.startsWith('{"$blob":')) return undefined
  return read('blob', blobShape, body).$blob
}

/** The body that was read for a reference. Throws `bad_message` when its size is not as the reference says: others decide by that. */
export function checkSize(ref: BlobRef, body: string): string {
  const bytes = Buffer.byteLength(body)
  if (bytes === ref.bytes) return body
  throw new KaosError('bad_message', `the body refers to a blob of ${ref.bytes} bytes, and it has ${bytes}`)
}

export function limitsOf(door: DoorLimits | undefined, at: number): Partial<Limits> {
  if (!door) return {}
  const { seconds, deadlineAt, ...rest } = door
  const until = [deadlineAt, seconds === undefined ? undefined : at + seconds * 1_000].filter((time) => time !== undefined)
  return { ...(rest as Partial<Limits>), ...(until.length > 0 ? { deadlineAt: Math.min(...until) } : {}) }
}

/**
 * Understands mail for an agent; `message.body` is the real body, not a blob reference. Throws `bad_message` or `unsupported_version` with
 * the field and the value; such mail can never be decided.
 */
export function decodeMail(namespace: string, message: Incoming): Mail {
  checkVersion(message)
  const subject = parseMailSubject(message.subject)
  if (!subject) throw new KaosError('bad_message', `subject "${message.subject}" is none that mail comes on`)
  const { agent, from } = subject
  const id = message.header(HEADERS.cause) || message.header(HEADERS.id) || message.delivery
  if (id.length > MESSAGE_LIMITS.idCharsMax) {
    const message = `headers ${HEADERS.cause} and ${HEADERS.id} may have ${MESSAGE_LIMITS.idCharsMax} characters, and one has ${id.length}`
    throw new KaosError('bad_message', message)
  }
  checkText(message)
  const trace = readTrace(message.header, { namespace, agent, cause: id })
  switch (subject.kind) {
    case 'task':
      return {
        kind: 'task',
        id,
        agent,
        from,
        trace,
        task: doorTask(namespace, agent, message, id),
        start: parseDoorBody(message.body),
      }
    case 'start':
      return {
        kind: 'start',
        id,
        agent,
        from,
        trace,
        task: subject.task,
        effect: subject.task,
        start: read('start', startShape, message.body),
      }
    case 'reply': {
      const position = parseEffectId(subject.effect)
      if (!position)
        throw new KaosError('bad_message', `subject "${message.subject}" ends in "${subject.effect}", which is no effect id`)
      const reply = read('reply', replyShape, message.body) as ReplyBody
      return { kind: 'reply', id: subject.effect, agent, from, trace, task: position.task, effect: subject.effect, reply }
    }
    case 'signal': {
      const data = message.body === '' ? null : read('signal', json, message.body)
      return { kind: 'signal', id, agent, from, trace, task: subject.task, verb: subject.verb, data }
    }
  }
}

/** The task that a door message begins or began, known even when its body cannot be read. */
export function doorTask(namespace: string, agent: string, message: Incoming, cause: string): string {
  const given = message.header(HEADERS.key) || message.header(HEADERS.messageId)
  return rootTaskId(agent, given ? keyOf(namespace, agent, given) : keyOfCause(namespace, agent, cause))
}

/** A body that starts with `{` must be valid JSON; all else is the task's text. */
export function parseDoorBody(body: string): StartBody {
  if (!body.trimStart().startsWith('{')) {
    if (body.trim() === '') throw new KaosError('bad_message', 'the task is empty: send text, or JSON with a field "input"')
    return { input: body }
  }
  const { path: _path, context: _context, ...start } = read('task', startShape, body)
  return start
}

export function decodeCall(message: Incoming): CallBody {
  checkVersion(message)
  checkText(message)
  return read('call', callShape, message.body)
}

/** A stored record of ours. */
export function decodeReply(body: string): ReplyBody {
  return read('reply', replyShape, body) as ReplyBody
}

export function checkVersion(message: Pick<Incoming, 'header' | 'subject'>): void {
  const version = message.header(HEADERS.version)
  if (version === undefined || version === '') return
  if (!/^\d{1,4}$/.test(version))
    throw new KaosError('bad_message', `header ${HEADERS.version} is "${version.slice(0, 40)}", not a number`)
  if (Number(version) > MESSAGE_VERSION) {
    throw new KaosError(
      'unsupported_version',
      `the message on "${message.subject}" has version ${version}; this program reads up to ${MESSAGE_VERSION}`,
    )
  }
}

/** What was replaced cannot be known again, so such a body means nothing. */
function checkText({ isUtf8 = true }: Incoming): void {
  if (!isUtf8) throw new KaosError('bad_message', 'the body is not UTF-8: send text or JSON, and other bytes as base64')
}

/** A value that came from outside, made fit for a header: not long, without line breaks and other control characters. */
export function headerText(text: string): string {
  return text.slice(0, MESSAGE_LIMITS.idCharsMax).replaceAll(/\p{Cc}+/gu, ' ')
}

function read<T>(what: string, shape: z.ZodType<T>, body: string): T {
  if (isTooDeep(body)) {
    const message = `the ${what} cannot be read: its JSON nests deeper than ${MESSAGE_LIMITS.jsonDepthMax} levels`
    throw new KaosError('bad_message', message)
  }
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch (error) {
    throw new KaosError('bad_message', `the ${what} is not valid JSON: ${(error as Error).message}`, { cause: error })
  }
  const result = shape.safeParse(value)
  if (result.success) return result.data
  const [issue] = result.error.issues
  const path = issue?.path.join('.') || 'body'
  const given = issue?.path.reduce<unknown>((at, key) => (at as { [key: PropertyKey]: unknown } | undefined)?.[key], value)
  throw new KaosError(
    'bad_message',
    `the ${what} cannot be read: field "${path}" is ${given === undefined ? 'missing' : `${shown(given)}: ${issue?.message ?? 'invalid'}`}`,
  )
}

function shown(value: unknown): string {
  return JSON.stringify(value).slice(0, 100)
}
