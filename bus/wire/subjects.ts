/** Every subject and stream name, built and parsed here and nowhere else. */
import { checkName, isName, isTaskId, parseEffectId } from './ids.ts'

/** Who sends or receives. On the wire always two tokens. */
export interface Party {
  readonly kind: 'agent' | 'tool' | 'user'
  readonly name: string
}

export const agentParty = (name: string): Party => ({ kind: 'agent', name })
export const toolParty = (name: string): Party => ({ kind: 'tool', name })
export const userParty = (name: string): Party => ({ kind: 'user', name })
export const partyText = (party: Party): string => `${party.kind}.${party.name}`

/** All subjects of one namespace. */
export function subjectsOf(namespace: string) {
  checkName(namespace, 'namespace')
  const root = `kaos.${namespace}`
  const agentRoot = (agent: string) => `${root}.agent.${agent}`
  const toolRoot = (tool: string) => `${root}.tool.${tool}`
  const partyRoot = (party: Party) => (party.kind === 'tool' ? toolRoot(party.name) : agentRoot(party.name))
  return {
    namespace,
    /** Any NATS client publishes a task here. */
    door: (agent: string) => `${agentRoot(agent)}.task`,
    doorOf: (agent: string, user: string) => `${agentRoot(agent)}.task.user.${user}`,
    start: (agent: string, from: string, task: string) => `${agentRoot(agent)}.mail.start.agent.${from}.${task}`,
    reply: (agent: string, from: Party, effect: string) => `${agentRoot(agent)}.mail.reply.${partyText(from)}.${effect}`,
    signal: (agent: string, verb: string, from: Party, task: string) =>
      `${agentRoot(agent)}.mail.signal.${verb}.${partyText(from)}.${task}`,
    journal: (agent: string, task: string) => `${agentRoot(agent)}.journal.${task}`,
    journals: (agent: string) => `${agentRoot(agent)}.journal.*`,
    /** One part of a body that `owner` stores for `to`. */
    blob: (owner: Party, to: Party, task: string, sha: string, part: number | '*') =>
      `${partyRoot(owner)}.blob.${partyText(to)}.${task}.${sha}.${part}`,
    /** All bodies of a task that lie in its agent's own store. */
    blobsOf: (agent: string, task: string) => `${agentRoot(agent)}.blob.*.*.${task}.>`,
    call: (tool: string, from: string, effect: string) => `${toolRoot(tool)}.call.agent.${from}.${effect}`,
    done: (tool: string, effect: string) => `${toolRoot(tool)}.done.${effect}`,
    result: (agent: string, key: string) => `${root}.result.${agent}.${key}`,
    trace: (traceId: string, agent: string, task: string) => `${root}.trace.${traceId}.${agent}.${task}`,
    tracesOf: (traceId: string) => `${root}.trace.${traceId}.>`,
    traces: () => `${root}.trace.>`,
    dead: (party: Party) => `${root}.dead.${party.kind}.${party.name}`,
    ask: (agent: string) => `${root}.ask.${agent}`,
    asks: () => `${root}.ask.*`,
    /**
     * The broker says here, without its body, that a message was stored for the agent. Under a root of its own: whoever watches `kaos.>` would see
     * all mail twice, and no account of agents imports it.
     */
    wake: (agent: string) => `kaos_wake.${namespace}.agent.${agent}.>`,
    progress: (traceId: string, agent: string, task: string) => `${root}.progress.${traceId}.${agent}.${task}`,
    progressOf: (traceId: string) => `${root}.progress.${traceId}.>`,
    allProgress: () => `${root}.progress.>`,
    /** The question to one process whether it holds a delivery. */
    host: (party: Party, hostId: string) => `${partyRoot(party)}.host.${hostId}`,
    catalogKey: (party: Party) => `${namespace}.${partyText(party)}`,
    /** Subjects without what differs from message to message, for telemetry. */
    templates: {
      door: `${agentRoot('{agent}')}.task`,
      start: `${agentRoot('{agent}')}.mail.start`,
      call: `${toolRoot('{server}')}.call`,
    },
    agentWildcards: (agent: string) => ({
      all: `${agentRoot(agent)}.>`,
      door: `${agentRoot(agent)}.task`,
      doors: `${agentRoot(agent)}.task.user.*`,
      mail: `${agentRoot(agent)}.mail.>`,
      journal: `${agentRoot(agent)}.journal.*`,
      blob: `${agentRoot(agent)}.blob.>`,
    }),
    toolWildcards: (tool: string) => ({
      call: `${toolRoot(tool)}.call.>`,
      done: `${toolRoot(tool)}.done.*`,
      blob: `${toolRoot(tool)}.blob.>`,
    }),
  } as const
}
export type Subjects = ReturnType<typeof subjectsOf>

/** Every door of every namespace: only mail streams of agents have such subjects. */
export const ALL_DOORS = 'kaos.*.agent.*.task'
/** Every call of every namespace: only mail streams of tool servers have such subjects. */
export const ALL_CALLS = 'kaos.*.tool.*.call.>'

