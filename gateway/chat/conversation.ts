/** The messages of a request as the text of one task. A single message of the user stays as it is; what was said before stands above it. */
import { z } from 'zod'
import { badRequest } from '../problem.ts'

const part = z.looseObject({ type: z.string(), text: z.string().optional(), refusal: z.string().optional() })
const call = z
  .looseObject({
    function: z.looseObject({ name: z.string(), arguments: z.string() }).optional(),
    custom: z.looseObject({ name: z.string(), input: z.string() }).optional(),
  })
  .refine((given) => given.function ?? given.custom, 'neither a function nor a custom tool is called')
/** One message of a request, as far as it is read. */
export const chatMessage = z.looseObject({
  role: z.string().min(1).max(40),
  content: z.union([z.string(), z.array(part)]).nullish(),
  tool_calls: z.array(call).nullish(),
})

export type ChatMessage = Readonly<z.infer<typeof chatMessage>>

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
  const now = labelOf(last.role) === 'User' ? last.text : `${labelOf(last.role)}: ${last.text}`
  return [...instructions, 'What was said before:', ...before, 'What is said now:', now].join('\n\n')
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
  return [...texts, ...(calls ?? []).map(callText)].join('\n')
}

function callText(call: NonNullable<ChatMessage['tool_calls']>[number]): string {
  const { name, arguments: given } = call.function ?? { name: call.custom?.name, arguments: call.custom?.input }
  return `(calls ${name} with ${given})`
}

function partText(
  { type, text, refusal }: Exclude<ChatMessage['content'], string | null | undefined>[number],
  param: string,
): string {
  const said = type === 'refusal' ? refusal : text
  if ((type === 'text' || type === 'refusal') && said !== undefined) return said
  throw badRequest(`a part of type "${type.slice(0, 40)}" cannot be read: agents take text`, param)
}
