import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { silentLog } from '../../telemetry/log.ts'
import { isListed, isPublicAddress } from '../../tools/runtimes/http-fetch/address.ts'
import { fetchText } from '../../tools/runtimes/http-fetch/fetch-text.ts'
import type { HttpFetchRuntime } from '../../tools/runtimes/http-fetch/http-fetch.ts'
import { fetchAgent, type Lookup } from '../../tools/runtimes/http-fetch/public-agent.ts'
import { openSession, type ToolSession } from '../../tools/session.ts'
import { callTool, errorOf, eventually } from '../support/mcp-calls.ts'

const KiB = 1_024
let server: Server
let port: number
/** Paths that were asked for. */
const asked: string[] = []
let hangs = 0

beforeAll(async () => {
  server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url!, 'http://x')
    asked.push(`${request.method} ${request.headers.host} ${pathname}`)
    const text = (body: string | Buffer, type = 'text/plain') => response.writeHead(200, { 'content-type': type }).end(body)
    switch (pathname) {
      case '/text':
        return text('grüezi')
      case '/latin':
        return text(Buffer.from('gr\xfcezi', 'latin1'), 'text/html; charset=ISO-8859-1')
      case '/strange':
        return text('x', 'text/plain; charset=klingon')
      case '/json':
        return text('{"a":1}', 'application/problem+json; charset=utf-8')
      case '/type':
        return text('x', searchParams.get('type')!)
      case '/untyped':
        return response.writeHead(200).end('x')
      case '/missing':
        return response.writeHead(404, { 'content-type': 'text/plain' }).end('no such page')
      case '/empty':
        return response.writeHead(204).end()
      case '/large':
        return text(`${'x'.repeat(KiB * KiB - 1)}ä${'y'.repeat(5_000)}`)
      case '/endless': {
        response.writeHead(200, { 'content-type': 'text/plain' })
        const more = () => {
          while (response.writable && response.write('x'.repeat(64 * KiB)));
        }
        response.on('drain', more)
        return more()
      }
      case '/bomb':
        response.writeHead(200, { 'content-type': 'text/plain', 'content-encoding': 'gzip' })
        return response.end(gzipSync(Buffer.alloc(64 * KiB * KiB)))
      case '/hang':
        response.on('close', () => hangs++)
        return response.writeHead(200, { 'content-type': 'text/plain' }).write('x')
      case '/cut':
        response.writeHead(200, { 'content-type': 'text/plain', 'content-length': '100' }).write('x')
        return setImmediate(() => response.destroy())
      case '/to':
        return response.writeHead(Number(searchParams.get('status') ?? 302), { location: searchParams.get('url')! }).end()
      case '/circle':
        return response.writeHead(302, { location: '/circle' }).end()
      default:
        return response.writeHead(500).end()
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  port = (server.address() as AddressInfo).port
})
afterAll(() => {
  server.closeAllConnections()
  server.close()
})

const sessions: ToolSession[] = []
function open(options: Partial<HttpFetchRuntime> = {}): ToolSession {
  const { hosts = [`127.0.0.1:${port}`, `localhost:${port}`], allowPrivate = true, lookup } = options
  const session = openSession({ runtime: 'http-fetch', hosts, allowPrivate, lookup }, { log: silentLog() })
  sessions.push(session)
  return session
}
afterEach(async () => {
  asked.length = 0
  await Promise.all(sessions.splice(0).map((session) => session.close()))
})

const at = (path: string) => `http://127.0.0.1:${port}${path}`
const get = (url: string, options: Partial<HttpFetchRuntime> = {}, more: { readonly method?: string } = {}) =>
  callTool(open(options), 'fetch', { url, ...more })
async function refusal(url: string, options: Partial<HttpFetchRuntime> = {}): Promise<unknown> {
  const { isError, value } = await get(url, options)
  return isError ? value : 'it was not refused'
}

