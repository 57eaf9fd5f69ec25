/** Three real nats-servers that are one cluster: about 2 s to start. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { BrokerSettings } from '../../bus/access/settings.ts'
import { connectBroker } from '../../bus/connection.ts'
import { type EmbeddedServer, startServer } from '../../bus/server/embedded.ts'
import { randomPort } from '../../bus/server/port.ts'
import { createSharedStreams } from '../../bus/streams.ts'
import { silentLog } from '../../telemetry/log.ts'
import { findTestServer } from './broker.ts'

const SERVERS = 3
const READY_MS = 30_000

export interface TestCluster extends AsyncDisposable {
  readonly servers: readonly EmbeddedServer[]
  /** Of all servers. */
  readonly settings: BrokerSettings
  settingsOf(server: EmbeddedServer): BrokerSettings
}

/** With the streams that all namespaces share, on one server each. */
export async function startTestCluster(): Promise<TestCluster> {
  const { path: binary } = await findTestServer()
  const folder = await mkdtemp(join(tmpdir(), 'kaos-test-cluster-'))
  const ports = Array.from({ length: SERVERS }, randomPort)
  const routes = JSON.stringify(ports.map((port) => `nats://127.0.0.1:${port}`))
  const start = (port: number, index: number) =>
    startServer({
      binary,
      storeDir: join(folder, String(index)),
      port: 0,
      readyMs: READY_MS,
      config: `cluster { name: test, listen: "127.0.0.1:${port}", routes: ${routes} }`,
    })
  const servers = await Promise.all(ports.map(start))
  const settingsOf = (...some: readonly EmbeddedServer[]): BrokerSettings => ({
    servers: some.map(({ url }) => url),
    source: 'embedded',
    identity: { kind: 'none' },
  })
  await untilStreamsAreMade(settingsOf(...servers))
  return {
    servers,
    settings: settingsOf(...servers),
    settingsOf,
    async [Symbol.asyncDispose]() {
      await Promise.all(servers.map((server) => server.kill()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** A cluster that has just found its leader refuses for some moments. */
async function untilStreamsAreMade(settings: BrokerSettings): Promise<void> {
  const connection = await connectBroker(settings, { name: 'test', log: silentLog() })
  for (const deadline = Date.now() + READY_MS; ; await delay(100)) {
    try {
      await createSharedStreams(connection)
      break
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
  }
  await connection.close()
}
