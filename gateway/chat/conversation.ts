/** The messages of a request as the text of one task. A single message of the user stays as it is; what was said before stands above it. */
import { badRequest } from '../problem.ts'
import type { ChatMessage } from './request.ts'

/** Throws `bad_message` when the messages hold no text, or something that is no text. */
export function taskText(messages: readonly ChatMessage[]): string {
  const said = messages
    .map((message, i) => ({ role: message.role, text: textOf(message, i) }))
    .filter(({ text }) => text.trim() !== '')
  const instructions = said.filter(({ role }) => isInstruction(role)).map(({ text }) => text)
  const rest = said.filter(({ role }) => !isInstruction(role))
  const last = rest.at(-1)
  if (!last) throw badRequest('the messages hold no text of a user', 'messages')

  const before = rest.slice(0, -1).map(({ role, text }) => `${labelOf(role)}: ${text}`)
  if (before.length === 0) return [...instructions, last.text].join('\n\n')
  return [...instructions, 'What was said before:', ...before, 'What is said now:', last.text].join('\n\n')
}

function isInstruction(role: string): boolean {
  return role === 'system' || role === 'developer'
}

function labelOf(role: string): string {
  if (role === 'assistant') return 'Assistant'
  return role === 'tool' || role === 'function' ? 'Tool' : 'User'
}

function textOf({ content, tool_calls: calls }: ChatMessage, position: number): string {
  const texts =
    typeof content === 'string'
      ? [content]
      : (content ?? []).map((part, i) => partText(part, `messages[${position}].content[${i}]`))
  const called = (calls ?? []).map(({ function: { name, arguments: args } }) => `(calls ${name} with ${args})`)
  return [...texts, ...called].join('\n')
}

function partText(
  { type, text, refusal }: Exclude<ChatMessage['content'], string | null | undefined>[number],
  param: string,
): string {
  const said = type === 'refusal' ? refusal : text
  if ((type === 'text' || type === 'refusal') && said !== undefined) return said
  throw badRequest(`a part of type "${type.slice(0, 40)}" cannot be read: agents take text`, param)
}