describe('fetch', () => {
  it('is offered as read-only, with the hosts that it may read', async () => {
    expect(await open({ hosts: ['example.org', '*.example.com'] }).list()).toMatchObject([
      {
        name: 'fetch',
        description: expect.stringContaining('example.org, *.example.com'),
        readOnlyHint: true,
        idempotentHint: true,
      },
    ])
  })

  it.each<[string, object]>([
    ['/text', { status: 200, contentType: 'text/plain', body: 'grüezi', isCut: false }],
    ['/latin', { body: 'grüezi' }],
    ['/json', { contentType: 'application/problem+json; charset=utf-8', body: '{"a":1}' }],
    ['/missing', { status: 404, body: 'no such page' }],
    ['/empty', { status: 204, contentType: '', body: '' }],
  ])('reads %s', async (path, found) => {
    const { value, isError } = await get(at(path))

    expect(value).toMatchObject({ url: at(path), ...found })
    expect(isError).toBe(false)
  })

  it('asks for the head only where that is wanted', async () => {
    expect((await get(at('/type?type=image/png'), {}, { method: 'HEAD' })).value).toMatchObject({
      contentType: 'image/png',
      body: '',
    })
    expect(asked).toEqual([`HEAD 127.0.0.1:${port} /type`])
  })

  it.each(['image/png', 'application/octet-stream', 'application/pdf', 'audio/mpeg', 'text', 'application/jsonish'])(
    'refuses the content type %s',
    async (type) => {
      expect(await refusal(at(`/type?type=${type}`))).toContain(`has the content type "${type}"; only text, JSON, XML, YAML`)
    },
  )

  it('refuses a body of no type, and of a character set that nobody knows', async () => {
    expect(await refusal(at('/untyped'))).toContain('(status 200) has no content type')
    expect(await refusal(at('/strange'))).toContain('unknown character set: "text/plain; charset=klingon"')
  })

  it('cuts a body at 1 MiB, not through a character', async () => {
    const { value } = await get(at('/large'))

    expect(value).toMatchObject({ body: 'x'.repeat(KiB * KiB - 1), isCut: true })
  })

  it.each(['/endless', '/bomb'])('reads no more of %s than that, in bounded memory', async (path) => {
    const before = process.resourceUsage().maxRSS

    const { value } = await get(at(path))

    expect((value as { body: string }).body).toHaveLength(KiB * KiB)
    expect(value).toMatchObject({ isCut: true })
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(50 * KiB)
  })

  it('ends its request when nobody waits any more', async () => {
    const session = open()
    await session.list()

    await errorOf(callTool(session, 'fetch', { url: at('/hang') }, { timeoutMs: 300 }), 'tool_timeout')

    await eventually(() => hangs === 1)
  })

  it('says what failed on the way', async () => {
    expect(await refusal(at('/cut'))).toMatch(/^could not fetch "http:.*\/cut": ./)
    expect(await refusal('http://127.0.0.1:9/', { hosts: ['127.0.0.1:9'] })).toMatch(
      /^could not fetch "http:\/\/127.0.0.1:9\/": (bad port|.*ECONNREFUSED)/,
    )
    expect(await refusal('http://nowhere.invalid/', { hosts: ['nowhere.invalid'] })).toMatch(/ENOTFOUND|EAI_AGAIN/)
  })
})

describe('a redirect', () => {
  const to = (url: string, status = 302) => at(`/to?status=${status}&url=${encodeURIComponent(url)}`)

  it.each([301, 302, 303, 307, 308])('of status %i is followed', async (status) => {
    expect((await get(to('/text', status))).value).toMatchObject({ url: at('/text'), body: 'grüezi' })
  })

  it.each<[string, () => string, string]>([
    ['a host that is not listed', () => 'http://example.org/', 'host "example.org" is not allowed; allowed: 127.0.0.1:'],
    ['another port', () => 'http://127.0.0.1:1/', 'host "127.0.0.1:1" is not allowed'],
    ['another scheme', () => 'file:///etc/passwd', 'only http and https are allowed'],
    ['a URL with a password', () => `http://me:secret@127.0.0.1:${port}/text`, 'it has a user or a password in it'],
    ['what is no URL', () => 'http://[', 'it is no URL'],
  ])('to %s is refused', async (_title, url, message) => {
    expect(await refusal(to(url()))).toContain(message)
    expect(asked).toHaveLength(1)
  })

  it('to an address that is not public is refused, though its host is listed', async () => {
    // The agent lets the first request reach the server of this test; what refuses the second is the check of the target.
    const lookup: Lookup = (_name, _options, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }])
    const dispatcher = fetchAgent({ allowPrivate: true, lookup })
    const policy = { hosts: [`outside.example:${port}`, '169.254.169.254'], allowPrivate: false, dispatcher }
    const url = `http://outside.example:${port}/to?url=${encodeURIComponent('http://169.254.169.254/latest')}`

    const work = fetchText(url, 'GET', policy, new AbortController().signal)

    await expect(work).rejects.toThrow('host "169.254.169.254" has the address 169.254.169.254, which is not public')
    expect(asked).toHaveLength(1)
    await dispatcher.destroy()
  })

  it('that comes a sixth time is refused', async () => {
    expect(await refusal(at('/circle'))).toContain('redirects more than 5 times')
    expect(asked).toHaveLength(6)
  })
})

