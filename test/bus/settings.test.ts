import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nkeys } from '@nats-io/transport-node'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { brokerSettings, requiredBrokerSettings } from '../../bus/access/settings.ts'
import { KaosError } from '../../bus/wire/errors.ts'

const URL_ONLY = { NATS_URL: 'nats://broker:4222' }
const seed = new TextDecoder().decode(nkeys.createUser().getSeed())

let folder: string
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kaos-test-settings-'))
  await writeFile(file('user.nk'), `# the key of a user\n${seed}\n`)
  await writeFile(
    file('user.creds'),
    `-----BEGIN NATS USER JWT-----\nheader.body.sig\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`,
  )
  await writeFile(file('ca.pem'), 'a certificate\n')
  await writeFile(file('key.pem'), 'a key\n')
})

afterAll(() => rm(folder, { recursive: true }))

function messageOf(env: NodeJS.ProcessEnv): string {
  try {
    brokerSettings(env)
  } catch (error) {
    if (error instanceof KaosError && error.code === 'bad_setting') return error.message
    throw error
  }
  throw new Error('it was accepted')
}

describe('the address', () => {
  test.each([
    ['nats://broker:4222', ['nats://broker:4222']],
    ['broker', ['nats://broker:4222']],
    ['10.0.0.1:4333', ['nats://10.0.0.1:4333']],
    ['nats://[::1]:4333/', ['nats://[::1]:4333']],
    ['nats://one:1, nats://two:2', ['nats://one:1', 'nats://two:2']],
  ])('reads "%s"', (given, servers) => {
    expect(brokerSettings({ NATS_URL: given })).toEqual({ servers, source: 'NATS_URL', identity: { kind: 'none' } })
  })

  test('comes from the run file when NATS_URL is absent or empty', () => {
    const runFile = { url: 'nats://127.0.0.1:4555' }

    expect(brokerSettings({ NATS_URL: '' }, { runFile })).toMatchObject({
      servers: ['nats://127.0.0.1:4555'],
      source: 'run file',
    })
    expect(brokerSettings(URL_ONLY, { runFile })).toMatchObject({ servers: ['nats://broker:4222'], source: 'NATS_URL' })
  })

  test('is absent when nobody names one', () => {
    expect(brokerSettings({})).toBeUndefined()
    expect(() => requiredBrokerSettings({})).toThrow('NATS_URL is not set')
  })

  test('asks for TLS with tls://', () => {
    expect(brokerSettings({ NATS_URL: 'tls://broker' })).toMatchObject({ servers: ['nats://broker:4222'], tls: {} })
  })

  test.each([
    ['ws://broker', 'NATS_URL "ws://broker" has the scheme "ws": use nats:// or tls://'],
    ['nats://broker:99999', 'NATS_URL "nats://broker:99999" is no address: write nats://HOST:PORT, several separated by commas'],
    ['nats://broker/path', 'NATS_URL "nats://broker/path" has more than host and port: write nats://HOST:PORT'],
    ['nats://', 'NATS_URL "nats://" is no address: write nats://HOST:PORT, several separated by commas'],
    [
      'nats://me:secret@broker:bad',
      'NATS_URL "nats://…@broker:bad" is no address: write nats://HOST:PORT, several separated by commas',
    ],
  ])('refuses "%s"', (given, message) => {
    expect(messageOf({ NATS_URL: given })).toBe(message)
  })
})

