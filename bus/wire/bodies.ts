/**
 * Bodies by reference: a long text, a large list element or a container of much small stuff stands once in a journal and is named by its
 * hash wherever it comes again. A prompt that grows by one message per round would otherwise be stored as often as there are rounds, and a
 * result of a million numbers would fit no entry.
 */
import { KaosError } from './errors.ts'
import { type Json, sha256 } from './json.ts'
import { MESSAGE_LIMITS } from './limits.ts'

const REFERENCE = '$body'
/** Characters of a scalar that is no text, about. */
const SCALAR_CHARS = 8

/** The bodies of one journal. Values are treated as immutable: a body is hashed once per object and then known by identity. */
export class Bodies {
  private readonly values = new Map<string, Json>()
  private readonly hashes = new Map<string, string>()
  private readonly elements = new WeakMap<object, string | null>()
  private readonly containers = new WeakMap<object, string>()
  /** Characters that the split under way leaves where they are. */
  private chars = 0
  /** Hashes that a reader of this journal can find at or after the last snapshot. */
  private stored = new Set<string>()

  /** The same value with references in place of bodies. Every body met is put into `met`. The same value gives the same references. */
  split(value: Json, met: Map<string, Json>): Json {
    if (typeof value === 'string') {
      if (value.length >= MESSAGE_LIMITS.partBytesMin) return this.refer(this.hashText(value), value, met)
      this.chars += value.length
      return value
    }
    if (value === null || typeof value !== 'object') {
      this.chars += SCALAR_CHARS
      return value
    }
    const known = REFERENCE in value ? this.hashElement(value) : this.containers.get(value)
    if (known !== undefined) return this.refer(known, value, met)
    const before = { chars: this.chars, met: met.size }
    const split = Array.isArray(value)
      ? changed(value, (element) => this.splitElement(element, met))
      : this.splitFields(value as { [key: string]: Json }, met)
    if (this.chars - before.chars < MESSAGE_LIMITS.partOfSmallCharsMin) return split
    // References do not count, so a list of bodies stays a list of references, however long it is.
    this.chars = before.chars
    for (const sha of [...met.keys()].slice(before.met)) met.delete(sha)
    const sha = bodyHash(value)
    this.containers.set(value, sha)
    return this.refer(sha, value, met)
  }

  /** As `split`, but the object itself stays: readers look at its fields. */
  splitFields(value: { [key: string]: Json }, met: Map<string, Json>): { [key: string]: Json } {
    return changedFields(value, (field, key) => {
      this.chars += key.length
      return this.split(field, met)
    })
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
    if (bodyHash(value) !== sha) throw new KaosError('body_missing', `body "${sha}" was changed after it was stored`)
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
      const text = bodyText(element)
      sha = text.length >= MESSAGE_LIMITS.partBytesMin ? sha256(text) : null
      this.elements.set(element, sha)
    }
    return sha === null ? this.split(element, met) : this.refer(sha, element, met)
  }

  private hashText(text: string): string {
    let sha = this.hashes.get(text)
    if (sha === undefined) {
      sha = bodyHash(text)
      this.hashes.set(text, sha)
    }
    return sha
  }

  private hashElement(value: Json & object): string {
    const sha = this.elements.get(value) ?? bodyHash(value)
    this.elements.set(value, sha)
    return sha
  }

  private refer(sha: string, value: Json, met: Map<string, Json>): Json {
    if (!this.values.has(sha)) this.values.set(sha, value)
    met.set(sha, value)
    return { [REFERENCE]: sha }
  }
}

/**
 * A body as text. Its keys stay in their order: a model reads a tool's answer as it came, and what was decided on one order must not be
 * decided again on another.
 */
export function bodyText(value: Json): string {
  return JSON.stringify(value)
}

function bodyHash(value: Json): string {
  return sha256(bodyText(value))
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

function changedFields(value: { [key: string]: Json }, map: (value: Json, key: string) => Json): { [key: string]: Json } {
  let copy: { [key: string]: Json } | undefined
  for (const key in value) {
    const before = value[key]
    if (before === undefined) continue
    const after = map(before, key)
    if (after === before) continue
    copy ??= { ...value }
    copy[key] = after
  }
  return copy ?? value
}
