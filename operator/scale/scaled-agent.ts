/** One agent that is scaled: what is asked for now and why, one step at a time. Whoever builds the workload takes the count from here. */
import { isDeepStrictEqual } from 'node:util'
import { messageOf } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { Backlog } from '../broker/backlog.ts'
import type { Mail } from '../broker/mail.ts'
import type { ResourceRef } from '../broker/owner.ts'
import {
  beginHistory,
  type Decision,
  decide,
  noteChange,
  type ScalingHistory,
  type ScalingReason,
  type ScalingSettings,
} from './scaling.ts'

export interface ScalingTarget {
  readonly agent: ResourceRef
  /** Of the resource: what was decided for an older one is not carried out. */
  readonly generation: number
  /** `External`: somebody else owns the count, and nothing is written here. */
  readonly scaler: 'Builtin' | 'External'
  readonly settings: ScalingSettings
  /** `spec.replicas`, as `kubectl scale` sets it: holds until it is removed. */
  readonly manualReplicas?: number | undefined
}

export type ScalingWhy = ScalingReason | 'ManualOverride' | 'External' | 'BrokerUnavailable' | 'StreamMissing' | 'WorkloadMissing'

/** For the condition ScalingActive. */
export interface ScalingState {
  readonly active: 'True' | 'False' | 'Unknown'
  readonly why: ScalingWhy
  /** Asked for now; undefined: not by us, or there is no workload yet. */
  readonly replicas: number | undefined
  /** As last seen; undefined: never, or not now. */
  readonly backlog: number | undefined
}

export interface Workloads {
  /** Pods that the workload asks for, as far as known here; undefined: there is no workload yet. */
  replicas(agent: ResourceRef): number | undefined
  /** Resolves when it is written. When it rejects the count is as before, and it is tried again within seconds. */
  scale(agent: ResourceRef, replicas: number, why: ScalingWhy): Promise<void>
}

export interface ScalingMeter {
  /** Undefined: not known any more. */
  backlog(agent: ResourceRef, messages: number | undefined): void
  /** A change of the count that was written. */
  scaled(agent: ResourceRef, from: number, to: number, why: ScalingWhy): void
  /** From the storing of the first message, by the broker's clock, to the workload that was written, by ours; never below 0. */
  woke(agent: ResourceRef, latencyMs: number): void
  /** All backlogs were asked for. */
  listed(durationMs: number, ok: boolean): void
  forgot(agent: ResourceRef): void
}

export interface AgentScalerOptions {
  readonly mail: Mail
  readonly workloads: Workloads
  readonly meter: ScalingMeter
  readonly log: Logger
  /** Milliseconds; never goes back. */
  readonly now: () => number
  /** Asks for a look at everything: within moments, or after a pause because something failed. */
  readonly lookSoon: (why?: 'failed') => void
  readonly onState: (agent: ResourceRef) => void
  readonly isStopped: () => boolean
}

export class ScaledAgent {
  private target: ScalingTarget
  private readonly options: AgentScalerOptions
  private history: ScalingHistory | undefined
  private count: number | undefined
  private seen: Pick<ScalingState, 'active' | 'why' | 'backlog'> = {
    active: 'Unknown',
    why: 'BrokerUnavailable',
    backlog: undefined,
  }
  private told: ScalingState | undefined
  private isListening = false
  private isEnded = false
  /** The steps, one after the other. */
  private steps: Promise<void> = Promise.resolve()

  constructor(target: ScalingTarget, options: AgentScalerOptions) {
    this.target = target
    this.options = options
  }

  get agent(): ResourceRef {
    return this.target.agent
  }

  get state(): ScalingState {
    return { ...this.seen, replicas: this.replicas }
  }

  /** What the workload is to ask for; undefined: not ours to say, or nothing was written or read yet. */
  get replicas(): number | undefined {
    return this.target.scaler === 'External' ? undefined : this.count
  }

  /** Whether anything differs. */
  retarget(target: ScalingTarget): boolean {
    if (isDeepStrictEqual(this.target, target)) return false
    if (this.target.scaler !== target.scaler) this.count = undefined
    this.target = target
    return true
  }

  /** Before a look at the backlogs: whoever sleeps is listened for, so that mail stored after the look is not missed. */
  prepare(): boolean {
    if (!this.isOurs() || this.current() !== 0 || this.isListening) return false
    this.listen()
    return true
  }

  look(found: Backlog): Promise<void> {
    return this.step(() => this.take(found))
  }

  /** The broker could not be asked: the count stays, whatever it is. */
  noteBrokerGone(): void {
    this.seen = { active: 'Unknown', why: 'BrokerUnavailable', backlog: undefined }
    this.options.meter.backlog(this.agent, undefined)
    this.tell()
  }

  /** Writes nothing any more; resolves when what is being written has ended. */
  end(): Promise<void> {
    this.ignore()
    this.isEnded = true
    return this.steps
  }

