/** Contexts of the `nats` command: how they are found, what their fields mean, and who comes first. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { nkeys } from '@nats-io/transport-node'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { brokerSettings } from '../../bus/access/settings.ts'
import { connectBroker } from '../../bus/connection.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'
import { Folder } from '../support/cli.ts'

const seed = new TextDecoder().decode(nkeys.createUser().getSeed())
const JWT = 'header.body.sig'
const CREDS = `-----BEGIN NATS USER JWT-----\n${JWT}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`
/** As the nats command writes one: every field, most of them empty. */
const EMPTY = {
  description: '',
  url: 'nats://prod:4222',
  socks_proxy: '',
  token: '',
  user: '',
  password: '',
  creds: '',
  nkey: '',
  cert: '',
  key: '',
  ca: '',
  nsc: '',
  jetstream_domain: '',
  jetstream_api_prefix: '',
  jetstream_event_prefix: '',
  inbox_prefix: '',
  user_jwt: '',
  user_seed: '',
  color_scheme: '',
  tls_first: false,
  windows_cert_store: '',
  windows_cert_match_by: '',
  windows_cert_match: '',
  windows_ca_certs_match: null,
}

let config: string
const file = (name: string) => join(config, name)
const save = (name: string, context: string) => writeFile(join(config, 'nats', 'context', `${name}.json`), context)
const saveFields = (fields: object, name = 'prod') => save(name, JSON.stringify({ ...EMPTY, ...fields }))
const read = (env: NodeJS.ProcessEnv = {}, context = 'prod') => brokerSettings({ XDG_CONFIG_HOME: config, ...env }, { context })

function messageOf(env: NodeJS.ProcessEnv = {}, context = 'prod'): string {
  try {
    read(env, context)
  } catch (error) {
    if (error instanceof KaosError && error.code === 'bad_setting') return error.message
    throw error
  }
  throw new Error('it was accepted')
}

beforeAll(async () => {
  config = await mkdtemp(join(tmpdir(), 'kaos-test-context-'))
  await mkdir(join(config, 'nats', 'context'), { recursive: true })
  await writeFile(file('user.creds'), CREDS)
  await writeFile(file('user.nk'), seed)
  await writeFile(file('ca.pem'), 'a certificate\n')
  await writeFile(file('key.pem'), 'a key\n')
  await writeFile(file('password.txt'), 'topsecret\n')
})
afterAll(() => rm(config, { recursive: true }))

describe('a context', () => {
  it('is named by an option or by NATS_CONTEXT, and comes before a "kaos up" that runs', async () => {
    await saveFields({ url: 'nats://one:4222' }, 'one')
    await saveFields({ url: 'nats://two:4333' }, 'two')
    const runFile = { url: 'nats://127.0.0.1:4555' }
    const env = { XDG_CONFIG_HOME: config, NATS_CONTEXT: 'two' }

    expect(brokerSettings(env, { runFile })).toMatchObject({
      servers: ['nats://two:4333'],
      source: 'context "two"',
      context: 'two',
    })
    expect(brokerSettings(env, { runFile, context: 'one' })).toMatchObject({ servers: ['nats://one:4222'] })
    expect(brokerSettings({ ...env, NATS_CONTEXT: '' }, { runFile })).toMatchObject({ source: 'run file' })
  })

  it('is not used when it is merely selected', async () => {
    await saveFields({}, 'prod')
    await writeFile(join(config, 'nats', 'context.txt'), 'prod')

    expect(brokerSettings({ XDG_CONFIG_HOME: config })).toBeUndefined()
  })

  it('may be a file', async () => {
    await writeFile(file('elsewhere.json'), JSON.stringify({ url: 'nats://elsewhere' }))

    expect(read({}, file('elsewhere.json'))?.servers).toEqual(['nats://elsewhere:4222'])
    expect(messageOf({}, file('absent.json'))).toContain('there is no such file')
    expect(messageOf({}, '../prod')).toContain('there is no such file')
  })

  it('may name several servers, TLS, or none', async () => {
    await saveFields({ url: 'tls://one:1, two:2' })
    expect(read()).toEqual({
      servers: ['nats://one:1', 'nats://two:2'],
      source: 'context "prod"',
      context: 'prod',
      identity: { kind: 'none' },
      tls: {},
    })

    await saveFields({ url: '' })
    expect(read()?.servers).toEqual(['nats://127.0.0.1:4222'])
  })

  it('names files for TLS, completed by variables', async () => {
    await saveFields({ ca: file('ca.pem'), cert: file('ca.pem'), tls_first: true })

    expect(messageOf()).toBe('cert of context "prod" is set and NATS_KEY is not: a client certificate needs both')
    expect(read({ NATS_KEY: file('key.pem') })?.tls).toEqual({
      caFile: file('ca.pem'),
      certFile: file('ca.pem'),
      keyFile: file('key.pem'),
      handshakeFirst: true,
    })
  })
})

