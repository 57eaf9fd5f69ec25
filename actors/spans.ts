/**
 * Spans from entries. Pure: ids are positions and times stand in the journal, so that a span is the same whoever writes it, however often, and
 * whenever. An effect's span is made when its answer is an entry, an actor's when its outcome is one; nothing is ever open.
 */
import { type Entry, localSource, type Outcome, type Work } from '../bus/wire/entry.ts'
import type { Failure } from '../bus/wire/errors.ts'
import { actorSpanId, entryId, parseRootTask, rootTaskId, spanIdOf } from '../bus/wire/ids.ts'
import type { Json } from '../bus/wire/json.ts'
import type { Subjects } from '../bus/wire/subjects.ts'
import type { TraceBoundary } from '../manifests/kinds/telemetry.ts'
import { EVENTS, GEN_AI_OPERATIONS, KEYS, type Naming, OPERATIONS, spanName } from '../telemetry/names.ts'
import type { Attributes, CountedSpan, FinishedSpan, SpanEvent, SpanLink } from '../telemetry/span.ts'
import { messagingAttributes, redeliveryLink, spanContent, spanFailure } from '../telemetry/span-parts.ts'
import type { ActorState, Mark, Pending } from './actor.ts'
import type { DelegateInput, ToolInput } from './agent/calls.ts'
import type { ModelInput, ModelValue } from './agent/machine.ts'

/** What spans say beside what entries say. */
export interface SpanFacts {
  readonly agent: string
  readonly subjects: Subjects
  readonly naming: Naming
  /** Whether prompts, arguments and results are shown. */
  readonly hasContent: boolean
  readonly traceBoundary: TraceBoundary
  /** Whether the trace is exported: if not, spans say no more than what they are counted by. */
  readonly isExported: boolean
}

type Recorded = FinishedSpan | CountedSpan

/** The time in which one delivery was worked on. */
export interface Activation {
  /** Its first entry. */
  readonly n: number
  readonly startMs: number
  readonly endMs: number
  /** Set when the actor ended in it. */
  readonly outcome?: Outcome | undefined
}

/** The spans that end with an entry, its actor's own aside. `state` has taken the entry in. */
export function effectSpans(facts: SpanFacts, task: string, state: ActorState, entry: Entry): readonly Recorded[] {
  const { input, at } = entry
  const spans: Recorded[] = []
  if (state.answered && (input.kind === 'result' || input.kind === 'error')) {
    const failure = input.kind === 'error' ? input.failure : undefined
    const value = input.kind === 'result' ? input.value : undefined
    spans.push(
      effectSpan(facts, task, state, state.answered, { endMs: at, failure, value, work: input.work, usage: input.usage }),
    )
  }
  const failure = { code: 'canceled', message: 'its answer is not needed any more' }
  for (const effect of state.cut) spans.push(effectSpan(facts, task, state, effect, { endMs: at, failure }))
  return spans
}

/** The actor's span of one activation; undefined where the span ends with the task and this is not its end. */
export function agentSpan(facts: SpanFacts, task: string, state: ActorState, activation: Activation): Recorded | undefined {
  const { outcome } = activation
  const isWhole = facts.traceBoundary === 'task'
  // A task is counted when it ends.
  if (!outcome && (isWhole || !facts.isExported)) return undefined
  const { trace, origin } = state
  const isFirst = isWhole || activation.n === 0
  const operation = isFirst ? OPERATIONS.agent : OPERATIONS.activation
  const counted = {
    startMs: isWhole ? origin.at : activation.startMs,
    endMs: activation.endMs,
    attributes: {
      [KEYS.op]: operation,
      [KEYS.agent]: facts.agent,
      [KEYS.genAiOperation]: GEN_AI_OPERATIONS.agent,
      [KEYS.genAiAgent]: facts.agent,
      ...(outcome && {
        [KEYS.taskState]: outcome.state,
        [KEYS.taskMs]: Math.max(0, activation.endMs - origin.at),
      }),
    },
    failure: outcome && outcome.state !== 'completed' ? spanFailure(outcome.failure) : undefined,
  }
  if (!facts.isExported) return counted
  const own = actorSpanId(trace.traceId, task)
  const place = isFirst
    ? { spanId: own, parentSpanId: trace.parentSpanId }
    : { spanId: spanIdOf(trace.traceId, entryId(task, activation.n)), parentSpanId: own }
  return finish(facts, state, {
    ...counted,
    ...place,
    name: spanName(operation, facts.agent, facts.naming),
    kind: 'consumer',
    attributes: {
      ...counted.attributes,
      ...rootAttributes(facts, task, state),
      ...(outcome && {
        [KEYS.genAiInputTokens]: state.usage.inputTokens,
        [KEYS.genAiOutputTokens]: state.usage.outputTokens,
        ...(facts.hasContent && outcome.state === 'completed' && { [KEYS.genAiOutput]: spanContent(outcome.output) }),
      }),
      [KEYS.journalRef]: journalRef(facts, task, isWhole ? undefined : activation.n),
    },
    events: outcome || !isWhole ? state.marks.filter(({ at }) => isWhole || at >= activation.startMs).map(markEvent) : [],
    links: isFirst ? links(state) : [],
  })
}

