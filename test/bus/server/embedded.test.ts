import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { jetstreamManager } from '@nats-io/jetstream'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { connectBroker } from '../../../bus/connection.ts'
import { type EmbeddedServer, type ServerOptions, startServer } from '../../../bus/server/embedded.ts'
import { isPortTaken, waitUntilRefused } from '../../../bus/server/port.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { findTestServer, startTestBroker } from '../../support/broker.ts'
import { writeScript } from './fakes.ts'
import { isRunning, runScript } from './processes.ts'

/** SIGTERM, a grace of 5 s, SIGKILL; three times that. */
const GONE_MS = 15_000

let binary: string
let folder: string
let started: EmbeddedServer[]

beforeAll(async () => {
  binary = (await findTestServer()).path
})

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kaos-test-server-'))
  started = []
})

afterEach(async () => {
  await Promise.all(started.map((server) => server.stop()))
  await rm(folder, { recursive: true, force: true })
})

async function start(options: Partial<ServerOptions> = {}): Promise<EmbeddedServer> {
  const server = await startServer({ binary, storeDir: join(folder, 'store'), port: 0, ...options })
  started.push(server)
  return server
}

const connectTo = (server: { url: string }) =>
  connectBroker({ servers: [server.url], source: 'embedded', identity: { kind: 'none' } }, { name: 'test', log: silentLog() })

test('serves JetStream on the loopback until it is stopped', async () => {
  const server = await start()

  const connection = await connectTo(server)
  const account = await (await jetstreamManager(connection)).getAccountInfo()
  await connection.close()
  await server.stop()

  expect(account.streams).toBe(0)
  expect(server.url).toBe(`nats://127.0.0.1:${server.port}`)
  expect(await server.exited).toEqual({ code: 0 })
  expect(await isPortTaken('127.0.0.1', server.port)).toBe(false)
  expect(isRunning(server.pid)).toBe(false)
  await server.stop()
})

test('keeps its streams and its port over kill -9 and restart', async () => {
  await using broker = await startTestBroker()
  const before = await connectTo(broker)
  await (await jetstreamManager(before)).streams.add({ name: 'kept', subjects: ['kept'] })
  await before.request('kept', 'a message')
  await before.close()
  const { url, pid } = broker

  await broker.kill()
  const wasRefused = !(await isPortTaken('127.0.0.1', broker.port))
  await broker.restart()

  const after = await connectTo(broker)
  const { state } = await (await jetstreamManager(after)).streams.info('kept')
  await after.close()
  expect(wasRefused).toBe(true)
  expect(state.messages).toBe(1)
  expect(broker.url).toBe(url)
  expect(broker.pid).not.toBe(pid)
})

test('lets many streams reserve more than the disk holds', async () => {
  const server = await start()
  const connection = await connectTo(server)
  const manager = await jetstreamManager(connection)

  const bytes = 1024 ** 4
  await manager.streams.add({ name: 'one', subjects: ['one'], max_bytes: bytes })
  await manager.streams.add({ name: 'two', subjects: ['two'], max_bytes: bytes })

  expect((await manager.getAccountInfo()).streams).toBe(2)
  await connection.close()
})

describe('the port', () => {
  test('is another one when the preferred one is taken', async () => {
    const first = await start()

    const second = await start({ storeDir: join(folder, 'other'), port: { prefer: first.port } })

    expect(second.port).not.toBe(first.port)
  })

  test('is an error when it is fixed and taken', async () => {
    const first = await start()

    const second = start({ storeDir: join(folder, 'other'), port: first.port })

    await expect(second).rejects.toMatchObject({
      code: 'broker_failed',
      message: expect.stringContaining(`port "${first.port}"`),
    })
  })
})

describe('a start that fails', () => {
  test('shows the end of the log when the server refuses its configuration', async () => {
    const broken = start({ config: 'accounts {' })

    await expect(broken).rejects.toMatchObject({ code: 'broker_failed', message: expect.stringContaining('Parse error') })
  })

  test('says that the file cannot be run', async () => {
    const absent = start({ binary: join(folder, 'absent') })

    await expect(absent).rejects.toMatchObject({ code: 'broker_failed', message: expect.stringMatching(/code 127.*not found/s) })
  })

  test('ends a server that does not listen in time', async () => {
    const pidFile = join(folder, 'pid')
    const sleeper = await writeScript(join(folder, 'sleeper'), `#!/bin/sh\necho "$$" > "${pidFile}"\nexec sleep 60\n`)

    await expect(start({ binary: sleeper, readyMs: 300 })).rejects.toThrow('it did not listen in time')

    expect(isRunning(Number(await readFile(pidFile, 'utf8')))).toBe(false)
  })
})

describe('the store', () => {
  test('is waited for while the server of an earlier run still works on it', async () => {
    const first = await start()

    const second = start()
    await first.stop()

    expect((await second).pid).not.toBe(first.pid)
  })

  test('is free when its pid belongs to another program by now', async () => {
    await (await start()).stop()
    await writeFile(join(folder, 'store', 'nats-server.pid'), `${process.pid}\n`)

    expect((await start()).pid).not.toBe(process.pid)
  })
})

describe('the watchdog', () => {
  test('ends the server after kill -9 of its parent', async () => {
    const { child, nextLine } = runScript('parent.ts', [binary, join(folder, 'store')])
    const [, url = '', pid = ''] = (await nextLine()).split(' ')
    const port = Number(new URL(url).port)
    expect(await isPortTaken('127.0.0.1', port)).toBe(true)

    child.kill('SIGKILL')

    expect(await waitUntilRefused('127.0.0.1', port, GONE_MS)).toBe(true)
    await expect.poll(() => isRunning(Number(pid)), { timeout: GONE_MS }).toBe(false)
  })

  test('leaves the server running on Ctrl-C, so that its parent can drain', async () => {
    const { child, nextLine, exited } = runScript('parent.ts', [binary, join(folder, 'store')])
    const [, url = ''] = (await nextLine()).split(' ')
    const port = Number(new URL(url).port)

    process.kill(-child.pid!, 'SIGINT') // what a terminal does: the whole group of the parent
    expect(await nextLine()).toBe('interrupted')
    const connection = await connectTo({ url })
    await connection.close()

    child.kill('SIGTERM')
    await exited
    expect(await waitUntilRefused('127.0.0.1', port, GONE_MS)).toBe(true)
  })

  test.runIf(process.platform === 'linux').each(['SIGTERM', 'SIGKILL'] as const)(
    'does not leave the server behind when itself gets %s',
    async (signal) => {
      const server = await start()

      process.kill(parentOf(server.pid), signal)
      await server.exited

      expect(await waitUntilRefused('127.0.0.1', server.port, GONE_MS)).toBe(true)
    },
  )

  test('kills a server that does not end by itself', async () => {
    const server = await start({ graceMs: 200 })
    process.kill(server.pid, 'SIGSTOP')

    await server.stop()

    expect(await server.exited).toEqual({ code: 137 })
  })
})

function parentOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')
  return Number(fields?.[1])
}
