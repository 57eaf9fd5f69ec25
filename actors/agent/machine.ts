/** The agent: it thinks (a model call), acts (all calls of that reply at once), thinks again, until it answers or a limit ends it. */
import { readFileSync } from 'node:fs'
import { assign, enqueueActions, setup, stopChild } from 'xstate'
import type { Limits, StartInput, Usage } from '../../bus/wire/entry.ts'
import type { Failure } from '../../bus/wire/errors.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { ChatRequest, ToolCall } from '../effects/chat.ts'
import { effectSource, type Machine, registerMachine } from '../machine.ts'
import {
  answerText,
  type DelegateInput,
  delegationRefusal,
  failureText,
  type PlannedCall,
  planCalls,
  type Spent,
  type ToolInput,
} from './calls.ts'
import { type ChatMessage, lastMessages, readHistory } from './conversation.ts'
import { type AgentDefinition, MODEL_TIMEOUT_SECONDS, TEXT_MODEL_TIMEOUT_SECONDS } from './definition.ts'
import { buildRequest, type CallForm, offersOf, taskText } from './prompt.ts'
import { readBareCalls, readTextReply, type TextReply } from './text-calls.ts'
import { unreadableText } from './text-form.ts'

/** What the effect `model` answers with. */
export interface ModelValue {
  readonly text: string
  readonly toolCalls: readonly ToolCall[]
  readonly finishReason: string
  readonly model: string
}

/** Input of the effect `model`. */
export interface ModelInput {
  readonly request: ChatRequest
  /** Default MODEL_TIMEOUT_SECONDS. */
  readonly timeoutSeconds?: number
  /** Epoch ms after which the answer is of no use. */
  readonly deadlineAt?: number
}

interface AgentInput {
  readonly start: StartInput
  readonly at: number
}

interface Context {
  readonly definition: AgentDefinition
  readonly limits: Limits
  readonly path: readonly string[]
  /** How the model is offered tools from here on. */
  readonly form: CallForm
  readonly history: readonly ChatMessage[]
  /** The task and everything since, without the system message, in native form. */
  readonly messages: readonly ChatMessage[]
  /** Model calls answered. */
  readonly round: number
  readonly spent: Spent
  /** Calls of the last reply, in its order. */
  readonly calls: readonly PlannedCall[]
  /** Their answers so far, by `as`. */
  readonly answers: Readonly<Record<string, string>>
  readonly text?: string
  readonly failure?: Failure
}

/** Events of effects as XState sees them; `at` is the host's time of the entry. */
interface Answered {
  readonly type: string
  readonly output?: Json
  readonly error?: Failure
  readonly actorId: string
  readonly usage?: Usage
  readonly at: number
}

const logic = setup({
  types: {} as { context: Context; input: AgentInput; output: Json; tags: 'failed' | 'canceled' },
  actors: {
    model: effectSource<ModelValue, ModelInput>(),
    tool: effectSource<Json, ToolInput>(),
    delegate: effectSource<Json, DelegateInput>(),
  },
  guards: {
    hasFailed: ({ context }) => context.failure !== undefined,
    hasAnswered: ({ context }) => context.text !== undefined,
    hasCalls: ({ context }) => context.calls.length > 0,
    hasAllAnswers: ({ context }) => context.calls.every((call) => call.as in context.answers),
  },
  actions: {
    takeReply: assign(({ context, event }) => takeReply(context, event as unknown as Answered)),
    takeModelFailure: assign(({ context, event }) => takeModelFailure(context, event as unknown as Answered)),
    takeAnswer: assign(({ context, event }) => takeAnswer(context, event as unknown as Answered)),
    forgetChild: stopChild(({ event }) => (event as unknown as Answered).actorId),
    tellModel: assign(({ context }) => tellModel(context)),
    beginCalls: enqueueActions(({ context, enqueue }) => {
      for (const call of context.calls) {
        if (call.effect === 'tool') enqueue.spawnChild('tool', { id: call.as, input: call.input })
        if (call.effect === 'delegate') enqueue.spawnChild('delegate', { id: call.as, input: call.input })
      }
    }),
  },
}).createMachine({
  id: 'agent',
  context: ({ input }) => begin(input),
  initial: 'starting',
  output: ({ context }) => (context.failure ?? context.text ?? null) as Json,
  on: { cancel: { target: '.canceled', actions: assign({ failure: { code: 'canceled', message: 'the task was canceled' } }) } },
  states: {
    starting: { always: [{ guard: 'hasFailed', target: 'failed' }, { target: 'thinking' }] },
    thinking: {
      invoke: {
        src: 'model',
        id: 'model',
        input: ({ context }) => modelInput(context),
        onDone: { target: 'deciding', actions: 'takeReply' },
        onError: { target: 'deciding', actions: 'takeModelFailure' },
      },
    },
    deciding: {
      always: [
        { guard: 'hasFailed', target: 'failed' },
        { guard: 'hasAnswered', target: 'completed' },
        { guard: 'hasCalls', target: 'acting' },
        // A reply that could not be read, or an endpoint that refused tools: it is asked again, and otherwise.
        { target: 'thinking' },
      ],
    },
    acting: {
      entry: 'beginCalls',
      on: {
        'xstate.done.actor.*': { actions: ['takeAnswer', 'forgetChild'] },
        'xstate.error.actor.*': { actions: ['takeAnswer', 'forgetChild'] },
      },
      always: [
        { guard: 'hasFailed', target: 'failed' },
        { guard: 'hasAllAnswers', target: 'thinking', actions: 'tellModel' },
      ],
    },
    completed: { type: 'final' },
    failed: { type: 'final', tags: 'failed' },
    canceled: { type: 'final', tags: 'canceled' },
  },
})

