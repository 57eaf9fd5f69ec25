/** A system of scripted agents and tools in one place, whose hosts can die, freeze and wake one by one. */

import type { ResultRecord, TraceRecord } from '../../actors/outbox.ts'
import type { AgentRuntime } from '../../actors/runtime.ts'
import { serveAgent } from '../../actors/service.ts'
import { type CrashPoint, neverCrash } from '../../actors/turn/crash.ts'
import { type Clock, systemClock } from '../../bus/contracts.ts'
import type { ToolDescription } from '../../bus/wire/catalog.ts'
import type { Entry } from '../../bus/wire/entry.ts'
import { openEntry } from '../../bus/wire/entry.ts'
import type { Json } from '../../bus/wire/json.ts'
import { type Party, type Subjects, toolParty } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'
import type { ServiceTelemetry } from '../../telemetry/telemetry.ts'
import { serveTools } from '../../tools/server.ts'
import { checkJournal } from './journal-check.ts'
import { type AgentSpec, echoTool, identity, type ScriptedModel, scriptedRuntime, until } from './memory-system.ts'
import type { Place, Process } from './places.ts'

export interface HostProcess extends Process {
  readonly id: string
}

/** An agent with a model, or one that says itself what it is. */
export type Hosted = AgentSpec & { readonly runtime?: (host: string) => AgentRuntime }

export class System {
  readonly place: Place
  readonly subjects: Subjects
  readonly modelRuns: { readonly effect: string; readonly host: string }[] = []
  readonly toolRuns: { readonly effect: string; readonly host: string }[] = []
  private readonly agents: readonly Hosted[]
  private readonly model: ScriptedModel

  private constructor(place: Place, agents: readonly Hosted[], model: ScriptedModel) {
    this.place = place
    this.subjects = place.subjects
    this.agents = agents
    this.model = model
  }

  static async start(
    place: Place,
    options: { readonly agents: readonly Hosted[]; readonly tools?: readonly string[]; readonly model: ScriptedModel },
  ): Promise<System> {
    await place.declare(
      options.agents.map(({ name }) => name),
      options.tools ?? [],
    )
    return new System(place, options.agents, options.model)
  }

  /** A process that hosts agents: all, or those that are named. */
  async startHost(
    options: {
      readonly agents?: readonly string[]
      readonly crash?: (die: () => Promise<void>) => CrashPoint
      readonly clock?: Clock
      readonly taskSlots?: number
      readonly mailSlots?: number
      readonly telemetry?: ((agent: string) => ServiceTelemetry) | undefined
    } = {},
  ): Promise<HostProcess> {
    const process = await this.place.connect()
    const who = identity()
    const die = () => {
      process.kill()
      return new Promise<void>(() => {})
    }
    for (const spec of this.agents) {
      if (options.agents && !options.agents.includes(spec.name)) continue
      const { subjects, model } = this
      const onRun = (effect: string) => void this.modelRuns.push({ effect, host: who.id })
      serveAgent({
        bus: process.bus,
        agent: spec.runtime?.(who.id) ?? scriptedRuntime(spec, { subjects, model, onRun }),
        identity: who,
        clock: options.clock ?? systemClock,
        log: silentLog(),
        crash: options.crash?.(die) ?? neverCrash,
        ...(options.telemetry && { telemetry: options.telemetry(spec.name) }),
        ...(options.taskSlots && { taskSlots: options.taskSlots }),
        ...(options.mailSlots && { mailSlots: options.mailSlots }),
      })
    }
    return Object.assign(process, { id: who.id })
  }

  /** A process that serves one tool server; its tool says the text again, unless `run` does something else. */
  async startTools(
    server: string,
    options: {
      readonly run?: (text: string, effect: string) => Json | Promise<Json>
      readonly tool?: Partial<ToolDescription>
    } = {},
  ): Promise<HostProcess> {
    const process = await this.place.connect()
    const who = identity()
    const session = {
      list: async () => [{ ...echoTool, ...options.tool }],
      call: async (call: { readonly arguments: unknown; readonly idempotencyKey: string }) => {
        this.toolRuns.push({ effect: call.idempotencyKey, host: who.id })
        const text = String((call.arguments as { text: string }).text)
        return { value: options.run ? await options.run(text, call.idempotencyKey) : `R(${text})`, isError: false }
      },
    }
    serveTools({
      bus: process.bus,
      server,
      session: session as never,
      identity: who,
      clock: systemClock,
      log: silentLog(),
      crash: () => undefined,
    })
    return Object.assign(process, { id: who.id })
  }

