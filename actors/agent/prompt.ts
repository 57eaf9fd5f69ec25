/**
 * The prompt is a pure function of what the agent knows, so that a replay can compare it. Its order is that of KAOS: who the agent is and its
 * instructions, its peers, the system prompt; then what was said before, the task, and what was said and found out since.
 */
import { isObject, type Json } from '../../bus/wire/json.ts'
import type { ChatRequest } from '../effects/chat.ts'
import { type AgentDefinition, delegateName } from './definition.ts'

export type ChatMessage =
  | { readonly role: 'system' | 'user'; readonly content: string }
  | { readonly role: 'assistant'; readonly content: string | null; readonly tool_calls?: readonly ChatToolCall[] }
  | { readonly role: 'tool'; readonly tool_call_id: string; readonly content: string }

export interface ChatToolCall {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; readonly arguments: string }
}

/** The request for the next model call. Fields that are not set are left out, so that the endpoint's own defaults hold. */
export function buildRequest(
  definition: AgentDefinition,
  history: readonly ChatMessage[],
  messages: readonly ChatMessage[],
): ChatRequest {
  const { settings } = definition
  const tools = [...definition.tools.map(toolFunction), ...definition.peers.map(peerFunction)]
  return {
    model: definition.model,
    messages: [{ role: 'system', content: systemMessage(definition) }, ...history, ...messages],
    ...(tools.length > 0 && { tools }),
    ...(settings.temperature !== undefined && { temperature: settings.temperature }),
    ...(settings.seed !== undefined && { seed: settings.seed }),
    ...(settings.maxTokens !== undefined && { max_tokens: settings.maxTokens }),
  } as unknown as ChatRequest
}

/** The first line names the agent; scripted models match on it. */
export function systemMessage(definition: AgentDefinition): string {
  const parts = [`You are ${definition.name}.${definition.description ? ` ${definition.description}` : ''}`]
  if (definition.instructions) parts.push(definition.instructions)
  if (definition.peers.length > 0) {
    const lines = definition.peers.map((peer) => `- ${delegateName(peer.name)}${peer.description ? `: ${peer.description}` : ''}`)
    parts.push(
      `You can hand work to these agents; several at once if their work does not depend on each other:\n${lines.join('\n')}`,
    )
  }
  if (definition.systemPrompt) parts.push(definition.systemPrompt)
  return parts.join('\n\n')
}

/** The task as the model reads it. */
export function taskText(input: Json): string {
  return typeof input === 'string' ? input : JSON.stringify(input)
}

/**
 * The end of a conversation: at most `limit` messages, tool results included, and never a tool result without the call it answers or the
 * other way round, which no model endpoint takes.
 */
export function lastMessages(messages: readonly ChatMessage[], limit: number): readonly ChatMessage[] {
  const rounds = wholeRounds(messages)
  let from = rounds.length
  for (let count = 0; from > 0; from--) {
    count += rounds[from - 1]!.length
    if (count > limit) break
  }
  return rounds.slice(from).flat()
}

/** Each message with the tool results that answer it. What does not belong together is left out. */
function wholeRounds(messages: readonly ChatMessage[]): readonly (readonly ChatMessage[])[] {
  const rounds: ChatMessage[][] = []
  for (let i = 0; i < messages.length; ) {
    const message = messages[i]!
    let end = i + 1
    while (messages[end]?.role === 'tool') end++
    const results = messages.slice(i + 1, end)
    i = end
    if (message.role === 'tool') continue
    const calls = message.role === 'assistant' ? (message.tool_calls ?? []) : []
    if (calls.length === 0) rounds.push([message])
    else if (sameIds(calls, results)) rounds.push([message, ...results])
  }
  return rounds
}

function sameIds(calls: readonly ChatToolCall[], results: readonly ChatMessage[]): boolean {
  const asked = calls.map(({ id }) => id)
  const answered = results.map((result) => (result as { tool_call_id: string }).tool_call_id)
  return JSON.stringify(asked.toSorted()) === JSON.stringify(answered.toSorted())
}

/** Reads a conversation that another agent handed over; what is no message is left out. */
export function readHistory(context: Json | undefined): readonly ChatMessage[] {
  return Array.isArray(context) ? (context.filter(isMessage) as unknown as ChatMessage[]) : []
}

function isMessage(message: Json): boolean {
  if (!isObject(message)) return false
  const { role, content, tool_calls: calls, tool_call_id: answers } = message
  if (role === 'user') return typeof content === 'string'
  if (role === 'tool') return typeof content === 'string' && typeof answers === 'string'
  const hasContent = typeof content === 'string' || (content === null && Array.isArray(calls))
  return role === 'assistant' && hasContent && (calls === undefined || (Array.isArray(calls) && calls.every(isCall)))
}

function isCall(call: Json): boolean {
  if (!isObject(call) || typeof call.id !== 'string' || !isObject(call.function)) return false
  return typeof call.function.name === 'string' && typeof call.function.arguments === 'string'
}

function toolFunction(tool: AgentDefinition['tools'][number]) {
  return { type: 'function', function: { name: tool.name, description: tool.description, parameters: tool.inputSchema } }
}

function peerFunction(peer: AgentDefinition['peers'][number]) {
  return {
    type: 'function',
    function: {
      name: delegateName(peer.name),
      description: `Hand a task to the agent ${peer.name} and get its answer.${peer.description ? ` ${peer.description}` : ''}`,
      parameters: {
        type: 'object',
        properties: { task: { type: 'string', description: 'What to do, with all that is needed to do it.' } },
        required: ['task'],
      },
    },
  }
}
