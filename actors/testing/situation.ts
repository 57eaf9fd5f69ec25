/**
 * What a chat request is about, as far as the offline model looks: whose it is, what was asked, what has come back since. Tools and results
 * are found wherever they stand, in the fields of the protocol or in the texts.
 */

import { isObject, type Json } from '../../bus/wire/json.ts'
import { RESULTS_HEAD, TOOLS_HEAD, UNREADABLE_HEAD } from '../agent/text-form.ts'

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
  /** The last user message that does not answer the model. */
  readonly input: string
  /** Answers of the model since then. */
  readonly turn: number
  /** Tool results since then, by the name of the tool. */
  readonly results: readonly { readonly name: string; readonly text: string }[]
  readonly tools: readonly OfflineTool[]
  /** Tools are offered in the system message: calls are to be JSON in the text. */
  readonly callsAreText: boolean
}

interface Message {
  readonly [key: string]: Json
}

export function situationOf(request: OfflineRequest): Situation {
  const messages = Array.isArray(request.messages) ? request.messages.filter(isObject) : []
  const lastUser = messages.findLastIndex((message, at) => message.role === 'user' && !answersModel(messages, at))
  const since = messages.slice(lastUser + 1)
  const system = messages.find((message) => message.role === 'system' || message.role === 'developer')
  const described = request.tools === undefined ? describedTools(textOf(system?.content)) : undefined
  return {
    agent: /^You are ([a-z0-9][-a-z0-9]*)\./.exec(textOf(system?.content))?.[1] ?? '',
    input: textOf(messages[lastUser]?.content),
    turn: since.filter((message) => message.role === 'assistant').length,
    results: since.flatMap((message) => resultsIn(message, since)),
    tools: described ?? (request.tool_choice === 'none' ? [] : toolsOf(request.tools)),
    callsAreText: described !== undefined,
  }
}

/** A result that is a JSON object with one plain field reads as that field's value: {"result":420} is 420. */
export function plainText(text: string): string {
  const value = parsed(text)
  const fields = isObject(value) ? Object.values(value) : []
  return fields.length === 1 && typeof fields[0] !== 'object' ? String(fields[0]) : text
}

/** A user message that holds results or a complaint, and no task. */
function answersModel(messages: readonly Message[], at: number): boolean {
  const text = textOf(messages[at]!.content)
  return messages[at - 1]?.role === 'assistant' && (text.startsWith(RESULTS_HEAD) || text.startsWith(UNREADABLE_HEAD))
}

function resultsIn(message: Message, since: readonly Message[]): Situation['results'] {
  const text = textOf(message.content)
  if (message.role === 'tool') return [{ name: nameOf(since, message.tool_call_id), text }]
  if (message.role !== 'user' || !text.startsWith(RESULTS_HEAD)) return []
  const value = parsed(text.slice(RESULTS_HEAD.length))
  const results = isObject(value) && Array.isArray(value.tool_results) ? value.tool_results.filter(isObject) : []
  return results.map(({ name, result }) => ({ name: String(name), text: String(result) }))
}

/** The lines below the head, up to the first that is no tool. */
function describedTools(system: string): readonly OfflineTool[] | undefined {
  const lines = system.split('\n')
  const head = lines.indexOf(TOOLS_HEAD)
  if (head < 0) return undefined
  const rest = lines.slice(head + 1)
  const end = rest.findIndex((line) => !isObject(parsed(line)))
  return toolsOf(rest.slice(0, end < 0 ? rest.length : end).map((line) => ({ function: parsed(line) })))
}

function toolsOf(tools: unknown): readonly OfflineTool[] {
  return Array.isArray(tools) ? tools.map(toolOf).filter((tool) => tool.name !== '') : []
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return ''
  return content.map((part) => (isObject(part) && typeof part.text === 'string' ? part.text : '')).join('')
}

function nameOf(messages: readonly Message[], id: Json | undefined): string {
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