/** What is known of a task when it begins: a sampler decides by this. */
export function rootAttributes(
  { agent, subjects }: Pick<SpanFacts, 'agent' | 'subjects'>,
  task: string,
  { origin, parent }: { readonly origin: Pick<ActorState['origin'], 'cause' | 'session'>; readonly parent: ActorState['parent'] },
): Attributes {
  return {
    [KEYS.agent]: agent,
    [KEYS.genAiOperation]: GEN_AI_OPERATIONS.agent,
    [KEYS.genAiAgent]: agent,
    [KEYS.genAiConversation]: origin.session,
    [KEYS.task]: task,
    [KEYS.rootTask]: parent ? rootOf(task) : undefined,
    [KEYS.delegation]: parent?.effect,
    ...messagingAttributes('process', parent ? subjects.templates.start : subjects.templates.door),
    [KEYS.messagingDestination]: parent ? undefined : subjects.door(agent),
    [KEYS.messagingMessage]: origin.cause,
    [KEYS.messagingConversation]: parent?.effect,
    [KEYS.messagingConsumer]: parent ? 'mail' : 'task',
  }
}

interface Answer {
  readonly endMs: number
  readonly failure?: Failure | undefined
  readonly value?: Json | undefined
  readonly work?: Work | undefined
  readonly usage?: { readonly inputTokens: number; readonly outputTokens: number } | undefined
}

function effectSpan(facts: SpanFacts, task: string, state: ActorState, effect: Pending, answer: Answer): Recorded {
  const { work, failure } = answer
  const { traceId } = state.trace
  const begunAt = effect.at ?? state.origin.at // a snapshot of an earlier version does not know
  // What this host did itself is timed as it was done; a call by mail lasts until its answer is here.
  const isLocal = effect.effect !== 'tool' && effect.effect !== 'delegate'
  const { name, kind, labels, details } = describe(facts, effect, answer)
  const counted = {
    startMs: isLocal ? (work?.startedAt ?? begunAt) : begunAt,
    endMs: isLocal ? (work?.endedAt ?? answer.endMs) : answer.endMs,
    attributes: { ...labels, [KEYS.agent]: facts.agent },
    failure: failure && spanFailure(failure),
  }
  if (!facts.isExported) return counted
  return finish(facts, state, {
    ...counted,
    spanId: spanIdOf(traceId, effect.id),
    parentSpanId: actorSpanId(traceId, task),
    name,
    kind,
    attributes: {
      ...counted.attributes,
      ...details(),
      [KEYS.task]: task,
      [KEYS.effect]: effect.id,
      [KEYS.attempts]: work && work.attempts > 1 ? work.attempts : undefined,
      [KEYS.journalRef]: journalRef(facts, task, effect.n),
    },
  })
}

interface Described extends Pick<FinishedSpan, 'name' | 'kind'> {
  /** What the span is counted by. */
  readonly labels: Attributes
  /** All else that it says when it is exported. */
  readonly details: () => Attributes
}

function describe(facts: SpanFacts, effect: Pending, answer: Answer): Described {
  switch (effect.effect) {
    case 'model':
      return describeModel(facts, effect, answer)
    case 'tool':
      return describeTool(facts, effect, answer)
    case 'delegate':
      return describeDelegation(facts, effect)
    default: {
      const name = localSource(effect.effect) ?? effect.effect
      return {
        name: spanName(OPERATIONS.local, name, facts.naming),
        kind: 'internal',
        labels: { [KEYS.op]: OPERATIONS.local },
        details: () => asked(facts, effect.input, answer.value),
      }
    }
  }
}

function describeModel(facts: SpanFacts, effect: Pending, { value, work, usage }: Answer): Described {
  const { request } = effect.input as unknown as Partial<ModelInput>
  const answer = (value ?? undefined) as unknown as Partial<ModelValue> | undefined
  const model = request?.model || answer?.model || 'unknown'
  const [address, port] = (work?.address ?? '').split(/:(?=\d+$)/)
  return {
    name: spanName(OPERATIONS.model, model, facts.naming),
    kind: 'client',
    labels: {
      [KEYS.op]: OPERATIONS.model,
      [KEYS.genAiOperation]: GEN_AI_OPERATIONS.model,
      [KEYS.genAiProvider]: providerOf(model),
      [KEYS.genAiRequestModel]: model,
      [KEYS.genAiResponseModel]: answer?.model || undefined,
      [KEYS.genAiInputTokens]: usage?.inputTokens,
      [KEYS.genAiOutputTokens]: usage?.outputTokens,
      [KEYS.serverAddress]: address || undefined,
      [KEYS.serverPort]: port === undefined ? undefined : Number(port),
    },
    details: () => ({
      [KEYS.genAiAgent]: facts.agent,
      [KEYS.genAiTemperature]: request?.temperature ?? undefined,
      [KEYS.genAiMaxTokens]: request?.max_tokens ?? undefined,
      [KEYS.genAiSeed]: request?.seed ?? undefined,
      [KEYS.genAiResponseId]: work?.responseId,
      [KEYS.genAiFinishReasons]: answer?.finishReason ? [answer.finishReason] : undefined,
      // Seconds, as the conventions have it.
      [KEYS.genAiFirstChunk]: work?.firstChunkMs === undefined ? undefined : work.firstChunkMs / 1_000,
      ...(facts.hasContent && {
        [KEYS.genAiInput]: spanContent(request?.messages),
        [KEYS.genAiOutput]: spanContent(value),
      }),
    }),
  }
}

