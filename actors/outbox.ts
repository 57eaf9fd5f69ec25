/** The messages that an actor's entries cause. Pure: a resumed turn makes the same ones again, and receivers know them. */
import { type Command, type Entry, localSource, type Outcome } from '../bus/wire/entry.ts'
import type { Failure } from '../bus/wire/errors.ts'
import { actorSpanId, isRootTask, keyOf, parseRootTask } from '../bus/wire/ids.ts'
import { HEADERS, headerText, type Incoming, type Outgoing, type ReplyBody } from '../bus/wire/message.ts'
import { ANYBODY, agentParty, type Party, type Subjects } from '../bus/wire/subjects.ts'
import { traceHeaders } from '../bus/wire/trace.ts'
import type { Actor, ActorState } from './actor.ts'

/** The record of one actor in the index of traces. */
export interface TraceRecord {
  readonly state: 'working' | Outcome['state']
  readonly agent: string
  readonly task: string
  readonly parent?: { readonly agent: string; readonly effect: string }
  readonly title: string
  readonly startedAt: number
  readonly endedAt?: number
  readonly entries?: number
  readonly usage?: ActorState['usage']
  readonly failure?: Failure
}

/** What stands under a root task's result subject. */
export type ResultRecord = Outcome & {
  readonly task: string
  readonly agent: string
  readonly trace: string
  readonly startedAt: number
  readonly endedAt: number
  readonly usage: ActorState['usage']
}

export function workingRecord(subjects: Subjects, actor: Actor): Outgoing {
  const state = actor.state!
  const record: TraceRecord = {
    state: 'working',
    agent: actor.agent,
    task: actor.task,
    ...(state.parent && { parent: state.parent }),
    title: state.origin.title,
    startedAt: state.origin.at,
  }
  return {
    subject: subjects.trace(state.trace.traceId, actor.agent, actor.task),
    id: `${actor.task}.working`,
    body: JSON.stringify(record),
    once: true,
  }
}

/** All that tells the world how the actor ended: index, result of a root, reply to a parent. */
export function conclusion(subjects: Subjects, actor: Actor, parent: { agent: string; effect: string } | undefined): Outgoing[] {
  const state = actor.state!
  const outcome = state.outcome!
  const { traceId } = state.trace
  const index: TraceRecord = {
    state: outcome.state,
    agent: actor.agent,
    task: actor.task,
    ...(parent && { parent }),
    title: state.origin.title,
    startedAt: state.origin.at,
    endedAt: state.endedAt,
    entries: state.n,
    usage: state.usage,
    ...(outcome.state !== 'completed' && { failure: outcome.failure }),
  }
  const messages: Outgoing[] = [
    { subject: subjects.trace(traceId, actor.agent, actor.task), id: `${actor.task}.outcome`, body: JSON.stringify(index) },
  ]
  if (isRootTask(actor.task)) {
    messages.push(
      resultMessage(subjects, actor.agent, actor.task, { ...outcome, ...times(actor), trace: traceId, usage: state.usage }),
    )
  }
  if (parent) messages.push(replyToParent(subjects, actor, parent, outcome))
  return messages
}

function times(actor: Actor) {
  return { task: actor.task, agent: actor.agent, startedAt: actor.state!.origin.at, endedAt: actor.state!.endedAt }
}

export function resultMessage(subjects: Subjects, agent: string, task: string, record: ResultRecord): Outgoing {
  const { key } = parseRootTask(task)
  return {
    subject: subjects.result(agent, key),
    id: `${task}.result`,
    body: JSON.stringify(record),
    once: true,
    overflow: { owner: agentParty(agent), to: ANYBODY, task },
  }
}

function replyToParent(subjects: Subjects, actor: Actor, parent: { agent: string; effect: string }, outcome: Outcome): Outgoing {
  const state = actor.state!
  const { usage } = state
  const work = { startedAt: state.origin.at, endedAt: state.endedAt, attempts: 1, host: state.owners.get(state.endedBy) ?? '' }
  const body: ReplyBody =
    outcome.state === 'completed'
      ? { kind: 'result', value: outcome.output, usage, work }
      : { kind: 'error', failure: outcome.failure, usage, work }
  return {
    subject: subjects.reply(parent.agent, agentParty(actor.agent), parent.effect),
    id: parent.effect,
    headers: traceHeaders(state.trace, actorSpanId(state.trace.traceId, actor.task)),
    body: JSON.stringify(body),
    overflow: { owner: agentParty(actor.agent), to: agentParty(parent.agent), task: actor.task },
  }
}

/** What a parent is told of a delegation that never became an actor. */
export function refusalReply(subjects: Subjects, agent: string, parent: string, effect: string, failure: Failure): Outgoing {
  return {
    subject: subjects.reply(parent, agentParty(agent), effect),
    id: effect,
    body: JSON.stringify({ kind: 'error', failure } satisfies ReplyBody),
  }
}

/** Mail that can never be processed, as it came, with why. Redriving it needs nothing else. */
export function deadLetter(subjects: Subjects, party: Party, message: Incoming, failure: Failure): Outgoing {
  const given = (name: string) => {
    const value = message.header(name)
    return value ? [[name, headerText(value)] as const] : []
  }
  const key = message.header(HEADERS.key) || message.header(HEADERS.messageId)
  const cause = message.header(HEADERS.cause) || message.header(HEADERS.id) || message.delivery
  return {
    subject: subjects.dead(party),
    id: `dead.${message.delivery}`,
    body: message.body,
    headers: [
      ...given('traceparent'),
      ...given('tracestate'),
      // As the key that the id becomes: any id may be sent, not any text fits a header.
      ...(key ? [[HEADERS.key, keyOf(subjects.namespace, party.name, key)] as const] : []),
      [HEADERS.cause, headerText(cause)],
      ['Kaos-Dead-Subject', message.subject],
      ['Kaos-Dead-Code', failure.code],
      ['Kaos-Dead-Reason', failure.message.replaceAll(/[^\x20-\x7e]+/g, ' ').slice(0, 500)],
    ],
    overflow: { owner: party, to: ANYBODY, task: `${party.name}_dead` },
  }
}

/** What people who watch see of an entry. */
export function progressOf(
  entry: Pick<Entry, 'n' | 'at' | 'input' | 'commands' | 'outcome'>,
  actor: Actor,
  host: string,
): object {
  const { input } = entry
  return {
    kind: 'entry',
    agent: actor.agent,
    task: actor.task,
    n: entry.n,
    at: entry.at,
    host,
    input: input.kind,
    ...('effect' in input && { effect: input.effect }),
    ...(input.kind === 'error' && { failure: input.failure }),
    ...('work' in input && input.work && { ms: input.work.endedAt - input.work.startedAt }),
    begins: entry.commands.flatMap((command, k) =>
      command.kind === 'start' ? [{ k, effect: command.effect, ...labelOf(command) }] : [],
    ),
    ...(entry.outcome && { outcome: entry.outcome.state }),
  }
}

/** The name of a tool, of a peer or of a machine's own effect. */
function labelOf({ effect, input }: Extract<Command, { readonly kind: 'start' }>): { name?: string } {
  const fields = input as { tool?: unknown; peer?: unknown } | null
  const name = effect === 'tool' ? fields?.tool : effect === 'delegate' ? fields?.peer : localSource(effect)
  return typeof name === 'string' ? { name } : {}
}