describe('the identity', () => {
  test.each<[string, NodeJS.ProcessEnv, object]>([
    ['a user', { NATS_USER: 'me', NATS_PASSWORD: 'secret' }, { kind: 'user', user: 'me', password: 'secret' }],
    ['a token', { NATS_TOKEN: 'secret' }, { kind: 'token', token: 'secret' }],
    ['a user in the URL', { NATS_URL: 'nats://me:4711%40@broker' }, { kind: 'user', user: 'me', password: '4711@' }],
    ['a token in the URL', { NATS_URL: 'nats://secret@broker:4222' }, { kind: 'token', token: 'secret' }],
    ['a seed', { NATS_NKEY: seed }, { kind: 'nkey', seed }],
    [
      'the same user twice',
      { NATS_URL: 'nats://me:secret@one,nats://me:secret@two', NATS_USER: 'me', NATS_PASSWORD: 'secret' },
      { kind: 'user', user: 'me', password: 'secret' },
    ],
  ])('is %s', (_what, env, identity) => {
    const settings = brokerSettings({ ...URL_ONLY, ...env })

    expect(settings?.identity).toEqual(identity)
    expect(settings?.servers.join()).not.toContain('@')
  })

  test('is in a file', () => {
    expect(brokerSettings({ ...URL_ONLY, NATS_NKEY: file('user.nk') })?.identity).toEqual({
      kind: 'nkey-file',
      file: file('user.nk'),
    })
    expect(brokerSettings({ ...URL_ONLY, NATS_CREDS: file('user.creds') })?.identity).toEqual({
      kind: 'creds',
      file: file('user.creds'),
    })
  })

  test('must be one', () => {
    expect(messageOf({ ...URL_ONLY, NATS_USER: 'me', NATS_TOKEN: 'secret' })).toBe(
      'NATS_TOKEN and NATS_USER both name an identity: keep one',
    )
    expect(messageOf({ NATS_URL: 'nats://a:b@one,nats://c:d@two' })).toBe('NATS_URL names two identities: keep one')
  })

  test('needs a user for a password', () => {
    expect(messageOf({ ...URL_ONLY, NATS_PASSWORD: 'secret' })).toContain('NATS_PASSWORD is set and NATS_USER is not')
  })

  test('names the variable and the file that is wrong', () => {
    expect(messageOf({ ...URL_ONLY, NATS_CREDS: file('absent') })).toBe(
      `NATS_CREDS "${file('absent')}" cannot be read (ENOENT): name a file that exists and may be read`,
    )
    expect(messageOf({ ...URL_ONLY, NATS_CREDS: file('ca.pem') })).toContain(
      `NATS_CREDS "${file('ca.pem')}" is no credentials file`,
    )
    expect(messageOf({ ...URL_ONLY, NATS_NKEY: file('ca.pem') })).toContain(`NATS_NKEY "${file('ca.pem')}" holds no seed`)
  })

  test('is never shown, also when it is damaged', () => {
    const messages = [
      messageOf({ ...URL_ONLY, NATS_NKEY: seed.slice(0, -1) }),
      messageOf({ ...URL_ONLY, NATS_NKEY: seed, NATS_TOKEN: 'topsecret' }),
      messageOf({ NATS_URL: 'nats://me:topsecret@broker/path' }),
      messageOf({ NATS_URL: 'me:topsecret@broker/path' }),
      messageOf({ NATS_URL: 'nats://me:top%secret@broker' }),
    ]

    expect(messages.join('\n')).not.toMatch(/topsecret|top%secret/)
    expect(messages.join('\n')).not.toContain(seed.slice(0, 20))
  })
})

describe('TLS', () => {
  test('takes the files that are named', () => {
    const env = { ...URL_ONLY, NATS_CA: file('ca.pem'), NATS_CERT: file('ca.pem'), NATS_KEY: file('key.pem') }

    expect(brokerSettings(env)?.tls).toEqual({ caFile: file('ca.pem'), certFile: file('ca.pem'), keyFile: file('key.pem') })
  })

  test('refuses a file that is absent, and half a client certificate', () => {
    expect(messageOf({ ...URL_ONLY, NATS_CA: file('absent') })).toContain(`NATS_CA "${file('absent')}" cannot be read`)
    expect(messageOf({ ...URL_ONLY, NATS_CERT: file('ca.pem') })).toContain('NATS_CERT is set and NATS_KEY is not')
  })
})
