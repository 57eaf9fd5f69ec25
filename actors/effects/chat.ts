/**
 * The OpenAI chat completions protocol as far as agents use it: the request, the answer, and how the pieces of a streamed answer become
 * one. Nothing here does I/O; `endpoint.ts` asks and waits.
 */
import { createParser } from 'eventsource-parser'
import type { ChatCompletionCreateParamsBase } from 'openai/resources/chat/completions'
import type { ErrorCode } from '../../bus/wire/error-codes.ts'
import { isObject, type Json } from '../../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../../bus/wire/limits.ts'

/** What is asked of a model; streaming belongs to the endpoint. */
export type ChatRequest = Omit<ChatCompletionCreateParamsBase, 'stream' | 'stream_options'>

export interface ToolCall {
  readonly id: string
  readonly name: string
  /** JSON text as the model wrote it: it may be broken, which the agent tells the model. */
  readonly arguments: string
}

export interface ChatAnswer {
  readonly text: string
  readonly toolCalls: readonly ToolCall[]
  readonly finishReason: string
  /** Zeros if the server sends none. */
  readonly usage: { readonly inputTokens: number; readonly outputTokens: number }
  /** The model and the answer's id in the server's words; empty if it sends none. */
  readonly model: string
  readonly id: string
}

/** Why one attempt gave no answer. `again` says whether another one may; `afterMs` is the wait that the server asked for. */
export class AttemptFailed extends Error {
  readonly code: ErrorCode
  readonly again: boolean
  readonly status: number | undefined
  readonly afterMs: number | undefined

  constructor(
    code: ErrorCode,
    message: string,
    options: { again?: boolean; status?: number; afterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AttemptFailed'
    this.code = code
    this.again = options.again ?? false
    this.status = options.status
    this.afterMs = options.afterMs
  }
}

/** Of text and tool calls; the events around them take twenty times as much where every token is an event. */
export const ANSWER_BYTES_MAX = MESSAGE_LIMITS.bodyBytesMax
/** Far above what a model writes in one reply; the agent's own fan-out limit is lower. */
export const TOOL_CALLS_MAX = 128
const QUOTE_CHARS_MAX = 200

interface Slot {
  readonly index: number
  id: string
  name: string
  arguments: string
}
type Fields = { readonly [key: string]: Json }

/**
 * Folds a body, fed in any pieces, into an answer: an event stream, or one JSON document from a server that does not stream. `feed` and
 * `finish` throw AttemptFailed. Fields are checked by hand where they are read: a schema over every chunk costs more than all the rest.
 */
export class AnswerFold {
  /** The stream said [DONE]: nothing more is to come. */
  isDone = false
  /** A piece of text or of a tool call has arrived. */
  hasBegun = false

