/**
 * Shapes of what is written and trusted when it is read: entries, records, claims, progress, and the headers of all messages. For the published
 * JSON Schema and the tests that hold it against the wire; nothing that runs checks by them.
 */
import { z } from 'zod'
import type { Command, Entry, Input } from './entry.ts'
import { OUTCOME_STATES } from './entry.ts'
import { failureShape, HEADERS, MESSAGE_VERSION, partyShape, usageShape, workShape } from './message.ts'

/** A shape for each field of a type: a new field without a shape does not compile. */
type Fields<T> = { readonly [K in keyof Required<T>]: z.ZodType }
type InputOf<K extends Input['kind']> = Extract<Input, { readonly kind: K }>
type CommandOf<K extends Command['kind']> = Extract<Command, { readonly kind: K }>

const sha = z.string().regex(/^[0-9a-f]{64}$/)
const json = z.unknown()
const time = z.number().describe('Epoch ms.')
const count = z.int().min(0)
/** In an entry any value may be a reference instead. */
const reference = z
  .object({ $body: sha })
  .describe('Stands for a value of `parts` or `blobs`, of this entry or one before, by its sha256.')
const orReference = <T extends z.ZodType>(shape: T) => z.union([shape, reference])
const storedFailure = orReference(z.object({ code: z.string(), message: orReference(z.string()), details: json.optional() }))
const limits = z.object({
  steps: z.number().optional(),
  toolCalls: z.number().optional(),
  tokens: z.number().optional(),
  deadlineAt: time.optional(),
  depth: z.number(),
  fanOut: z.number(),
})
const parent = z
  .object({ agent: z.string(), effect: z.string() })
  .describe('Who delegated the task, and which effect it is there.')
const answer = {
  usage: usageShape.optional(),
  work: workShape.optional(),
  effect: z.string().describe('The effect that is answered.'),
}

const input = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('start'),
    input: json,
    definition: json.describe('What the manifests and tool lists said when the task began.'),
    limits,
    path: orReference(z.array(z.string())),
    context: json.optional(),
    session: orReference(z.string()).optional(),
    parent: parent.optional(),
  } satisfies Fields<InputOf<'start'>>),
  z.object({ kind: z.literal('result'), value: json, ...answer } satisfies Fields<InputOf<'result'>>),
  z.object({ kind: z.literal('error'), failure: storedFailure, ...answer } satisfies Fields<InputOf<'error'>>),
  z.object({ kind: z.literal('signal'), id: z.string(), name: z.string(), data: json } satisfies Fields<InputOf<'signal'>>),
  z.object({ kind: z.literal('resumed'), delivery: z.string() } satisfies Fields<InputOf<'resumed'>>),
])

const command = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('start'),
    effect: z.string().describe('Which kind of effect: `model`, `tool`, `delegate`, or one of the machine.'),
    as: z.string().describe('Its name inside the machine.'),
    input: json,
  } satisfies Fields<CommandOf<'start'>>),
  z.object({ kind: z.literal('stop'), as: z.string() } satisfies Fields<CommandOf<'stop'>>),
  z.object({ kind: z.literal('emit'), event: json } satisfies Fields<CommandOf<'emit'>>),
])

const [completed, ...others] = OUTCOME_STATES
const outcomeOf = <T extends z.ZodType>(failure: T) =>
  [z.object({ state: z.literal(completed), output: json }), z.object({ state: z.enum(others), failure })] as const

const trace = z.object({
  traceId: z.string().regex(/^[0-9a-f]{32}$/),
  parentSpanId: z.string().optional(),
  flags: z.int(),
  tracestate: z.string().optional(),
  baggage: z.string().optional(),
  refused: z.string().optional().describe('What came instead of a readable traceparent.'),
})

const entry = z.object({
  n: count.describe('Its number in the journal, from 0.'),
  at: time.describe('When it was decided, epoch ms.'),
  cause: z.string().describe('The message or effect that caused it: decided once.'),
  delivery: z.string().describe('The physical message that owns the effects begun here.'),
  from: partyShape.optional().describe('Who sent the cause.'),
  input,
  commands: z.array(command).describe('Command k of entry n is the effect `<task>_<n>-<k>`.'),
  outcome: z.discriminatedUnion('state', outcomeOf(storedFailure)).optional().describe('How the task ended, in its last entry.'),
  trace: trace.optional(),
  machine: z.string().describe('Name and hash of the machine.'),
  state: z.string().describe('Hash of the state after this entry.'),
  parts: z.record(sha, json).optional().describe('Bodies that appear here for the first time, by sha256.'),
  blobs: z.record(sha, count).optional().describe('Bodies that lie beside the journal, by sha256: their bytes.'),
  snapshot: json.optional().describe('The whole actor, now and then.'),
  seal: sha.describe('sha256 over the seal before and the text of this entry without its seal. Last field.'),
} satisfies Fields<Entry & { seal: string }>)

const ended = { task: z.string(), agent: z.string(), trace: z.string(), startedAt: time, endedAt: time, usage: usageShape }
const [done, notDone] = outcomeOf(failureShape)
const resultRecord = z.discriminatedUnion('state', [done.extend(ended), notDone.extend(ended)])

