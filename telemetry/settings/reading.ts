/** Reads single variables by kind. What cannot be read is a warning that says what is used instead; nothing here throws. */

export class Reading {
  readonly #warnings = new Set<string>()
  readonly #env: NodeJS.ProcessEnv
  readonly #defaults: ReadonlyMap<string, string>

  /** @param defaults Text by variable, as the table of variables has it. */
  constructor(env: NodeJS.ProcessEnv, defaults: ReadonlyMap<string, string>) {
    this.#env = env
    this.#defaults = defaults
  }

  /** Each once, however often a variable is read. */
  get warnings(): readonly string[] {
    return [...this.#warnings]
  }

  /** Undefined when it is not set or blank, which are the same. */
  text(name: string): string | undefined {
    return this.#env[name]?.trim() || undefined
  }

  /** `true` in any case is true. */
  isTrue(name: string): boolean {
    const text = this.text(name)?.toLowerCase()
    if (text !== undefined && text !== 'true' && text !== 'false') this.warn(name, 'true or false', 'false')
    return text === 'true'
  }

  /** A whole number from `min`; the first of the names that is set counts. The default is that of the last name. */
  whole(names: string | readonly string[], min: number, max: number = Number.MAX_SAFE_INTEGER): number {
    for (const name of [names].flat()) {
      const text = this.text(name)
      if (text === undefined) continue
      const value = Number(text)
      if (/^\d+$/.test(text) && value >= min && value <= max) return value
      const range = max === Number.MAX_SAFE_INTEGER ? `from ${min}` : `from ${min} to ${max}`
      this.warn(name, `a whole number ${range}`, this.#defaultOf([names].flat().at(-1)!))
    }
    return Number(this.#defaultOf([names].flat().at(-1)!))
  }

  /** A number from 0 to 1. */
  ratio(name: string): number {
    const text = this.text(name)
    const value = Number(text)
    if (text === undefined) return Number(this.#defaultOf(name))
    if (value >= 0 && value <= 1) return value
    this.warn(name, 'a number from 0 to 1', this.#defaultOf(name))
    return Number(this.#defaultOf(name))
  }

  /** One of a few, in any case. */
  choice<T extends string>(name: string, allowed: readonly T[]): T | undefined {
    const text = this.text(name)?.toLowerCase()
    const known = allowed.find((value) => value === text)
    if (text !== undefined && !known) this.warn(name, `one of ${allowed.join(', ')}`, this.#defaultOf(name))
    return known
  }

  /** Several of a few, with commas between. Undefined when none of them is known, or it is not set. */
  list<T extends string>(name: string, allowed: readonly T[]): readonly T[] | undefined {
    const texts = (this.text(name)?.toLowerCase() ?? '').split(',').flatMap((text) => text.trim() || [])
    const known = allowed.filter((value) => texts.includes(value))
    if (texts.some((text) => !allowed.includes(text as T)))
      this.warn(name, `some of ${allowed.join(', ')}`, known.join(',') || this.#defaultOf(name))
    return known.length > 0 ? known : undefined
  }

  /** `key=value` pairs with commas between, values percent-encoded. What is none is left out. */
  pairs(name: string): { readonly [key: string]: string } {
    const pairs: Record<string, string> = {}
    for (const part of (this.text(name) ?? '').split(',')) {
      const at = part.indexOf('=')
      const key = part.slice(0, Math.max(at, 0)).trim()
      const value = key && decoded(part.slice(at + 1).trim())
      if (key && value !== undefined) pairs[key] = value
      else if (part.trim()) this.warn(name, 'key=value pairs with commas between, percent-encoded', 'the rest')
    }
    return pairs
  }

  warn(name: string, needed: string, used: string): void {
    this.#warnings.add(`${name} is "${this.text(name)?.slice(0, 200)}", but takes ${needed}; used: ${used}`)
  }

  #defaultOf(name: string): string {
    return this.#defaults.get(name) ?? ''
  }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
