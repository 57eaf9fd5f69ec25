/**
 * The objects of one kind as last seen, by key and by index. Tells what each look changed; an object with another uid is another object. Objects are
 * never changed in place, so parts that equal each other are held once.
 */
import { LRUCache } from 'lru-cache'
import { type KubeObject, keyOf } from './object.ts'

export type Change =
  | { readonly type: 'added'; readonly object: KubeObject }
  | { readonly type: 'updated'; readonly object: KubeObject; readonly before: KubeObject }
  | { readonly type: 'deleted'; readonly object: KubeObject }

const PARTS_LIMITS = {
  /** Parts of objects of one kind that are remembered. What is common to all is seen again and again, and stays. */
  partsMax: 300,
  /** As JSON. Larger ones are hardly ever the same. */
  charsMax: 1_000,
} as const

/** The values under which an object is found. */
export type Indexer = (object: KubeObject) => readonly string[]

export class Store {
  readonly #objects = new Map<string, KubeObject>()
  readonly #parts = new Parts()
  readonly #indexers: Readonly<Record<string, Indexer>>
  readonly #indexes: Readonly<Record<string, Map<string, Set<string>>>>

  constructor(indexers: Readonly<Record<string, Indexer>> = {}) {
    this.#indexers = indexers
    this.#indexes = Object.fromEntries(Object.keys(indexers).map((name) => [name, new Map<string, Set<string>>()]))
  }

  get size(): number {
    return this.#objects.size
  }

  get(key: string): KubeObject | undefined {
    return this.#objects.get(key)
  }

  keys(): readonly string[] {
    return [...this.#objects.keys()]
  }

  /** All, or those of one namespace. */
  list(namespace?: string): readonly KubeObject[] {
    const all = [...this.#objects.values()]
    return namespace === undefined ? all : all.filter((object) => object.metadata.namespace === namespace)
  }

  /** Throws where there is no index of that name: a spelling mistake. */
  find(index: string, value: string): readonly KubeObject[] {
    const entries = this.#indexes[index]
    if (!entries) throw new Error(`no index "${index}"; there are "${Object.keys(this.#indexes).join('", "')}"`)
    return [...(entries.get(value) ?? [])].map((key) => this.#objects.get(key)!)
  }

  /** No change: the same version as before. Two: another object has taken the name. */
  put(given: KubeObject): readonly Change[] {
    const key = keyOf(given)
    const before = this.#objects.get(key)
    const object = this.#parts.shareIn(given)
    if (!before) {
      this.#set(key, object)
      return [{ type: 'added', object }]
    }
    const isSame = before.metadata.uid === object.metadata.uid
    if (isSame && before.metadata.resourceVersion === object.metadata.resourceVersion) return []
    this.#unset(key, before)
    this.#set(key, object)
    if (isSame) return [{ type: 'updated', object, before }]
    return [
      { type: 'deleted', object: before },
      { type: 'added', object },
    ]
  }

  /** `object`: its last state, where the server told it. */
  remove(key: string, object?: KubeObject): readonly Change[] {
    const before = this.#objects.get(key)
    if (!before) return []
    this.#unset(key, before)
    return [{ type: 'deleted', object: object ?? before }]
  }

  /** Makes the store, or one namespace of it, what a list says. */
  replace(objects: readonly KubeObject[], namespace?: string): readonly Change[] {
    const listed = new Set(objects.map(keyOf))
    const gone = this.list(namespace)
      .map(keyOf)
      .filter((key) => !listed.has(key))
    return [...gone.flatMap((key) => this.remove(key)), ...objects.flatMap((object) => this.put(object))]
  }

  #set(key: string, object: KubeObject): void {
    this.#objects.set(key, object)
    for (const [name, indexer] of Object.entries(this.#indexers)) {
      for (const value of indexer(object)) {
        const entries = this.#indexes[name]!
        const keys = entries.get(value)
        if (keys) keys.add(key)
        else entries.set(value, new Set([key]))
      }
    }
  }

  #unset(key: string, object: KubeObject): void {
    this.#objects.delete(key)
    for (const [name, indexer] of Object.entries(this.#indexers)) {
      for (const value of indexer(object)) {
        const entries = this.#indexes[name]!
        const keys = entries.get(value)
        keys?.delete(key)
        if (keys?.size === 0) entries.delete(value)
      }
    }
  }
}

/** The Deployments of a thousand agents differ in a few names: with the rest of them held once they take half the memory. */
class Parts {
  readonly #known = new LRUCache<string, NonNullable<unknown>>({ max: PARTS_LIMITS.partsMax })

  /** `object` itself, which is nobody else's, with parts that others have too. */
  shareIn<Whole extends object>(whole: Whole): Whole {
    for (const [name, part] of Object.entries(whole)) {
      const shared = this.#share(part)
      if (shared !== part) (whole as Record<string, unknown>)[name] = shared
    }
    return whole
  }

  #share(part: unknown): unknown {
    if (typeof part !== 'string' && (typeof part !== 'object' || part === null)) return part
    const text = JSON.stringify(part)
    if (text.length > PARTS_LIMITS.charsMax) return typeof part === 'string' ? part : this.shareIn(part)
    const known = this.#known.get(text)
    if (known !== undefined) return known
    if (typeof part === 'object') this.shareIn(part)
    this.#known.set(text, part)
    return part
  }
}
