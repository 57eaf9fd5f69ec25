/**
 * A model that computes instead of thinking: the same request gets the same answer. It follows a script; where no rule of it matches,
 * `offline-rules.ts` decides. Asked for calls in its text it makes the same calls there. Pure: the HTTP server and tests in process share it.
 */
import { isObject, type Json, sha256 } from '../../bus/wire/json.ts'
import type { ToolCall } from '../effects/chat.ts'
import { type Fault, matches, type Rule, type Script } from './model-script.ts'
import { replyByRules } from './offline-rules.ts'
import { type OfflineRequest, plainText, type Situation, situationOf } from './situation.ts'

export interface OfflineReply {
  /** The same request asked again gets the same ids; two steps of one task get different ones. */
  readonly id: string
  readonly text: string
  readonly toolCalls: readonly ToolCall[]
  readonly finishReason: string
  readonly usage: { readonly inputTokens: number; readonly outputTokens: number }
  readonly delayMs?: number
  readonly chunkMs?: number
  /** Instead of all the above. */
  readonly fault?: Fault
  /** The rule of the script that answered; undefined if none matched. */
  readonly rule?: number
}

const CHARS_PER_TOKEN = 4

/** `used` says how often each rule of the script has answered before; who keeps it counts `reply.rule` up. */
export function offlineAnswer(
  request: OfflineRequest,
  script: Script = { rules: [] },
  used: ReadonlyMap<number, number> = new Map(),
): OfflineReply {
  const situation = situationOf(request)
  const prompt = JSON.stringify([request.messages, request.tools ?? null])
  const id = sha256(prompt).slice(0, 12)
  const index = script.rules.findIndex(
    (rule, at) => (used.get(at) ?? 0) < (rule.times ?? Number.POSITIVE_INFINITY) && isFor(rule, situation),
  )
  const rule = script.rules[index]
  const { text, calls } = inForm(situation, rule ? written(rule, situation) : replyByRules(situation))
  const toolCalls = calls.map((call, position) => ({
    id: `call_${id}_${position}`,
    name: call.name,
    arguments: typeof call.arguments === 'string' ? call.arguments : JSON.stringify(call.arguments),
  }))
  const said = text.length + toolCalls.reduce((sum, call) => sum + call.name.length + call.arguments.length, 0)
  return {
    id: `chatcmpl-${id}`,
    text,
    toolCalls,
    finishReason: rule?.reply.finish ?? (toolCalls.length > 0 ? 'tool_calls' : 'stop'),
    usage: rule?.reply.usage ?? {
      inputTokens: Math.ceil(prompt.length / CHARS_PER_TOKEN),
      outputTokens: Math.ceil(said / CHARS_PER_TOKEN) || 1,
    },
    ...(rule && { rule: index }),
    ...pick(rule, used.get(index) ?? 0),
  }
}

interface Said {
  readonly text: string
  readonly calls: readonly { readonly name: string; readonly arguments: Json }[]
}

function inForm({ callsAreText }: Situation, said: Said): Said {
  if (!callsAreText || said.calls.length === 0) return said
  const json = JSON.stringify({ tool_calls: said.calls })
  return { text: said.text === '' ? json : `${said.text}\n${json}`, calls: [] }
}

function isFor(rule: Rule, situation: Situation): boolean {
  const { agent, turn, text, results } = rule.when ?? {}
  return (
    (agent === undefined || agent === situation.agent) &&
    (turn === undefined || turn === situation.turn) &&
    (text === undefined || matches(text, situation.input)) &&
    (results === undefined || matches(results, situation.results.map((result) => result.text).join('\n')))
  )
}

function written(rule: Rule, situation: Situation) {
  return {
    text: filled(rule.reply.text ?? '', situation),
    calls: (rule.reply.calls ?? []).map((call) => ({ name: call.name, arguments: filledIn(call.arguments ?? {}, situation) })),
  }
}

/** Pace and fault of a rule that answered `uses` times before. */
function pick(rule: Rule | undefined, uses: number): Pick<OfflineReply, 'delayMs' | 'chunkMs' | 'fault'> {
  const { delayMs, chunkMs, fault } = rule?.reply ?? {}
  return {
    ...(delayMs !== undefined && { delayMs }),
    ...(chunkMs !== undefined && { chunkMs }),
    ...(fault && uses < (fault.times ?? Number.POSITIVE_INFINITY) && { fault }),
  }
}

/** Puts in `{{input}}`, `{{results}}`, `{{result.NAME}}` for all results of that tool, and `{{result.NAME:2}}` for its second. */
function filled(template: string, situation: Situation): string {
  const wanted = /\{\{\s*(?:(input|results)|result\.([\w.-]+)(?::(\d+))?)\s*\}\}/g
  return template.replace(wanted, (_, what: string | undefined, name: string | undefined, nth: string | undefined) => {
    if (what === 'input') return situation.input
    const all = situation.results.filter((result) => name === undefined || result.name === name)
    const found = nth === undefined ? all : all.slice(Number(nth) - 1, Number(nth))
    return found.length > 0 ? found.map((result) => plainText(result.text)).join('\n') : `(no result${name ? ` of ${name}` : ''})`
  })
}

function filledIn(value: Json, situation: Situation): Json {
  if (typeof value === 'string') return filled(value, situation)
  if (Array.isArray(value)) return value.map((item) => filledIn(item, situation))
  if (!isObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, filledIn(field, situation)]))
}
