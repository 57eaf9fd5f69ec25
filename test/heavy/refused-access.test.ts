/** A broker that does not want us, or that we cannot use: said clearly, with exit code 3, and no secret on the screen. */
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestBroker, type TestBroker } from '../support/broker.ts'
import { Folder, SAMPLE } from '../support/cli.ts'

const SECRET = 'Tr0ub4dor-and-3'

let folder: Folder
let withUsers: TestBroker
let withToken: TestBroker
beforeAll(async () => {
  const token = 'the-right-token'
  const identity = { kind: 'user', user: 'admin', password: 'right' } as const
  const users = `accounts { K { jetstream: enabled, users: [{ user: admin, password: right }] } }`
  ;[folder, withUsers, withToken] = await Promise.all([
    Folder.create(),
    startTestBroker({ access: { identity }, config: users }),
    startTestBroker({ access: { identity: { kind: 'token', token } }, config: `authorization { token: "${token}" }` }),
  ])
})
afterAll(() => Promise.all([folder.remove(), withUsers.stop(), withToken.stop()]))

const commands = {
  'kaos task send': ['task', 'send', 'worker', 'hello'],
  'kaos host': ['host', '-f', SAMPLE],
  'kaos up': ['up', '-f', SAMPLE],
} as const

describe('wrong credentials', () => {
  const wrong: Readonly<Record<string, () => Record<string, string>>> = {
    'a wrong password': () => ({ NATS_URL: withUsers.url, NATS_USER: 'admin', NATS_PASSWORD: SECRET }),
    'a wrong password in the address': () => ({ NATS_URL: withUsers.url.replace('//', `//admin:${SECRET}@`) }),
    'no password': () => ({ NATS_URL: withUsers.url }),
    'a token where users are known': () => ({ NATS_URL: withUsers.url, NATS_TOKEN: SECRET }),
    'a wrong token': () => ({ NATS_URL: withToken.url, NATS_TOKEN: SECRET }),
    'a wrong token in the address': () => ({ NATS_URL: withToken.url.replace('//', `//${SECRET}@`) }),
  }
  for (const [what, env] of Object.entries(wrong)) {
    it(`${what} end with code 3 and access_denied, and show no secret`, async () => {
      const said = await folder.kaos(commands['kaos task send'], { env: env() })
      const json = await folder.kaos([...commands['kaos task send'], '--json'], { env: env() })

      expect([said.code, json.code]).toEqual([3, 3])
      expect(JSON.parse(json.stdout).error).toMatchObject({
        code: 'access_denied',
        message: expect.stringContaining('Authorization'),
      })
      expect(said.stderr).toContain('could not connect to')
      expect(said.stderr).toContain('NATS_USER')
      expect(JSON.stringify([said, json])).not.toContain(SECRET)
    })
  }

  for (const name of ['kaos host', 'kaos up'] as const) {
    it(`are told by "${name}" likewise`, async () => {
      const env = { NATS_URL: withUsers.url, NATS_USER: 'admin', NATS_PASSWORD: SECRET }

      const ended = await folder.kaos(commands[name], { env })

      expect(ended.code).toBe(3)
      expect(ended.stderr).toContain('as user "admin": Authorization Violation')
      expect(JSON.stringify(ended)).not.toContain(SECRET)
    })
  }

  it('that are two at once are a mistake of the settings, told without either', async () => {
    const env = { NATS_URL: withToken.url, NATS_TOKEN: SECRET, NATS_USER: 'admin', NATS_PASSWORD: `${SECRET}-2` }

    const ended = await folder.kaos(commands['kaos task send'], { env })

    expect(ended.code).toBe(2)
    expect(ended.stderr).toContain('NATS_TOKEN')
    expect(JSON.stringify(ended)).not.toContain(SECRET)
  })

  it('that are right let in', async () => {
    const env = { NATS_URL: withToken.url, NATS_TOKEN: 'the-right-token' }

    const ended = await folder.kaos([...commands['kaos task send'], '--json'], { env })

    expect(ended.code).toBe(5)
    expect(JSON.parse(ended.stdout).error.code).toBe('unknown_agent')
  })
})

describe('an older server', () => {
  for (const [name, args] of Object.entries(commands)) {
    it(`is refused by "${name}" with both versions and code 3`, async () => {
      await using old = await startOldServer('2.11.9')

      const ended = await folder.kaos(args, { env: { NATS_URL: old.url } })

      expect(ended.code).toBe(3)
      expect(ended.stderr).toContain('its version is "2.11.9", needed is 2.12.0')
      expect(ended.stderr).toContain('Upgrade nats-server')
    })
  }
})

/** As much of a server as a client needs to learn its version. */
async function startOldServer(version: string): Promise<{ readonly url: string } & AsyncDisposable> {
  const info = { server_id: 'OLD', version, proto: 1, headers: true, max_payload: 1_048_576, jetstream: true }
  const server = createServer((socket) => {
    socket.on('error', () => {}) // the client leaves as soon as it knows
    socket.write(`INFO ${JSON.stringify(info)}\r\n`)
    socket.on('data', (data) => void (data.includes('PING') && socket.write('PONG\r\n')))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