/** The agent machine, registered. `variant` is for tests that need a machine whose code has changed. */
export function agentMachine(variant = ''): Machine {
  return registerMachine({ name: 'agent', logic, toInput: (start, at) => ({ start, at }), sources: [...SOURCES, variant] })
}

const SOURCES = ['machine', 'prompt', 'conversation', 'calls', 'definition', 'text-calls', 'text-form'].map((name) => {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return readFileSync(new URL(`./${name}.${extension}`, import.meta.url), 'utf8')
})

function begin({ start, at }: AgentInput): Context {
  const definition = start.definition as unknown as AgentDefinition
  const path = [...start.path, definition.name]
  const limits = limitsOf(definition, start.limits, at)
  return {
    definition,
    limits,
    path,
    form: definition.toolCallMode === 'string' ? 'string' : 'native',
    history: lastMessages(readHistory(start.context), definition.contextLimit),
    messages: [{ role: 'user', content: taskText(start.input) }],
    round: 0,
    spent: { tokens: 0, toolCalls: 0 },
    calls: [],
    answers: {},
    ...failureAtStart(definition, start.path, limits, at),
  }
}

function failureAtStart(
  definition: AgentDefinition,
  above: readonly string[],
  limits: Limits,
  at: number,
): { readonly failure?: Failure } {
  const failure = definition.failure ?? delegationRefusal(definition.name, above, limits)
  return failure ? { failure } : late(limits, at)
}

/** The stricter of what the agent's manifest and its caller allow. */
function limitsOf(definition: AgentDefinition, asked: Limits, at: number): Limits {
  const own = definition.runtimeSeconds === 0 ? Number.POSITIVE_INFINITY : at + definition.runtimeSeconds * 1_000
  const deadlineAt = Math.min(own, asked.deadlineAt ?? Number.POSITIVE_INFINITY)
  const toolCalls = Math.min(definition.toolCalls || Number.POSITIVE_INFINITY, asked.toolCalls ?? Number.POSITIVE_INFINITY)
  return {
    ...asked,
    steps: Math.min(definition.steps, asked.steps ?? definition.steps),
    ...(Number.isFinite(deadlineAt) && { deadlineAt }),
    ...(Number.isFinite(toolCalls) && { toolCalls }),
  }
}

function modelInput({ definition, form, history, messages, limits }: Context): ModelInput {
  const timeoutSeconds =
    definition.settings.timeoutSeconds ?? (form === 'string' ? TEXT_MODEL_TIMEOUT_SECONDS : MODEL_TIMEOUT_SECONDS)
  return {
    request: buildRequest(definition, form, history, messages),
    timeoutSeconds,
    ...(limits.deadlineAt !== undefined && { deadlineAt: limits.deadlineAt }),
  }
}

function takeReply(context: Context, { output, usage, at }: Answered): Partial<Context> {
  const reply = output as unknown as ModelValue
  // Without text and without calls it would be asked again, for ever.
  if (typeof reply?.text !== 'string' || !Array.isArray(reply.toolCalls))
    return { failure: { code: 'model_bad_answer', message: 'the model effect gave neither text nor calls' } }
  const round = context.round + 1
  const spent = spend(context.spent, usage)
  const meant = understand(reply, context)
  if (meant.kind === 'answer')
    return { round, spent, messages: [...context.messages, assistant(reply.text, [])], text: reply.text }
  const asked = meant.kind === 'calls' ? meant.calls : []
  const failure = exceeded(context.limits, round, spent, asked.length, at)
  if (meant.kind === 'unreadable') {
    const told: ChatMessage = { role: 'user', content: unreadableText(meant.why) }
    return { round, spent, messages: [...context.messages, assistant(reply.text, []), told], ...(failure && { failure }) }
  }
  const taken = { round, spent, messages: [...context.messages, assistant(meant.said, asked)] }
  if (failure) return { ...taken, failure }
  const { definition, limits, path } = context
  const conversation = lastMessages([...context.history, ...context.messages], definition.contextLimit)
  const calls = planCalls(asked, { definition, limits, path, round, spent, context: conversation })
  const refused = calls.flatMap((call) => (call.effect === 'none' ? [[call.as, failureText(call.failure)] as const] : []))
  const begun = calls.length - refused.length
  return { ...taken, calls, answers: Object.fromEntries(refused), spent: { ...spent, toolCalls: spent.toolCalls + begun } }
}