function describeTool(facts: SpanFacts, effect: Pending, { value }: Answer): Described {
  const { server = '', tool = 'unknown', arguments: args } = effect.input as unknown as Partial<ToolInput>
  return {
    name: spanName(OPERATIONS.tool, tool, facts.naming),
    kind: 'client',
    labels: { [KEYS.op]: OPERATIONS.tool, [KEYS.genAiOperation]: GEN_AI_OPERATIONS.tool, [KEYS.genAiTool]: tool },
    details: () => ({
      [KEYS.genAiAgent]: facts.agent,
      [KEYS.toolName]: tool,
      [KEYS.genAiToolType]: 'extension',
      [KEYS.genAiToolCall]: effect.id,
      [KEYS.server]: server,
      ...messagingAttributes('send', facts.subjects.templates.call),
      [KEYS.messagingMessage]: effect.id,
      [KEYS.messagingConversation]: effect.id,
      ...asked(facts, args, value),
    }),
  }
}

function describeDelegation(facts: SpanFacts, effect: Pending): Described {
  const { peer = 'unknown', task } = effect.input as unknown as Partial<DelegateInput>
  return {
    name: spanName(OPERATIONS.delegate, peer, facts.naming),
    kind: 'client',
    labels: { [KEYS.op]: OPERATIONS.delegate, [KEYS.target]: peer },
    details: () => ({
      [KEYS.genAiOperation]: GEN_AI_OPERATIONS.agent,
      [KEYS.genAiAgent]: peer,
      [KEYS.genAiCallerType]: 'agent',
      [KEYS.genAiCaller]: facts.agent,
      [KEYS.delegation]: effect.id,
      ...messagingAttributes('send', facts.subjects.templates.start),
      [KEYS.messagingMessage]: effect.id,
      [KEYS.messagingConversation]: effect.id,
      ...(facts.hasContent && { [KEYS.genAiInput]: spanContent(task) }),
    }),
  }
}

function asked({ hasContent }: SpanFacts, args: Json | undefined, result: Json | undefined): Attributes {
  return hasContent ? { [KEYS.genAiArguments]: spanContent(args), [KEYS.genAiResult]: spanContent(result) } : {}
}

function finish(
  facts: SpanFacts,
  { trace }: ActorState,
  { attributes, ...span }: Omit<FinishedSpan, 'traceId' | 'flags' | 'tracestate'>,
): FinishedSpan {
  return {
    traceId: trace.traceId,
    flags: trace.flags,
    tracestate: trace.tracestate,
    ...span,
    attributes: { ...attributes, [KEYS.namespace]: facts.subjects.namespace },
  }
}

/** Where the whole of what a span stands for is recorded: the journal's subject, and the entry. */
function journalRef({ subjects, agent }: SpanFacts, task: string, n: number | undefined): string {
  return `${subjects.journal(agent, task)}${n === undefined ? '' : `#${n}`}`
}

/** Each delivery to another host is a link to the span that sent the message. */
function links({ trace, marks }: ActorState): readonly SpanLink[] {
  const { traceId, parentSpanId } = trace
  if (parentSpanId === undefined) return []
  return marks.filter(({ kind }) => kind === 'takeover').map((_takeover, i) => redeliveryLink(traceId, parentSpanId, i + 2))
}

function markEvent(mark: Mark, i: number, marks: readonly Mark[]): SpanEvent {
  const { at: atMs } = mark
  switch (mark.kind) {
    case 'takeover': {
      const attempt = 1 + marks.slice(0, i + 1).filter(({ kind }) => kind === 'takeover').length
      const attributes = { [KEYS.host]: mark.to, [KEYS.hostBefore]: mark.from, [KEYS.attempts]: attempt }
      return { name: EVENTS.takeover, atMs, attributes }
    }
    case 'delegation_failed': {
      const attributes = { [KEYS.target]: mark.peer, [KEYS.delegation]: mark.effect, [KEYS.errorType]: mark.code }
      return { name: EVENTS.delegationFailed, atMs, attributes }
    }
    case 'signal':
      return { name: EVENTS.signal, atMs, attributes: { [KEYS.signal]: mark.name } }
  }
}

/** Taken from the name of the model, where it is written as `provider/model`. What speaks OpenAI's protocol and says no more counts as it. */
function providerOf(model: string): string {
  const [provider, rest] = model.split('/')
  return rest === undefined ? 'openai' : provider!.toLowerCase()
}

function rootOf(task: string): string {
  const { agent, key } = parseRootTask(task)
  return rootTaskId(agent, key)
}
