/**
 * Keeps the pods of all agents in step with their mail. Only the leader runs it. Every 5 s it looks at all backlogs; an agent that sleeps is woken
 * by a call of the broker. What it cannot see it leaves as it is.
 */
import { isRetryable, KaosError, messageOf } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Backlogs, Mail } from '../broker/mail.ts'
import { type ResourceRef, refKey } from '../broker/owner.ts'
import { ScaledAgent, type ScalingMeter, type ScalingState, type ScalingTarget, type Workloads } from './scaled-agent.ts'

const SCALER_LIMITS = {
  /** Between two looks at all backlogs. */
  lookEveryMs: 5_000,
  /** A look that is asked for comes this much later, with what else is asked for meanwhile. */
  soonMs: 100,
  /** The same after a failure. */
  retryMs: 1_000,
  /** Agents whose workloads are written at the same time. */
  writesMax: 16,
} as const

export interface ScalerOptions {
  readonly mail: Mail
  readonly workloads: Workloads
  readonly meter: ScalingMeter
  readonly log: Logger
  /** The broker has no mail stream for this agent, though it could be asked. */
  readonly onStreamMissing?: (agent: ResourceRef) => void
  /** Called when what `state` answers may have changed. */
  readonly onState?: (agent: ResourceRef) => void
  /** Milliseconds that never go back. Default: the process's own. */
  readonly now?: () => number
}

export class Scaler {
  private readonly options: ScalerOptions
  private readonly agents = new Map<string, ScaledAgent>()
  private looks: Promise<void> = Promise.resolve()
  private waiting = 0
  private soon: { readonly dueAt: number; readonly timer: NodeJS.Timeout } | undefined
  private timer: NodeJS.Timeout | undefined
  private endConnect: (() => void) | undefined
  private isStopped = false
  private brokerReason: string | undefined
  private silent = 0

  constructor(options: ScalerOptions) {
    this.options = options
  }

  /** Begins to look by itself. Nothing was written before. */
  start(): void {
    // At every connection: what was stored while we were deaf is found by looking.
    this.endConnect = this.options.mail.onConnect(() => this.lookSoon())
    this.timer = setInterval(() => void this.look(), SCALER_LIMITS.lookEveryMs).unref()
    this.lookSoon()
  }

  /** From now on nothing is written; resolves when what is being written has ended. */
  async stop(): Promise<void> {
    this.isStopped = true
    clearInterval(this.timer)
    clearTimeout(this.soon?.timer)
    this.endConnect?.()
    await Promise.all([this.looks, ...[...this.agents.values()].map((agent) => agent.end())])
  }

  /** To be called at every reconcile; without a change it costs nothing. */
  watch(target: ScalingTarget): void {
    const key = refKey(target.agent)
    const known = this.agents.get(key)
    if (known?.retarget(target) === false) return
    if (!known) this.agents.set(key, new ScaledAgent(target, this.agentOptions()))
    this.lookSoon()
  }

  /** The agent is gone, or is not to be scaled any more. */
  forget(agent: ResourceRef): void {
    const known = this.agents.get(refKey(agent))
    if (!known) return
    this.agents.delete(refKey(agent))
    void known.end()
    this.options.meter.forgot(agent)
  }

  /** What the workload of this agent is to ask for, by whoever builds it; undefined: leave the count alone, or begin as you like. */
  replicas(agent: ResourceRef): number | undefined {
    return this.agents.get(refKey(agent))?.replicas
  }

  state(agent: ResourceRef): ScalingState | undefined {
    return this.agents.get(refKey(agent))?.state
  }

  /** Looks at all backlogs and resolves when what follows from it is written. Never rejects. */
  look(): Promise<void> {
    // One that waits sees what this one would.
    if (this.waiting === 0) {
      this.waiting++
      this.looks = this.looks.then(() => {
        this.waiting--
        return this.isStopped ? undefined : this.lookAtAll()
      })
    }
    return this.looks
  }

  private lookSoon(why?: 'failed'): void {
    if (this.isStopped || !this.timer) return
    const delayMs = why === 'failed' ? SCALER_LIMITS.retryMs : SCALER_LIMITS.soonMs
    const dueAt = performance.now() + delayMs
    if (this.soon && this.soon.dueAt <= dueAt) return
    clearTimeout(this.soon?.timer)
    const look = () => {
      this.soon = undefined
      void this.look()
    }
    this.soon = { dueAt, timer: setTimeout(look, delayMs).unref() }
  }

  private async lookAtAll(): Promise<void> {
    const agents = [...this.agents.values()]
    const backlogs = await this.ask(agents)
    if (backlogs) await this.apply(agents, backlogs)
    else for (const agent of agents) agent.noteBrokerGone()
  }

  /** Subscribes for all that sleep before it lists, so that no mail falls in between. Undefined: the broker cannot be asked. */
  private async ask(agents: readonly ScaledAgent[]): Promise<Backlogs | undefined> {
    const { mail, meter, log } = this.options
    const begunAt = performance.now()
    try {
      // All of them, not only the first.
      const areNew = agents.map((agent) => agent.prepare())
      if (areNew.includes(true)) await mail.confirmed()
      const backlogs = await mail.list()
      meter.listed(performance.now() - begunAt, true)
      if (this.brokerReason !== undefined) log.info({}, 'backlogs can be seen again')
      this.brokerReason = undefined
      return backlogs
    } catch (error) {
      meter.listed(performance.now() - begunAt, false)
      const reason = error instanceof KaosError && isRetryable(error) ? error.code : messageOf(error)
      if (this.brokerReason !== reason) log.warn({ reason: messageOf(error) }, 'backlogs cannot be seen; all counts stay')
      this.brokerReason = reason
      return undefined
    }
  }

  private async apply(agents: readonly ScaledAgent[], backlogs: Backlogs): Promise<void> {
    this.noteSilent(agents.filter(({ agent }) => backlogs.of(agent) === 'unknown').length)
    const queue = [...agents]
    const worker = async () => {
      for (let next = queue.shift(); next; next = queue.shift()) {
        const backlog = backlogs.of(next.agent)
        if (backlog === 'absent') this.options.onStreamMissing?.(next.agent)
        await next.look(backlog)
      }
    }
    await Promise.all(Array.from({ length: SCALER_LIMITS.writesMax }, worker))
  }

  /** Agents whose streams did not answer; said when it begins, and when it is over. */
  private noteSilent(agents: number): void {
    const { log } = this.options
    if (agents > 0 && this.silent === 0) log.warn({ agents }, 'some mail streams do not answer; the counts of their agents stay')
    if (agents === 0 && this.silent > 0) log.info({}, 'all mail streams answer again')
    this.silent = agents
  }

  private agentOptions() {
    const { mail, workloads, meter, log, now = () => performance.now(), onState = () => {} } = this.options
    const lookSoon = (why?: 'failed') => this.lookSoon(why)
    return { mail, workloads, meter, log, now, onState, lookSoon, isStopped: () => this.isStopped }
  }
}