/** The index of traces of every namespace. */
export const ALL_TRACES = 'kaos.*.trace.>'

/** Whose record of the index this is; undefined when it is none that we write. */
export function parseTraceSubject(
  subject: string,
): { readonly namespace: string; readonly traceId: string; readonly agent: string; readonly task: string } | undefined {
  const [root, namespace = '', kind, traceId = '', agent = '', task = '', ...rest] = subject.split('.')
  if (root !== 'kaos' || kind !== 'trace' || rest.length > 0) return undefined
  if (!isName(namespace) || !/^[0-9a-f]{32}$/.test(traceId) || !isName(agent) || !isTaskId(task)) return undefined
  return { namespace, traceId, agent, task }
}

export const streamNames = {
  agentMail: (namespace: string, agent: string) => `kaos_${namespace}_agent_${agent}_mail`,
  agentJournal: (namespace: string, agent: string) => `kaos_${namespace}_agent_${agent}_journal`,
  toolMail: (namespace: string, tool: string) => `kaos_${namespace}_tool_${tool}_mail`,
  toolDone: (namespace: string, tool: string) => `kaos_${namespace}_tool_${tool}_done`,
  results: 'kaos_results',
  traces: 'kaos_traces',
  dead: 'kaos_dead',
  catalogBucket: 'kaos_catalog',
  catalog: 'KV_kaos_catalog',
} as const

/** Where the blobs and the claims of a party lie. */
export function storeOf(namespace: string, owner: Party): string {
  return owner.kind === 'tool' ? streamNames.toolDone(namespace, owner.name) : streamNames.agentJournal(namespace, owner.name)
}

export type MailSubject =
  | { readonly kind: 'task'; readonly agent: string; readonly from: Party }
  | { readonly kind: 'start'; readonly agent: string; readonly from: Party; readonly task: string }
  | { readonly kind: 'reply'; readonly agent: string; readonly from: Party; readonly effect: string }
  | { readonly kind: 'signal'; readonly agent: string; readonly from: Party; readonly verb: string; readonly task: string }

/** The sender of a task at the door that names nobody. */
export const ANYBODY: Party = userParty('anybody')

/** A machine's own event may be named in any letters, as long as it is one token. */
const VERB = /^[A-Za-z0-9_-]{1,64}$/

/** Whether a signal may have this name. */
export function isVerb(name: string): boolean {
  return VERB.test(name)
}

/** What a subject of an agent's mail stream says; undefined when it is none that we write. */
export function parseMailSubject(subject: string): MailSubject | undefined {
  const [root, namespace = '', kind, agent = '', area, ...rest] = subject.split('.')
  if (root !== 'kaos' || !isName(namespace) || kind !== 'agent' || !isName(agent)) return undefined
  if (area === 'task') {
    if (rest.length === 0) return { kind: 'task', agent, from: ANYBODY }
    const from = parseParty(rest[0], rest[1])
    return from?.kind === 'user' && rest.length === 2 ? { kind: 'task', agent, from } : undefined
  }
  if (area !== 'mail') return undefined
  const [verb, ...tokens] = rest
  if (verb === 'start' && tokens.length === 3) {
    const from = parseParty(tokens[0], tokens[1])
    // A child's id is its parent's effect. A root task comes by the door alone, or its key could be taken from outside.
    return from?.kind === 'agent' && parseEffectId(tokens[2]!) ? { kind: 'start', agent, from, task: tokens[2]! } : undefined
  }
  if (verb === 'reply' && tokens.length === 3) {
    const from = parseParty(tokens[0], tokens[1])
    return from && isTaskId(tokens[2]!) ? { kind: 'reply', agent, from, effect: tokens[2]! } : undefined
  }
  if (verb === 'signal' && tokens.length === 4 && VERB.test(tokens[0]!)) {
    const from = parseParty(tokens[1], tokens[2])
    return from && isTaskId(tokens[3]!) ? { kind: 'signal', agent, from, verb: tokens[0]!, task: tokens[3]! } : undefined
  }
  return undefined
}

/** Who calls which effect of a tool server. */
export function parseCallSubject(subject: string): { readonly from: Party; readonly effect: string } | undefined {
  const [root, namespace = '', kind, tool = '', area, fromKind, fromName, effect = '', ...rest] = subject.split('.')
  if (root !== 'kaos' || !isName(namespace) || kind !== 'tool' || !isName(tool) || area !== 'call' || rest.length > 0)
    return undefined
  const from = parseParty(fromKind, fromName)
  return from?.kind === 'agent' && parseEffectId(effect) ? { from, effect } : undefined
}

function parseParty(kind: string | undefined, name: string | undefined): Party | undefined {
  if (kind !== 'agent' && kind !== 'tool' && kind !== 'user') return undefined
  return name !== undefined && isName(name) ? { kind, name } : undefined
}
