/** Whether the server at the other end of a connection can be used: new enough, and with JetStream. */
import { setTimeout as delay } from 'node:timers/promises'
import { errors, type NatsConnection } from '@nats-io/transport-node'
import { KaosError } from '../wire/errors.ts'
import { isServerVersionEnough, SERVER_VERSION_MIN } from './binary/version.ts'
import { reasonOf } from './reason.ts'

const ANSWER_MS = 8_000
const TRY_MS = 2_000
const RETRY_MS = 100

/** Throws `broker_too_old`. */
export function checkVersion(connection: NatsConnection, where: string): void {
  const version = connection.info?.version ?? 'unknown'
  if (isServerVersionEnough(version)) return
  throw new KaosError(
    'broker_too_old',
    `could not use the NATS server at ${where}: its version is "${version}", needed is ${SERVER_VERSION_MIN}`,
  )
}

/**
 * Throws `jetstream_disabled`, `access_denied`, or `broker_unreachable` if JetStream does not answer in time: a cluster that elects a
 * leader needs some seconds.
 */
export async function checkJetStream(connection: NatsConnection, how: 'account' | 'server', where: string): Promise<void> {
  const disabled = (reason: string) => new KaosError('jetstream_disabled', `could not use the NATS server at ${where}: ${reason}`)
  if (how === 'server') {
    if (!connection.info?.jetstream) throw disabled('it has no JetStream')
    return
  }
  const deadline = Date.now() + ANSWER_MS
  for (;;) {
    const answer = await askJetStream(connection)
    switch (answer.kind) {
      case 'ready':
        return
      case 'absent':
        throw disabled(connection.info?.jetstream ? 'this account has no JetStream' : 'it has no JetStream')
      case 'denied':
        throw new KaosError('access_denied', `could not ask the NATS server at ${where} for JetStream: ${answer.reason}`)
      case 'unsure':
        if (Date.now() > deadline) {
          throw new KaosError(
            'broker_unreachable',
            `could not use the NATS server at ${where}: JetStream does not answer: ${answer.reason}`,
          )
        }
    }
    await delay(RETRY_MS)
  }
}

/** Not enabled for the account, or not on this server. */
const NOT_ENABLED = new Set([10_039, 10_076])

type Answer = { readonly kind: 'ready' | 'absent' } | { readonly kind: 'denied' | 'unsure'; readonly reason: string }

async function askJetStream(connection: NatsConnection): Promise<Answer> {
  try {
    const reply = await connection.request('$JS.API.INFO', '', { timeout: TRY_MS })
    const { error } = reply.json<{ error?: { err_code?: number; description?: string } }>()
    if (!error) return { kind: 'ready' }
    if (NOT_ENABLED.has(error.err_code ?? 0)) return { kind: 'absent' }
    return { kind: 'unsure', reason: `it says "${error.description}"` }
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
    if (cause instanceof errors.NoRespondersError) return { kind: 'absent' }
    if (cause instanceof errors.PermissionViolationError) return { kind: 'denied', reason: cause.message }
    return { kind: 'unsure', reason: reasonOf(error) }
  }
}