  /** Sends a task under a key. The key travels as ours does when mail is redriven, so that no dedup window hides a second copy. */
  async send(agent: string, key: string, body: string, headers: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.place.publish(this.subjects.door(agent), body, { 'Kaos-Key': key, ...headers })
  }

  /** A tool's answer, as its server would send it. */
  async reply(agent: string, effect: string, body: object | string, from: Party = toolParty('echo')): Promise<void> {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    await this.place.publish(this.subjects.reply(agent, from, effect), text, { 'Kaos-Id': effect, 'Kaos-V': '1' })
  }

  async entries(agent: string, task: string): Promise<readonly Entry[]> {
    const stored = await this.place.journal(agent, task)
    return stored.map(({ text }, n) => openEntry(text, undefined, `entry ${n}`).entry)
  }

  /** The hosts that wrote a journal's entries, one for each. */
  async writers(agent: string, task: string): Promise<readonly string[]> {
    return (await this.place.journal(agent, task)).map(({ writer }) => writer.split('.')[0]!)
  }

  waitForEntries(agent: string, task: string, count: number): Promise<readonly Entry[]> {
    return until(
      async () => {
        const entries = await this.entries(agent, task)
        return entries.length >= count ? entries : undefined
      },
      `${count} entries of ${task}`,
      DEADLINE_MS,
    )
  }

  async waitForResult(agent: string, key: string): Promise<ResultRecord> {
    const text = await until(() => this.place.result(agent, key), `the result of ${agent} ${key}`, DEADLINE_MS)
    return JSON.parse(text) as ResultRecord
  }

  async indexed(traceId: string, agent: string, task: string): Promise<TraceRecord | undefined> {
    const text = await this.place.indexed(traceId, agent, task)
    return text === undefined ? undefined : (JSON.parse(text) as TraceRecord)
  }

  /** Until all mail is acked but `left`, seen twice: mail in hand and the call that it is about to send may count the same. */
  async waitForQuiet(left = 0): Promise<void> {
    let looks = 0
    const look = async () => {
      looks = (await this.place.backlog()) <= left ? looks + 1 : 0
      return looks > (left === 0 ? 0 : QUIET_LOOKS) || undefined
    }
    await until(look, `a backlog of ${left}`, DEADLINE_MS)
  }

  /** All mail is acked, and every journal folds from its first entry and ends in one outcome. Gives the entries by task. */
  async finish(): Promise<ReadonlyMap<string, readonly Entry[]>> {
    await this.waitForQuiet()
    const found = new Map<string, readonly Entry[]>()
    for (const { name, runtime } of this.agents) {
      for (const task of await this.place.tasks(name)) {
        const stored = await this.place.journal(name, task)
        const readBlob = (sha: string) => this.place.readBlob(name, task, sha)
        const { entries } = await checkJournal(name, task, stored, readBlob, runtime?.('check').machine)
        found.set(task, entries)
      }
    }
    return found
  }
}

/** About 5 ms apart. */
const QUIET_LOOKS = 20
const DEADLINE_MS = 15_000

/** A clock that a test can put forward. */
export class TestClock implements Clock {
  private ahead = 0

  now(): number {
    return Date.now() + this.ahead
  }

  forward(ms: number): void {
    this.ahead += ms
  }
}

/** Something a test opens by hand; those who wait go on. */
export class Gate {
  readonly opened: Promise<void>
  readonly open: () => void
  /** How many have come to it. */
  arrived = 0
  private readonly deferred = Promise.withResolvers<void>()

  constructor() {
    this.opened = this.deferred.promise
    this.open = this.deferred.resolve
  }

  pass(): Promise<void> {
    this.arrived++
    return this.opened
  }

  async waitFor(arrivals: number): Promise<void> {
    await until(() => this.arrived >= arrivals || undefined, `${arrivals} arrivals at a gate`, DEADLINE_MS)
  }
}
