/**
 * The connection to the broker: made with a deadline, checked once (version, JetStream), kept alive for ever after. What travels over it is
 * the business of the other files here.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { type ConnectionOptions, connect, errors, type Msg, type MsgCallback, type NatsConnection } from '@nats-io/transport-node'
import type { Logger } from '../telemetry/log.ts'
import { authentication, nameOf } from './access/identity.ts'
import type { BrokerSettings } from './access/settings.ts'
import { checkJetStream, checkVersion } from './server/fitness.ts'
import { reasonOf } from './server/reason.ts'
import { KaosError } from './wire/errors.ts'

export type { NatsConnection }

export const CONNECTION_LIMITS = {
  /** One try at one address, also when reconnecting. */
  dialMs: 3_000,
  /** The whole first connection: all addresses and their names. */
  connectMs: 10_000,
  reconnectMs: 100,
  reconnectJitterMs: 100,
  /** A connection whose server is silent for two of these counts as lost. */
  pingMs: 5_000,
  pingsOutMax: 2,
} as const

export interface ConnectOptions {
  /** Shown by the server for this connection. */
  readonly name: string
  /** Where replies go; an identity with permissions may subscribe to its own inbox only. */
  readonly inboxPrefix?: string
  readonly log: Logger
  /**
   * `account` (the default) asks the JetStream API. `server` looks at the server's greeting only, for the narrow identities of agents and
   * tool servers, to whom the API is closed.
   */
  readonly jetStream?: 'account' | 'server'
}

/**
 * Throws `broker_unreachable` (retryable, after 10 s at most), `access_denied`, `broker_too_old` or `jetstream_disabled`. Later the client
 * reconnects without end; only a server that refuses the identity twice closes it.
 */
export async function connectBroker(settings: BrokerSettings, options: ConnectOptions): Promise<NatsConnection> {
  const where = settings.servers.map((server) => `"${server}"`).join(', ')
  const connection = await dial(settings, options, where)
  try {
    checkVersion(connection, where)
    await checkJetStream(connection, options.jetStream ?? 'account', where)
  } catch (error) {
    await connection.close()
    throw error
  }
  watchStatus(connection, {
    onDisconnect: (server) => options.log.warn({ server, connection: options.name }, 'lost the broker, reconnecting'),
    onReconnect: (server) => options.log.info({ server, connection: options.name }, 'reconnected to the broker'),
    onError: (error) => options.log.warn({ err: error, connection: options.name }, 'the broker reported an error'),
  })
  return connection
}

