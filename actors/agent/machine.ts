/** The agent: it thinks (a model call), acts (all calls of that reply at once), thinks again, until it answers or a limit ends it. */
import { readFileSync } from 'node:fs'
import { assign, enqueueActions, setup, stopChild } from 'xstate'
import type { Limits, StartInput, Usage } from '../../bus/wire/entry.ts'
import type { Failure } from '../../bus/wire/errors.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { ChatRequest, ToolCall } from '../effects/chat.ts'
import { effectSource, type Machine, registerMachine } from '../machine.ts'
import { answerText, type DelegateInput, failureText, type PlannedCall, planCalls, type Spent, type ToolInput } from './calls.ts'
import type { AgentDefinition } from './definition.ts'
import { buildRequest, type ChatMessage, lastMessages, readHistory, taskText } from './prompt.ts'

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
  readonly timeoutSeconds: number
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
  readonly history: readonly ChatMessage[]
  /** The task and everything since, without the system message. */
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

const MODEL_TIMEOUT_SECONDS = 60

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
    hasAllAnswers: ({ context }) => context.calls.every((call) => call.as in context.answers),
  },
  actions: {
    takeReply: assign(({ context, event }) => takeReply(context, event as unknown as Answered)),
    takeModelFailure: assign(({ event }) => ({ failure: (event as unknown as Answered).error! })),
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
        onError: { target: 'failed', actions: 'takeModelFailure' },
      },
    },
    deciding: {
      always: [{ guard: 'hasFailed', target: 'failed' }, { guard: 'hasAnswered', target: 'completed' }, { target: 'acting' }],
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

const SOURCES = ['machine', 'prompt', 'calls', 'definition'].map((name) => {
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
    history: lastMessages(readHistory(start.context), definition.contextLimit),
    messages: [{ role: 'user', content: taskText(start.input) }],
    round: 0,
    spent: { tokens: 0, toolCalls: 0 },
    calls: [],
    answers: {},
    ...failureAtStart(definition, path, limits, at),
  }
}

function failureAtStart(definition: AgentDefinition, path: readonly string[], limits: Limits, at: number): { failure?: Failure } {
  if (definition.failure) return { failure: definition.failure }
  if (path.indexOf(definition.name) < path.length - 1) {
    return {
      failure: {
        code: 'delegation_cycle',
        message: `agent "${definition.name}" already works on this task: ${path.join(' → ')}`,
      },
    }
  }
  if (path.length - 1 > limits.depth) {
    return { failure: { code: 'depth_limit', message: `delegations may nest ${limits.depth} deep: ${path.join(' → ')}` } }
  }
  return late(limits, at)
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

function modelInput({ definition, history, messages, limits }: Context): ModelInput {
  return {
    request: buildRequest(definition, history, messages),
    timeoutSeconds: definition.settings.timeoutSeconds ?? MODEL_TIMEOUT_SECONDS,
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
  const said: ChatMessage = {
    role: 'assistant',
    content: reply.text === '' ? null : reply.text,
    ...(reply.toolCalls.length > 0 && {
      tool_calls: reply.toolCalls.map(({ id, name, arguments: args }) => ({
        id,
        type: 'function' as const,
        function: { name, arguments: args },
      })),
    }),
  }
  const taken = { round, spent, messages: [...context.messages, said] }
  if (reply.toolCalls.length === 0) return { ...taken, text: reply.text }
  const failure = exceeded(context.limits, round, spent, reply.toolCalls.length, at)
  if (failure) return { ...taken, failure }
  const { definition, limits, path } = context
  const conversation = lastMessages([...context.history, ...context.messages], definition.contextLimit)
  const calls = planCalls(reply.toolCalls, { definition, limits, path, round, spent, context: conversation })
  const refused = calls.flatMap((call) => (call.effect === 'none' ? [[call.as, failureText(call.failure)] as const] : []))
  const begun = calls.length - refused.length
  return { ...taken, calls, answers: Object.fromEntries(refused), spent: { ...spent, toolCalls: spent.toolCalls + begun } }
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
