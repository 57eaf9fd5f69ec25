/** How much mail waits for agents and tool servers. A work queue holds what nobody has finished, so the messages of a mail stream are its backlog. */
import type { NatsConnection } from '../../bus/connection.ts'
import { refusing } from '../../bus/streams.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { ALL_CALLS, ALL_DOORS } from '../../bus/wire/subjects.ts'

const BACKLOG_LIMITS = {
  /** One page of the list, or one stream. */
  answerMs: 2_000,
  /** 256 streams each. A server that says that there are always more would be asked for ever. */
  pagesMax: 256,
} as const

const STREAM_NOT_FOUND = 10_059

interface StreamAnswer {
  readonly config: { readonly name: string }
  readonly state: { readonly messages: number }
}

type Answer<T> = T & { readonly error?: { readonly err_code?: number; readonly description?: string } }

/**
 * Messages of the mail streams of all agents, or of all tool servers, in all namespaces, by the stream's name: 17 ms for 1,000 agents, four pages of
 * 230 kB. A stream that did not answer its cluster in time is absent, which is not the same as empty. Throws `broker_unreachable`, `access_denied` or `read_failed`.
 */
export async function listBacklogs(
  connection: NatsConnection,
  subject: typeof ALL_DOORS | typeof ALL_CALLS,
): Promise<ReadonlyMap<string, number>> {
  const backlogs = new Map<string, number>()
  for (let page = 0, offset = 0; page < BACKLOG_LIMITS.pagesMax; page++) {
    const what = 'list the mail streams'
    const answer = await ask<{ total: number; streams: readonly StreamAnswer[] | null; missing?: readonly string[] }>(
      connection,
      '$JS.API.STREAM.LIST',
      { offset, subject },
      what,
    )
    if (answer.error) throw refused(what, answer.error)
    const streams = answer.streams ?? []
    for (const { config, state } of streams) backlogs.set(config.name, state.messages)
    offset += streams.length + (answer.missing?.length ?? 0)
    if (streams.length === 0 || offset >= answer.total) break
  }
  return backlogs
}

/** Messages of one mail stream; undefined: there is no such stream. Throws as `listBacklogs`. */
export async function readBacklog(connection: NatsConnection, stream: string): Promise<number | undefined> {
  const what = `look at stream "${stream}"`
  const { error, state } = await ask<StreamAnswer>(connection, `$JS.API.STREAM.INFO.${stream}`, {}, what)
  if (error?.err_code === STREAM_NOT_FOUND) return undefined
  if (error) throw refused(what, error)
  return state.messages
}

async function ask<T>(connection: NatsConnection, subject: string, body: object, what: string): Promise<Answer<T>> {
  try {
    const reply = await connection.request(subject, JSON.stringify(body), { timeout: BACKLOG_LIMITS.answerMs })
    return reply.json<Answer<T>>()
  } catch (error) {
    return refusing(what)(error)
  }
}

function refused(what: string, { description }: { readonly description?: string }): KaosError {
  return new KaosError('read_failed', `could not ${what}: the server says "${description ?? 'nothing'}"`)
}
