import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type NatsConnection, nkeys } from '@nats-io/transport-node'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Identity } from '../../bus/access/credentials.ts'
import type { BrokerSettings } from '../../bus/access/settings.ts'
import { CONNECTION_LIMITS, type ConnectOptions, connectBroker, guarded, watchStatus } from '../../bus/connection.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'

const log = silentLog()
const nobody: Identity = { kind: 'none' }
const open: NatsConnection[] = []

afterEach(async () => {
  await Promise.all(open.splice(0).map((connection) => connection.close()))
})

async function connectTo(
  url: string,
  { identity = nobody, tls, ...options }: Partial<ConnectOptions> & Partial<Pick<BrokerSettings, 'identity' | 'tls'>> = {},
): Promise<NatsConnection> {
  const settings: BrokerSettings = { servers: [url], source: 'NATS_URL', identity, ...(tls ? { tls } : {}) }
  const connection = await connectBroker(settings, { name: 'test', log, ...options })
  open.push(connection)
  return connection
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `nats://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('an address without a usable server', () => {
  test('is unreachable at once when nobody listens', async () => {
    const startedAt = Date.now()

    await expect(connectTo('nats://127.0.0.1:4')).rejects.toMatchObject({
      code: 'broker_unreachable',
      message: 'could not connect to "nats://127.0.0.1:4" (from NATS_URL): connection refused',
      family: 'retryable',
    })

    expect(Date.now() - startedAt).toBeLessThan(3 * CONNECTION_LIMITS.dialMs)
  })

  test.concurrent('is unreachable in time when a server accepts and says nothing, and its socket is closed', async () => {
    const closed = Promise.withResolvers<void>()
    const mute = createServer((socket) => void socket.once('close', closed.resolve).resume())
    const url = await listen(mute)
    const startedAt = Date.now()

    await expect(connectTo(url)).rejects.toMatchObject({
      code: 'broker_unreachable',
      message: expect.stringContaining('no answer within 3000 ms'),
    })

    expect(Date.now() - startedAt).toBeLessThan(3 * CONNECTION_LIMITS.dialMs)
    await closed.promise
    mute.close()
  })

  test.concurrent('is unreachable when something else answers', async () => {
    const web = createHttpServer((_request, response) => response.end())
    const url = await listen(web)

    await expect(connectTo(url)).rejects.toMatchObject({ code: 'broker_unreachable' })

    web.close()
  }, 15_000)

  test('is too old before 2.12', async () => {
    const sockets: Socket[] = []
    const old = createServer((socket) => {
      sockets.push(socket)
      socket.write(
        'INFO {"server_id":"X","version":"2.10.1","proto":1,"headers":true,"max_payload":1048576,"jetstream":true}\r\n',
      )
      socket.on('data', (chunk) => chunk.includes('PING') && socket.write('PONG\r\n'))
    })
    const url = await listen(old)

    await expect(connectTo(url)).rejects.toMatchObject({
      code: 'broker_too_old',
      message: `could not use the NATS server at "${url}": its version is "2.10.1", needed is 2.12.0`,
    })

    old.close()
  })
})

describe('a server with users', () => {
  const user = nkeys.createUser()
  const seed = new TextDecoder().decode(user.getSeed())
  const admin: Identity = { kind: 'user', user: 'admin', password: 'right' }
  let broker: TestBroker
  let folder: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kaos-test-connection-'))
    await writeFile(join(folder, 'user.nk'), `${seed}\n`)
    broker = await startTestBroker({
      access: { identity: admin },
      config: `accounts {
        K { jetstream: enabled, users: [
          { user: admin, password: right }
          { nkey: ${user.getPublicKey()} }
          { user: narrow, password: right, permissions { publish: ["kaos.>"], subscribe: ["_INBOX.narrow.>"] } }
        ] }
        PLAIN { users: [{ user: plain, password: right }] }
      }`,
    })
  })

  afterAll(async () => {
    await broker.stop()
    await rm(folder, { recursive: true })
  })

  test.each<[string, () => Identity]>([
    ['a password', () => admin],
    ['a seed', () => ({ kind: 'nkey', seed })],
    ['a seed in a file', () => ({ kind: 'nkey-file', file: join(folder, 'user.nk') })],
  ])('lets in by %s', async (_what, identity) => {
    const connection = await connectTo(broker.url, { identity: identity() })

    expect(connection.info?.jetstream).toBe(true)
  })

  test.each<[string, Identity, string]>([
    ['a wrong password', { kind: 'user', user: 'admin', password: 'topsecret' }, 'as user "admin"'],
    ['no identity', nobody, 'as nobody (no credentials are set)'],
    ['an unknown token', { kind: 'token', token: 'topsecret' }, "as a token's holder"],
  ])('refuses %s', async (_what, identity, name) => {
    const error = await connectTo(broker.url, { identity }).catch((reason: unknown) => reason)

    expect(error).toMatchObject({ code: 'access_denied', message: expect.stringContaining(`${name}: Authorization Violation`) })
    expect(String(error)).not.toContain('topsecret')
  })

  test('is refused by name also as "localhost"', async () => {
    const wrong: Identity = { kind: 'user', user: 'admin', password: 'wrong' }

    await expect(connectTo(`nats://localhost:${broker.port}`, { identity: wrong })).rejects.toMatchObject({
      code: 'access_denied',
    })
  })

  test('is no use in an account without JetStream', async () => {
    const identity: Identity = { kind: 'user', user: 'plain', password: 'right' }

    await expect(connectTo(broker.url, { identity })).rejects.toMatchObject({
      code: 'jetstream_disabled',
      message: expect.stringContaining('this account has no JetStream'),
    })
  })

  test('says what a narrow identity may not do, and lets it in when the API is not asked', async () => {
    const identity: Identity = { kind: 'user', user: 'narrow', password: 'right' }
    const inboxPrefix = '_INBOX.narrow'

    await expect(connectTo(broker.url, { identity, inboxPrefix })).rejects.toMatchObject({
      code: 'access_denied',
      message: expect.stringContaining('"$JS.API.INFO"'),
    })
    const connection = await connectTo(broker.url, { identity, inboxPrefix, jetStream: 'server' })

    expect(connection.isClosed()).toBe(false)
  })

  test('reports a publish that is not allowed', async () => {
    const identity: Identity = { kind: 'user', user: 'narrow', password: 'right' }
    const connection = await connectTo(broker.url, { identity, inboxPrefix: '_INBOX.narrow', jetStream: 'server' })
    const reported = Promise.withResolvers<Error>()
    watchStatus(connection, { onError: reported.resolve })

    connection.publish('foreign.subject')

    expect((await reported.promise).message).toContain('foreign.subject')
  })
})

