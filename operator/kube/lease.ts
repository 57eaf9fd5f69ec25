/**
 * Who leads, by a Lease of the cluster. Another's lease has ended when it was not renewed for its length by our own clock: theirs may be wrong.
 * Ours is lost when it could not be renewed in time; whoever leads checks that before every write, because a timer that is to say so may be late.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { isConflict } from './api-error.ts'
import type { KubeClient } from './client.ts'
import { type KubeObject, keyOf, type Resource } from './object.ts'

export const LEASES: Resource = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', plural: 'leases', namespaced: true }

export const LEASE_LIMITS = {
  /** How long others wait after the last renewal that they saw. */
  durationMs: 15_000,
  /** Without a renewal for this long the leader stops: well before others begin. */
  renewDeadlineMs: 10_000,
  renewEveryMs: 2_000,
  /** One request. With the pauses before and between them, two that get no answer fit into the renewal's deadline. */
  requestMs: 3_500,
  /** Between two tries of a renewal that failed. */
  retryMs: 500,
  /** Waiting is longer by up to this factor, by chance, so that not all candidates ask at once. */
  jitter: 1.2,
} as const

export interface LeaseOptions {
  /** Without a guard: the lease is what the guard of all others looks at. */
  readonly client: KubeClient
  readonly namespace: string
  readonly name: string
  /** Who we are; another one at every start of the process. */
  readonly identity: string
  readonly log: Logger
  readonly limits?: Partial<Readonly<Record<keyof typeof LEASE_LIMITS, number>>>
  /** Milliseconds of a clock that never jumps. */
  readonly now?: () => number
}

interface LeaseSpec {
  readonly holderIdentity?: string
  readonly leaseDurationSeconds?: number
  readonly acquireTime?: string
  readonly renewTime?: string
  readonly leaseTransitions?: number
}

/** Leadership from the moment it was won until it is lost or released. */
export interface Leadership {
  /** Aborts with `lease_lost`. The process then ends: what it holds in memory is no longer the newest. */
  readonly signal: AbortSignal
  /** By the clock, at this moment: also right after the process stood still. */
  readonly isHeld: boolean
  /** The guard of a client: throws `lease_lost`. */
  readonly check: () => void
  /** Gives it up, so that another can lead at once. Never rejects. */
  release(): Promise<void>
}

/** Waits until this process leads. Rejects with `aborted` only; an API server that cannot be reached is asked again and again. */
export async function acquireLease(options: LeaseOptions, signal: AbortSignal): Promise<Leadership> {
  const { client, namespace, name, identity, log, now = () => performance.now() } = options
  const limits = { ...LEASE_LIMITS, ...options.limits }
  const place = { namespace, name }
  let seen: string | undefined
  let seenAt = 0
  while (true) {
    if (signal.aborted) throw new KaosError('aborted', `stopped: waiting for the lease "${keyOf({ metadata: place })}"`)
    try {
      const askedAt = now()
      const lease = await client.get(LEASES, place, { signal, deadlineMs: limits.requestMs })
      const spec = (lease?.spec ?? {}) as LeaseSpec
      if (lease?.metadata.resourceVersion !== seen) {
        seen = lease?.metadata.resourceVersion
        seenAt = now()
      }
      const isFree = !spec.holderIdentity || now() - seenAt >= (spec.leaseDurationSeconds ?? 0) * 1_000
      if (isFree) {
        const taken = await write(options, limits, lease, { ...spec, ...heldBy(identity, limits.durationMs, spec) }, signal)
        log.info({ lease: keyOf(taken), identity, before: spec.holderIdentity }, 'leading')
        return new HeldLease(options, limits, now, taken, askedAt)
      }
      log.debug({ lease: name, holder: spec.holderIdentity }, 'another one leads')
    } catch (error) {
      if (signal.aborted) continue
      if (isConflict(error)) log.debug({ lease: name }, 'another one was faster')
      else log.warn({ err: error, lease: name }, 'could not look at the lease, trying again')
    }
    const waitMs = limits.renewEveryMs * (1 + Math.random() * (limits.jitter - 1))
    await sleep(waitMs, undefined, { signal }).catch(() => {})
  }
}

class HeldLease implements Leadership {
  readonly #options: LeaseOptions
  readonly #limits: typeof LEASE_LIMITS | Readonly<Record<keyof typeof LEASE_LIMITS, number>>
  readonly #now: () => number
  readonly #lost = new AbortController()
  readonly #releasing = new AbortController()
  readonly #renewing: Promise<void>
  #lease: KubeObject
  /** Before the request that renewed it: others count from when they see the answer, which is later. */
  #renewedAt: number
  #deadline: NodeJS.Timeout

  constructor(
    options: LeaseOptions,
    limits: Readonly<Record<keyof typeof LEASE_LIMITS, number>>,
    now: () => number,
    lease: KubeObject,
    renewedAt: number,
  ) {
    this.#options = options
    this.#limits = limits
    this.#now = now
    this.#lease = lease
    this.#renewedAt = renewedAt
    this.#deadline = this.#setDeadline()
    this.#renewing = this.#renew()
  }

  get signal(): AbortSignal {
    return this.#lost.signal
  }

