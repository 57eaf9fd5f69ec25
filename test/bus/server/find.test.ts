import { mkdir, readdir, utimes } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { cachedServerPath } from '../../../bus/server/binary/cache.ts'
import { type FindOptions, findServer } from '../../../bus/server/binary/find.ts'
import { SERVER_VERSION_PINNED } from '../../../bus/server/binary/version.ts'
import { KaosError } from '../../../bus/wire/errors.ts'
import { ARCHIVE, createMachine, type Machine, serveReleases, serverScript, writeGo, writeScript } from './fakes.ts'

const NOBODY = 'http://127.0.0.1:4' // refused at once

let machine: Machine

beforeEach(async () => {
  machine = await createMachine()
})

afterEach(() => machine.remove())

const find = (more: Partial<FindOptions> = {}) => findServer({ env: machine.env, say: machine.say, releases: NOBODY, ...more })

describe('on PATH', () => {
  test('takes a server that is new enough', async () => {
    const path = await writeScript(join(machine.bin, 'nats-server'), serverScript('2.12.0'))

    const found = await find()

    expect(found).toEqual({ path, version: '2.12.0', source: 'path' })
    expect(machine.lines).toEqual([`nats-server 2.12.0 from PATH: ${path}`])
  })

  test('says that a server is too old, passes it over and takes a later one', async () => {
    const old = await writeScript(join(machine.bin, 'nats-server'), serverScript('2.10.1'))
    const later = join(machine.bin, 'later')
    await mkdir(later)
    await writeScript(join(later, 'nats-server'), serverScript('2.15.2'))

    const found = await find({ env: { ...machine.env, PATH: `${machine.bin}:${later}` } })

    expect(found.path).toBe(join(later, 'nats-server'))
    expect(machine.lines[0]).toBe(`passed over: "${old}" is 2.10.1, older than 2.12.0`)
  })

  test('passes over a file that is no nats-server', async () => {
    await writeScript(join(machine.bin, 'nats-server'), '#!/bin/sh\necho hello\n')
    await fillCache()

    const found = await find()

    expect(found.source).toBe('cache')
    expect(machine.lines[0]).toContain('--version" answered "hello"')
  })
})

describe('in the cache', () => {
  test('takes the server that is there without asking anybody', async () => {
    await writeScript(join(machine.bin, 'nats-server'), serverScript('2.10.1'))
    const path = await fillCache()

    const found = await find()

    expect(found).toEqual({ path, version: SERVER_VERSION_PINNED, source: 'cache' })
  })
})

