/**
 * A plain HTTP proxy before the API server of the tests, for what networks do to an operator: connections are cut and refused, and watches freeze
 * without an end. To be reached from this machine only.
 */
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { Agent, request as ask } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Plane } from '../../testplane/plane.ts'

interface Watch {
  readonly path: string
  isFrozen: boolean
}

export class ApiProxy {
  /** Path of a kubeconfig with the same identity, whose server is this proxy. */
  readonly kubeconfig: string
  private readonly server: Server
  private readonly watches = new Set<Watch>()
  private isCut = false

  private constructor(kubeconfig: string, server: Server) {
    this.kubeconfig = kubeconfig
    this.server = server
  }

  static async start(plane: Plane, kubeconfig = plane.address.kubeconfig): Promise<ApiProxy> {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const path = `${kubeconfig}.${new URL(url).port}`
    await writeFile(path, (await readFile(kubeconfig, 'utf8')).replace(plane.address.server, url), { mode: 0o600 })
    const proxy = new ApiProxy(path, server)
    proxy.serve(plane)
    return proxy
  }

  /** Ends all connections and takes none until `mend`. */
  cut(): void {
    this.isCut = true
    this.server.closeAllConnections()
  }

  mend(): void {
    this.isCut = false
  }

  /** Nothing comes any more to the watches that are open now, and they do not end; those that begin later are as always. Returns their paths. */
  freezeWatches(): readonly string[] {
    for (const watch of this.watches) watch.isFrozen = true
    return [...this.watches].map(({ path }) => path)
  }

  async stop(): Promise<void> {
    this.server.close()
    this.server.closeAllConnections()
    await once(this.server, 'close')
  }

  private serve({ address }: Plane): void {
    const agent = new Agent({ ca: address.ca, keepAlive: true })
    this.server.on('close', () => agent.destroy())
    this.server.on('connection', (socket) => {
      if (this.isCut) socket.destroy()
    })
    this.server.on('request', (incoming, outgoing) => {
      const { method, headers, url = '' } = incoming
      const { host: _host, ...others } = headers
      const watch = new URL(url, address.server).searchParams.has('watch') ? { path: url, isFrozen: false } : undefined
      const onward = ask(new URL(url, address.server), { method, headers: others, agent }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
        outgoing.flushHeaders()
        if (!watch) {
          answer.pipe(outgoing)
          return
        }
        this.watches.add(watch)
        answer.on('data', (chunk: Buffer) => {
          if (!watch.isFrozen) outgoing.write(chunk)
        })
        answer.on('close', () => {
          if (!watch.isFrozen) outgoing.destroy()
        })
      })
      onward.on('error', () => {
        if (!watch?.isFrozen) outgoing.destroy()
      })
      outgoing.on('close', () => {
        if (watch) this.watches.delete(watch)
        onward.destroy()
      })
      incoming.pipe(onward)
    })
  }
}