describe('without allowPrivate', () => {
  const inside = ['127.0.0.1', '[::1]', 'localhost', '0.0.0.0', '10.0.0.1', '169.254.169.254', '[::ffff:127.0.0.1]', '[fd00::1]']

  it.each([
    'http://127.0.0.1/',
    'http://127.1/',
    'http://2130706433/',
    'http://0x7f.0.0.1/',
    'http://0177.0.0.1/',
    'http://0/',
    'http://[::1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[::ffff:7f00:1]/',
    'http://10.0.0.1/',
    'http://169.254.169.254/latest/meta-data',
    'http://[fd00::1]/',
    'http://localhost/',
  ])('refuses %s, though its host is listed', async (url) => {
    const hosts = [...inside, '[::ffff:7f00:1]']

    expect(await refusal(url, { hosts, allowPrivate: false })).toMatch(
      /has the address .*, which is not public, and params do not set allowPrivate/,
    )
    expect(asked).toEqual([])
  })

  it('refuses a name with one address that is not public among others', async () => {
    const lookup: Lookup = (_name, _options, callback) =>
      callback(null, [
        { address: '93.184.215.14', family: 4 },
        { address: '127.0.0.1', family: 4 },
      ])

    expect(
      await refusal(`http://mixed.example:${port}/text`, { hosts: [`mixed.example:${port}`], allowPrivate: false, lookup }),
    ).toContain('host "mixed.example" has the address 127.0.0.1, which is not public')
    expect(asked).toEqual([])
  })

  it('looks at the address of the very connection, so that a name that changes its mind gains nothing', async () => {
    let lookups = 0
    const lookup: Lookup = (_name, _options, callback) => {
      lookups++
      callback(null, [{ address: '127.0.0.1', family: 4 }])
    }
    const hosts = [`rebind.example:${port}`]

    expect(await refusal(`http://rebind.example:${port}/text`, { hosts, allowPrivate: false, lookup })).toContain(
      'has the address 127.0.0.1',
    )
    expect(lookups).toBe(1)
    expect((await get(`http://rebind.example:${port}/text`, { hosts, allowPrivate: true, lookup })).value).toMatchObject({
      body: 'grüezi',
    })
    expect(asked).toEqual([`GET rebind.example:${port} /text`])
  })
})

describe('what is asked for', () => {
  it.each([
    ['not a url', 'url "not a url" is refused: it is no URL'],
    ['ftp://127.0.0.1/', 'only http and https are allowed'],
    ['data:text/plain,x', 'only http and https are allowed'],
    ['http://me@127.0.0.1/', 'it has a user or a password in it'],
    ['http://127.0.0.1/', 'host "127.0.0.1" is not allowed'],
    ['http://127.0.0.1.:1/', 'is not allowed'],
    ['http://example.org/', 'host "example.org" is not allowed; allowed: 127.0.0.1:'],
    [`http://x/${'a'.repeat(5_000)}`, 'the input of tool "fetch" cannot be used: url: Too big'],
  ])('is refused: %s', async (url, message) => {
    expect(await refusal(url)).toContain(message)
    expect(asked).toEqual([])
  })

  it('has GET and HEAD as methods, and no headers', async () => {
    const session = open()

    expect((await callTool(session, 'fetch', { url: at('/text'), method: 'POST' })).value).toContain('method: Invalid option')
    expect((await callTool(session, 'fetch', { url: at('/text'), headers: {} })).value).toContain('Unrecognized key: "headers"')
  })
})

describe('addresses', () => {
  it.each(['8.8.8.8', '93.184.215.14', '2606:4700::1111', '2a00:1450:4001::8'])('%s is public', (address) => {
    expect(isPublicAddress(address)).toBe(true)
  })

  it.each([
    ...[
      '0.0.0.0',
      '0.1.2.3',
      '10.1.2.3',
      '100.64.0.1',
      '127.0.0.1',
      '127.255.255.254',
      '169.254.169.254',
      '172.16.0.1',
      '172.31.255.255',
    ],
    ...[
      '192.0.0.1',
      '192.0.2.1',
      '192.168.0.1',
      '198.18.0.1',
      '198.51.100.1',
      '203.0.113.1',
      '224.0.0.1',
      '240.0.0.1',
      '255.255.255.255',
    ],
    ...['::', '::1', '::ffff:10.0.0.1', '::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b:1::1', '100::1', '2001::1'],
    ...[
      '2001:db8::1',
      '2002:7f00:1::',
      '3fff::1',
      '5f00::1',
      'fc00::1',
      'fd12::1',
      'fe80::1',
      'fe80::1%eth0',
      'fec0::1',
      'ff02::1',
    ],
    ...['', 'localhost', '1.2.3', '::ffff:127.0.0.1'],
  ])('"%s" is not', (address) => {
    expect(isPublicAddress(address)).toBe(false)
  })
})

describe('an allow-list', () => {
  const hosts = ['example.org', '*.example.com', '*.example.net:8080', 'localhost:3000', '[::1]:3000']

  it.each([
    'http://example.org/',
    'https://EXAMPLE.org:443/a?b',
    'https://a.example.com/',
    'https://a.b.example.com/',
    'http://a.example.net:8080/',
    'http://localhost:3000/',
    'http://[::1]:3000/',
  ])('has %s', (url) => {
    expect(isListed(new URL(url), hosts)).toBe(true)
  })

  it.each([
    'http://www.example.org/',
    'http://example.org.evil.example/',
    'http://example.org./',
    'http://example.org:8080/',
    'https://example.com/',
    'https://evilexample.com/',
    'https://a.example.com:8080/',
    'https://a.example.net/',
    'http://localhost/',
    'http://localhost:30000/',
  ])('has not %s', (url) => {
    expect(isListed(new URL(url), hosts)).toBe(false)
  })
})
