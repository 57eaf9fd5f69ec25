/** A real nats-server for a test: on a free port, with a fresh store in the system's temporary folder, and with ways to fail. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BrokerSettings } from '../../bus/access/settings.ts'
import { type FoundServer, findServer } from '../../bus/server/binary/find.ts'
import { type EmbeddedServer, type ServerOptions, startServer } from '../../bus/server/embedded.ts'

export interface TestBroker extends AsyncDisposable {
  readonly url: string
  readonly port: number
  /** For `connectBroker`. */
  readonly settings: BrokerSettings
  /** Of nats-server; another one after a restart. */
  readonly pid: number
  readonly storeDir: string
  /** Ends the server and removes the store. May be called again. */
  stop(): Promise<void>
  /** kill -9; the store stays. */
  kill(): Promise<void>
  /** Starts the server again with the same store on the same port; ends it first if it runs. */
  restart(): Promise<void>
}

let found: Promise<FoundServer> | undefined

/** The server that all tests use. The global setup has put it into the cache, unless one is on PATH. */
export function findTestServer(): Promise<FoundServer> {
  found ??= findServer({ env: process.env, say: () => {} })
  return found
}

export async function startTestBroker(options: Pick<ServerOptions, 'config' | 'access'> = {}): Promise<TestBroker> {
  const { path: binary } = await findTestServer()
  const storeDir = await mkdtemp(join(tmpdir(), 'kaos-test-broker-'))
  const start = (port: number) => startServer({ ...options, binary, storeDir, port })
  let server: EmbeddedServer = await start(0)
  const { url, port } = server
  const stop = async () => {
    await server.stop()
    await rm(storeDir, { recursive: true, force: true })
  }
  return {
    url,
    port,
    storeDir,
    settings: { servers: [url], source: 'embedded', identity: options.access?.identity ?? { kind: 'none' } },
    get pid() {
      return server.pid
    },
    stop,
    kill: () => server.kill(),
    async restart() {
      await server.stop()
      server = await start(port)
    },
    [Symbol.asyncDispose]: stop,
  }
}
