/** A whole system in memory: agents with scripted models, tool servers that are functions, hosts that can die or freeze. */
import { randomBytes } from 'node:crypto'
import { type AgentDefinition, asJson, defineAgent } from '../../actors/agent/definition.ts'
import { agentMachine, type ModelInput } from '../../actors/agent/machine.ts'
import { delegateEffect } from '../../actors/effects/delegation.ts'
import type { LocalEffect } from '../../actors/effects/effect.ts'
import { toolEffect } from '../../actors/effects/tool.ts'
import type { Machine } from '../../actors/machine.ts'
import type { ResultRecord } from '../../actors/outbox.ts'
import type { AgentRuntime } from '../../actors/runtime.ts'
import { serveAgent } from '../../actors/service.ts'
import { type CrashPoint, neverCrash } from '../../actors/turn/crash.ts'
import { systemClock } from '../../bus/contracts.ts'
import { MemoryBroker, type MemoryBus } from '../../bus/memory.ts'
import type { ToolDescription } from '../../bus/wire/catalog.ts'
import type { Json } from '../../bus/wire/json.ts'
import { parseBlobBody } from '../../bus/wire/message.ts'
import type { Subjects } from '../../bus/wire/subjects.ts'
import type { TraceBoundary } from '../../manifests/kinds/telemetry.ts'
import { silentLog } from '../../telemetry/log.ts'
import type { ServiceTelemetry } from '../../telemetry/telemetry.ts'
import { serveTools, type ToolCrashPoint } from '../../tools/server.ts'

export interface Reply {
  readonly text?: string
  readonly calls?: readonly { readonly name: string; readonly arguments: Json | string }[]
  readonly delayMs?: number
}
/** A model as a function of the request. */
export type ScriptedModel = (request: {
  readonly agent: string
  readonly messages: readonly { role: string; content: string | null }[]
  readonly turn: number
}) => Reply | Promise<Reply>

export interface AgentSpec {
  readonly name: string
  readonly tools?: readonly string[]
  readonly peers?: readonly string[]
  readonly steps?: number
  readonly instructions?: string
  readonly toolCallMode?: AgentDefinition['toolCallMode']
  readonly contextLimit?: number
  readonly toolCalls?: number
  readonly runtimeSeconds?: number
}

export function identity() {
  const id = `h${randomBytes(5).toString('hex')}`
  let counter = 0
  return { id, nextWriter: () => `${id}.${++counter}` }
}

const machine = agentMachine()

export function definitionOf(spec: AgentSpec, tools: readonly ToolDescription[] = [echoTool]): AgentDefinition {
  return defineAgent(
    {
      name: spec.name,
      description: `The ${spec.name}`,
      instructions: spec.instructions ?? `Do what a ${spec.name} does.`,
      systemPrompt: '',
      model: 'scripted',
      settings: {},
      toolCallMode: spec.toolCallMode ?? 'auto',
      peers: (spec.peers ?? []).map((name) => ({ name, description: '' })),
      steps: spec.steps ?? 10,
      contextLimit: spec.contextLimit ?? 6,
      toolCalls: spec.toolCalls ?? 50,
      runtimeSeconds: spec.runtimeSeconds ?? 300,
    },
    (spec.tools ?? []).map((server) => ({ server, tools })),
  )
}

export const echoTool: ToolDescription = {
  name: 'echo',
  description: 'Says it again.',
  inputSchema: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] },
  readOnlyHint: true,
  idempotentHint: true,
}

/** An agent whose model is a function. `onRun` is told of every call of it. */
export function scriptedRuntime(
  spec: AgentSpec,
  options: {
    readonly subjects: Subjects
    readonly model: ScriptedModel
    readonly machine?: Machine
    readonly onRun?: (effect: string) => void
  },
): AgentRuntime {
  const { subjects, onRun } = options
  const model: LocalEffect = {
    kind: 'local',
    run: async ({ id, input, signal }) => {
      onRun?.(id)
      const messages = (input as unknown as ModelInput).request.messages as unknown as {
        role: string
        content: string | null
      }[]
      const reply = await options.model({
        agent: spec.name,
        messages,
        turn: messages.filter(({ role }) => role === 'assistant').length,
      })
      if (reply.delayMs) await new Promise((resolve) => setTimeout(resolve, reply.delayMs))
      if (signal.aborted) throw new Error('aborted')
      const toolCalls = (reply.calls ?? []).map((call, k) => ({
        id: `call_${k}`,
        name: call.name,
        arguments: typeof call.arguments === 'string' ? call.arguments : JSON.stringify(call.arguments),
      }))
      const value = { text: reply.text ?? '', toolCalls, finishReason: 'stop', model: 'scripted' }
      return { value, usage: { inputTokens: 10, outputTokens: 5, modelCalls: 1, toolCalls: 0 } }
    },
  }
  return {
    name: spec.name,
    machine: options.machine ?? machine,
    effects: { model, tool: toolEffect(subjects), delegate: delegateEffect(subjects) },
    definition: async () => asJson(definitionOf(spec)),
    withoutTools: (failure) => asJson({ ...definitionOf(spec), failure }),
  }
}

