/** An answer of the offline model as the bytes that OpenAI's protocol wants, whole or in the events of a stream. */
import { isObject, type JsonObject } from '../../bus/wire/json.ts'
import type { OfflineReply } from './offline-model.ts'

const WORDS_PER_PIECE = 6

/** One JSON document. */
export function answerText(body: JsonObject, reply: OfflineReply): string {
  const message = {
    role: 'assistant',
    content: reply.text === '' && reply.toolCalls.length > 0 ? null : reply.text,
    ...(reply.toolCalls.length > 0 && {
      tool_calls: reply.toolCalls.map((call) => ({ id: call.id, type: 'function', function: functionOf(call) })),
    }),
  }
  return JSON.stringify({
    ...frame(body, reply, 'chat.completion'),
    choices: [{ index: 0, message, finish_reason: reply.finishReason, logprobs: null }],
    usage: usageOf(reply),
  })
}

/** The events of a stream up to its finish, each as text. Joined, their deltas are the answer. */
export function pieces(body: JsonObject, reply: OfflineReply): string[] {
  const deltas: object[] = [{ role: 'assistant', content: '' }]
  for (const words of reply.text.match(new RegExp(`\\s*(?:\\S+\\s*){1,${WORDS_PER_PIECE}}|\\s+`, 'g')) ?? [])
    deltas.push({ content: words })
  for (const [index, call] of reply.toolCalls.entries()) {
    const middle = call.arguments.length >> 1
    deltas.push({
      tool_calls: [
        { index, id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments.slice(0, middle) } },
      ],
    })
    deltas.push({ tool_calls: [{ index, function: { arguments: call.arguments.slice(middle) } }] })
  }
  return deltas.map((delta) => eventOf(body, reply, [{ index: 0, delta, finish_reason: null }]))
}

/** The end of a stream: finish reason, usage if it was asked for, [DONE]. */
export function doneText(body: JsonObject, reply: OfflineReply): string {
  const wantsUsage = isObject(body.stream_options) && body.stream_options.include_usage === true
  const finish = eventOf(body, reply, [{ index: 0, delta: {}, finish_reason: reply.finishReason }])
  return `${finish}${wantsUsage ? eventOf(body, reply, [], usageOf(reply)) : ''}data: [DONE]\n\n`
}

/** What has been sent when the connection breaks: something, but no finish. */
export function firstHalf(body: JsonObject, reply: OfflineReply): string {
  const whole = { ...reply, text: reply.text || 'This answer will not be' }
  if (body.stream !== true) return answerText(body, whole).slice(0, -20)
  const all = pieces(body, whole)
  return all.slice(0, Math.max(2, all.length >> 1)).join('')
}

function eventOf(body: JsonObject, reply: OfflineReply, choices: readonly object[], usage?: object): string {
  return `data: ${JSON.stringify({ ...frame(body, reply, 'chat.completion.chunk'), choices, ...(usage && { usage }) })}\n\n`
}

function frame(body: JsonObject, reply: OfflineReply, object: string) {
  return {
    id: reply.id,
    object,
    created: Math.floor(Date.now() / 1000),
    model: typeof body.model === 'string' ? body.model : 'offline',
  }
}

function functionOf(call: { readonly name: string; readonly arguments: string }) {
  return { name: call.name, arguments: call.arguments }
}

function usageOf({ usage }: OfflineReply) {
  return {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
  }
}
