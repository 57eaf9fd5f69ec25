/**
 * A whole system as it runs in earnest: a real broker, `kaos host` processes, tools that are processes too, and a model over HTTP in the test
 * process, which counts. A rig is what systems can share; each has a namespace of its own on it.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { stringify } from 'yaml'
import type { ResultRecord } from '../../actors/outbox.ts'
import type { Script } from '../../actors/testing/model-script.ts'
import {
  type ModelServer,
  type ModelServerOptions,
  type RecordedRequest,
  startModelServer,
} from '../../actors/testing/model-server.ts'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { type SentTask, sendTask } from '../../cli/client/sending.ts'
import { inventoryOf, loadSystem } from '../../cli/running/declared.ts'
import type { System } from '../../manifests/load.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from './broker.ts'
import { countedTools, type LedgerLine, readLedger } from './counted-tools.ts'
import { HostProcess, KAOS } from './host-process.ts'
import { eventually, isAlive } from './mcp-calls.ts'

/** For a test that waits for a takeover or two, on a machine that does other things as well. */
export const TEST_MS = 60_000

export const AGENTS = ['coordinator', 'worker1', 'worker2'] as const
export const TOOL_SERVER = 'desk'

/**
 * The coordinator makes two notes at once, then asks both workers at once, then answers with all it was told; a worker makes one note. So a
 * task is 3 + 2 × 2 model calls, 2 + 2 tool calls and 8 + 2 × 4 entries. A worker that is told to charge does that instead.
 */
export function teamScript({ modelMs = 0, toolMs = 0 } = {}): Script {
  const pace = { delayMs: modelMs }
  const note = (text: string) => ({ name: 'note', arguments: { text, ms: toolMs } })
  const ask = (worker: string) => ({ name: `delegate_to_${worker}`, arguments: { task: `{{input}}.${worker}` } })
  const charge = { name: 'charge', arguments: { text: '{{input}}', ms: toolMs } }
  return {
    rules: [
      { when: { turn: 0, text: 'charge' }, reply: { calls: [charge], ...pace } },
      { when: { agent: 'coordinator', turn: 0 }, reply: { calls: [note('{{input}}.a'), note('{{input}}.b')], ...pace } },
      { when: { agent: 'coordinator', turn: 1 }, reply: { calls: [ask('worker1'), ask('worker2')], ...pace } },
      { when: { turn: 0 }, reply: { calls: [note('{{input}}.t')], ...pace } },
      { reply: { text: '{{input}}:{{results}}', ...pace } },
    ],
  }
}

export const TEAM_WORK = { modelCalls: 7, toolCalls: 4, entries: 16 } as const

/** What `teamScript` makes of a task's text. */
export function teamAnswer(text: string): string {
  const results = ['a', 'b'].map((part) => `R(${text}.${part})`)
  const reports = ['worker1', 'worker2'].map((worker) => `${text}.${worker}:R(${text}.${worker}.t)`)
  return `${text}:${[...results, ...reports].join('\n')}`
}

export interface Rig extends AsyncDisposable {
  readonly broker: TestBroker
  readonly model: ModelServer
  /** All chat requests, oldest first. Grows by one at each call of the model. */
  readonly requests: readonly RecordedRequest[]
  /** Calls back at each chat request, before it is answered; the returned function ends that. */
  onRequest(listener: (request: RecordedRequest) => void): () => void
}