  get isHeld(): boolean {
    if (this.#releasing.signal.aborted) return false
    if (this.#now() - this.#renewedAt >= this.#limits.renewDeadlineMs) this.#lose('it was not renewed in time')
    return !this.#lost.signal.aborted
  }

  readonly check = (): void => {
    if (this.isHeld) return
    if (this.#lost.signal.aborted) throw this.#lost.signal.reason
    throw new KaosError(
      'lease_lost',
      `could not write as "${this.#options.identity}": its lease "${keyOf(this.#lease)}" is released`,
    )
  }

  async release(): Promise<void> {
    const { log, identity } = this.#options
    const wasHeld = this.isHeld
    this.#releasing.abort()
    clearTimeout(this.#deadline)
    await this.#renewing
    if (!wasHeld || this.#lost.signal.aborted) return
    const spec: LeaseSpec = {
      ...(this.#lease.spec as LeaseSpec),
      holderIdentity: '',
      leaseDurationSeconds: 1,
      renewTime: microTime(),
    }
    try {
      await write(this.#options, this.#limits, this.#lease, spec)
      log.info({ lease: keyOf(this.#lease), identity }, 'gave up the lease')
    } catch (error) {
      log.warn({ err: error, lease: keyOf(this.#lease) }, 'could not give up the lease, it ends by itself')
    }
  }

  /** Never rejects. */
  async #renew(): Promise<void> {
    const { identity, log } = this.#options
    const { renewEveryMs, retryMs, durationMs } = this.#limits
    const stopped = AbortSignal.any([this.#releasing.signal, this.#lost.signal])
    let pauseMs = renewEveryMs
    while (true) {
      await sleep(pauseMs, undefined, { signal: stopped }).catch(() => {})
      if (stopped.aborted || !this.isHeld) return
      const askedAt = this.#now()
      pauseMs = renewEveryMs
      try {
        const spec = { ...(this.#lease.spec as LeaseSpec), ...heldBy(identity, durationMs, this.#lease.spec as LeaseSpec) }
        this.#lease = await write(this.#options, this.#limits, this.#lease, spec, this.#lost.signal)
        if (!this.isHeld) return
        this.#renewedAt = askedAt
        clearTimeout(this.#deadline)
        this.#deadline = this.#setDeadline()
      } catch (error) {
        if (this.#lost.signal.aborted) return
        log.warn({ err: error, lease: keyOf(this.#lease) }, 'could not renew the lease, trying again')
        pauseMs = Math.min(retryMs, renewEveryMs)
        if (isConflict(error)) await this.#lookAgain()
      }
    }
  }

  /** Somebody has written to our lease: it may be edited, or it may be another's. */
  async #lookAgain(): Promise<void> {
    const { client, identity, log } = this.#options
    try {
      const lease = await client.get(LEASES, this.#lease.metadata, {
        signal: this.#lost.signal,
        deadlineMs: this.#limits.requestMs,
      })
      const holder = (lease?.spec as LeaseSpec | undefined)?.holderIdentity
      if (lease && holder === identity) this.#lease = lease
      else this.#lose(`"${holder ?? 'nobody'}" holds it`)
    } catch (error) {
      log.warn({ err: error, lease: keyOf(this.#lease) }, 'could not look at the lease, trying again')
    }
  }

  #setDeadline(): NodeJS.Timeout {
    const leftMs = this.#renewedAt + this.#limits.renewDeadlineMs - this.#now()
    return setTimeout(() => this.isHeld, Math.max(0, leftMs))
  }

  #lose(why: string): void {
    if (this.#lost.signal.aborted) return
    clearTimeout(this.#deadline)
    const message = `could not keep the lease "${keyOf(this.#lease)}" as "${this.#options.identity}": ${why}`
    this.#lost.abort(new KaosError('lease_lost', message))
  }
}

/** Creates the lease, or replaces the version that was read: whoever was faster makes this a conflict. */
async function write(
  { client, namespace, name }: LeaseOptions,
  { requestMs }: Readonly<Record<keyof typeof LEASE_LIMITS, number>>,
  before: KubeObject | undefined,
  spec: LeaseSpec,
  signal?: AbortSignal,
): Promise<KubeObject> {
  const options = { signal, deadlineMs: requestMs }
  if (before) return (await client.replace(LEASES, { ...before, spec }, options)).object
  const { apiVersion, kind } = LEASES
  return (await client.create(LEASES, { apiVersion, kind, metadata: { namespace, name }, spec }, options)).object
}

function heldBy(identity: string, durationMs: number, before: LeaseSpec): LeaseSpec {
  const now = microTime()
  const isOurs = before.holderIdentity === identity
  return {
    holderIdentity: identity,
    leaseDurationSeconds: Math.max(1, Math.ceil(durationMs / 1_000)),
    acquireTime: isOurs ? (before.acquireTime ?? now) : now,
    renewTime: now,
    leaseTransitions: (before.leaseTransitions ?? 0) + (isOurs || before.holderIdentity === undefined ? 0 : 1),
  }
}

/** Kubernetes's MicroTime has exactly six digits after the second. */
export function microTime(date = new Date()): string {
  return date.toISOString().replace('Z', '000Z')
}