/** What a reply asks for. Calls that the endpoint made out count in every mode; a text is looked into where calls may be texts. */
function understand({ text, toolCalls }: ModelValue, { definition, form }: Context): TextReply {
  if (toolCalls.length > 0) return { kind: 'calls', said: text, calls: toolCalls }
  if (form === 'native' && definition.toolCallMode !== 'auto') return { kind: 'answer' }
  const offered = new Set(offersOf(definition).map(({ name }) => name))
  if (form === 'string') return readTextReply(text, offered)
  const calls = readBareCalls(text, offered)
  return calls ? { kind: 'calls', said: '', calls } : { kind: 'answer' }
}

function assistant(text: string, calls: readonly ToolCall[]): ChatMessage {
  const toCall = ({ id, name, arguments: args }: ToolCall) => ({
    id,
    type: 'function' as const,
    function: { name, arguments: args },
  })
  return { role: 'assistant', content: text === '' ? null : text, ...(calls.length > 0 && { tool_calls: calls.map(toCall) }) }
}

/** An endpoint that refuses tools is asked again without them, and so for the rest of the task. */
function takeModelFailure({ definition, form }: Context, { error }: Answered): Partial<Context> {
  const isRefusal = error?.code === 'model_without_tools' && form === 'native' && definition.toolCallMode === 'auto'
  return isRefusal ? { form: 'string' } : { failure: error! }
}

function exceeded(limits: Limits, round: number, spent: Spent, calls: number, at: number): Failure | undefined {
  if (limits.steps !== undefined && round >= limits.steps) {
    return { code: 'step_limit', message: `the model still asks for calls after ${round} of ${limits.steps} rounds` }
  }
  if (calls > limits.fanOut)
    return { code: 'fan_out_limit', message: `one reply asks for ${calls} calls; at most ${limits.fanOut} are allowed` }
  if (limits.toolCalls !== undefined && spent.toolCalls + calls > limits.toolCalls) {
    return {
      code: 'tool_call_limit',
      message: `${spent.toolCalls} calls were made and ${calls} more are asked for; at most ${limits.toolCalls} are allowed`,
    }
  }
  return overspent(limits, spent) ?? late(limits, at).failure
}

function overspent(limits: Limits, spent: Spent): Failure | undefined {
  if (limits.tokens === undefined || spent.tokens < limits.tokens) return undefined
  return { code: 'token_limit', message: `${spent.tokens} tokens are used of ${limits.tokens}` }
}

function late(limits: Limits, at: number): { failure?: Failure } {
  if (limits.deadlineAt === undefined || at <= limits.deadlineAt) return {}
  return { failure: { code: 'time_limit', message: `the task's time ended at ${new Date(limits.deadlineAt).toISOString()}` } }
}

function takeAnswer(context: Context, event: Answered): Partial<Context> {
  const text = event.error ? failureText(event.error) : answerText(event.output ?? null)
  const call = context.calls.find(({ as }) => as === event.actorId)
  const spent = call?.effect === 'delegate' ? spend(context.spent, event.usage) : context.spent
  const answers = { ...context.answers, [event.actorId]: text }
  const isLast = context.calls.every(({ as }) => as in answers)
  const failure = late(context.limits, event.at).failure ?? (isLast ? overspent(context.limits, spent) : undefined)
  return { spent, answers, ...(failure && { failure }) }
}

/** The answers go to the model in the order of its calls, whatever order they came in. */
function tellModel(context: Context): Partial<Context> {
  const told = context.calls.map(({ as, id }): ChatMessage => ({ role: 'tool', tool_call_id: id, content: context.answers[as]! }))
  return { messages: [...context.messages, ...told], calls: [], answers: {} }
}

function spend(spent: Spent, usage: Usage | undefined): Spent {
  if (!usage) return spent
  return { tokens: spent.tokens + usage.inputTokens + usage.outputTokens, toolCalls: spent.toolCalls + usage.toolCalls }
}
