/** Answers in the form of OpenAI's chat completions: whole, and in pieces. Pure. */

import type { Usage } from '../../bus/wire/entry.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { Ticket } from '../door.ts'
import { HTTP_LIMITS } from '../limits.ts'

/** What all parts of one answer say. */
export interface AnswerHead {
  readonly id: string
  /** Epoch seconds. */
  readonly created: number
  /** As the caller called it, else the agent's name. */
  readonly model: string
}

export function headOf({ task, agent }: Ticket, model: string | undefined, atMs: number): AnswerHead {
  return { id: `chatcmpl-${task}`, created: Math.floor(atMs / 1_000), model: model ?? agent }
}

/** What a task gave, as text; a machine of the user's own may give any JSON. The same as at the other doors. */
export function outputText(output: Json): string {
  return typeof output === 'string' ? output : JSON.stringify(output, null, 2)
}

export function completion(head: AnswerHead, text: string, usage: Usage) {
  return {
    id: head.id,
    object: 'chat.completion',
    created: head.created,
    model: head.model,
    choices: [{ index: 0, message: { role: 'assistant', content: text, refusal: null }, logprobs: null, finish_reason: 'stop' }],
    usage: usageOf(usage),
  }
}

export interface ChunkParts {
  readonly delta: { readonly role?: 'assistant'; readonly content?: string }
  readonly finishReason?: 'stop'
  /** What happens meanwhile; clients that do not know the field pass over it. */
  readonly kaos?: object
}

/** The chunks of one stream. With `includesUsage` each says that it has none, and one more at the end has it, as OpenAI defines it. */
export function chunksOf(head: AnswerHead, { includesUsage }: { readonly includesUsage: boolean }) {
  const base = { id: head.id, object: 'chat.completion.chunk', created: head.created, model: head.model }
  return {
    part: ({ delta, finishReason, kaos }: ChunkParts) => ({
      ...base,
      choices: [{ index: 0, delta, logprobs: null, finish_reason: finishReason ?? null }],
      ...(includesUsage && { usage: null }),
      ...(kaos && { kaos }),
    }),
    usage: (usage: Usage) => ({ ...base, choices: [], usage: usageOf(usage) }),
  }
}

/** Of the whole tree of a task: models of all agents that took part. */
function usageOf({ inputTokens, outputTokens }: Usage) {
  return { prompt_tokens: inputTokens, completion_tokens: outputTokens, total_tokens: inputTokens + outputTokens }
}

/** A text in pieces of at most `deltaCharsMax` characters, none of which ends within a character. */
export function* piecesOf(text: string): Generator<string> {
  for (let from = 0; from < text.length; ) {
    const end = wholeEnd(text, Math.min(text.length, from + HTTP_LIMITS.deltaCharsMax))
    yield text.slice(from, end)
    from = end
  }
}

/** The end, or one before it where it would part a surrogate pair: clients exist that do not put the halves together again. */
export function wholeEnd(text: string, end: number): number {
  return end > 1 && /[\ud800-\udbff]/.test(text[end - 1]!) && end < text.length ? end - 1 : end
}
