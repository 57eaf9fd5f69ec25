/**
 * Where bad and heavy input is tried: a real broker, `kaos host` as a process whose memory can be read, the kaos command, and a model whose
 * bytes the test writes itself.
 */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream'
import { stringify } from 'yaml'
import type { ResultRecord } from '../../actors/outbox.ts'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { createStreams } from '../../bus/streams.ts'
import { streamNames, userParty } from '../../bus/wire/subjects.ts'
import { inventoryOf, loadSystem } from '../../cli/running/declared.ts'
import { silentLog } from '../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../support/broker.ts'
import { type Finished, Folder } from '../support/cli.ts'
import { HostProcess } from '../support/host-process.ts'
import { until } from '../support/memory-system.ts'

export const NAMESPACE = 'heavy'
/** The one agent of a stand. */
export const AGENT = 'worker'
export const MiB = 1024 * 1024

/** Answers one chat request. `text` is the last thing that a person or a tool said. */
export type RawModel = (text: string, response: ServerResponse, request: IncomingMessage) => void

export interface StandOptions {
  readonly model?: RawModel
  /** `spec.config` of the agent. */
  readonly config?: object
  /** The MCP servers of the agent: `spec` by name. */
  readonly tools?: Readonly<Record<string, object>>
}

export class Stand implements AsyncDisposable {
  readonly broker: TestBroker
  readonly bus: NatsBus
  readonly manager: JetStreamManager
  readonly folder: Folder
  readonly modelRequests: { readonly text: string; readonly at: number }[]
  private readonly names: readonly string[]
  private readonly env: Readonly<Record<string, string>>
  private readonly stopModel: () => Promise<void>
  private readonly hosts: HostProcess[] = []

  private constructor(fields: Pick<Stand, 'broker' | 'bus' | 'manager' | 'folder' | 'modelRequests'> & StandParts) {
    this.broker = fields.broker
    this.bus = fields.bus
    this.manager = fields.manager
    this.folder = fields.folder
    this.modelRequests = fields.modelRequests
    this.names = fields.names
    this.env = { NATS_URL: fields.broker.url, MODEL_API_URL: fields.modelUrl }
    this.stopModel = fields.stopModel
  }

  static async start({ model = say('done'), config = {}, tools = {} }: StandOptions = {}): Promise<Stand> {
    const [broker, folder] = await Promise.all([startTestBroker(), Folder.create()])
    const manifest = join(folder.path, 'team.yaml')
    await writeFile(manifest, manifestText(config, tools))
    const { names, inventory } = declared(manifest)
    const bus = await openBus(broker.settings, { namespace: NAMESPACE, as: userParty('test'), log: silentLog() })
    await createStreams(bus.connection, inventory)
    const manager = await jetstreamManager(bus.connection)
    return new Stand({ broker, bus, manager, folder, names, ...(await serveModel(model)) })
  }

  /** Starts a process that hosts the agent and its tools, and waits until it pulls. */
  async startHost(): Promise<HostProcess> {
    const manifest = join(this.folder.path, 'team.yaml')
    const name = `heavy-${this.hosts.length}`
    const host = new HostProcess({ name, manifest, only: this.names, env: { ...this.env, LOG_LEVEL: 'INFO' } })
    this.hosts.push(host)
    await host.untilReady()
    return host
  }

  /** The kaos command on this broker and namespace. */
  kaos(args: readonly string[], options: { readonly input?: string; readonly deadlineMs?: number } = {}): Promise<Finished> {
    return this.folder.kaos([...args, '-n', NAMESPACE], { ...options, env: this.env })
  }

  /** Publishes at the door of the agent, as any JetStream client would. Rejects with the broker's refusal. */
  publish(body: string | Uint8Array, headers: Readonly<Record<string, string>> = {}): Promise<number> {
    return this.bus.publisher.publish(this.bus.subjects.door(AGENT), body, Object.entries(headers))
  }

  async resultOf(key: string, deadlineMs = 20_000): Promise<ResultRecord> {
    const text = await this.bus.results.wait(AGENT, key, { deadlineMs })
    if (text === undefined) throw new Error(`no result of "${key}" within ${deadlineMs} ms\n${this.said()}`)
    return JSON.parse(text) as ResultRecord
  }

