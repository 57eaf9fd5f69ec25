/** W3C baggage: between agents all of it travels as it came, to models and MCP servers only what a setting names. */

/** A list of baggage keys as a setting states it: names with commas between. */
export function parseBaggageKeys(text: string | undefined): readonly string[] {
  return (text ?? '')
    .split(',')
    .map((key) => key.trim())
    .filter((key) => key !== '')
}

// https://www.w3.org/TR/baggage/#definition
const BAGGAGE_KEY = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const BAGGAGE_VALUE = /^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*$/

/**
 * The members of W3C baggage that have one of the keys, with their properties, as they came: nothing is decoded or encoded. Members that are
 * malformed are left out. Undefined when none is left.
 */
export function allowedBaggage(baggage: string | undefined, keys: readonly string[]): string | undefined {
  if (!baggage || keys.length === 0) return undefined
  const members = baggage.split(',').flatMap((text) => {
    const [member = '', ...properties] = text.split(';').map((part) => part.trim())
    const [key, value] = keyAndValue(member)
    if (!keys.includes(key) || value === undefined || !isPart(key, value)) return []
    const parts = properties.map(keyAndValue)
    if (!parts.every((part) => isPart(...part))) return []
    return [[`${key}=${value}`, ...parts.map(([name, said]) => (said === undefined ? name : `${name}=${said}`))].join(';')]
  })
  return members.length === 0 ? undefined : members.join(',')
}

/** White space around "=" does not count. A property may have no value. */
function keyAndValue(text: string): readonly [key: string, value: string | undefined] {
  const at = text.indexOf('=')
  return at === -1 ? [text, undefined] : [text.slice(0, at).trimEnd(), text.slice(at + 1).trimStart()]
}

function isPart(key: string, value: string | undefined): boolean {
  return BAGGAGE_KEY.test(key) && (value === undefined || BAGGAGE_VALUE.test(value))
}