async function dial(settings: BrokerSettings, options: ConnectOptions, where: string): Promise<NatsConnection> {
  const failed = (reason: string, cause?: unknown) =>
    new KaosError('broker_unreachable', `could not connect to ${where} (from ${settings.source}): ${reason}`, { cause })
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => reject(failed(`no answer within ${CONNECTION_LIMITS.connectMs} ms`)),
    CONNECTION_LIMITS.connectMs,
  )
  const sockets = new SocketWatch()
  const attempt = sockets.during(() => connect(clientOptions(settings, options)))
  try {
    const connection = await Promise.race([attempt, late])
    sockets.end()
    return connection
  } catch (error) {
    // The client cannot be told to stop: a connection that comes too late is closed.
    const ignored = () => {}
    void attempt.then((connection) => connection.close(), ignored).finally(() => sockets.destroy())
    if (error instanceof KaosError) throw error
    if (isRefusal(error)) {
      throw new KaosError('access_denied', `could not connect to ${where} as ${nameOf(settings.identity)}: ${reasonOf(error)}`, {
        cause: error,
      })
    }
    throw failed(dialReason(error), error)
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Knows the sockets that the client opens while it dials. It forgets the one of a server that accepts and then says nothing, and that socket
 * would keep this process from ending.
 */
class SocketWatch {
  static readonly #CHANNEL = 'net.client.socket'
  static readonly #dials = new AsyncLocalStorage<SocketWatch>()
  readonly #sockets: Socket[] = []
  readonly #note = (message: unknown) => {
    if (SocketWatch.#dials.getStore() === this) this.#sockets.push((message as { socket: Socket }).socket)
  }

  during<T>(dialing: () => T): T {
    subscribe(SocketWatch.#CHANNEL, this.#note)
    return SocketWatch.#dials.run(this, dialing)
  }

  /** The dial has succeeded. */
  end(): void {
    unsubscribe(SocketWatch.#CHANNEL, this.#note)
  }

  /** The dial has failed. */
  destroy(): void {
    this.end()
    for (const socket of this.#sockets) socket.destroy()
  }
}

function clientOptions(settings: BrokerSettings, { name, inboxPrefix }: ConnectOptions): ConnectionOptions {
  const isLocal = settings.servers.every((server) => new URL(server).hostname === 'localhost')
  return {
    // Never `port`: the client refuses it beside `servers`.
    servers: [...settings.servers],
    name,
    ...(inboxPrefix ? { inboxPrefix } : {}),
    ...authentication(settings.identity),
    ...(settings.tls ? { tls: { ...settings.tls } } : {}),
    // The client dials the addresses of "localhost" in random order and reports the last error, be it only that of the unused family.
    ...(isLocal ? { resolve: false } : {}),
    // A stack trace per request costs more than the request.
    noAsyncTraces: true,
    timeout: CONNECTION_LIMITS.dialMs,
    maxReconnectAttempts: -1,
    reconnectTimeWait: CONNECTION_LIMITS.reconnectMs,
    reconnectJitter: CONNECTION_LIMITS.reconnectJitterMs,
    pingInterval: CONNECTION_LIMITS.pingMs,
    maxPingOut: CONNECTION_LIMITS.pingsOutMax,
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof errors.AuthorizationError || error instanceof errors.UserAuthenticationExpiredError
}

const CERTIFICATE_CODES = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ALTNAME/

function dialReason(error: unknown): string {
  if (error instanceof errors.TimeoutError) return `no answer within ${CONNECTION_LIMITS.dialMs} ms`
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const reason = error instanceof errors.ConnectionError ? error.message : reasonOf(error)
  return CERTIFICATE_CODES.test(code) ? `${reason} (name the authority that signed the server's certificate in NATS_CA)` : reason
}

export interface StatusHandlers {
  readonly onDisconnect?: (server: string) => void
  readonly onReconnect?: (server: string) => void
  /** An error that the server reported, such as a publish that is not allowed. */
  readonly onError?: (error: Error) => void
  /** The connection is closed for good. */
  readonly onClose?: () => void
}

/**
 * Calls the handlers in the order in which things happened, until the connection closes. After a disconnect pulls and requests in flight are
 * lost; subscriptions stand again at the reconnect.
 */
export function watchStatus(connection: NatsConnection, handlers: StatusHandlers): void {
  const watch = async () => {
    for await (const status of connection.status()) {
      if (status.type === 'disconnect') handlers.onDisconnect?.(status.server)
      else if (status.type === 'reconnect') handlers.onReconnect?.(status.server)
      else if (status.type === 'error') handlers.onError?.(status.error)
      else if (status.type === 'close') handlers.onClose?.()
    }
  }
  // A handler that throws is a defect: let it end the process rather than leave a connection that nobody watches.
  void watch()
}

/**
 * Wraps the callback of a subscription. Every subscription needs it: an error that escapes one callback ends the client's read loop for good,
 * and nothing shows it. A rejected promise is caught as well. The error is logged; what the message needs (a nak) is the callback's business.
 */
export function guarded(callback: (error: Error | null, message: Msg) => void | Promise<void>, log: Logger): MsgCallback<Msg> {
  const note = (error: unknown, message: Msg) =>
    log.error({ err: error, subject: message.subject }, 'a message could not be handled')
  return (error, message) => {
    try {
      callback(error, message)?.catch((reason: unknown) => note(reason, message))
    } catch (reason) {
      note(reason, message)
    }
  }
}