test('reconnects to a server that comes back and says both', async () => {
  await using broker = await startTestBroker()
  const connection = await connectTo(broker.url)
  const events: string[] = []
  const lost = Promise.withResolvers<void>()
  const again = Promise.withResolvers<void>()
  const closed = Promise.withResolvers<void>()
  watchStatus(connection, {
    onDisconnect: () => lost.resolve(void events.push('lost')),
    onReconnect: () => again.resolve(void events.push('again')),
    onClose: () => closed.resolve(void events.push('closed')),
  })

  await broker.kill()
  await lost.promise
  await broker.restart()
  await again.promise
  const reply = await connection.request('$JS.API.INFO', '', { timeout: 5_000 })
  await connection.close()
  await closed.promise

  expect(reply.json()).toHaveProperty('api')
  expect(events).toEqual(['lost', 'again', 'closed'])
})

test('goes on reading after a callback threw or rejected', async () => {
  await using broker = await startTestBroker()
  const connection = await connectTo(broker.url)
  const seen: string[] = []
  const failures: string[] = []
  const third = Promise.withResolvers<void>()
  const noting = {
    ...log,
    error: (fields: { err: Error; subject: string }) => failures.push(`${fields.subject} ${fields.err.message}`),
  }
  const callback = guarded((_error, message) => {
    seen.push(message.string())
    if (message.string() === 'first') throw new Error('thrown')
    if (message.string() === 'second') return Promise.reject(new Error('rejected'))
    third.resolve()
  }, noting as never)
  connection.subscribe('a.subject', { callback })

  for (const text of ['first', 'second', 'third']) connection.publish('a.subject', text)
  await third.promise

  expect(seen).toEqual(['first', 'second', 'third'])
  expect(failures).toEqual(['a.subject thrown', 'a.subject rejected'])
  expect(await connection.rtt()).toBeGreaterThanOrEqual(0)
})

describe.runIf(hasOpenssl())('a server with a certificate of its own', () => {
  let folder: string
  let broker: TestBroker
  const file = (name: string) => join(folder, name)

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kaos-test-tls-'))
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-days',
        '1',
        ...subject,
        '-keyout',
        file('key.pem'),
        '-out',
        file('ca.pem'),
      ],
      { stdio: 'ignore' },
    )
    broker = await startTestBroker({
      access: { identity: nobody, tls: { caFile: file('ca.pem') } },
      config: `tls { cert_file: "${file('ca.pem')}", key_file: "${file('key.pem')}" }`,
    })
  })

  afterAll(async () => {
    await broker.stop()
    await rm(folder, { recursive: true })
  })

  test.each(['127.0.0.1', 'localhost'])('is trusted as %s when NATS_CA names its authority', async (host) => {
    const connection = await connectTo(`nats://${host}:${broker.port}`, { tls: { caFile: file('ca.pem') } })

    expect(connection.info?.tls_required).toBe(true)
  })

  test('is not trusted otherwise, and the error says what to set', async () => {
    await expect(connectTo(broker.url)).rejects.toMatchObject({
      code: 'broker_unreachable',
      message: expect.stringMatching(/self-signed certificate.*NATS_CA/),
    })
  })
})

function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
