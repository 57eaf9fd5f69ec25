/**
 * Events as `kubectl describe` shows them, on transitions. Telling is never waited for and never fails anything: what repeats is counted in the
 * Event that is there, and what comes too often is left out.
 */
import { randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { messageOf } from '../../bus/wire/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import { isNotFound } from './api-error.ts'
import type { KubeClient } from './client.ts'
import { microTime } from './lease.ts'
import { type KubeObject, keyOf, type Resource } from './object.ts'

export const EVENTS: Resource = { apiVersion: 'events.k8s.io/v1', kind: 'Event', plural: 'events', namespaced: true }

export const EVENT_LIMITS = {
  /** Events of one object at once; after that one more every so many milliseconds. */
  burst: 25,
  refillMs: 300_000,
  /** Objects, and Events of theirs, that are remembered. */
  objectsMax: 4_096,
  /** An Event that comes again within this time is the same one, counted. The server keeps Events for an hour. */
  sameMs: 600_000,
  /** Events that wait to be written. */
  waitingMax: 1_000,
  /** What the server takes, as UTF-8. */
  noteBytesMax: 1_024,
  deadlineMs: 10_000,
} as const

/** `reason`: one CamelCase word; `action`: what we did or tried; `note`: a sentence. */
export interface Notice {
  readonly type: 'Normal' | 'Warning'
  readonly reason: string
  readonly action: string
  readonly note: string
}

export interface RecorderOptions {
  readonly client: KubeClient
  /** Who says it: `kaos.tools/operator`, and this process. */
  readonly controller: string
  readonly instance: string
  readonly log: Logger
  readonly onDropped?: () => void
}

interface Told {
  readonly name: string
  readonly namespace: string
  count: number
}

export class EventRecorder {
  readonly #options: RecorderOptions
  readonly #buckets = new LRUCache<string, { tokens: number; at: number }>({ max: EVENT_LIMITS.objectsMax })
  readonly #told = new LRUCache<string, Told>({ max: EVENT_LIMITS.objectsMax, ttl: EVENT_LIMITS.sameMs })
  readonly #waiting: (() => Promise<void>)[] = []
  #writing: Promise<void> | undefined

  constructor(options: RecorderOptions) {
    this.#options = options
  }

  /** Returns at once. */
  tell(about: KubeObject, { type, reason, action, note: whole }: Notice): void {
    const notice = { type, reason, action, note: cut(whole) }
    const id = about.metadata.uid ?? keyOf(about)
    if (!this.#takeToken(id) || this.#waiting.length >= EVENT_LIMITS.waitingMax) {
      this.#options.onDropped?.()
      return
    }
    this.#waiting.push(() => this.#write(about, notice, `${id} ${type} ${reason} ${notice.note}`))
    this.#writing ??= this.#writeAll()
  }

  /** What waits is written, within the deadline of a request for each. */
  async flush(): Promise<void> {
    await this.#writing
  }

  /** Never rejects. */
  async #writeAll(): Promise<void> {
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      try {
        await next()
      } catch (error) {
        this.#options.onDropped?.()
        this.#options.log.debug({ reason: messageOf(error) }, 'could not write an Event')
      }
    }
    this.#writing = undefined
  }

  async #write(about: KubeObject, notice: Notice, id: string): Promise<void> {
    const { client } = this.#options
    const told = this.#told.get(id)
    if (told) {
      told.count++
      const series = { count: told.count, lastObservedTime: microTime() }
      try {
        await client.patch(EVENTS, told, { series }, { deadlineMs: EVENT_LIMITS.deadlineMs })
        return
      } catch (error) {
        if (!isNotFound(error)) throw error
      }
    }
    const event = this.#eventOf(about, notice)
    await client.create(EVENTS, event, { deadlineMs: EVENT_LIMITS.deadlineMs })
    this.#told.set(id, { name: event.metadata.name, namespace: event.metadata.namespace!, count: 1 })
  }

  #eventOf(about: KubeObject, { type, reason, action, note }: Notice): KubeObject {
    const { name, namespace = 'default', uid, resourceVersion } = about.metadata
    return {
      apiVersion: EVENTS.apiVersion,
      kind: EVENTS.kind,
      metadata: { name: `${name.slice(0, 200)}.${randomUUID().slice(0, 13)}`, namespace },
      eventTime: microTime(),
      type,
      reason,
      action,
      note,
      regarding: {
        apiVersion: about.apiVersion,
        kind: about.kind,
        name,
        namespace: about.metadata.namespace,
        uid,
        resourceVersion,
      },
      reportingController: this.#options.controller,
      reportingInstance: this.#options.instance,
    }
  }

  #takeToken(id: string): boolean {
    const now = performance.now()
    const { tokens, at } = this.#buckets.get(id) ?? { tokens: EVENT_LIMITS.burst, at: now }
    const filled = Math.min(EVENT_LIMITS.burst, tokens + (now - at) / EVENT_LIMITS.refillMs)
    this.#buckets.set(id, { tokens: filled >= 1 ? filled - 1 : filled, at: now })
    return filled >= 1
  }
}

const ENCODER = new TextEncoder()
const ELLIPSIS_BYTES = 3

/** At the end of a character. */
function cut(note: string): string {
  const buffer = new Uint8Array(EVENT_LIMITS.noteBytesMax)
  if (ENCODER.encodeInto(note, buffer).read === note.length) return note
  const { read } = ENCODER.encodeInto(note, buffer.subarray(ELLIPSIS_BYTES))
  return `${note.slice(0, read)}…`
}
