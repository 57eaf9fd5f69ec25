/** What a chat request is about, as far as the offline model looks: whose it is, what was asked, what has come back since. */
import { isObject, type Json } from '../../bus/wire/json.ts'

/** A chat request as it comes over the wire: known to be an object, nothing more. */
export type OfflineRequest = { readonly [key: string]: unknown }

export interface OfflineTool {
  readonly name: string
  readonly description: string
  readonly parameters: Json
}

/** What a request is about, as far as the offline model looks. */
export interface Situation {
  /** From the system prompt's beginning, "You are <agent>."; empty if it begins otherwise. */
  readonly agent: string
  /** The last user message. */
  readonly input: string
  /** Answers of the model since then. */
  readonly turn: number
  /** Tool results since then, by the name of the tool. */
  readonly results: readonly { readonly name: string; readonly text: string }[]
  readonly tools: readonly OfflineTool[]
}

export function situationOf(request: OfflineRequest): Situation {
  const messages = Array.isArray(request.messages) ? request.messages.filter(isObject) : []
  const lastUser = messages.findLastIndex((message) => message.role === 'user')
  const since = messages.slice(lastUser + 1)
  const system = messages.find((message) => message.role === 'system' || message.role === 'developer')
  return {
    agent: /^You are ([a-z0-9][-a-z0-9]*)\./.exec(textOf(system?.content))?.[1] ?? '',
    input: textOf(messages[lastUser]?.content),
    turn: since.filter((message) => message.role === 'assistant').length,
    results: since
      .filter((message) => message.role === 'tool')
      .map((message) => ({ name: nameOf(since, message.tool_call_id), text: textOf(message.content) })),
    tools:
      request.tool_choice === 'none' || !Array.isArray(request.tools)
        ? []
        : request.tools.map(toolOf).filter((tool) => tool.name !== ''),
  }
}

/** A result that is a JSON object with one plain field reads as that field's value: {"result":420} is 420. */
export function plainText(text: string): string {
  try {
    const value: unknown = JSON.parse(text)
    const fields = isObject(value) ? Object.values(value) : []
    return fields.length === 1 && typeof fields[0] !== 'object' ? String(fields[0]) : text
  } catch {
    return text
  }
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return ''
  return content.map((part) => (isObject(part) && typeof part.text === 'string' ? part.text : '')).join('')
}

function nameOf(messages: readonly { [key: string]: Json }[], id: Json | undefined): string {
  for (const message of messages) {
    for (const call of Array.isArray(message.tool_calls) ? message.tool_calls : []) {
      if (isObject(call) && call.id === id && isObject(call.function)) return String(call.function.name)
    }
  }
  return ''
}

function toolOf(tool: unknown): OfflineTool {
  const body = isObject(tool) && isObject(tool.function) ? tool.function : {}
  const { name, description, parameters } = body
  return {
    name: typeof name === 'string' ? name : '',
    description: typeof description === 'string' ? description : '',
    parameters: parameters ?? {},
  }
}