describe('its identity', () => {
  test.each<[string, () => object, object]>([
    ['a user', () => ({ user: 'me', password: 'topsecret' }), { kind: 'user', user: 'me', password: 'topsecret' }],
    ['a user in the URL', () => ({ url: 'nats://me:4711@prod' }), { kind: 'user', user: 'me', password: '4711' }],
    [
      'a password in a file',
      () => ({ user: 'me', password: `file://${file('password.txt')}` }),
      { kind: 'user', user: 'me', password: 'topsecret' },
    ],
    ['a token in a variable', () => ({ token: 'env://PROD_TOKEN' }), { kind: 'token', token: 'from the variable' }],
    ['a JWT with its seed', () => ({ user_jwt: JWT, user_seed: seed }), { kind: 'jwt', jwt: JWT, seed }],
    ['a bearer JWT', () => ({ user_jwt: JWT }), { kind: 'jwt', jwt: JWT }],
    [
      'embedded credentials',
      () => ({ creds: `data:;base64,${Buffer.from(CREDS).toString('base64')}` }),
      { kind: 'jwt', jwt: JWT, seed },
    ],
    ['an embedded seed', () => ({ nkey: `data:;base64,${Buffer.from(seed).toString('base64')}` }), { kind: 'nkey', seed }],
  ])('is %s', async (_what, fields, identity) => {
    await saveFields(fields())

    expect(read({ PROD_TOKEN: 'from the variable' })?.identity).toEqual(identity)
  })

  test('is in a file whose path may hold ~ and variables', async () => {
    await saveFields({ creds: '$WHERE/user.creds' })
    expect(read({ WHERE: config })?.identity).toEqual({ kind: 'creds', file: file('user.creds') })

    await saveFields({ nkey: `file://${file('user.nk')}` })
    expect(read()?.identity).toEqual({ kind: 'nkey-file', file: file('user.nk') })

    await saveFields({ creds: '~/absent-in-this-test.creds' })
    expect(messageOf()).toBe(
      `creds of context "prod" "${homedir()}/absent-in-this-test.creds" cannot be read (ENOENT): name a file that exists and may be read`,
    )
  })

  test('gives way to the variables, whole', async () => {
    await saveFields({ user: 'me', password: 'topsecret' })

    expect(read({ NATS_TOKEN: 't' })).toMatchObject({ servers: ['nats://prod:4222'], identity: { kind: 'token', token: 't' } })
    expect(read({ NATS_URL: 'nats://else' })).toMatchObject({
      servers: ['nats://else:4222'],
      source: 'NATS_URL',
      context: 'prod',
      identity: { kind: 'user', user: 'me' },
    })
    expect(read({ NATS_URL: 'nats://a:b@else' })?.identity).toEqual({ kind: 'user', user: 'a', password: 'b' })
    expect(read({ NATS_PASSWORD: 'another' })?.identity).toEqual({ kind: 'user', user: 'me', password: 'another' })
  })

  test('is not that of the URL which NATS_URL replaces', async () => {
    await saveFields({ url: 'nats://me:topsecret@prod' })

    expect(read({ NATS_URL: 'nats://else' })?.identity).toEqual({ kind: 'none' })
  })

  test.each<[string, () => object, string]>([
    [
      'two',
      () => ({ user: 'me', token: 'topsecret' }),
      'user of context "prod" and token of context "prod" both name an identity',
    ],
    ['a password alone', () => ({ password: 'topsecret' }), 'password of context "prod" is set and user is not'],
    ['a seed alone', () => ({ user_seed: seed }), 'user_seed of context "prod" is set and user_jwt is not'],
    ['a damaged seed', () => ({ user_jwt: JWT, user_seed: seed.slice(2) }), 'user_seed of context "prod" is a damaged seed'],
    ['what is no JWT', () => ({ user_jwt: 'topsecret' }), 'user_jwt of context "prod" is no JWT'],
    ['credentials instead of their file', () => ({ creds: CREDS }), 'creds of context "prod" must be the name of a file'],
    [
      'an empty variable',
      () => ({ token: 'env://ABSENT' }),
      'token of context "prod" "env://ABSENT" names a variable that is not set',
    ],
    ['a vault', () => ({ token: 'op://vault/topsecret' }), 'token of context "prod" "op://…" is not supported'],
    ['what is no base64', () => ({ nkey: `data:,${seed}` }), 'nkey of context "prod" begins with "data:" and is not base64'],
    ['a bad URL', () => ({ url: 'ws://me:topsecret@prod' }), 'url of context "prod" "ws://…@prod" has the scheme "ws"'],
  ])('is not %s, and is not shown', async (_what, fields, message) => {
    await saveFields(fields())

    expect(messageOf()).toContain(message)
    expect(messageOf()).not.toContain('topsecret')
    expect(messageOf()).not.toContain(seed.slice(2, 30))
  })
})