  readonly #onText: ((delta: string) => void) | undefined
  readonly #parser = createParser({
    onEvent: (event) => this.#take(event.data, event.event),
    onError: (error) => {
      if (error.type === 'max-buffer-size-exceeded') throw tooLarge()
    },
    maxBufferSize: ANSWER_BYTES_MAX,
  })
  readonly #calls: Slot[] = []
  #form: 'unknown' | 'events' | 'document' = 'unknown'
  #head = ''
  #document = ''
  #events = 0
  #bytes = 0
  #text = ''
  #refusal = ''
  #finishReason = ''
  #usage: Json | undefined
  #model = ''
  #id = ''

  constructor(onText?: (delta: string) => void) {
    this.#onText = onText
  }

  feed(piece: string): void {
    if (this.#form === 'events') this.#parser.feed(piece)
    else if (this.#form === 'document') this.#document += this.#counted(piece)
    else this.#begin(this.#counted(piece))
  }

  /** The stream's answer is whole, whatever becomes of the rest of the body. */
  get isComplete(): boolean {
    return this.isDone || this.#finishReason !== ''
  }

  /** The answer; called when the body has ended or said [DONE]. */
  finish(): ChatAnswer {
    if (this.#form === 'document') this.#readDocument()
    else if (this.#events === 0 && this.#head.trim() !== '')
      throw bad(`it is neither an event stream nor JSON: ${quote(this.#head)}`)
    else if (!this.isComplete) throw closedHalfWay()

    const text = this.#text === '' ? this.#refusal : this.#text
    const toolCalls = nameCalls(this.#calls)
    const finishReason = this.#finishReason || (toolCalls.length > 0 ? 'tool_calls' : 'stop')
    if (text === '' && toolCalls.length === 0) throw bad(`it is empty (finish_reason "${finishReason}")`)
    return { text, toolCalls, finishReason, usage: usageOf(this.#usage), model: this.#model, id: this.#id }
  }

  /** The first character that is not blank tells the form: no line of an event stream starts with a brace. Content types lie. */
  #begin(piece: string): void {
    // Blanks before it mean nothing. Kept and looked through again with every piece, a few megabytes of them hold up the whole host.
    const start = piece.trimStart()
    if (start === '') return
    this.#form = start.startsWith('{') ? 'document' : 'events'
    if (this.#form === 'document') this.#document = start
    else this.#parser.feed(start)
    this.#head = start.slice(0, QUOTE_CHARS_MAX)
  }

  #readDocument(): void {
    this.#bytes = 0 // counted as it came in; from here on the answer in it counts
    this.#take(this.#document)
  }

  #take(data: string, event?: string): void {
    this.#events++
    if (data === '[DONE]') this.isDone = true
    if (this.isDone) return
    const body = parse(data)
    if (body.error) throw serverError(body.error)
    if (event === 'error') throw serverError(body)
    if (typeof body.id === 'string') this.#id ||= body.id
    if (typeof body.model === 'string') this.#model ||= body.model
    if (body.usage) this.#usage = body.usage
    const choice = Array.isArray(body.choices) ? body.choices[0] : undefined
    if (!isObject(choice)) return
    if (isObject(choice.delta)) this.#add(choice.delta, true)
    else if (isObject(choice.message)) this.#add(choice.message, false)
    if (typeof choice.finish_reason === 'string') this.#finishReason = choice.finish_reason
  }

  #add(message: Fields, isDelta: boolean): void {
    const { content, refusal, tool_calls: calls } = message
    if (typeof content === 'string' && content !== '') {
      this.hasBegun = true
      this.#text += this.#counted(content)
      this.#onText?.(content)
    } else if (content !== undefined && content !== null && content !== '') {
      throw bad(`its content is not a string: ${quote(content)}`)
    }
    if (typeof refusal === 'string') this.#refusal += this.#counted(refusal)
    if (calls === undefined || calls === null) return
    if (!Array.isArray(calls)) throw bad(`its tool_calls are not a list: ${quote(calls)}`)
    for (const [position, call] of calls.entries()) {
      if (!isObject(call)) throw bad(`its tool_calls hold ${quote(call)}`)
      this.#addCall(call, isDelta ? call.index : position)
    }
  }

  #addCall(call: Fields, index: Json | undefined): void {
    const body = isObject(call.function) ? call.function : {}
    const id = typeof call.id === 'string' ? call.id : ''
    const name = typeof body.name === 'string' ? body.name : ''
    let slot = typeof index === 'number' ? this.#calls.find((known) => known.index === index) : this.#calls.at(-1)
    if (!slot || beginsAnother(slot, id, name, typeof index === 'number')) {
      if (this.#calls.length === TOOL_CALLS_MAX) throw bad(`it has more than ${TOOL_CALLS_MAX} tool calls`)
      slot = { index: slot || typeof index !== 'number' ? this.#calls.length : index, id, name, arguments: '' }
      this.#calls.push(slot)
    }
    this.hasBegun = true
    slot.id ||= id
    slot.name ||= name
    if (typeof body.arguments === 'string') slot.arguments += this.#counted(body.arguments)
    else if (isObject(body.arguments)) slot.arguments += this.#counted(JSON.stringify(body.arguments))
  }

  #counted(piece: string): string {
    this.#bytes += Buffer.byteLength(piece)
    if (this.#bytes > ANSWER_BYTES_MAX) throw tooLarge()
    return piece
  }
}

/** A body or a connection that ended before the answer did: another attempt may get it whole. */
export function closedHalfWay(cause?: unknown): AttemptFailed {
  return new AttemptFailed('model_bad_answer', 'the answer was cut off half-way', { again: true, cause })
}

/** Statuses after which the same request may succeed. */
export function isWorthRepeating(status: number): boolean {
  return status === 408 || status === 409 || status === 429 || status >= 500
}

/** Statuses with which servers were seen to refuse tools; 500 is llama.cpp's. */
const REFUSAL_STATUSES = new Set([400, 404, 405, 422, 500, 501])
/** In their words: Ollama, Bedrock and xAI; OpenAI, Groq, Gemini and DeepInfra; vLLM; llama.cpp; Azure; OpenRouter; LiteLLM; FastAPI. */
const REFUSALS = [
  /\b(?:does not|doesn't) support (?:tools?|function[ _-]call(?:s|ing)?)\b/i,
  /\b(?:tools?(?:[ _-](?:use|calls?|calling))?|function[ _-]call(?:s|ing)?)[`'"]? (?:is|are) not (?:supported|enabled)\b/i,
  /--enable-auto-tool-choice|--tool-call-parser/,
  /\btools param requires --jinja\b/,
  /\b(?:unrecognized|unknown|unsupported)\b[\w ]{0,80}:\s*[`'"]?tools\b(?![`'"]?(?:\[|\.\w))/i,
  /\bno endpoints found that support tool use\b/i,
  /\bdoes not support parameters:\s*[[{]\s*['"]tools['"]/i,
  /\["body",\s*"tools"\]/,
] as const

/** Whether a server says that it, or this model, takes no tools. To be asked of a request that offered some. */
export function refusesTools({ code, status, message }: AttemptFailed): boolean {
  if (code !== 'model_failed' || (status !== undefined && !REFUSAL_STATUSES.has(status))) return false
  return REFUSALS.some((words) => words.test(message))
}

/** The human part of an error body: OpenAI's `error.message`, and what Ollama, FastAPI and proxies say instead. */
export function wordsOf(body: Json | undefined): string {
  const error = isObject(body) ? (body.error ?? body) : body
  const words = isObject(error) ? (error.message ?? error.detail ?? error) : error
  return typeof words === 'string' ? words : (JSON.stringify(words) ?? '')
}

/**
 * Servers exist that give every call of a stream the index 0, or none at all: then a second name begins another call. Others send a new
 * id with every piece of one call, but never its name again.
 */
function beginsAnother(slot: Slot, id: string, name: string, hasIndex: boolean): boolean {
  if (name === '' || slot.name === '') return false
  return hasIndex ? id !== '' && slot.id !== '' && id !== slot.id : id === '' || id !== slot.id
}

/** Ids must be there and differ, since results are matched by them; the made-up ones depend on the position only. */
function nameCalls(slots: readonly Slot[]): ToolCall[] {
  const taken = new Set<string>()
  return slots
    .toSorted((a, b) => a.index - b.index)
    .map((slot, position) => {
      if (slot.name === '') throw bad(`its tool call ${position} has no name`)
      let id = slot.id || `call_${position}`
      if (taken.has(id)) id = `${id}_${position}`
      taken.add(id)
      return { id, name: slot.name, arguments: slot.arguments === '' ? '{}' : slot.arguments }
    })
}

function usageOf(usage: Json | undefined): ChatAnswer['usage'] {
  if (!isObject(usage)) return { inputTokens: 0, outputTokens: 0 }
  return { inputTokens: countOf(usage.prompt_tokens), outputTokens: countOf(usage.completion_tokens) }
}

function countOf(value: Json | undefined): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0
}

function parse(data: string): Fields {
  let value: unknown
  try {
    value = JSON.parse(data)
  } catch (cause) {
    throw bad(`it is not JSON: ${quote(data)}`, cause)
  }
  if (!isObject(value)) throw bad(`it is not a JSON object: ${quote(data)}`)
  return value
}

/** An error that a server reports inside a successful response. Its code is a status in some servers, a word in others. */
function serverError(error: Json): AttemptFailed {
  const code = isObject(error) ? Number(error.code ?? error.status) : Number.NaN
  const type = isObject(error) && typeof error.type === 'string' ? error.type : ''
  const again = Number.isInteger(code) ? isWorthRepeating(code) : /server_error|overloaded|rate_limit/.test(type)
  return new AttemptFailed('model_failed', `the server reported an error: ${wordsOf(error)}`, {
    again,
    ...(code >= 400 ? { status: code } : {}),
  })
}

export function tooLarge(): AttemptFailed {
  return new AttemptFailed('payload_too_large', `the answer is larger than ${ANSWER_BYTES_MAX} bytes`)
}

function bad(why: string, cause?: unknown): AttemptFailed {
  return new AttemptFailed('model_bad_answer', `the answer cannot be used, ${why}`, { cause })
}

function quote(value: Json): string {
  const text = typeof value === 'string' ? JSON.stringify(value.slice(0, QUOTE_CHARS_MAX)) : JSON.stringify(value)
  return text.length > QUOTE_CHARS_MAX ? `${text.slice(0, QUOTE_CHARS_MAX)}…` : text
}
