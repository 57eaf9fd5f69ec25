/**
 * Bodies by reference: a long text or a large list element stands once in a journal and is named by its hash wherever it comes again.
 * A prompt that grows by one message per round would otherwise be stored as often as there are rounds.
 */
import { KaosError } from './errors.ts'
import { hashOf, isObject, type Json } from './json.ts'
import { MESSAGE_LIMITS } from './limits.ts'

const REFERENCE = '$body'

/** The bodies of one journal. Values are treated as immutable: a body is hashed once per object and then known by identity. */
export class Bodies {
  private readonly values = new Map<string, Json>()
  private readonly hashes = new Map<string, string>()
  private readonly elements = new WeakMap<object, string | null>()
  /** Hashes that a reader of this journal can find at or after the last snapshot. */
  private stored = new Set<string>()

  /** The same value with references in place of bodies. Every body met is put into `met`. */
  split(value: Json, met: Map<string, Json>): Json {
    if (typeof value === 'string')
      return value.length < MESSAGE_LIMITS.partBytesMin ? value : this.refer(this.hashText(value), value, met)
    if (value === null || typeof value !== 'object') return value
    if (Array.isArray(value)) return changed(value, (element) => this.splitElement(element, met))
    if (REFERENCE in value) return this.refer(this.hashElement(value), value, met)
    return changedFields(value as { [key: string]: Json }, (field) => this.split(field, met))
  }

  /** The same value with bodies in place of references. Throws `body_missing` for one that is not known. */
  join(value: Json): Json {
    if (value === null || typeof value !== 'object') return value
    if (Array.isArray(value)) return changed(value, (element) => this.join(element))
    const sha = (value as { [key: string]: Json })[REFERENCE]
    if (typeof sha === 'string') {
      const body = this.values.get(sha)
      if (body === undefined) throw new KaosError('body_missing', `body "${sha}" is not in the journal`)
      return body
    }
    return changedFields(value as { [key: string]: Json }, (field) => this.join(field))
  }

  has(sha: string): boolean {
    return this.values.has(sha)
  }

  isStored(sha: string): boolean {
    return this.stored.has(sha)
  }

  /** Takes a body from the record. Throws `body_missing` when it is not what its hash says. */
  add(sha: string, value: Json): void {
    if (this.values.has(sha)) return
    if (hashOf(value) !== sha) throw new KaosError('body_missing', `body "${sha}" was changed after it was stored`)
    this.values.set(sha, value)
    if (typeof value === 'string') this.hashes.set(value, sha)
    else if (value !== null && typeof value === 'object') this.elements.set(value, sha)
  }

  /** An entry that carries these bodies stands. One with a snapshot starts the account anew: readers may begin there. */
  markStored(shas: Iterable<string>, isSnapshot: boolean): void {
    if (isSnapshot) this.stored = new Set(shas)
    else for (const sha of shas) this.stored.add(sha)
  }

  private splitElement(element: Json, met: Map<string, Json>): Json {
    if (element === null || typeof element !== 'object') return this.split(element, met)
    let sha = this.elements.get(element)
    if (sha === undefined) {
      sha = JSON.stringify(element).length >= MESSAGE_LIMITS.partBytesMin ? hashOf(element) : null
      this.elements.set(element, sha)
    }
    return sha === null ? this.split(element, met) : this.refer(sha, element, met)
  }

  private hashText(text: string): string {
    let sha = this.hashes.get(text)
    if (sha === undefined) {
      sha = hashOf(text)
      this.hashes.set(text, sha)
    }
    return sha
  }

  private hashElement(value: Json & object): string {
    const sha = this.elements.get(value) ?? hashOf(value)
    this.elements.set(value, sha)
    return sha
  }

  private refer(sha: string, value: Json, met: Map<string, Json>): Json {
    if (!this.values.has(sha)) this.values.set(sha, value)
    met.set(sha, value)
    return { [REFERENCE]: sha }
  }
}

/** Maps and keeps the same object where nothing changed, which is nearly always. */
function changed(values: readonly Json[], map: (value: Json) => Json): readonly Json[] {
  let copy: Json[] | undefined
  for (let i = 0; i < values.length; i++) {
    const before = values[i]!
    const after = map(before)
    if (after !== before) copy ??= values.slice(0, i)
    copy?.push(after)
  }
  return copy ?? values
}

function changedFields(value: { [key: string]: Json }, map: (value: Json) => Json): Json {
  let copy: { [key: string]: Json } | undefined
  for (const key in value) {
    const before = value[key]
    if (before === undefined) continue
    const after = map(before)
    if (after === before) continue
    copy ??= { ...value }
    copy[key] = after
  }
  return isObject(copy) ? copy : value
}
