/** What `kaos host` does before its first task: a pod that is woken for one makes its sender wait for all of it. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { connectBroker } from '../../bus/connection.ts'
import { createStreams } from '../../bus/streams.ts'
import { inventoryOf, loadSystem } from '../../cli/running/declared.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker } from '../support/broker.ts'
import { HostProcess } from '../support/host-process.ts'

const PROJECT = new URL('../../', import.meta.url).href
const RECORDER = new URL('../support/start-recorder.mjs', import.meta.url).href
const MANIFEST = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: sleeper }
spec:
  modelAPI: models
  model: m
  config: { description: Sleeps., instructions: Answer briefly. }
`
/** Packages that who hosts agents may need later, or never; and parts of this project: tool servers, the operator, the embedded broker, the offline model. */
const NOT_YET = [
  /^node_modules\/(@opentelemetry|@modelcontextprotocol|@kubernetes|pino-pretty)\//,
  /^(tools|operator)\//,
  /^bus\/server\/(embedded|folder-lock|binary\/(find|archive))/,
  /^actors\/testing\//,
]

it('waits for its first task without having loaded what only others or later calls need, and has dialled its broker alone', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kaos-test-start-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await using broker = await startTestBroker()
  const manifest = join(folder, 'sleeper.yaml')
  const record = join(folder, 'record.json')
  await writeFile(manifest, MANIFEST)
  const connection = await connectBroker(broker.settings, { name: 'test', log: silentLog() })
  onTestFinished(() => connection.close())
  await createStreams(connection, inventoryOf(loadSystem([manifest]), 'default'))
  const env = {
    NATS_URL: broker.url,
    MODEL_API_URL: 'http://127.0.0.1:1/v1',
    NODE_OPTIONS: `--import ${RECORDER}`,
    KAOS_TEST_RECORD: record,
  }

  const host = new HostProcess({ name: 'starting', manifest, only: ['sleeper'], env })
  await host.untilReady()
  await host.stop()
  const { modules, ports } = JSON.parse(await readFile(record, 'utf8')) as { modules: string[]; ports: number[] }

  const loaded = modules.filter((url) => url.startsWith(PROJECT)).map((url) => url.slice(PROJECT.length))
  expect(loaded).toContain('cli/host.ts')
  expect(loaded.filter((path) => NOT_YET.some((pattern) => pattern.test(path)))).toEqual([])
  expect(new Set(ports)).toEqual(new Set([broker.port]))
})
