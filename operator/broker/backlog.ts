/** How much mail waits for agents and tool servers. A work queue holds what nobody has finished, so the messages of a mail stream are its backlog. */
import type { NatsConnection } from '../../bus/connection.ts'
import { refusing } from '../../bus/streams.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { ALL_CALLS, ALL_DOORS } from '../../bus/wire/subjects.ts'

const BACKLOG_LIMITS = {
  /** One page of the list. In a cluster the server waits 4 s for streams whose servers do not answer, before it answers without them. */
  pageMs: 6_000,
  /** One stream. */
  streamMs: 2_000,
  /** 256 streams each. A server that says that there are always more would be asked for ever. */
  pagesMax: 256,
} as const

const STREAM_NOT_FOUND = 10_059

/** Messages; `absent`: there is no such stream; `unknown`: there may be one, and its servers did not answer in time. */
export type Backlog = number | 'absent' | 'unknown'

interface StreamAnswer {
  readonly config: { readonly name: string }
  readonly state: { readonly messages: number }
}

interface ListAnswer {
  readonly total: number
  readonly streams: readonly StreamAnswer[] | null
  /** Did not answer in time. Those whose servers are all known to be gone stand in `streams` too, with 0 messages. */
  readonly missing?: readonly string[] | null
}

type Answer<T> = T & { readonly error?: { readonly err_code?: number; readonly description?: string } }

/**
 * Messages of the mail streams of all agents, or of all tool servers, in all namespaces, by the stream's name: 17 ms for 1,000 agents, four pages of
 * 230 kB; 4 s more for each page with a stream that does not answer. Throws `broker_unreachable`, `access_denied` or `read_failed`.
 */
export async function listBacklogs(
  connection: Pick<NatsConnection, 'request'>,
  subject: typeof ALL_DOORS | typeof ALL_CALLS,
): Promise<(stream: string) => Backlog> {
  const backlogs = new Map<string, Backlog>()
  let isComplete = false
  for (let page = 0, offset = 0; page < BACKLOG_LIMITS.pagesMax && !isComplete; page++) {
    const what = 'list the mail streams'
    const body = { offset, subject }
    const answer = await ask<ListAnswer>(connection, '$JS.API.STREAM.LIST', body, { what, timeout: BACKLOG_LIMITS.pageMs })
    if (answer.error) throw refused(what, answer.error)
    const listed = new Map<string, Backlog>((answer.streams ?? []).map(({ config, state }) => [config.name, state.messages]))
    for (const name of answer.missing ?? []) listed.set(name, 'unknown')
    for (const [name, backlog] of listed) backlogs.set(name, backlog)
    offset += listed.size
    isComplete = offset >= answer.total
    if (listed.size === 0) break
  }
  return (stream) => backlogs.get(stream) ?? (isComplete ? 'absent' : 'unknown')
}

/** Messages of one mail stream; undefined: there is no such stream. Throws as `listBacklogs`. */
export async function readBacklog(connection: Pick<NatsConnection, 'request'>, stream: string): Promise<number | undefined> {
  const what = `look at stream "${stream}"`
  const timeout = BACKLOG_LIMITS.streamMs
  const { error, state } = await ask<StreamAnswer>(connection, `$JS.API.STREAM.INFO.${stream}`, {}, { what, timeout })
  if (error?.err_code === STREAM_NOT_FOUND) return undefined
  if (error) throw refused(what, error)
  return state.messages
}

async function ask<T>(
  connection: Pick<NatsConnection, 'request'>,
  subject: string,
  body: object,
  { what, timeout }: { readonly what: string; readonly timeout: number },
): Promise<Answer<T>> {
  try {
    const reply = await connection.request(subject, JSON.stringify(body), { timeout })
    return reply.json<Answer<T>>()
  } catch (error) {
    return refusing(what)(error)
  }
}

function refused(what: string, { description }: { readonly description?: string }): KaosError {
  return new KaosError('read_failed', `could not ${what}: the server says "${description ?? 'nothing'}"`)
}
