/** What was said: the messages of a task, always in native form, and which of them are kept. */
import { isObject, type Json } from '../../bus/wire/json.ts'

export type ChatMessage =
  | { readonly role: 'system' | 'user'; readonly content: string }
  | { readonly role: 'assistant'; readonly content: string | null; readonly tool_calls?: readonly ChatToolCall[] }
  | { readonly role: 'tool'; readonly tool_call_id: string; readonly content: string }

export interface ChatToolCall {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; readonly arguments: string }
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
