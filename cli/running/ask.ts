/** The request door: `kaos.<ns>.ask.<agent>` takes a task and replies with its result. Served by `kaos up`, never by agent pods. */
import { headers, type Msg, type Subscription } from '@nats-io/transport-node'
import type { ResultRecord } from '../../actors/outbox.ts'
import { guarded } from '../../bus/connection.ts'
import type { NatsBus } from '../../bus/open.ts'
import { type HeaderPairs, JS_CODES, PublishFailed } from '../../bus/publish/publish.ts'
import { type Failure, KaosError, toFailure } from '../../bus/wire/errors.ts'
import { keyOf } from '../../bus/wire/ids.ts'
import { MESSAGE_LIMITS } from '../../bus/wire/limits.ts'
import { HEADERS, parseDoorBody } from '../../bus/wire/message.ts'
import type { Logger } from '../../telemetry/log.ts'
import { hint, newId } from '../client/sending.ts'
import { beginningWith, outputText } from '../task.ts'

/** Requests that wait at once; each is a subscription and a timer here. */
const ASKS_MAX = 1_000
/** The longest that a request is waited for; its sender has usually left long before. */
const ASK_MS = 600_000
/** What the server takes in one message, less some room for headers. */
const REPLY_BYTES_MAX = MESSAGE_LIMITS.messageBytesMax - 4_096

export function serveAsk(bus: NatsBus, agents: readonly string[], log: Logger): Subscription {
  let waiting = 0
  const callback = guarded(async (_error, message) => {
    if (!message.reply) return
    waiting++
    try {
      if (waiting > ASKS_MAX) throw new KaosError('queue_full', `${ASKS_MAX} requests are waiting already`)
      respond(message, await answer(message))
    } catch (error) {
      respondFailure(message, toFailure(error))
    } finally {
      waiting--
    }
  }, log)
  return bus.connection.subscribe(bus.subjects.asks(), { queue: 'kaos-ask', callback })

  async function answer(message: Msg): Promise<ResultRecord> {
    const agent = message.subject.split('.').at(-1)!
    if (!agents.includes(agent)) {
      throw new KaosError('unknown_agent', `there is no agent "${agent}" in namespace "${bus.namespace}"${hint(agent, agents)}`)
    }
    const given = message.headers?.get(HEADERS.messageId)
    const id = given || `ask-${newId()}`
    const sent: HeaderPairs = [[HEADERS.messageId, id], ...traceOf(message)]
    try {
      await bus.publisher.publish(bus.subjects.door(agent), message.data, sent)
    } catch (error) {
      const isFull = error instanceof PublishFailed && error.code === JS_CODES.full
      throw new KaosError(
        isFull ? 'door_full' : 'publish_timeout',
        `could not send the task to agent "${agent}": ${(error as Error).message}`,
        { cause: error },
      )
    }
    const key = keyOf(bus.namespace, agent, id)
    const text = await bus.results.wait(agent, key, { deadlineMs: ASK_MS })
    if (text === undefined)
      throw new KaosError('publish_timeout', `no result from agent "${agent}" within ${ASK_MS / 1_000} s; the work goes on`)
    const result = JSON.parse(text) as ResultRecord
    // Under an id that was used before it may answer another question.
    if (given && result.state !== 'rejected')
      await beginningWith(bus, { agent, key, task: result.task }, parseDoorBody(message.string()))
    return result
  }
}

function respond(message: Msg, result: ResultRecord): void {
  if (result.state !== 'completed') {
    respondFailure(message, result.failure, result)
    return
  }
  const head = headers()
  head.set('Kaos-State', result.state)
  head.set('Kaos-Task', result.task)
  head.set('Kaos-Trace', result.trace)
  const text = outputText(result.output)
  const bytes = Buffer.byteLength(text)
  if (bytes > REPLY_BYTES_MAX) {
    const where = `"kaos task get ${result.task}" prints it`
    throw new KaosError('payload_too_large', `the answer has ${bytes} bytes, a reply at most ${REPLY_BYTES_MAX}: ${where}`)
  }
  message.respond(text, { headers: head })
}

/** In the form of the NATS services framework, so that its clients see an error. */
function respondFailure(message: Msg, failure: Failure, result?: ResultRecord): void {
  const head = headers()
  head.set('Nats-Service-Error', failure.message.replaceAll(/[^\x20-\x7e]+/g, ' ').slice(0, 500))
  head.set('Nats-Service-Error-Code', failure.code)
  head.set('Kaos-State', result?.state ?? 'rejected')
  if (result) head.set('Kaos-Trace', result.trace)
  message.respond(JSON.stringify({ error: failure }), { headers: head })
}

function traceOf(message: Msg): HeaderPairs {
  return ['traceparent', 'tracestate', 'baggage'].flatMap((name) => {
    const value = message.headers?.get(name)
    return value ? [[name, value] as const] : []
  })
}
