/**
 * Calls that a model writes as text: what a reply asks for when its endpoint knows no tools. Only what the model itself says is ever read
 * here; a tool's result never is. Pure, total, and linear in the length of the reply.
 */
import { isObject, isTooDeep, type Json } from '../../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../../bus/wire/limits.ts'
import type { ToolCall } from '../effects/chat.ts'

export type TextReply =
  | { readonly kind: 'answer' }
  /** `said` is what stands before the calls. What stands after them the model said without knowing their results: it is left out. */
  | { readonly kind: 'calls'; readonly said: string; readonly calls: readonly ToolCall[] }
  /** Meant as a call, and not one: nothing of it may be carried out. */
  | { readonly kind: 'unreadable'; readonly why: string }

/** The text form has no ids. */
type Asked = Pick<ToolCall, 'name' | 'arguments'>

/** An object of the reply; without a value if it is no JSON. */
interface Block {
  readonly from: number
  readonly to: number
  readonly value?: Json
  readonly mistake?: string
}

/** Objects that never close are looked into for another one that does; each costs one pass over the rest of the reply. */
const UNCLOSED_MAX = 3
const GLUE_CHARS_MAX = 100
/** Fields that say nothing beyond the call itself. */
const CALL_FIELDS = new Set(['id', 'type', 'name', 'arguments', 'parameters'])
const OBJECT_START = /\{\s*(?:["'}]|tool_calls\b|name\b)/y
/** Between two objects of one list of calls: what a list, a fence or a tag is made of. */
const GLUE = /^(?:[\s,[\]`]|json|<\/?tool_call>)*$/
const LAST_OPENING = /(?:```[\w-]*|<tool_call>|\[)\s*$/
const [QUOTE, BACKSLASH, OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d]

/**
 * Reads a reply in string form: `{"tool_calls":[{"name","arguments"}]}` or one `{"name","arguments"}`, bare or in a fence, prose around it
 * or not. JSON that asks for none of the tools is an answer like any other text.
 *
 * @param offered Names of the tools; with none everything is an answer.
 */
export function readTextReply(reply: string, offered: ReadonlySet<string>): TextReply {
  const text = withoutThoughts(reply)
  if (offered.size === 0 || !(text.includes('tool_calls') || text.includes('name'))) return { kind: 'answer' }
  const calls: Asked[] = []
  let said = ''
  let end = -1
  for (const block of blocksOf(text)) {
    if (end >= 0 && !isGlue(text.slice(end, block.from))) break
    const found = block.mistake === undefined ? callsIn(block.value!, offered) : brokenCall(block, text)
    if (typeof found === 'string') return { kind: 'unreadable', why: found }
    if (found === undefined) {
      if (end >= 0) break
      continue
    }
    if (end < 0) said = text.slice(0, block.from).replace(LAST_OPENING, '').trim()
    for (const call of found) calls.push(call) // a spread of 100,000 is too much for the stack
    end = block.to
  }
  return calls.length === 0 ? { kind: 'answer' } : { kind: 'calls', said, calls: calls.map(named) }
}

/**
 * The calls of a reply that is nothing else: the whole of it, or one fence that is the whole of it, every name offered, all arguments an
 * object. Undefined for anything that could be an answer.
 */
export function readBareCalls(reply: string, offered: ReadonlySet<string>): readonly ToolCall[] | undefined {
  const text = withoutFence(withoutThoughts(reply).trim())
  if (!text.startsWith('{') || !text.endsWith('}')) return undefined
  const value = parse(text)
  const found = value === undefined ? undefined : callsIn(value, offered)
  if (!Array.isArray(found)) return undefined
  return found.every(({ name, arguments: args }) => offered.has(name) && isObject(parse(args))) ? found.map(named) : undefined
}

/** The calls that an object asks for; undefined if it asks for none, a text if it cannot be told which. */
function callsIn(value: Json, offered: ReadonlySet<string>): Asked[] | string | undefined {
  if (!isObject(value)) return undefined
  const list = Object.hasOwn(value, 'tool_calls') ? value.tool_calls : undefined
  if (list === undefined || list === null) {
    const call = callOf(value)
    return call && isMeantAsCall(bodyOf(value), offered) ? [call] : undefined
  }
  if (Array.isArray(list) && list.length === 0) return undefined
  const calls: Asked[] = []
  for (const [k, element] of (Array.isArray(list) ? list : [list as Json]).entries()) {
    const call = isObject(element) ? callOf(element) : undefined
    if (!call) return `element ${k + 1} of "tool_calls" has no "name"`
    calls.push(call)
  }
  return calls
}

function callOf(element: { readonly [key: string]: Json }): Asked | undefined {
  const body = bodyOf(element)
  const name = own(body, 'name')
  if (typeof name !== 'string' || name.trim() === '') return undefined
  const args = own(body, 'arguments') ?? own(body, 'parameters') ?? {}
  return { name, arguments: typeof args === 'string' ? args : JSON.stringify(args) }
}

/** OpenAI's form has the call in `function`, and models repeat it. */
function bodyOf(element: { readonly [key: string]: Json }): { readonly [key: string]: Json } {
  const body = own(element, 'function')
  return isObject(body) ? body : element
}

/** An object with a name may be anything: a person, the description of a tool. */
function isMeantAsCall(body: { readonly [key: string]: Json }, offered: ReadonlySet<string>): boolean {
  const isBare = Object.keys(body).every((field) => CALL_FIELDS.has(field))
  const args = own(body, 'arguments')
  if (offered.has(body.name as string)) return isBare || (args !== undefined && args !== null)
  return isBare && (isObject(args) || typeof args === 'string')
}

/** Why a block that cannot be read was meant as a call; undefined if it was not. */
function brokenCall({ from, to, mistake }: Block, text: string): string | undefined {
  const block = text.slice(from, to)
  const isMeant = hasKey(block, 'tool_calls') || (hasKey(block, 'name') && hasKey(block, 'arguments'))
  return isMeant ? `${mistake}: ${block.slice(0, 200)}` : undefined
}

/** As JSON or as what is mistaken for it. */
function hasKey(text: string, key: string): boolean {
  return new RegExp(`(?:["']${key}["']|[{,]\\s*${key})\\s*:`).test(text)
}

/** The outermost objects of a text, whatever stands between them. */
function* blocksOf(text: string): Generator<Block> {
  let unclosed = 0
  for (let from = text.indexOf('{'); from >= 0; ) {
    OBJECT_START.lastIndex = from
    if (!OBJECT_START.test(text)) {
      from = text.indexOf('{', from + 1)
      continue
    }
    const to = endOf(text, from)
    if (to < 0) {
      yield { from, to: text.length, mistake: 'it is JSON that does not end' }
      if (++unclosed === UNCLOSED_MAX) return
      from = text.indexOf('{', from + 1)
      continue
    }
    yield { from, to, ...read(text.slice(from, to)) }
    from = text.indexOf('{', to)
  }
}

/** Behind the bracket that closes the one at `from`; -1 if none does. */
function endOf(text: string, from: number): number {
  let depth = 0
  let isText = false
  for (let i = from; i < text.length; i++) {
    const char = text.charCodeAt(i)
    if (isText) {
      if (char === BACKSLASH) i++
      else if (char === QUOTE) isText = false
    } else if (char === QUOTE) isText = true
    else if (char === OPEN_OBJECT || char === OPEN_LIST) depth++
    else if ((char === CLOSE_OBJECT || char === CLOSE_LIST) && --depth === 0) return i + 1
  }
  return -1
}

function read(text: string): Pick<Block, 'value' | 'mistake'> {
  if (isTooDeep(text)) return { mistake: `it nests deeper than ${MESSAGE_LIMITS.jsonDepthMax} levels` }
  try {
    return { value: JSON.parse(text) as Json }
  } catch {
    return { mistake: 'it is not valid JSON' } // without the words of the engine: they move with its version
  }
}

function parse(text: string): Json | undefined {
  return read(text).value
}

/** What a reasoning model thinks aloud first: the calls that it considers there are none yet. */
function withoutThoughts(reply: string): string {
  if (!reply.trimStart().startsWith('<think>')) return reply
  const end = reply.indexOf('</think>')
  return end < 0 ? '' : reply.slice(end + '</think>'.length)
}

function withoutFence(text: string): string {
  if (text.length < 6 || !text.startsWith('```') || !text.endsWith('```')) return text
  return text.slice(text.startsWith('```json') ? 7 : 3, -3).trim()
}

/** Ids that depend on the position only. */
function named(call: Asked, k: number): ToolCall {
  return { id: `call_${k}`, ...call }
}

function isGlue(text: string): boolean {
  return text.length <= GLUE_CHARS_MAX && GLUE.test(text)
}

/** Never a field of a prototype. */
function own(value: { readonly [key: string]: Json }, field: string): Json | undefined {
  return Object.hasOwn(value, field) ? value[field] : undefined
}
