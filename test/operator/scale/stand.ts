/** A scaler on a real broker, over workloads that are numbers here and a clock that is moved by hand. */
import { connectBroker, type NatsConnection } from '../../../bus/connection.ts'
import { createStreams } from '../../../bus/streams.ts'
import { BrokerLink } from '../../../operator/broker/link.ts'
import { BrokerMail, type Mail } from '../../../operator/broker/mail.ts'
import { type ResourceRef, refKey } from '../../../operator/broker/owner.ts'
import type { ScalingMeter, ScalingTarget, ScalingWhy, Workloads } from '../../../operator/scale/scaled-agent.ts'
import { Scaler, type ScalerOptions } from '../../../operator/scale/scaler.ts'
import type { ScalingSettings } from '../../../operator/scale/scaling.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../../support/broker.ts'

export const SETTINGS: ScalingSettings = { minReplicas: 0, maxReplicas: 10, targetBacklogPerReplica: 2, cooldownSeconds: 120 }

const ANSWER = { timeout: 10_000 } as const

export interface Change {
  readonly agent: string
  readonly to: number
  readonly why: ScalingWhy
}

/** Workloads in memory. `before` is called before each write and may throw, or do what happens meanwhile. */
export class MemoryWorkloads implements Workloads {
  readonly counts = new Map<string, number>()
  readonly changes: Change[] = []
  before: (change: Change) => Promise<void> = async () => {}
  private readonly waiting: (() => boolean)[] = []

  replicas(agent: ResourceRef): number | undefined {
    return this.counts.get(refKey(agent))
  }

  async scale(agent: ResourceRef, to: number, why: ScalingWhy): Promise<void> {
    const change = { agent: agent.name, to, why }
    await this.before(change)
    this.counts.set(refKey(agent), to)
    this.changes.push(change)
    for (const look of this.waiting) look()
  }

  /** Resolves once so many changes were written in all. */
  untilChanges(count: number): Promise<readonly Change[]> {
    return new Promise((resolve) => {
      const look = () => {
        if (this.changes.length < count) return false
        resolve(this.changes)
        return true
      }
      if (!look()) this.waiting.push(look)
    })
  }
}

export class Meter implements ScalingMeter {
  readonly backlogs = new Map<string, number>()
  readonly scaledBy: string[] = []
  readonly wakeMs: number[] = []
  readonly looks: boolean[] = []

  backlog(agent: ResourceRef, messages: number | undefined): void {
    if (messages === undefined) this.backlogs.delete(agent.name)
    else this.backlogs.set(agent.name, messages)
  }
  scaled(agent: ResourceRef, from: number, to: number, why: ScalingWhy): void {
    this.scaledBy.push(`${agent.name} ${from} → ${to} ${why}`)
  }
  woke(_agent: ResourceRef, latencyMs: number): void {
    this.wakeMs.push(latencyMs)
  }
  listed(_durationMs: number, ok: boolean): void {
    this.looks.push(ok)
  }
  forgot(agent: ResourceRef): void {
    this.backlogs.delete(agent.name)
  }
}

export class Stand implements AsyncDisposable {
  readonly broker: TestBroker
  readonly connection: NatsConnection
  readonly link: BrokerLink
  readonly mail: BrokerMail
  readonly workloads = new MemoryWorkloads()
  readonly meter = new Meter()
  /** Milliseconds of the scaler's clock. */
  now = 0
  private readonly scalers: Scaler[] = []

  private constructor(broker: TestBroker, connection: NatsConnection) {
    this.broker = broker
    this.connection = connection
    this.link = new BrokerLink({ settings: broker.settings, log: silentLog() })
    this.mail = new BrokerMail(this.link, silentLog())
  }

  static async create(agents: readonly string[]): Promise<Stand> {
    const broker = await startTestBroker()
    const connection = await connectBroker(broker.settings, { name: 'test', log: silentLog() })
    await createStreams(connection, { namespace: 'default', agents, tools: [] })
    const stand = new Stand(broker, connection)
    await stand.untilConnected()
    return stand
  }

  /** Looks only when it is told to, unless it is started; wake-up calls come in any case. */
  scaler(options: Partial<ScalerOptions> = {}): Scaler {
    const { mail, workloads, meter } = this
    const scaler = new Scaler({ mail, workloads, meter, log: silentLog(), now: () => this.now, ...options })
    this.scalers.push(scaler)
    return scaler
  }

  untilConnected(): Promise<void> {
    return new Promise((resolve) => {
      this.mail.onConnect(resolve)
    })
  }

  untilLost(): Promise<void> {
    return new Promise((resolve) => {
      const look = () => (this.link.unreachableMs() > 0 ? resolve() : setImmediate(look))
      look()
    })
  }

  /** Resolves when they are stored. */
  async send(agent: string, count = 1): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, () => this.connection.request(`kaos.default.agent.${agent}.task`, 'a task', ANSWER)),
    )
  }

  /** As pods do when they have done everything. */
  async finishAll(agent: string): Promise<void> {
    await this.connection.request(`$JS.API.STREAM.PURGE.kaos_default_agent_${agent}_mail`, '', ANSWER)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.scalers.map((scaler) => scaler.stop()))
    await this.link.close()
    await this.connection.close()
    await this.broker.stop()
  }
}

export const refOf = (name: string): ResourceRef => ({ namespace: 'default', name })

export function targetOf(
  name: string,
  more: Partial<ScalingTarget> & { readonly with?: Partial<ScalingSettings> } = {},
): ScalingTarget {
  const { with: settings, ...rest } = more
  return { agent: refOf(name), generation: 1, scaler: 'Builtin', settings: { ...SETTINGS, ...settings }, ...rest }
}

/** The mail, with something that happens at an instant. */
export function mailWith(
  mail: Mail,
  hooks: { readonly beforeRead?: () => Promise<void>; readonly afterList?: () => Promise<void> },
): Mail {
  return {
    async list() {
      const backlogs = await mail.list()
      await hooks.afterList?.()
      return backlogs
    },
    async read(agent) {
      await hooks.beforeRead?.()
      return mail.read(agent)
    },
    listen: (agent, onMail) => mail.listen(agent, onMail),
    ignore: (agent) => mail.ignore(agent),
    confirmed: () => mail.confirmed(),
    onConnect: (listener) => mail.onConnect(listener),
  }
}
