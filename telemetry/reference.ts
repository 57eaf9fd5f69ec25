/**
 * What each span and each attribute says, for people: `docs/telemetry.md` is generated from here and from `names.ts`, and a test holds it against
 * what is exported.
 */
import { type EVENTS, type KEYS, OPERATIONS, type Operation } from './names.ts'
import type { SpanKind } from './span.ts'

export type Key = keyof typeof KEYS

export interface SpanReference {
  readonly operation: Operation
  /** What stands for the part of its name that is not fixed, as `spanName` takes it. */
  readonly of: string
  readonly kind: SpanKind
  /** Whose service it belongs to. */
  readonly service: string
  /** Operations of its parent; none where it begins a trace, or the caller's span is the parent. */
  readonly parents: readonly Operation[]
  readonly lasts: string
  /** Attributes that each of them has. */
  readonly always: readonly Key[]
  /** Attributes that some have: what is not known, set or asked for is left out. */
  readonly sometimes: readonly Key[]
}

const messaging = [
  'messagingSystem',
  'messagingSystemName',
  'messagingOperation',
  'messagingOperationType',
  'messagingTemplate',
] as const satisfies readonly Key[]

const ofAnEffect = ['op', 'agent', 'task', 'effect', 'namespace', 'journalRef'] as const satisfies readonly Key[]
const effectSometimes = ['attempts', 'errorType'] as const satisfies readonly Key[]

const ofATask = [
  'op',
  'agent',
  'task',
  'namespace',
  'journalRef',
  'genAiOperation',
  'genAiAgent',
  ...messaging,
  'messagingMessage',
  'messagingConsumer',
] as const satisfies readonly Key[]

const taskSometimes = [
  'taskState',
  'taskMs',
  'genAiInputTokens',
  'genAiOutputTokens',
  'rootTask',
  'delegation',
  'genAiConversation',
  'messagingDestination',
  'messagingConversation',
  'errorType',
  'genAiOutput',
] as const satisfies readonly Key[]

/** In the order in which a task meets them. */
export const SPANS: readonly SpanReference[] = [
  {
    operation: OPERATIONS.send,
    of: 'kaos.{namespace}.agent.{agent}.task',
    kind: 'producer',
    service: 'the client (`kaos task send`)',
    parents: [],
    lasts: 'until the broker has stored the task',
    always: ['op', 'task', 'agent', 'namespace', ...messaging, 'messagingDestination', 'messagingMessage'],
    sometimes: ['errorType'],
  },
  {
    operation: OPERATIONS.agent,
    of: '{agent}',
    kind: 'consumer',
    service: 'the agent',
    parents: [OPERATIONS.send, OPERATIONS.delegate],
    lasts: 'from the start of the task to its end',
    always: ofATask,
    sometimes: taskSometimes,
  },
  {
    operation: OPERATIONS.activation,
    of: '{agent}',
    kind: 'consumer',
    service: 'the agent',
    parents: [OPERATIONS.agent],
    lasts: 'one activation after the first, with `traceBoundary: activation` only',
    always: ofATask,
    sometimes: taskSometimes,
  },
  {
    operation: OPERATIONS.model,
    of: '{model}',
    kind: 'client',
    service: 'the agent',
    parents: [OPERATIONS.agent],
    lasts: 'the call, with its retries',
    always: [...ofAnEffect, 'genAiOperation', 'genAiAgent', 'genAiProvider', 'genAiRequestModel'],
    sometimes: [
      ...effectSometimes,
      'genAiTemperature',
      'genAiMaxTokens',
      'genAiSeed',
      'genAiResponseModel',
      'genAiResponseId',
      'genAiFinishReasons',
      'genAiFirstChunk',
      'genAiInputTokens',
      'genAiOutputTokens',
      'serverAddress',
      'serverPort',
      'genAiInput',
      'genAiOutput',
    ],
  },
  {
    operation: OPERATIONS.tool,
    of: '{tool}',
    kind: 'client',
    service: 'the agent',
    parents: [OPERATIONS.agent],
    lasts: 'from the call to its answer, the wait for the tool server included',
    always: [
      ...ofAnEffect,
      'genAiOperation',
      'genAiAgent',
      'genAiTool',
      'genAiToolType',
      'genAiToolCall',
      'toolName',
      'server',
      ...messaging,
      'messagingMessage',
      'messagingConversation',
    ],
    sometimes: [...effectSometimes, 'genAiArguments', 'genAiResult'],
  },
  {
    operation: OPERATIONS.execute,
    of: '{tool}',
    kind: 'server',
    service: 'the tool server',
    parents: [OPERATIONS.tool],
    lasts: 'the work itself',
    always: ['op', 'genAiOperation', 'genAiTool', 'genAiToolType', 'mcpMethod', 'server'],
    sometimes: [
      'transport',
      'task',
      'effect',
      'namespace',
      'journalRef',
      'genAiToolCall',
      ...messaging,
      'messagingMessage',
      'messagingConversation',
      'messagingConsumer',
      'errorType',
      'genAiArguments',
      'genAiResult',
    ],
  },
  {
    operation: OPERATIONS.delegate,
    of: '{agent}',
    kind: 'client',
    service: 'the agent that asks',
    parents: [OPERATIONS.agent],
    lasts: 'from the question to its answer, for days if need be',
    always: [
      ...ofAnEffect,
      'genAiOperation',
      'genAiAgent',
      'genAiCallerType',
      'genAiCaller',
      'target',
      'delegation',
      ...messaging,
      'messagingMessage',
      'messagingConversation',
    ],
    sometimes: [...effectSometimes, 'genAiInput'],
  },
  {
    operation: OPERATIONS.local,
    of: '{function}',
    kind: 'internal',
    service: 'the agent',
    parents: [OPERATIONS.agent],
    lasts: 'the run of a `local` function of a machine of your own',
    always: ofAnEffect,
    sometimes: [...effectSometimes, 'genAiArguments', 'genAiResult'],
  },
  {
    operation: OPERATIONS.user,
    of: '{the name you give}',
    kind: 'internal',
    service: 'the agent or tool server whose code it is',
    parents: [OPERATIONS.local, OPERATIONS.execute, OPERATIONS.user],
    lasts: 'the function that `ctx.span` runs',
    always: ['op'],
    sometimes: ['task', 'effect', 'agent', 'errorType'],
  },
]