const traceRecord = z.object({
  state: z.enum(['working', ...OUTCOME_STATES]),
  agent: z.string(),
  task: z.string(),
  parent: parent.optional(),
  title: z.string().describe('The first words of the task.'),
  startedAt: time,
  endedAt: time.optional(),
  entries: count.optional(),
  usage: usageShape.optional(),
  failure: failureShape.optional(),
})

const claim = z.object({ begun: z.object({ host: z.string(), at: time }) })

const progress = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('entry'),
    agent: z.string(),
    task: z.string(),
    n: count,
    at: time,
    host: z.string(),
    input: z.enum(['start', 'result', 'error', 'signal', 'resumed']),
    effect: z.string().optional(),
    failure: failureShape.optional(),
    ms: z.number().optional().describe('How long the work took that is answered.'),
    begins: z.array(z.object({ k: count, effect: z.string(), name: z.string().optional() })).describe('The effects begun here.'),
    outcome: z.enum(OUTCOME_STATES).optional(),
  }),
  z.object({ kind: z.literal('text'), agent: z.string(), task: z.string(), effect: z.string(), text: z.string() }),
])

const askFailure = z.object({ error: failureShape })

/** By the name under which they are published, as `messageShapes` and `catalogShapes`. */
export const recordShapes = {
  entry,
  claim,
  result: resultRecord,
  trace: traceRecord,
  progress,
  'ask-failure': askFailure,
} as const

const version = z
  .string()
  .regex(/^[1-9]\d{0,3}$/)
  .describe(
    `Version of the message, ${MESSAGE_VERSION} today. Absent: 1. A reader refuses a higher one with unsupported_version.`,
  )
const id = z.string().min(1).describe('Logical id: the same when the message is sent again.')
const expected = z
  .string()
  .regex(/^\d+$/)
  .describe('Stored only if the last message of this subject has this stream sequence; 0: none.')
const traced = {
  traceparent: z
    .string()
    .regex(/^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}/)
    .optional()
    .describe('W3C trace context: the trace, and the span that caused the message.'),
  tracestate: z.string().max(1_024).optional().describe('W3C trace state, handed on as it came.'),
  baggage: z.string().max(1_024).optional().describe('W3C baggage, handed on as it came.'),
}
const ours = { [HEADERS.version]: version, [HEADERS.id]: id }
const written = { [HEADERS.version]: version, 'Nats-Expected-Last-Subject-Sequence': expected }
const writer = z
  .string()
  .regex(/^[^.]+\.\d+$/)
  .describe('`<host id>.<append counter>` of who wrote it.')

/** Headers of each kind of message, by their names on the wire. */
export const headerShapes = {
  task: z.object({
    [HEADERS.version]: version.optional(),
    [HEADERS.messageId]: z.string().optional().describe('The id of the task: the same id is the same task.'),
    [HEADERS.key]: z
      .string()
      .optional()
      .describe('The key of the task, in place of an id that the duplicate window would swallow: redrive.'),
    [HEADERS.cause]: z
      .string()
      .optional()
      .describe(
        'What the input is known by, and what its trace follows from without traceparent: of `kaos task send` and redrive.',
      ),
    ...traced,
    traceparent: z.string().optional().describe('W3C trace context that the task joins. Absent or unreadable: a new trace.'),
  }),
  mail: z.object({ ...ours, ...traced }),
  entry: z.object({
    ...written,
    [HEADERS.slot]: z.string().describe('Id of the entry, `<task>_<n>`.'),
    [HEADERS.writer]: writer,
    [HEADERS.snap]: z.string().regex(/^\d+$/).describe('Stream sequence of the last entry with a snapshot before it; 0: none.'),
  }),
  done: z.object({ ...written, [HEADERS.writer]: writer }),
  blob: z.object(written),
  record: z.object({ ...ours, 'Nats-Expected-Last-Subject-Sequence': expected.optional() }),
  dead: z.object({
    ...ours,
    traceparent: z.string().optional().describe('As it came.'),
    tracestate: z.string().optional().describe('As it came.'),
    [HEADERS.key]: z.string().optional().describe('The key of the task, where the message brought an id.'),
    [HEADERS.cause]: z.string().describe('What the message is known by.'),
    'Kaos-Dead-Subject': z.string().describe('Where it was sent.'),
    'Kaos-Dead-Code': z.string().describe('One of docs/errors.md.'),
    'Kaos-Dead-Reason': z.string().describe('Why, in words.'),
  }),
  'ask-answer': z.object({
    'Kaos-State': z.enum(OUTCOME_STATES).describe('How the task ended.'),
    'Kaos-Task': z.string().optional().describe('Its id; only with an answer.'),
    'Kaos-Trace': z.string().optional().describe('Its trace id.'),
    'Nats-Service-Error': z.string().optional().describe('Why it failed, as the NATS services framework has it.'),
    'Nats-Service-Error-Code': z.string().optional().describe('One of docs/errors.md.'),
  }),
  none: z.object({}),
} as const
