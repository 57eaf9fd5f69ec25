/**
 * An OpenAI-compatible HTTP server in front of the offline model: `POST /v1/chat/completions`, streamed or not, and `GET /v1/models`. It
 * records what it was asked, so that tests can count how often a call reached the model.
 */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { KaosError } from '../../bus/wire/errors.ts'
import { isObject, type Json, type JsonObject } from '../../bus/wire/json.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Script } from './model-script.ts'
import { type OfflineReply, offlineAnswer } from './offline-model.ts'
import { situationOf } from './situation.ts'
import { answerText, doneText, firstHalf, pieces } from './wire-answer.ts'

export const REQUESTS_KEPT_MAX = 1_000
export const KEYS_KEPT_MAX = 100_000
const BODY_BYTES_MAX = 32 * 1024 * 1024
const ENDLESS_CHUNK_MS = 10
const ENDLESS_CHUNKS_MAX = 100_000
const HANG_MS_MAX = 600_000
const ENDLESS_CHUNK = 'and on '.repeat(150)

export interface ModelServerOptions {
  /** Default: any free one. */
  readonly port?: number | undefined
  /** Default 127.0.0.1. */
  readonly host?: string | undefined
  readonly script?: Script | undefined
  /** For replies whose rule sets no delay of its own; default 0. */
  readonly delayMs?: number | undefined
  /** Answers as Ollama does for a model without tools, and to calls and results in the conversation as well. Default false. */
  readonly refusesTools?: boolean | undefined
  /** Told of each chat request before it is answered: tests wait for it instead of sleeping. */
  readonly onRequest?: ((request: RecordedRequest) => void) | undefined
  readonly log?: Logger | undefined
}

export interface RecordedRequest {
  /** Epoch ms. */
  readonly at: number
  readonly headers: IncomingHttpHeaders
  readonly body: JsonObject
  /** The Idempotency-Key header; empty if there is none. */
  readonly key: string
  /** As the system prompt names it; empty if it does not. */
  readonly agent: string
  readonly turn: number
  readonly rule: number | undefined
  /** `left`: the client closed first, or a fault closed the connection. */
  outcome: 'open' | 'answered' | 'left'
}

export interface ModelServer {
  /** The base, with /v1. */
  readonly url: string
  readonly port: number
  /** The last REQUESTS_KEPT_MAX chat requests, oldest first. */
  readonly requests: readonly RecordedRequest[]
  /** Chat requests since the start. */
  count(): number
  /** The same by Idempotency-Key or by agent. */
  countBy(what: 'key' | 'agent'): ReadonlyMap<string, number>
  /** Closes every connection at once. */
  stop(): Promise<void>
}