describe('what cannot be used', () => {
  test.each([
    ['nsc', 'nsc://operator/account/user', '"nsc://operator/account/user"'],
    ['socks_proxy', 'socks5://me:topsecret@proxy:1080', '"socks5://…@proxy:1080"'],
    ['jetstream_domain', 'hub', '"hub"'],
    ['jetstream_api_prefix', 'JS.hub.API', '"JS.hub.API"'],
    ['inbox_prefix', '_INBOX.me', '"_INBOX.me"'],
    ['windows_cert_store', 'user', '"user"'],
  ])('is the field "%s"', async (field, value, shown) => {
    await saveFields({ [field]: value })

    expect(messageOf()).toContain(`${field} of context "prod" ${shown} is not supported: `)
  })

  test('is not what is meant anyway', async () => {
    await saveFields({ jetstream_api_prefix: '$JS.API', color_scheme: 'red', description: 'ours', new_field: 1 })

    expect(read()?.servers).toEqual(['nats://prod:4222'])
  })

  test('is a file that is no context, without its text', async () => {
    await save('prod', '{\n  "password": "topsecret",\n  "user" me }')
    expect(messageOf()).toBe(
      `could not read the context "prod" in "${join(config, 'nats', 'context', 'prod.json')}": it is no JSON (line 3 column 10)`,
    )
    await save('prod', 'topsecret')
    expect(messageOf()).not.toContain('topsecret')
    await save('prod', '{"password": ["topsecret"]}')
    expect(messageOf()).toMatch(/field "password" must be of type string$/)
    await save('prod', '[]')
    expect(messageOf()).toMatch(/it must be of type object$/)
  })

  test('is a name that nobody saved; those that are known are listed', async () => {
    const home = join(config, 'names')
    const folder = join(home, 'nats', 'context')
    const env = { XDG_CONFIG_HOME: home }
    expect(messageOf(env, 'prod')).toContain(`could not find the context "prod" (from --context): there are none in "${folder}"`)

    await mkdir(folder, { recursive: true })
    for (let i = 10; i < 22; i++) await writeFile(join(folder, `cluster-${i}.json`), '{}')

    expect(messageOf(env, 'clustr-12')).toMatch(/did you mean "cluster-12"\?$/)
    expect(messageOf(env, 'production')).toMatch(/there are: cluster-10, cluster-11, .*cluster-19, …$/)
    expect(() => brokerSettings({ ...env, NATS_CONTEXT: 'production' })).toThrow('(from NATS_CONTEXT)')
  })
})

describe('on a server that asks who comes', () => {
  let broker: TestBroker
  beforeAll(async () => {
    const operator = { kind: 'user', user: 'me', password: 'topsecret' } as const
    broker = await startTestBroker({
      access: { identity: operator },
      config: 'authorization { users = [{ user: me, password: topsecret }] }',
    })
  })
  afterAll(() => broker.stop())

  it('lets in who the context names, and says who was refused', async () => {
    await saveFields({ url: broker.url, user: 'me', password: 'topsecret' })
    const connection = await connectBroker(read()!, { name: 'test', log: silentLog() })
    await connection.close()

    await saveFields({ url: broker.url, user: 'me', password: 'wrongsecret' })
    const refused = await connectBroker(read()!, { name: 'test', log: silentLog() }).catch((error: unknown) => error)

    expect(refused).toMatchObject({ code: 'access_denied', message: expect.stringContaining('as user "me"') })
    expect(String(refused)).not.toContain('wrongsecret')
  })

  it('serves a "kaos up", a host and a client', async () => {
    await saveFields({ url: broker.url, user: 'me', password: 'topsecret' })
    const folder = await Folder.create()
    const elsewhere = await Folder.create()
    const env = { XDG_CONFIG_HOME: config }
    await writeFile(join(folder.path, 'team.yaml'), TEAM)

    const up = await folder.start(['up', '-f', 'team.yaml', '--context', 'prod'], 'Ctrl-C ends it', env)
    const host = await folder.start(['host', '-f', 'team.yaml'], 'ready h', { ...env, NATS_CONTEXT: 'prod' })
    const sent = await elsewhere.kaos(['task', 'send', 'writer', 'hello', '--wait', '--quiet', '--context', 'prod'], { env })
    const listed = await elsewhere.kaos(['trace', 'list', '--json', '--context', 'prod'], { env })
    const withVariable = await elsewhere.kaos(['task', 'list', '--context', 'prod'], { env: { ...env, NATS_URL: broker.url } })
    const stranger = await elsewhere.kaos(['task', 'list'], { env: { ...env, NATS_URL: broker.url } })

    expect([sent.code, listed.code, withVariable.code, stranger.code]).toEqual([0, 0, 0, 3])
    expect(JSON.parse(listed.stdout)).toHaveLength(1)
    expect(up.output).toContain('export NATS_CONTEXT=prod')
    expect(withVariable.stderr).toContain(`NATS_URL comes before the context "prod": using ${broker.url}`)
    expect(up.output + host.output + sent.stderr + stranger.stderr).not.toContain('topsecret')
    expect([await host.end(), await up.end()]).toEqual([0, 0])
    await Promise.all([folder.remove(), elsewhere.remove()])
  })
})

const TEAM = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: writer }
spec: { modelAPI: models, model: scripted }
`