/** What each key says; the same on spans, metrics and logs. */
export const MEANINGS: Readonly<Record<Key, string>> = {
  op: 'what the span stands for, whatever its name: search by this',
  task: 'the task; on every span, so that it joins what a backend shows apart',
  rootTask: 'the task at the root of the tree, on delegated ones',
  taskState: '`completed`, `failed`, `rejected` or `canceled`',
  taskMs: 'from the start of the task to its end, in ms',
  effect: 'the position of the call in the journal; also its idempotency key',
  delegation: 'the effect that asked; also the id of the task that it became',
  journalRef: 'where prompts, arguments and results are: the subject in the journal, and the entry',
  attempts: 'how often it was begun or handed out, from 2 on',
  namespace: 'namespace of the agent or tool server',
  host: 'the process that took over',
  hostBefore: 'the process that had fallen silent',
  signal: 'name of the signal that the task was sent',
  server: 'the MCPServer',
  agent: 'the agent whose work it is',
  target: 'the agent that is asked',
  model: 'the model that was asked for',
  toolName: 'the tool, under the key that KAOS has',
  tool: 'the tool',
  peer: 'the agent that was asked',
  lossSignal: '`traces`, `metrics` or `logs`',
  lossReason: '`queue_full`, `export_failed`, `stopped` or `unreadable`',
  success: 'whether it went well, `true` or `false`',
  errorType: 'why it failed: an error code of [errors](errors.md), or `tool_error` when the tool itself says so',
  genAiOperation: '`invoke_agent`, `chat` or `execute_tool`',
  genAiAgent: 'the agent; of a delegation the one that is asked',
  genAiConversation: 'the session that the sender of the task named',
  genAiProvider: 'provider of the model, taken from its name',
  genAiRequestModel: 'the model that was asked for',
  genAiTemperature: 'as the agent sets it',
  genAiMaxTokens: 'as the agent sets it',
  genAiSeed: 'as the agent sets it',
  genAiResponseModel: 'the model that answered',
  genAiResponseId: 'id of the answer at the provider',
  genAiFinishReasons: 'why the model stopped',
  genAiFirstChunk: 'seconds until the first piece of the answer',
  genAiInputTokens: 'tokens of the prompt; of a task all that it used itself',
  genAiOutputTokens: 'tokens of the answer; of a task all that it used itself',
  genAiTokenType: '`input` or `output`',
  genAiTool: 'the tool',
  genAiToolType: '`extension`: a tool that is called over a network',
  genAiToolCall: 'id of the call, which is its effect',
  genAiCallerType: '`agent`',
  genAiCaller: 'the agent that asks',
  genAiInput: 'the prompt, or the task of a delegation; only if [content](#content-and-secrets) is asked for',
  genAiOutput: 'the answer; only if content is asked for',
  genAiArguments: 'arguments of the call; only if content is asked for',
  genAiResult: 'what came back; only if content is asked for',
  mcpMethod: '`tools/call`',
  messagingSystem: '`nats`',
  messagingSystemName: '`nats`, under the key of semantic conventions 1.45',
  messagingOperation: '`send` or `process`',
  messagingOperationType: '`send` or `process`',
  messagingDestination: 'the subject, where it is one of few: the door of an agent',
  messagingTemplate: 'the subject without what differs from message to message',
  messagingMessage: 'id of the message',
  messagingConversation: 'the effect that the message belongs to',
  messagingConsumer: 'the consumer that it came through: `task`, `mail` or `call`',
  serverAddress: 'host of the model endpoint',
  serverPort: 'its port',
  transport: 'how the tool server reaches its tool: `pipe` or `tcp`, none in its own process',
  referenceKind: '`child_of`, on links of later deliveries: Jaeger goes by it',
  exceptionType: 'the error code, on the event `exception`',
  exceptionMessage: 'the words of the error, without secrets',
  exceptionStack: 'where it was thrown, without secrets; on spans and log records of code that threw',
}

/** What happened at one moment of a span. */
export const EVENT_REFERENCE: Readonly<
  Record<
    keyof typeof EVENTS,
    { readonly says: string; readonly on: readonly Operation[] | 'any'; readonly attributes: readonly Key[] }
  >
> = {
  exception: {
    says: 'it failed; one on each span whose status is ERROR',
    on: 'any',
    attributes: ['exceptionType', 'exceptionMessage', 'exceptionStack'],
  },
  takeover: {
    says: 'another process went on where the one before fell silent',
    on: [OPERATIONS.agent, OPERATIONS.activation],
    attributes: ['host', 'hostBefore', 'attempts'],
  },
  delegationFailed: {
    says: 'an agent that was asked failed; whether the task fails too is up to the one that asked',
    on: [OPERATIONS.agent, OPERATIONS.activation],
    attributes: ['target', 'delegation', 'errorType'],
  },
  signal: {
    says: 'a signal or a cancel reached the task',
    on: [OPERATIONS.agent, OPERATIONS.activation],
    attributes: ['signal'],
  },
}