describe('from the release archive', () => {
  test('fetches it once, then answers from the cache', async () => {
    const releases = await serveReleases()

    const first = await find({ releases: releases.url })
    const second = await find({ releases: releases.url })
    await releases.stop()

    const path = cachedServerPath(machine.env)
    expect(first).toEqual({ path, version: SERVER_VERSION_PINNED, source: 'archive' })
    expect(second).toEqual({ path, version: SERVER_VERSION_PINNED, source: 'cache' })
    expect(releases.requests).toEqual(['/SHA256SUMS', `/${ARCHIVE}`])
    expect(machine.lines).toContain(`downloading ${releases.url}/${ARCHIVE}`)
    expect(await workFolders()).toEqual([])
  })

  test('refuses an archive with a wrong checksum and goes on to the next way', async () => {
    const releases = await serveReleases({ sum: 'ab'.repeat(32) })
    await writeGo(machine)

    const found = await find({ releases: releases.url })
    await releases.stop()

    expect(found.source).toBe('go')
    expect(machine.lines.join('\n')).toMatch(/refused "nats-server-v2.*its sha256 is "[0-9a-f]{64}", SHA256SUMS says "(ab){32}"/)
  })

  test('refuses an archive without the server', async () => {
    const releases = await serveReleases({ file: 'something-else' })
    await writeGo(machine)

    const found = await find({ releases: releases.url })
    await releases.stop()

    expect(found.source).toBe('go')
    expect(machine.lines.join('\n')).toContain(`"${ARCHIVE}" holds no file "nats-server"`)
  })

  test('does not wait for a server that never finishes the connection', async () => {
    const sockets: Socket[] = []
    const mute = createServer((socket) => void sockets.push(socket))
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
    await writeGo(machine)

    const found = await find({ releases: `https://127.0.0.1:${(mute.address() as AddressInfo).port}`, connectMs: 100 })
    for (const socket of sockets) socket.destroy()
    mute.close()

    expect(found.source).toBe('go')
    expect(machine.lines.join('\n')).toMatch(/could not download ".*SHA256SUMS": Connect Timeout Error/)
  })

  test('two that fetch at once both end with a whole server', async () => {
    const releases = await serveReleases()

    const found = await Promise.all([1, 2, 3, 4].map(() => find({ releases: releases.url })))
    await releases.stop()

    expect(new Set(found.map(({ path }) => path))).toEqual(new Set([cachedServerPath(machine.env)]))
    expect(await find()).toMatchObject({ source: 'cache' })
    expect(await workFolders()).toEqual([])
  })

  test('removes what a killed fetch left behind, and not what another one works in', async () => {
    const [old, fresh] = [join(machine.cache, '.fetch-old'), join(machine.cache, '.fetch-fresh')]
    await mkdir(old, { recursive: true })
    await mkdir(fresh)
    const yesterday = new Date(Date.now() - 86_400_000)
    await utimes(old, yesterday, yesterday)
    await writeGo(machine)

    await find()

    expect(await workFolders()).toEqual(['.fetch-fresh'])
  })
})

describe('with go', () => {
  test('builds the server once, then answers from the cache', async () => {
    await writeGo(machine)

    const first = await find()
    const second = await find()

    expect(first).toEqual({ path: cachedServerPath(machine.env), version: SERVER_VERSION_PINNED, source: 'go' })
    expect(second.source).toBe('cache')
    expect(machine.lines.join('\n')).toContain(
      `building it: go install github.com/nats-io/nats-server/v2@v${SERVER_VERSION_PINNED}`,
    )
  })

  test('shows that it is still building', async () => {
    // Goes on as soon as the first line about it was said, which is what this test waits for.
    await writeScript(
      join(machine.bin, 'go'),
      `#!/bin/sh\nwhile [ ! -e "${machine.bin}/said" ]; do /bin/sleep 0.02; done\nexit 1\n`,
    )
    const say = (line: string) => {
      machine.say(line)
      if (line.includes('so far')) void writeScript(join(machine.bin, 'said'), '')
    }

    await expect(find({ say, progressMs: 20 })).rejects.toMatchObject({ code: 'broker_not_found' })

    expect(machine.lines.join('\n')).toMatch(/building nats-server with go, \d+ s so far/)
  })

  test('stops on the signal', async () => {
    await writeScript(join(machine.bin, 'go'), '#!/bin/sh\nexec /bin/sleep 60\n')
    const abort = new AbortController()
    const say = (line: string) => {
      if (line.startsWith('building it')) setImmediate(() => abort.abort())
    }

    await expect(find({ say, signal: abort.signal })).rejects.toMatchObject({ code: 'aborted' })

    expect(await workFolders()).toEqual([])
  })
})

test('lists all ways with their reasons, and a cure, when none leads to a server', async () => {
  await writeScript(join(machine.bin, 'nats-server'), serverScript('2.10.1'))

  const error = await find().catch((reason: unknown) => reason)

  expect(error).toBeInstanceOf(KaosError)
  expect(error).toMatchObject({ code: 'broker_not_found' })
  const lines = (error as KaosError).message.split('\n')
  expect(lines).toEqual([
    'could not get a nats-server, 4 ways were tried:',
    `  PATH: "${machine.bin}/nats-server" is 2.10.1, older than 2.12.0`,
    `  cache: "${cachedServerPath(machine.env)}" is not there yet`,
    expect.stringMatching(/^ {2}release archive: could not download "http:\/\/127.0.0.1:4\/SHA256SUMS": .*ECONNREFUSED/),
    '  go install: there is no go on PATH',
    expect.stringMatching(/^What helps: .*NATS_URL/),
  ])
})

test('says what go said when the build fails', async () => {
  await writeScript(join(machine.bin, 'go'), '#!/bin/sh\necho "go: module lookup disabled" >&2\nexit 1\n')

  await expect(find()).rejects.toThrow(/"go install .*" ended with code 1: go: module lookup disabled/)
})

test('says why the cache cannot be written', async () => {
  await writeGo(machine)
  const file = await writeScript(join(machine.bin, 'file'), '')

  await expect(find({ env: { ...machine.env, XDG_CACHE_HOME: file } })).rejects.toThrow(/go install: E(NOTDIR|EXIST)/)
})

async function fillCache(): Promise<string> {
  const path = cachedServerPath(machine.env)
  await mkdir(join(path, '..'), { recursive: true })
  return writeScript(path, serverScript(SERVER_VERSION_PINNED))
}

async function workFolders(): Promise<string[]> {
  return (await readdir(machine.cache)).filter((name) => name.startsWith('.fetch-'))
}
