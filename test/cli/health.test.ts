/** What probes see of a host: while it starts, when it takes work, without its broker, and while it ends. */
import { writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import type { NetworkInterfaceInfo } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { everyAddress } from '../../cli/process/address.ts'
import { defaultHealthAddress, type Health, parseHealthAddress, serveHealth } from '../../cli/process/health.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'
import { Folder } from '../support/cli.ts'
import { until } from '../support/memory-system.ts'

const LOOPBACK = { host: '127.0.0.1', port: 0 }

async function get(url: string, path: string): Promise<{ readonly status: number; readonly body: unknown }> {
  const response = await fetch(url + path)
  return { status: response.status, body: await response.json() }
}

describe('a host on a broker', () => {
  let broker: TestBroker
  let bus: NatsBus
  let health: Health
  const statusOf = async (path: string) => (await get(health.url, path)).status
  const untilReady = (status: number) =>
    until(async () => (await statusOf('/ready')) === status || undefined, `/ready to be ${status}`)
  const declare = () => createStreams(bus.connection, { namespace: 'default', agents: ['analyst'], tools: ['notes'] })
  const listen = () => {
    bus.mailbox.open({ kind: 'task', agent: 'analyst' }, 4, (delivery) => delivery.ack())
    bus.mailbox.open({ kind: 'call', tool: 'notes' }, 4, (delivery) => delivery.ack())
    health.watch(bus)
  }

  beforeEach(async () => {
    broker = await startTestBroker()
    bus = await openBus(broker.settings, { namespace: 'default', as: userParty('test'), log: silentLog() })
    health = await serveHealth(LOOPBACK)
  })
  afterEach(async () => {
    await health.stop()
    await bus.close()
    await broker.stop()
  })

  it('is alive and not ready while it starts', async () => {
    expect(await get(health.url, '/health')).toEqual({ status: 200, body: { alive: true } })
    expect(await get(health.url, '/ready')).toEqual({ status: 503, body: { ready: false, starting: true } })
  })

  it('is ready once the streams of all its consumers are there', async () => {
    listen()
    const before = await get(health.url, '/ready')

    await declare()

    await untilReady(200)
    const unbound = ['agent analyst task', 'tool notes call']
    expect(before).toEqual({ status: 503, body: { ready: false, broker: 'connected', unbound } })
    expect(await get(health.url, '/ready')).toEqual({ status: 200, body: { ready: true, broker: 'connected', unbound: [] } })
  })

  it('is not ready without its broker, and ready again with it', async () => {
    await declare()
    listen()
    await untilReady(200)

    await broker.kill()
    await untilReady(503)
    const without = [await get(health.url, '/health'), await get(health.url, '/ready')]
    await broker.restart()
    await untilReady(200)

    const unbound = ['agent analyst task', 'tool notes call']
    expect(without).toEqual([
      { status: 200, body: { alive: true } },
      { status: 503, body: { ready: false, broker: 'reconnecting', unbound } },
    ])
  })

  it('is not ready while its broker is silent', async () => {
    await declare()
    listen()
    await untilReady(200)

    process.kill(broker.pid, 'SIGSTOP')
    await untilReady(503)
    process.kill(broker.pid, 'SIGCONT')

    await untilReady(200)
  })

  it('names the consumer that is deleted under it', async () => {
    await declare()
    listen()
    await untilReady(200)

    await bus.connection.request('$JS.API.CONSUMER.DELETE.kaos_default_agent_analyst_mail.task')

    await untilReady(503)
    expect(await get(health.url, '/ready')).toMatchObject({ body: { broker: 'connected', unbound: ['agent analyst task'] } })
  })

  it('stays bound when all its slots are taken', async () => {
    await declare()
    const held: unknown[] = []
    bus.mailbox.open({ kind: 'task', agent: 'analyst' }, 1, (delivery) => void held.push(delivery))
    health.watch(bus)

    await bus.publisher.publish(bus.subjects.door('analyst'), 'one', [])

    await until(() => held.length === 1 || undefined, 'a delivery')
    expect(await statusOf('/ready')).toBe(200)
  })

  it('is not ready and alive while it drains', async () => {
    await declare()
    listen()
    await untilReady(200)

    health.drain()

    expect(await get(health.url, '/ready')).toEqual({
      status: 503,
      body: { ready: false, draining: true, broker: 'connected', unbound: [] },
    })
    expect(await statusOf('/health')).toBe(200)
  })
})

describe('the server of probes', () => {
  let health: Health
  beforeEach(async () => {
    health = await serveHealth(LOOPBACK)
  })
  afterEach(() => health.stop())

  test.each([
    ['GET', '/', 404],
    ['GET', '/metrics', 404],
    ['POST', '/health', 405],
    ['DELETE', '/ready', 405],
    ['GET', '/health?verbose', 200],
    ['HEAD', '/health', 200],
    ['HEAD', '/ready', 503],
  ])('answers %s %s with %i', async (method, path, status) => {
    const response = await fetch(health.url + path, { method })

    expect(response.status).toBe(status)
    expect(response.headers.get('connection')).toBe('close')
    expect((await response.text()) === '').toBe(method === 'HEAD')
    if (status === 405) expect(response.headers.get('allow')).toBe('GET, HEAD')
  })

  test.each([
    ['says nothing', ''],
    ['never ends its request', 'GET /health HTTP/1.1\r\n'],
  ])('cuts off who %s', async (_what, sent) => {
    const socket = connect(Number(new URL(health.url).port), '127.0.0.1')
    const closed = new Promise((resolve) => socket.once('close', resolve).on('error', () => {}))
    socket.resume().write(sent)

    await closed

    expect((await get(health.url, '/health')).status).toBe(200)
  })

  it('cuts open connections when it stops', async () => {
    const socket = connect(Number(new URL(health.url).port), '127.0.0.1')
    const closed = new Promise((resolve) => socket.once('close', resolve).on('error', () => {}))
    await new Promise((resolve) => socket.once('connect', resolve))
    await get(health.url, '/health') // so that the server has seen the other connection too

    await health.stop()

    await closed
    await expect(get(health.url, '/health')).rejects.toThrow()
  })

  it('names an address that is taken', async () => {
    const port = Number(new URL(health.url).port)

    await expect(serveHealth({ host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'port_taken',
      message: expect.stringContaining(`--health could not listen on 127.0.0.1:${port}: listen EADDRINUSE`),
    })
  })
})

describe('the address', () => {
  test.each<readonly [string, ReturnType<typeof parseHealthAddress>]>([
    ['8000', { host: '127.0.0.1', port: 8000 }],
    ['0', { host: '127.0.0.1', port: 0 }],
    ['0.0.0.0:81', { host: '0.0.0.0', port: 81 }],
    ['*:81', { host: everyAddress(), port: 81 }],
    ['localhost:81', { host: 'localhost', port: 81 }],
    ['[::1]:81', { host: '::1', port: 81 }],
    ['off', 'off'],
    ...['', ':81', 'host', '65536', '1.5', '-1', '::1:81', '[host]:81', 'http://host:81', 'host:81/health'].map(
      (text) => [text, undefined] as const,
    ),
  ])('reads "%s"', (text, address) => {
    expect(parseHealthAddress(text)).toEqual(address)
  })

  it('is port 8000 for all in a pod, and none elsewhere', () => {
    expect(defaultHealthAddress({ KUBERNETES_SERVICE_HOST: '10.0.0.1' })).toEqual({ host: everyAddress(), port: 8000 })
    expect(defaultHealthAddress({})).toBeUndefined()
  })

  it('for all is one that IPv6 comes to as well, where there is any', async () => {
    const one = (family: 'IPv4' | 'IPv6', address: string) => ({ family, address }) as NetworkInterfaceInfo
    const v4 = { lo: [one('IPv4', '127.0.0.1')], none: undefined }
    const both = { ...v4, lo: [...v4.lo, one('IPv6', '::1')] }
    const everywhere = await serveHealth({ host: everyAddress(), port: 0 })
    const { port } = new URL(everywhere.url)
    const hosts = ['127.0.0.1', ...(everyAddress() === '::' ? ['[::1]'] : [])]

    const answers = await Promise.all(hosts.map((host) => fetch(`http://${host}:${port}/health`)))
    await everywhere.stop()

    expect([everyAddress(v4), everyAddress(both)]).toEqual(['0.0.0.0', '::'])
    expect(answers.map(({ status }) => status)).toEqual(hosts.map(() => 200))
  })
})

describe('the kaos command', () => {
  const MANIFEST = `
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
  const SCRIPT = 'rules: [{ when: {}, reply: { text: done, delayMs: 2500 } }]'
  const UP = ['up', '-f', 'team.yaml', '--port', '0']
  let folder: Folder
  beforeEach(async () => {
    folder = await Folder.create()
    await writeFile(join(folder.path, 'team.yaml'), MANIFEST)
    await writeFile(join(folder.path, 'team.script.yaml'), SCRIPT)
  })
  afterEach(() => folder.remove())

  it('says where it serves, is ready, and stays alive until its work in hand is done', async () => {
    const up = await folder.start([...UP, '--health', '0', '--json'], '\n}\n')
    const { health: url } = JSON.parse(up.output.slice(up.output.indexOf('{'))) as { health: string }
    await until(async () => (await get(url, '/ready')).status === 200 || undefined, 'readiness')
    await folder.kaos(['task', 'send', 'writer', 'hello', '--id', 'one'])

    up.child.kill('SIGTERM')
    await up.waitFor('finishing what is in hand')

    expect(await get(url, '/ready')).toMatchObject({ status: 503, body: { ready: false, draining: true } })
    expect((await get(url, '/health')).status).toBe(200)
    expect(await up.end('SIGCONT')).toBe(0)
  })

  it('serves for a host, and not unless it is asked', async () => {
    const up = await folder.start(UP, 'Ctrl-C ends it')

    const host = await folder.start(['host', '-f', 'team.yaml', '--health', '127.0.0.1:0'], 'ready h')

    const [, url = ''] = /health {2}(http:\/\/127\.0\.0\.1:\d+)\/health/.exec(host.output) ?? []
    await until(async () => (await get(url, '/ready')).status === 200 || undefined, 'readiness')
    expect(up.output).not.toContain('/health')
  })

  it('ends with a usage error when the address is taken or is none', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => other.once('listening', resolve))
    const { port } = other.address() as { port: number }

    const taken = await folder.kaos([...UP, '--health', String(port)])
    const none = await folder.kaos([...UP, '--health', 'everywhere'])

    other.close()
    expect(taken).toMatchObject({ code: 2, stderr: expect.stringContaining(`--health could not listen on 127.0.0.1:${port}`) })
    expect(none).toMatchObject({ code: 2, stderr: expect.stringContaining('"everywhere" is no address') })
  })
})
