/**
 * The processes of the bench as a user would run them: broker, host, tool server, model, and both once more for each way of telemetry, with a
 * backend; beside them the client and the plain function.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { inventoryOf, loadSystem } from '../../cli/running/declared.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker } from '../support/broker.ts'
import type { Sample } from './closed-loop.ts'
import { BenchProcess, residentMb } from './process.ts'
import type { LoadQuestion } from './programs/load-client.ts'
import type { PlainQuestion } from './programs/plain.ts'
import type { Replayed } from './programs/replaying.ts'
import {
  COORDINATOR,
  LOCAL,
  MESSAGES_OF_A_TASK,
  manifestText,
  NAMESPACE,
  REMOTE,
  scriptOf,
  TOOL_SERVER,
  TRACED,
  type Traced,
  tracedToolServer,
  WORKERS,
} from './system.ts'

const KAOS = fileURLToPath(new URL('../../cli/kaos.js', import.meta.url))
const here = (file: string) => fileURLToPath(new URL(file, import.meta.url))

export const WORKLOADS = {
  remote: 'model → 2 tools over NATS → model',
  traced: 'the same, with telemetry',
  sampled: 'the same, with telemetry of 1 % of the traces',
  local: 'model → 2 local tools → model',
  workers: 'coordinator → 2 workers (4 model calls)',
  plain: 'plain async function, no bus',
  'publish-1': 'one publish with acknowledgement',
  'publish-all': `${MESSAGES_OF_A_TASK} publishes, one after the other`,
} as const
export type Workload = keyof typeof WORKLOADS

export interface RigOptions {
  /** Model calls of slow tasks. */
  readonly slowMs: number
  /** How long all processes are left alone before the memory of the host is looked at. */
  readonly settleMs: number
  /** CPU profiles of host, tool server and local host go into this folder. */
  readonly profileTo?: string | undefined
}

export interface Round {
  readonly workload: Workload
  readonly modelMs: number
  readonly inFlight: number
  readonly rampMs: number
  readonly windowMs: number
}

export class Rig implements AsyncDisposable {
  /** Of a host of agents that has done nothing yet, MB. */
  idleHostMb = 0
  private readonly parts: AsyncDisposableStack
  private readonly client: BenchProcess
  private readonly plain: BenchProcess
  private readonly replayer: BenchProcess
  private readonly cpuOf: Readonly<Record<string, number>>

  private constructor(
    parts: AsyncDisposableStack,
    processes: Record<'client' | 'plain' | 'replayer', BenchProcess>,
    cpuOf: Rig['cpuOf'],
  ) {
    this.parts = parts
    this.client = processes.client
    this.plain = processes.plain
    this.replayer = processes.replayer
    this.cpuOf = cpuOf
  }

  static async start({ slowMs, settleMs, profileTo }: RigOptions): Promise<Rig> {
    await using parts = new AsyncDisposableStack()
    const folder = await mkdtemp(join(tmpdir(), 'kaos-bench-'))
    parts.defer(() => rm(folder, { recursive: true, force: true }))
    const manifest = join(folder, 'bench.yaml')
    const script = join(folder, 'script.yaml')
    await writeFile(manifest, manifestText({ traced: true }))
    await writeFile(script, stringify(scriptOf(slowMs)))
    const broker = await startTestBroker()
    parts.use(broker)
    const bus = await openBus(broker.settings, { namespace: NAMESPACE, as: userParty('bench'), log: silentLog() })
    parts.defer(() => bus.close())
    await createStreams(bus.connection, inventoryOf(loadSystem([manifest]), NAMESPACE))

    const start = async (name: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
      const profile = profileTo ? [`--cpu-prof`, `--cpu-prof-dir=${join(profileTo, name)}`] : []
      const started = new BenchProcess(name, { args: [...profile, ...args], env: { NATS_URL: broker.url, ...env } })
      parts.defer(() => started.end())
      return { process: started, line: await started.ready }
    }
    const model = await start('model', [KAOS, 'model', 'serve', '--script', script])
    const modelUrl = /http:\/\/\S+/.exec(model.line)?.[0] ?? ''
    const env = { MODEL_API_URL: modelUrl, MODEL_API_KEY: 'bench' }
    const sink = await start('sink', [here('./programs/otlp-sink.ts')])
    const exporting = async (agent: Traced) => {
      const sampler = { OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: `${TRACED[agent]}` }
      const telemetry = { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: sink.line, ...sampler }
      const [ofHost, ofTools] = await Promise.all([
        start(agent, [KAOS, 'host', '-f', manifest, '--only', agent], telemetry),
        start(`${agent}-tools`, [KAOS, 'host', '-f', manifest, '--only', tracedToolServer(agent)], telemetry),
      ])
      return { [`${agent} host`]: ofHost.process.pid, [`${agent} tools`]: ofTools.process.pid }
    }
    const [host, tools, local, client, plain, replayer, traced, sampled] = await Promise.all([
      start('host', [KAOS, 'host', '-f', manifest, '--only', REMOTE, COORDINATOR, ...WORKERS], env),
      start('tools', [KAOS, 'host', '-f', manifest, '--only', TOOL_SERVER], env),
      start('local', [here('./programs/local-host.ts'), manifest], env),
      start('client', [here('./programs/load-client.ts')]),
      start('plain', [here('./programs/plain.ts'), modelUrl]),
      start('replayer', [here('./programs/replaying.ts'), manifest]),
      exporting('traced'),
      exporting('sampled'),
    ])
    await delay(settleMs)
    const rig = new Rig(
      parts.move(),
      { client: client.process, plain: plain.process, replayer: replayer.process },
      {
        nats: broker.pid,
        host: host.process.pid,
        local: local.process.pid,
        tools: tools.process.pid,
        ...traced,
        ...sampled,
        client: client.process.pid,
      },
    )
    rig.idleHostMb = residentMb(host.process.pid)
    return rig
  }

  run({ workload, ...options }: Round): Promise<Sample> {
    const { nats = 0, client = 0, plain = this.plain.pid, ...hosts } = this.cpuOf
    const { modelMs } = options
    if (workload === 'plain') return this.plain.ask<Sample>({ ...options, cpuOf: { plain } } satisfies PlainQuestion)
    const ask = (question: LoadQuestion) => this.client.ask<Sample>(question)
    const ofAgent = (agent: string) => ask({ ...options, cpuOf: { nats, client, ...hosts }, load: { agent, modelMs } })
    const ofPublishes = (publishes: number) => ask({ ...options, cpuOf: { nats, client }, load: { publishes } })
    switch (workload) {
      case 'remote':
        return ofAgent(REMOTE)
      case 'traced':
      case 'sampled':
        return ofAgent(workload)
      case 'local':
        return ofAgent(LOCAL)
      case 'workers':
        return ofAgent(COORDINATOR)
      case 'publish-1':
        return ofPublishes(1)
      case 'publish-all':
        return ofPublishes(MESSAGES_OF_A_TASK)
    }
  }

  /** Replays the latest traces. */
  replay(traces: number): Promise<Replayed> {
    return this.replayer.ask<Replayed>({ traces })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.parts.disposeAsync()
  }
}
