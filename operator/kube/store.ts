/** The objects of one kind as last seen, by key and by index. Tells what each look changed; an object with another uid is another object. */
import { type KubeObject, keyOf } from './object.ts'

export type Change =
  | { readonly type: 'added'; readonly object: KubeObject }
  | { readonly type: 'updated'; readonly object: KubeObject; readonly before: KubeObject }
  | { readonly type: 'deleted'; readonly object: KubeObject }

/** The values under which an object is found. */
export type Indexer = (object: KubeObject) => readonly string[]

export class Store {
  readonly #objects = new Map<string, KubeObject>()
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
  put(object: KubeObject): readonly Change[] {
    const key = keyOf(object)
    const before = this.#objects.get(key)
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
