import dgram from 'node:dgram'
import dns, { lookup } from 'node:dns'
import dnsPromises from 'node:dns/promises'
import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import tls from 'node:tls'
import { request } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { withoutNetwork } from '../../replay/offline.ts'

let connections = 0
let url: string
let port: number
const server = http.createServer((_request, response) => response.end('hello'))
server.on('connection', () => connections++)

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as AddressInfo).port
  url = `http://127.0.0.1:${port}/`
})
afterAll(() => new Promise((resolve) => server.close(resolve)))

describe('work without network', () => {
  const attempts: Record<string, () => unknown> = {
    'a TCP connection': () => net.connect(port, '127.0.0.1'),
    'a socket of its own': () => new net.Socket().connect(port, '127.0.0.1'),
    'a TLS connection': () => tls.connect(port, '127.0.0.1'),
    'an HTTP request': () => http.get(url),
    'a fetch': () => fetch(url),
    'a web socket': () => new WebSocket(url.replace('http', 'ws')),
    'a datagram': () => dgram.createSocket('udp4').send('x', port, '127.0.0.1'),
    'a name by callback': () => lookup('localhost', () => {}),
    'a name by its module': () => dns.resolve4('localhost', () => {}),
    'a name by promise': () => dnsPromises.lookup('localhost'),
    'a resolver of its own': () => new dns.Resolver().resolve4('localhost', () => {}),
  }

  for (const [what, attempt] of Object.entries(attempts)) {
    it(`refuses ${what}`, () => {
      expect(() => withoutNetwork(attempt)).toThrow(expect.objectContaining({ code: 'replay_network' }))
    })
  }

  it('refuses what a pooled client connects for', async () => {
    let answer: Promise<unknown> = Promise.resolve()
    withoutNetwork(() => {
      answer = request(url)
      answer.catch(() => {})
    })

    await expect(answer).rejects.toMatchObject({ code: 'replay_network' })
    expect(connections).toBe(0)
  })

  it('gives the result, and the network back, also after a throw', async () => {
    expect(withoutNetwork(() => 42)).toBe(42)
    expect(() =>
      withoutNetwork(() => {
        throw new Error('mine')
      }),
    ).toThrow('mine')

    expect(await (await fetch(url)).text()).toBe('hello')
    expect((await dnsPromises.lookup('127.0.0.1')).address).toBe('127.0.0.1')
    expect(typeof WebSocket).toBe('function')
  })

  it('refuses work that is not synchronous, which it could not watch', () => {
    expect(() => withoutNetwork(async () => 1)).toThrow('must be synchronous')
  })
})