  /** The state and the output or code of one more task: whether the system still works. */
  async nextTask(text = 'next'): Promise<string> {
    const key = `next-${++this.counter}`
    await this.publish(text, { 'Nats-Msg-Id': key })
    const result = await this.resultOf(key)
    return result.state === 'completed' ? `completed: ${result.output}` : `${result.state}: ${result.failure.code}`
  }
  private counter = 0

  async deadLetters(): Promise<readonly { readonly text: string; readonly code: string; readonly key: string }[]> {
    const letters = await this.bus.reader.getAll(streamNames.dead, `kaos.${NAMESPACE}.dead.>`, 1)
    return letters.map(({ text, header }) => ({
      text,
      code: header('Kaos-Dead-Code') ?? '',
      key: header('Kaos-Key') ?? '',
    }))
  }

  /** Messages at the door and in hand. */
  async mailLeft(): Promise<number> {
    const { state } = await this.manager.streams.info(streamNames.agentMail(NAMESPACE, AGENT))
    return state.messages
  }

  async untilNoMail(deadlineMs = 20_000): Promise<void> {
    await until(async () => (await this.mailLeft()) === 0 || undefined, `an empty door\n${this.said()}`, deadlineMs)
  }

  /** The end of what the hosts wrote on stderr. */
  said(): string {
    return this.hosts.map(({ name, stderr }) => `--- ${name}\n${stderr.slice(-4_000)}`).join('\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.hosts.filter(({ isRunning }) => isRunning).map((host) => host.kill()))
    await this.bus.close()
    await this.stopModel()
    await this.broker.stop()
    await this.folder.remove()
  }
}

interface StandParts {
  readonly names: readonly string[]
  readonly modelUrl: string
  readonly stopModel: () => Promise<void>
}

function declared(manifest: string) {
  const system = loadSystem([manifest])
  const names = [...system.agents, ...system.mcpServers].map(({ metadata }) => metadata.name)
  return { names, inventory: inventoryOf(system, NAMESPACE) }
}

/** Bytes of memory that a process holds now, and at most held since it began. From the kernel, so that nothing in the process has a say. */
export function memoryOf({ pid }: { readonly pid: number }): { readonly now: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)![1]) * 1024
  return { now: field('VmRSS'), peak: field('VmHWM') }
}

export const inMiB = (bytes: number) => Math.round(bytes / MiB)

/** A model that always answers the same, or what a function makes of the text. */
export function say(answer: string | ((text: string) => string)): RawModel {
  return (text, response) => {
    const content = typeof answer === 'string' ? answer : answer(text)
    response.writeHead(200, STREAM)
    response.end(`${chunk({ content }, 'stop')}data: [DONE]\n\n`)
  }
}

/** A model that asks for one call of a tool. */
export function callTool(name: string, args: object): RawModel {
  return (_text, response) => {
    const call = { index: 0, id: 'call_0', function: { name, arguments: JSON.stringify(args) } }
    response.writeHead(200, STREAM)
    response.end(`${chunk({ tool_calls: [call] }, 'tool_calls')}data: [DONE]\n\n`)
  }
}

export const STREAM = { 'content-type': 'text/event-stream' }

/** One event of a streamed answer. */
export function chunk(delta: object, finish: string | null = null): string {
  return `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`
}

async function serveModel(answer: RawModel) {
  const modelRequests: { readonly text: string; readonly at: number }[] = []
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const { messages } = JSON.parse(Buffer.concat(parts).toString()) as { messages: { content: string }[] }
    const text = messages.at(-1)!.content
    modelRequests.push({ text: text.slice(0, 200), at: Date.now() })
    response.on('error', () => {}) // the one who asked left
    answer(text, response, request)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    modelRequests,
    modelUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    async stopModel() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

function manifestText(config: object, tools: Readonly<Record<string, object>>): string {
  const resource = (kind: string, name: string, spec: object) =>
    stringify({ apiVersion: 'kaos.tools/v1alpha1', kind, metadata: { name, namespace: NAMESPACE }, spec })
  return [
    resource('ModelAPI', 'models', { mode: 'Proxy', proxyConfig: { models: ['*'] } }),
    ...Object.entries(tools).map(([name, spec]) => resource('MCPServer', name, spec)),
    resource('Agent', AGENT, { modelAPI: 'models', model: 'raw', mcpServers: Object.keys(tools), config }),
  ].join('---\n')
}
