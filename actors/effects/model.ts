/** The effect `model`: one call to an OpenAI-compatible endpoint, in this host. */
import type { Clock } from '../../bus/contracts.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { spanIdOf } from '../../bus/wire/ids.ts'
import type { Json } from '../../bus/wire/json.ts'
import { formatTraceparent } from '../../bus/wire/trace.ts'
import { MODEL_TIMEOUT_SECONDS } from '../agent/definition.ts'
import type { ModelInput, ModelValue } from '../agent/machine.ts'
import type { LocalEffect } from './effect.ts'
import type { ModelClient } from './endpoint.ts'

/** Where an agent's model is. The key is a function, so that nothing that is printed holds it. */
export interface ModelPlace {
  readonly url: string
  /** The model's name as this endpoint knows it; absent: as the agent declares it. */
  readonly model?: string
  readonly apiKey?: (() => string | undefined) | undefined
}

/** Longer ids of an answer are cut: they stand in the journal. */
const RESPONSE_ID_CHARS_MAX = 128

/** Text goes to people who watch in pieces of about this age, not token by token. */
const TELL_EVERY_MS = 50

export function modelEffect(client: ModelClient, place: ModelPlace, clock: Clock): LocalEffect {
  const address = addressOf(place.url)
  return {
    kind: 'local',
    ...(address && { address }),
    async run({ id, input, trace, signal, tell }) {
      const { request, timeoutSeconds = MODEL_TIMEOUT_SECONDS, deadlineAt } = input as unknown as ModelInput
      const leftMs = deadlineAt === undefined ? Number.POSITIVE_INFINITY : deadlineAt - clock.now()
      if (leftMs <= 0) throw new KaosError('time_limit', `the task's time ended at ${new Date(deadlineAt!).toISOString()}`)
      let text = ''
      let toldAt = 0
      const answer = await client.complete({
        url: place.url,
        ...(place.apiKey && { apiKey: place.apiKey }),
        body: place.model === undefined ? request : { ...request, model: place.model },
        idempotencyKey: id,
        traceparent: formatTraceparent(trace.traceId, spanIdOf(trace.traceId, id), trace.flags),
        ...(trace.tracestate && { tracestate: trace.tracestate }),
        ...(trace.baggage && { baggage: trace.baggage }),
        timeoutMs: Math.min(timeoutSeconds * 1_000, leftMs),
        signal,
        onText(delta) {
          text += delta
          const now = clock.now()
          if (now - toldAt < TELL_EVERY_MS) return
          toldAt = now
          tell({ kind: 'text', text })
          text = ''
        },
      })
      const value: ModelValue = {
        text: answer.text,
        toolCalls: answer.toolCalls,
        finishReason: answer.finishReason,
        model: answer.model,
      }
      return {
        value: value as unknown as Json,
        usage: { ...answer.usage, modelCalls: 1, toolCalls: 0 },
        attempts: answer.attempts,
        seen: {
          ...(answer.id && { responseId: answer.id.slice(0, RESPONSE_ID_CHARS_MAX) }),
          firstChunkMs: Math.round(answer.firstTokenMs),
        },
      }
    },
  }
}

/** "host:port", the port also where the URL leaves it out; undefined for what is no URL. */
function addressOf(text: string): string | undefined {
  const url = URL.parse(text)
  if (!url || url.hostname === '') return undefined
  return `${url.hostname}:${url.port || (url.protocol === 'https:' ? 443 : 80)}`
}