/** Rejects with a KaosError if it cannot listen. */
export async function startModelServer(options: ModelServerOptions = {}): Promise<ModelServer> {
  const host = options.host ?? '127.0.0.1'
  const requests: RecordedRequest[] = []
  const used = new Map<number, number>()
  const counts = { key: new Map<string, number>(), agent: new Map<string, number>() }
  let total = 0

  const server = createServer((request, response) => {
    handle(request, response).catch((err) => {
      if (!response.destroyed) options.log?.error({ err }, 'offline model could not answer')
      response.destroy()
    })
  })

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const route = `${request.method} ${request.url?.split('?')[0]}`
    if (route === 'GET /v1/models') return sendJson(response, 200, MODELS)
    if (route !== 'POST /v1/chat/completions') return sendJson(response, 404, errorBody(`there is no ${route}`))
    const body = await readBody(request)
    if (typeof body === 'string') return sendJson(response, 400, errorBody(body))
    await answer(request, response, body)
  }

  async function answer(request: IncomingMessage, response: ServerResponse, body: JsonObject): Promise<void> {
    const gone = new AbortController()
    const reply = options.refusesTools && speaksOfTools(body) ? refusal(body) : offlineAnswer(body, options.script, used)
    if (reply.rule !== undefined) used.set(reply.rule, (used.get(reply.rule) ?? 0) + 1)
    const { agent, turn } = situationOf(body)
    const key = String(request.headers['idempotency-key'] ?? '')
    const record: RecordedRequest = {
      at: Date.now(),
      headers: request.headers,
      body,
      key,
      agent,
      turn,
      rule: reply.rule,
      outcome: 'open',
    }
    response.once('close', () => {
      record.outcome = response.writableFinished ? 'answered' : 'left'
      gone.abort()
    })
    keep(record)
    options.log?.debug({ agent, turn, rule: reply.rule, effect: key }, 'offline model was asked')
    options.onRequest?.(record)

    const delayMs = reply.delayMs ?? options.delayMs ?? 0
    if (delayMs > 0 && !(await waited(delayMs, gone.signal))) return
    if (reply.fault) await spoil(response, body, reply, gone.signal)
    else if (body.stream !== true) sendText(response, 200, answerText(body, reply))
    else await stream(response, body, reply, gone.signal)
  }

  function keep(record: RecordedRequest): void {
    total++
    requests.push(record)
    if (requests.length > REQUESTS_KEPT_MAX) requests.shift()
    for (const what of ['key', 'agent'] as const) {
      const count = counts[what].get(record[what])
      if (count !== undefined || counts[what].size < KEYS_KEPT_MAX) counts[what].set(record[what], (count ?? 0) + 1)
    }
  }

  server.listen(options.port ?? 0, host)
  await once(server, 'listening').catch((cause: Error) => {
    throw new KaosError('port_taken', `the offline model could not listen on ${host}:${options.port ?? 0}: ${cause.message}`, {
      cause,
    })
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}/v1`,
    port,
    requests,
    count: () => total,
    countBy: (what) => counts[what],
    async stop() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

/** In a field of the request or of a message; what a text says is nobody's business. */
function speaksOfTools({ tools, messages }: JsonObject): boolean {
  const isAboutTools = (message: Json) => isObject(message) && (message.role === 'tool' || message.tool_calls !== undefined)
  return tools !== undefined || (Array.isArray(messages) && messages.some(isAboutTools))
}

function refusal({ model }: JsonObject): OfflineReply {
  const message = `registry.ollama.ai/library/${model} does not support tools`
  const body = { error: { message, type: 'api_error', param: null, code: null } }
  return { ...NOTHING_SAID, fault: { kind: 'status', status: 400, body } }
}

const NOTHING_SAID = {
  id: '',
  text: '',
  toolCalls: [],
  finishReason: 'stop',
  usage: { inputTokens: 0, outputTokens: 0 },
} as const
const MODELS = { object: 'list', data: [{ id: 'offline', object: 'model', created: 0, owned_by: 'kaos' }] }
const STREAM_HEADERS = { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' }

async function stream(response: ServerResponse, body: JsonObject, reply: OfflineReply, gone: AbortSignal): Promise<void> {
  const chunkMs = reply.chunkMs ?? 0
  response.writeHead(200, STREAM_HEADERS)
  if (chunkMs > 0) {
    for (const piece of pieces(body, reply)) {
      response.write(piece)
      if (!(await waited(chunkMs, gone))) return
    }
    response.end(doneText(body, reply))
  } else {
    response.end(pieces(body, reply).join('') + doneText(body, reply))
  }
}

/** Answers as the fault says, and not at all in most of its kinds. */
async function spoil(response: ServerResponse, body: JsonObject, reply: OfflineReply, gone: AbortSignal): Promise<void> {
  const { kind, status = 503, retryAfter, body: errorJson } = reply.fault!
  const isStream = body.stream === true
  const emptyReply = { ...reply, text: '', toolCalls: [], finishReason: 'stop' }
  switch (kind) {
    case 'status':
      if (retryAfter !== undefined) response.setHeader('retry-after', String(retryAfter))
      return sendJson(response, status, errorJson ?? errorBody(`the script answers status ${status}`))
    case 'empty':
      return isStream ? stream(response, body, emptyReply, gone) : sendText(response, 200, answerText(body, emptyReply))
    case 'garbage':
      response.writeHead(200, isStream ? STREAM_HEADERS : { 'content-type': 'application/json' })
      response.end(isStream ? 'data: {"choices": [\n\ndata: [DONE]\n\n' : '{"choices": [')
      return
    case 'close':
      response.writeHead(200, isStream ? STREAM_HEADERS : { 'content-type': 'application/json' })
      response.write(firstHalf(body, reply), () => response.destroy())
      return
    case 'hang':
      await waited(HANG_MS_MAX, gone)
      response.destroy()
      return
    case 'endless':
      response.writeHead(200, isStream ? STREAM_HEADERS : { 'content-type': 'application/json' })
      if (!isStream) response.write('{"choices": [{"message": {"content": "')
      for (let n = 0; n < ENDLESS_CHUNKS_MAX && (await waited(reply.chunkMs ?? ENDLESS_CHUNK_MS, gone)); n++) {
        const more = isStream ? pieces(body, { ...emptyReply, text: ENDLESS_CHUNK }).join('') : ENDLESS_CHUNK
        if (!response.write(more)) await once(response, 'drain', { signal: gone }).catch(() => undefined)
      }
      response.destroy()
  }
}

/** False if the client left meanwhile. */
async function waited(delayMs: number, gone: AbortSignal): Promise<boolean> {
  if (!gone.aborted) await sleep(delayMs, undefined, { signal: gone }).catch(() => undefined)
  return !gone.aborted
}

/** The body, or what is wrong with it. */
async function readBody(request: IncomingMessage): Promise<JsonObject | string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX) return `the body is larger than ${BODY_BYTES_MAX} bytes`
    chunks.push(chunk)
  }
  try {
    const body: unknown = JSON.parse(Buffer.concat(chunks).toString())
    if (!isObject(body)) return 'the body is not a JSON object'
    return Array.isArray(body.messages) && body.messages.length > 0
      ? body
      : 'messages: a list with at least one message is required'
  } catch (error) {
    return `the body is not JSON: ${error instanceof Error ? error.message : error}`
  }
}

function errorBody(message: string) {
  return { error: { message, type: 'offline_model', code: null } }
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  sendText(response, status, JSON.stringify(body))
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(text)
}