  private step(work: () => Promise<void>): Promise<void> {
    this.steps = this.steps.then(async () => {
      if (this.isEnded || this.options.isStopped()) return
      await work().catch((error: unknown) => {
        this.options.log.warn({ ...this.agent, reason: messageOf(error) }, 'an agent could not be scaled; trying again')
        this.options.lookSoon('failed')
      })
      this.tell()
    })
    return this.steps
  }

  private tell(): void {
    const { state } = this
    if (this.isEnded || this.options.isStopped() || isDeepStrictEqual(state, this.told)) return
    this.told = state
    this.options.onState(this.agent)
  }

  /** Whether we decide the count. */
  private isOurs(): boolean {
    return this.target.scaler === 'Builtin' && this.target.manualReplicas === undefined
  }

  private current(): number | undefined {
    return this.count ?? this.options.workloads.replicas(this.agent)
  }

  private async take(found: Backlog): Promise<void> {
    const { target } = this
    const backlog = typeof found === 'number' ? found : undefined
    this.options.meter.backlog(this.agent, backlog)
    if (target.scaler === 'External') {
      this.ignore()
      this.seen = { active: 'False', why: 'External', backlog }
      return
    }
    const current = this.current()
    if (current === undefined) {
      this.seen = { active: 'False', why: 'WorkloadMissing', backlog }
      return
    }
    if (target.manualReplicas !== undefined) {
      this.ignore()
      this.history = undefined
      this.seen = { active: 'False', why: 'ManualOverride', backlog }
      await this.write(current, target.manualReplicas, 'ManualOverride')
      return
    }
    this.count = current
    // Left over from a sleep that failed.
    if (current > 0) this.ignore()
    if (backlog === undefined) {
      this.seen = { active: 'Unknown', why: found === 'absent' ? 'StreamMissing' : 'BrokerUnavailable', backlog }
      return
    }
    const decision = this.decide(backlog, current)
    if (decision.replicas === 0 && current > 0) await this.sleep(current)
    else await this.write(current, decision.replicas, decision.why)
  }

  private decide(backlog: number, current: number): Decision {
    const now = this.options.now()
    const decision = decide({ backlog, current, now }, this.target.settings, this.history ?? beginHistory(current, now))
    this.history = decision.history
    this.seen = { active: 'True', why: decision.why, backlog }
    return decision
  }

  /** First listen, then look afresh: mail stored before the look is seen by it, mail stored after it is heard of. */
  private async sleep(current: number): Promise<void> {
    const { generation } = this.target
    this.listen()
    await this.options.mail.confirmed()
    const backlog = await this.options.mail.read(this.agent)
    // Heard something, or the resource has changed: the next look decides.
    if (!this.isListening || !this.isOurs() || this.target.generation !== generation || backlog === undefined) {
      this.ignore()
      return this.options.lookSoon()
    }
    const fresh = this.decide(backlog, current)
    if (fresh.replicas > 0) {
      this.ignore()
      return this.write(current, fresh.replicas, fresh.why)
    }
    await this.write(current, 0, fresh.why)
    // A message that a pod hands back while it ends is not stored anew, so nobody hears of it.
    const after = await this.options.mail.read(this.agent)
    if (after !== undefined && after > 0) await this.wake(Date.now(), after)
  }

  private async wake(storedAt: number, backlog: number): Promise<void> {
    const current = this.current()
    if (current !== 0 || !this.isOurs()) return
    const decision = this.decide(backlog, current)
    await this.write(current, decision.replicas, decision.why)
    this.options.meter.woke(this.agent, Math.max(0, Date.now() - storedAt))
    // The first of many, perhaps: how many there are now decides how many pods there should be.
    this.options.lookSoon()
  }

  private async write(from: number, to: number, why: ScalingWhy): Promise<void> {
    this.count = from
    if (from === to || this.isEnded || this.options.isStopped()) return
    // Before it is written: whoever builds the workload meanwhile must not write the old one after us.
    this.count = to
    try {
      await this.options.workloads.scale(this.agent, to, why)
    } catch (error) {
      this.count = from
      throw error
    }
    const now = this.options.now()
    if (this.history) this.history = noteChange(this.history, from, to, now)
    if (to > 0) this.ignore()
    this.options.meter.scaled(this.agent, from, to, why)
    this.options.log.info({ ...this.agent, from, to, why, backlog: this.seen.backlog }, 'scaled')
  }

  private listen(): void {
    this.isListening = true
    this.options.mail.listen(this.agent, (storedAt) => {
      this.isListening = false
      void this.step(async () => {
        // That one message was stored is known; asking how many must not hold the first pod up.
        if (this.current() !== 0) return
        await this.wake(storedAt, 1)
      })
    })
  }

  private ignore(): void {
    // Another one may listen for an agent of the same name by now.
    if (this.isEnded) return
    this.isListening = false
    this.options.mail.ignore(this.agent)
  }
}