export class MemorySystem {
  readonly broker: MemoryBroker
  readonly modelRuns: { readonly effect: string; readonly host: string }[] = []
  readonly toolRuns: { readonly effect: string; readonly host: string }[] = []
  readonly buses: MemoryBus[] = []
  private readonly agents: readonly AgentSpec[]
  private readonly model: ScriptedModel
  private readonly services: { stop(graceMs: number): Promise<void> }[] = []

  constructor(options: {
    readonly agents: readonly AgentSpec[]
    readonly tools?: readonly string[]
    readonly model: ScriptedModel
    readonly ackWaitMs?: number
  }) {
    this.broker = new MemoryBroker({ ackWaitMs: options.ackWaitMs ?? 60 })
    this.agents = options.agents
    this.model = options.model
    for (const agent of options.agents) this.broker.declareAgent(agent.name)
    for (const tool of options.tools ?? []) this.broker.declareTool(tool)
  }

  runtime(spec: AgentSpec, host: string, using: Machine = machine): AgentRuntime {
    return scriptedRuntime(spec, {
      subjects: this.broker.subjects,
      model: this.model,
      machine: using,
      onRun: (effect) => void this.modelRuns.push({ effect, host }),
    })
  }

  /** Starts a process that hosts agents. */
  startHost(
    options: {
      readonly agents?: readonly string[]
      readonly crash?: (kill: () => Promise<void>) => CrashPoint
      readonly machine?: Machine
      readonly telemetry?: ServiceTelemetry
      readonly traceBoundary?: TraceBoundary
    } = {},
  ): MemoryBus {
    const bus = this.connect()
    const who = identity()
    const die = () => {
      bus.kill()
      return new Promise<void>(() => {})
    }
    for (const spec of this.agents) {
      if (options.agents && !options.agents.includes(spec.name)) continue
      const { telemetry, traceBoundary } = options
      const agent = { ...this.runtime(spec, who.id, options.machine), ...(traceBoundary && { traceBoundary }) }
      this.services.push(
        serveAgent({
          bus,
          agent,
          identity: who,
          clock: systemClock,
          log: silentLog(),
          crash: options.crash?.(die) ?? neverCrash,
          ...(telemetry && { telemetry }),
        }),
      )
    }
    return bus
  }

  /** Starts a process that serves tools; each tool is `run`, which by default says the text again. */
  startTools(
    server: string,
    options: {
      readonly crash?: (kill: () => Promise<void>) => ToolCrashPoint
      readonly run?: (text: string, effect: string) => Promise<Json>
      readonly tool?: Partial<ToolDescription>
    } = {},
  ): MemoryBus {
    const bus = this.connect()
    const who = identity()
    const die = () => {
      bus.kill()
      return new Promise<void>(() => {})
    }
    const session = {
      list: async () => [{ ...echoTool, ...options.tool }],
      call: async (call: { readonly arguments: unknown; readonly idempotencyKey: string }) => {
        this.toolRuns.push({ effect: call.idempotencyKey, host: who.id })
        const text = String((call.arguments as { text: string }).text)
        return { value: options.run ? await options.run(text, call.idempotencyKey) : `R(${text})`, isError: false }
      },
    }
    const crash = options.crash?.(die) ?? (() => undefined)
    this.services.push(
      serveTools({ bus, server, session: session as never, identity: who, clock: systemClock, log: silentLog(), crash }),
    )
    return bus
  }

  send(agent: string, text: string, headers: Readonly<Record<string, string>> = {}): void {
    this.broker.publish(this.broker.subjects.door(agent), text, headers)
  }

  result(agent: string, key: string): ResultRecord | undefined {
    const { records, subjects } = this.broker
    const [stored] = records.get(subjects.result(agent, key)) ?? []
    if (!stored) return undefined
    const ref = parseBlobBody(stored.text)
    const text = ref ? records.get(subjects.blob(ref.owner, ref.to, ref.task, ref.sha, 0))![0]!.text : stored.text
    return JSON.parse(text) as ResultRecord
  }

  async waitForResult(agent: string, key: string, deadlineMs = 10_000): Promise<ResultRecord> {
    return until(() => this.result(agent, key), `result of ${agent} ${key}`, deadlineMs)
  }

  async waitForQuiet(deadlineMs = 10_000): Promise<void> {
    await until(() => this.broker.backlog === 0 || undefined, 'an empty backlog', deadlineMs)
  }

  async close(): Promise<void> {
    for (const bus of this.buses) bus.kill()
    this.broker.close()
  }

  private connect(): MemoryBus {
    const bus = this.broker.connect()
    this.buses.push(bus)
    return bus
  }
}

/** Looks every few milliseconds until there is something; rejects after the deadline. */
export async function until<T>(
  look: () => T | undefined | Promise<T | undefined>,
  what: string,
  deadlineMs = 10_000,
): Promise<T> {
  const deadline = Date.now() + deadlineMs
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (Date.now() > deadline) throw new Error(`waited ${deadlineMs} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
