/**
 * A TCP proxy between a client and nats-server that reads along and can lose what the server sends: the answer to one publish, say. It knows
 * as much of the protocol as it takes to find the messages.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A message of either side: PUB, HPUB, MSG or HMSG. */
export interface Frame {
  readonly verb: string
  readonly subject: string
  /** Where its sender wants the answer; empty if nowhere. */
  readonly reply: string
  /** Headers and payload. */
  readonly body: string
}

export interface TcpProxyOptions {
  /** Port of nats-server on the loopback. */
  readonly port: number
  /** Sees each message that the client sends. */
  readonly onSent?: (frame: Frame) => void
  /** Sees each message that the server sends; true loses it. */
  readonly loses?: (frame: Frame) => boolean
}

export interface TcpProxy extends AsyncDisposable {
  readonly url: string
}

export async function startTcpProxy({ port, onSent, loses }: TcpProxyOptions): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1')
    const sent = new Frames((frame, bytes) => {
      if (frame) onSent?.(frame)
      upstream.write(bytes)
    })
    const received = new Frames((frame, bytes) => {
      if (!frame || !loses?.(frame)) client.write(bytes)
    })
    client.on('data', (chunk) => sent.push(chunk))
    upstream.on('data', (chunk) => received.push(chunk))
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => {}) // told by the close that follows
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

/** Cuts a stream of bytes into lines and messages. */
class Frames {
  private rest: Buffer = Buffer.alloc(0)
  private readonly take: (frame: Frame | undefined, bytes: Buffer) => void

  constructor(take: (frame: Frame | undefined, bytes: Buffer) => void) {
    this.take = take
  }

  push(chunk: Buffer): void {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk])
    for (let end = this.rest.indexOf('\r\n'); end >= 0; end = this.rest.indexOf('\r\n')) {
      const head = readHead(this.rest.subarray(0, end).toString('latin1'))
      const length = end + 2 + (head ? head.bytes + 2 : 0)
      if (this.rest.length < length) return
      const bytes = this.rest.subarray(0, length)
      this.rest = this.rest.subarray(length)
      this.take(head && { ...head, body: bytes.subarray(end + 2, -2).toString('latin1') }, bytes)
    }
  }
}

/** The first line of a message; undefined for every other line. */
function readHead(line: string): (Omit<Frame, 'body'> & { readonly bytes: number }) | undefined {
  const [verb = '', subject = '', ...rest] = line.split(' ')
  const bytes = Number(rest.at(-1))
  switch (verb) {
    case 'PUB': // subject [reply] bytes
      return { verb, subject, reply: rest.length > 1 ? rest[0]! : '', bytes }
    case 'HPUB': // subject [reply] header-bytes bytes
      return { verb, subject, reply: rest.length > 2 ? rest[0]! : '', bytes }
    case 'MSG': // subject sid [reply] bytes
      return { verb, subject, reply: rest.length > 2 ? rest[1]! : '', bytes }
    case 'HMSG': // subject sid [reply] header-bytes bytes
      return { verb, subject, reply: rest.length > 3 ? rest[1]! : '', bytes }
    default:
      return undefined
  }
}
