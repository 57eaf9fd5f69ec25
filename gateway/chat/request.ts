/** A chat completion request as it came: its bytes within bounds, its fields checked. What agents have of their own is passed over, as in KAOS. */
import type { IncomingMessage } from 'node:http'
import { z } from 'zod'
import { KaosError } from '../../bus/wire/errors.ts'
import { isTooDeep } from '../../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../../bus/wire/limits.ts'
import type { Carrier } from '../door.ts'
import { HTTP_LIMITS } from '../limits.ts'
import { badRequest, HttpProblem } from '../problem.ts'
import { chatMessage, taskText } from './conversation.ts'
import type { Place } from './room.ts'

const name = z.string().min(1).max(HTTP_LIMITS.nameCharsMax)
/** Fields that are not here say how a model is asked, which is the agent's affair. */
const shape = z.looseObject({
  messages: z.array(chatMessage).min(1).max(HTTP_LIMITS.messagesMax),
  model: name.nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  n: z.literal(1, 'an agent gives one answer').nullish(),
  session_id: name.nullish(),
})

export interface ChatRequest {
  /** The messages as the text of one task; handed out once, so that nobody keeps it for as long as the task takes. */
  readonly takeText: () => string
  readonly model: string | undefined
  readonly isStreamed: boolean
  readonly includesUsage: boolean
  readonly session: string | undefined
  /** The Idempotency-Key. */
  readonly id: string | undefined
  readonly carrier: Carrier
}

/**
 * Throws HttpProblem, `payload_too_large` or `queue_full`.
 *
 * @param header Of the request, by its name in lower case.
 */
export async function readChatRequest(
  incoming: IncomingMessage,
  header: (name: string) => string | undefined,
  place: Pick<Place, 'grow'>,
): Promise<ChatRequest> {
  checkSender(header)
  const id = visibleHeader(header, 'idempotency-key')
  const sessionHeader = visibleHeader(header, 'x-session-id')
  const { messages, model, stream, stream_options: options, session_id: session } = parse(await readBody(incoming, place))
  let text = taskText(messages)
  return {
    takeText() {
      const taken = text
      text = ''
      return taken
    },
    model: model ?? undefined,
    isStreamed: stream ?? false,
    includesUsage: options?.include_usage ?? false,
    session: sessionHeader ?? session ?? undefined,
    id,
    carrier: { traceparent: header('traceparent'), tracestate: header('tracestate'), baggage: header('baggage') },
  }
}

/**
 * A page of another site may send anything but JSON to any address without asking first, and would start work here. What is no browser names
 * no origin; what a browser may send as JSON it has asked for.
 */
function checkSender(header: (name: string) => string | undefined): void {
  const encoding = header('content-encoding')
  if (encoding !== undefined && encoding !== 'identity')
    throw new HttpProblem(415, 'bad_message', 'a body is read as it is: without a content encoding', {
      headers: { 'accept-encoding': 'identity' },
    })
  const isJson = /^application\/json\s*(;|$)/i.test(header('content-type') ?? '')
  if (header('origin') === undefined || isJson) return
  throw new HttpProblem(415, 'bad_message', 'a browser has to send the content type application/json')
}

function visibleHeader(header: (name: string) => string | undefined, name: string): string | undefined {
  const value = header(name)
  if (value === undefined || /^[\x21-\x7e]{1,256}$/.test(value)) return value
  throw badRequest(`the header ${name} takes 1 to ${HTTP_LIMITS.nameCharsMax} visible ASCII characters`, name)
}

async function readBody(incoming: IncomingMessage, place: Pick<Place, 'grow'>): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  const tooLarge = () => new KaosError('payload_too_large', `the body of a request may have ${HTTP_LIMITS.bodyBytesMax} bytes`)
  if (Number(incoming.headers['content-length'] ?? 0) > HTTP_LIMITS.bodyBytesMax) throw tooLarge()
  // Not destroyed when it is left early: the caller is told why.
  const pieces = incoming.iterator({ destroyOnReturn: false })
  for (;;) {
    const { done, value } = await pieces.next().catch(() => {
      throw badRequest('the body ended early')
    })
    if (done) break
    bytes += (value as Buffer).length
    if (bytes > HTTP_LIMITS.bodyBytesMax) throw tooLarge()
    place.grow(bytes)
    chunks.push(value as Buffer)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
  } catch {
    throw badRequest('the body is not UTF-8')
  }
}

function parse(text: string): z.infer<typeof shape> {
  if (isTooDeep(text)) throw badRequest(`the body nests deeper than ${MESSAGE_LIMITS.jsonDepthMax} levels`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw badRequest('the body is not valid JSON')
  }
  const result = shape.safeParse(value)
  if (result.success) return result.data
  const [issue] = result.error.issues
  const param = pathText(issue?.path ?? [])
  const given = issue?.path.reduce<unknown>((at, key) => (at as { [key: PropertyKey]: unknown } | null)?.[key], value)
  const why = given === undefined ? 'is missing' : `is wrong: ${issue?.message ?? 'invalid'}`
  throw badRequest(param === '' ? 'the body is no JSON object' : `the field "${param}" ${why}`, param || undefined)
}

/** As OpenAI writes it: messages[0].content. */
function pathText(path: readonly PropertyKey[]): string {
  return path.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`)).join('')
}
