/** All that is in a namespace, as a watch tells it: what a test waits for. */
import { isDeepStrictEqual } from 'node:util'
import { type AnyObject, type ApiClient, collectionPath } from '../../testplane/api.ts'
import type { Plane } from '../../testplane/plane.ts'
import { KINDS } from './declared.ts'

const API_VERSIONS = {
  Agent: 'kaos.tools/v1alpha1',
  MCPServer: 'kaos.tools/v1alpha1',
  ModelAPI: 'kaos.tools/v1alpha1',
  Deployment: 'apps/v1',
  Service: 'v1',
  ConfigMap: 'v1',
  ServiceAccount: 'v1',
  Secret: 'v1',
  PodDisruptionBudget: 'policy/v1',
  Pod: 'v1',
} as const
/** Between two looks at whether it has. */
const CATCH_UP_MS = 200
export type SeenKind = keyof typeof API_VERSIONS
const seenKinds = Object.keys(API_VERSIONS) as readonly SeenKind[]

export interface UntilOptions {
  /** Whose changes matter as well. */
  readonly others?: readonly Sight[]
  /** For the error: what has not come. */
  readonly what: () => string
  readonly withinMs: number
}

export class Sight {
  readonly #api: ApiClient
  readonly #namespace: string
  readonly #collections = new Map<SeenKind, ReadonlyMap<string, AnyObject>>()
  readonly #listeners = new Set<() => void>()
  readonly #ended = new AbortController()
  readonly #following: Promise<unknown>

  /** `api` and its connections go on when this is stopped. */
  constructor({ api }: Plane, namespace: string) {
    this.#api = api
    this.#namespace = namespace
    this.#following = Promise.all(
      seenKinds.map((kind) => {
        const onChange = (objects: ReadonlyMap<string, AnyObject>) => {
          this.#collections.set(kind, objects)
          for (const listener of [...this.#listeners]) listener()
        }
        return api.follow(this.#path(kind), onChange, this.#ended.signal)
      }),
    )
  }

  of(kind: SeenKind): readonly AnyObject[] {
    return [...(this.#collections.get(kind)?.values() ?? [])]
  }

  /** What is declared, of all kinds. */
  resources(): readonly AnyObject[] {
    return KINDS.flatMap((kind) => this.of(kind))
  }

  all(): readonly AnyObject[] {
    return seenKinds.flatMap((kind) => this.of(kind))
  }

  /** Resolves with what `check` finds once everything was read. Rejects at its deadline. */
  async until<T>(check: () => T | undefined | false, { what, withinMs, others = [] }: UntilOptions): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const look = () => {
      if (this.#collections.size < seenKinds.length) return
      try {
        const found = check()
        if (found !== undefined && found !== false) resolve(found)
      } catch (error) {
        reject(error)
      }
    }
    const timer = setTimeout(() => reject(new Error(`waited ${withinMs} ms ${what()}`)), withinMs)
    const sights = [this, ...others]
    for (const sight of sights) sight.#listeners.add(look)
    look()
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      for (const sight of sights) sight.#listeners.delete(look)
    }
  }

  /** Resolves when it sees what is there now: a watch that the server has ended comes back a moment later. */
  async caughtUp(withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs
    for (const kind of seenKinds) {
      while (!sameVersions(await this.#api.list(this.#path(kind)), this.of(kind))) {
        if (performance.now() > deadline) throw new Error(`waited ${withinMs} ms for the view of ${kind} to be as it is`)
        await this.untilChanged(1, CATCH_UP_MS)
      }
    }
  }

  #path(kind: SeenKind): string {
    return collectionPath({ apiVersion: API_VERSIONS[kind], kind, metadata: { name: '', namespace: this.#namespace } })
  }

  /** Resolves after so many changes, or after this time. */
  async untilChanged(count: number, withinMs: number): Promise<void> {
    let left = count
    const { promise, resolve } = Promise.withResolvers<void>()
    const note = () => {
      left--
      if (left <= 0) resolve()
    }
    const timer = setTimeout(resolve, withinMs)
    this.#listeners.add(note)
    await promise
    clearTimeout(timer)
    this.#listeners.delete(note)
  }

  async stop(): Promise<void> {
    this.#ended.abort()
    await this.#following
  }
}

function sameVersions(one: readonly AnyObject[], other: readonly AnyObject[]): boolean {
  const versions = (objects: readonly AnyObject[]) =>
    objects.map(({ metadata }) => `${metadata.uid} ${metadata.resourceVersion}`).toSorted()
  return isDeepStrictEqual(versions(one), versions(other))
}