export async function startRig(
  script: Script = teamScript(),
  options: Pick<ModelServerOptions, 'refusesTools'> = {},
): Promise<Rig> {
  const broker = await startTestBroker()
  compiled ??= fillCompileCache()
  await compiled
  const requests: RecordedRequest[] = []
  const listeners = new Set<(request: RecordedRequest) => void>()
  const model = await startModelServer({
    script,
    ...options,
    onRequest(request) {
      requests.push(request)
      for (const listener of listeners) listener(request)
    },
  })
  return {
    broker,
    model,
    requests,
    onRequest(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    async [Symbol.asyncDispose]() {
      await model.stop()
      await broker.stop()
    },
  }
}

/** Where Node keeps compiled code, so that the many processes of a test start in half the time. */
const COMPILE_CACHE = fileURLToPath(new URL('../../node_modules/.cache/kaos-test', import.meta.url))

let compiled: Promise<unknown> | undefined

/** Node writes its cache when a process ends by itself, which those that are killed never do. */
function fillCompileCache(): Promise<unknown> {
  return promisify(execFile)(process.execPath, [KAOS, '--help'], { env: { ...process.env, NODE_COMPILE_CACHE: COMPILE_CACHE } })
}

interface StartOptions {
  /** Default: all agents. */
  readonly only?: readonly string[]
  /** `<point>:<hit>` for KAOS_CRASH_AT. */
  readonly crashAt?: string
  /** Where it finds the broker, if not there where it is. */
  readonly natsUrl?: string
}

export interface SystemOptions {
  /** Default true: the streams are there before any host. */
  readonly withStreams?: boolean
  /** Of all agents. Default: the manifest's own. */
  readonly toolCallMode?: 'auto' | 'native' | 'string'
  /** Absolute path of the machine that is the coordinator. */
  readonly machine?: string
  /** Of every process. */
  readonly env?: Readonly<Record<string, string>>
}

export class ProcessSystem implements AsyncDisposable {
  readonly rig: Rig
  readonly namespace: string
  /** As declared by the manifest that all hosts run. */
  readonly declared: System
  readonly bus: NatsBus
  readonly manifest: string
  readonly sent: SentTask[] = []
  /** Every process that was ever started, also those that are gone. */
  readonly processes: HostProcess[] = []
  private readonly folder: string
  private readonly env: Readonly<Record<string, string>>
  private counter = 0

  private constructor(
    rig: Rig,
    namespace: string,
    folder: string,
    declared: System,
    bus: NatsBus,
    env: SystemOptions['env'] = {},
  ) {
    this.rig = rig
    this.namespace = namespace
    this.folder = folder
    this.env = env
    this.manifest = manifestIn(folder)
    this.declared = declared
    this.bus = bus
  }

  static async create(
    rig: Rig,
    namespace: string,
    { withStreams = true, toolCallMode, machine, env }: SystemOptions = {},
  ): Promise<ProcessSystem> {
    const folder = await mkdtemp(join(tmpdir(), 'kaos-test-system-'))
    const toolEnv = { LEDGER: ledgerIn(folder), NODE_COMPILE_CACHE: COMPILE_CACHE }
    await writeFile(manifestIn(folder), manifestText(namespace, toolEnv, toolCallMode, machine))
    const declared = loadSystem([manifestIn(folder)])
    const bus = await openBus(rig.broker.settings, { namespace, as: userParty('test'), log: silentLog() })
    const system = new ProcessSystem(rig, namespace, folder, declared, bus, env)
    if (withStreams) await system.createStreams()
    return system
  }

  createStreams(): Promise<void> {
    return createStreams(this.bus.connection, inventoryOf(this.declared, this.namespace))
  }

  /** Starts a process that hosts agents, and waits until it pulls. */
  async startHost(options: StartOptions = {}): Promise<HostProcess> {
    const host = this.launch('host', { only: AGENTS, ...options })
    await host.untilReady()
    return host
  }

  /** Starts a process that serves the tools, and waits until it pulls and agents can know of them. */
  async startTools(options: Omit<StartOptions, 'only'> = {}): Promise<HostProcess> {
    const host = this.launch('tools', { ...options, only: [TOOL_SERVER] })
    await host.untilReady()
    await eventually(async () => (await this.bus.catalog.tools(TOOL_SERVER, { fresh: true })) !== undefined)
    return host
  }

  async send(agent: string, text: string, id = text): Promise<SentTask> {
    const sent = await sendTask(this.bus, agent, text, { id })
    this.sent.push(sent)
    return sent
  }

  /** Sends a task once more, as a client does that heard nothing. */
  async sendAgain({ agent, key }: SentTask, text: string): Promise<void> {
    await sendTask(this.bus, agent, text, { id: key })
  }

  /** Rejects, with what the processes said, when there is none in time. */
  async waitForResult(task: SentTask, deadlineMs = 25_000): Promise<ResultRecord> {
    const text = await this.bus.results.wait(task.agent, task.key, { deadlineMs })
    if (text === undefined) throw new Error(`no result of ${task.task} within ${deadlineMs} ms\n${this.said()}`)
    return JSON.parse(text) as ResultRecord
  }

  /** Resolves when the model is asked for an effect for the first time, before it answers. */
  untilAsked(effect: string): Promise<void> {
    return new Promise((resolve) => {
      const ignore = this.rig.onRequest((request) => {
        if (request.key !== effect || !this.hostOf(request)) return
        ignore()
        resolve()
      })
    })
  }

  /** Chat requests of this system's processes. */
  modelRequests(): readonly (RecordedRequest & { readonly host: HostProcess })[] {
    return this.rig.requests.flatMap((request) => {
      const host = this.hostOf(request)
      return host ? [{ ...request, host }] : []
    })
  }

  /** Executions as the tools themselves counted them. */
  toolRuns(): readonly (LedgerLine & { readonly kind: 'run' })[] {
    return readLedger(ledgerIn(this.folder)).filter((line) => line.kind === 'run')
  }

  /** The end of what each process wrote on stderr. */
  said(): string {
    return this.processes.map(({ name, pid, stderr }) => `--- ${name} (${pid})\n${stderr.slice(-4_000)}`).join('\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.processes.filter(({ isRunning }) => isRunning).map((host) => host.kill()))
    const tools = readLedger(ledgerIn(this.folder)).flatMap((line) => (line.kind === 'start' ? [line.pid] : []))
    await eventually(() => !tools.some(isAlive))
    await this.bus.close()
    await rm(this.folder, { recursive: true, force: true })
  }

  private hostOf({ headers }: RecordedRequest): HostProcess | undefined {
    return this.processes.find(({ name }) => headers.authorization === `Bearer ${name}`)
  }

  private launch(kind: string, { only = [], crashAt, natsUrl }: StartOptions): HostProcess {
    const name = `${this.namespace}-${kind}-${++this.counter}`
    const env = {
      ...this.env,
      NODE_COMPILE_CACHE: COMPILE_CACHE,
      NATS_URL: natsUrl ?? this.rig.broker.url,
      MODEL_API_URL: this.rig.model.url,
      // The key is the name, so that the model can tell who asks.
      MODEL_API_KEY: name,
      ...(crashAt && { KAOS_CRASH_AT: crashAt }),
    }
    const host = new HostProcess({ name, manifest: this.manifest, only, env })
    this.processes.push(host)
    return host
  }
}

const manifestIn = (folder: string) => join(folder, 'team.yaml')
const ledgerIn = (folder: string) => join(folder, 'ledger')

function manifestText(
  namespace: string,
  toolEnv: Readonly<Record<string, string>>,
  toolCallMode?: string,
  machine?: string,
): string {
  const resource = (kind: string, name: string, spec: object) => ({
    apiVersion: 'kaos.tools/v1alpha1',
    kind,
    metadata: { name, namespace },
    spec,
  })
  const agent = (name: string, access: readonly string[]) =>
    resource('Agent', name, {
      modelAPI: 'models',
      model: 'scripted',
      mcpServers: [TOOL_SERVER],
      ...(machine && name === 'coordinator' && { machineRef: { path: machine } }),
      agentNetwork: { access },
      config: { description: `The ${name}.`, instructions: 'Do your part.', ...(toolCallMode && { toolCallMode }) },
    })
  const params = { command: process.execPath, args: [countedTools], env: toolEnv }
  const documents = [
    resource('ModelAPI', 'models', { mode: 'Proxy', proxyConfig: { models: ['*'] } }),
    resource('MCPServer', TOOL_SERVER, { runtime: 'stdio', params: JSON.stringify(params) }),
    agent('coordinator', ['worker1', 'worker2']),
    agent('worker1', []),
    agent('worker2', []),
  ]
  return documents.map((document) => stringify(document)).join('---\n')
}
