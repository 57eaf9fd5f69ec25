/** What an error says for people: the deepest cause that has words, since "fetch failed" explains nothing. */

export function reasonOf(error: unknown): string {
  let reason = ''
  let current: unknown = error
  for (let depth = 0; depth < 5 && current instanceof Error; depth += 1) {
    // An AggregateError of several addresses has an empty message and a code.
    const code = 'code' in current && typeof current.code === 'string' ? current.code : ''
    reason = current.message || code || reason
    current = current.cause ?? (current instanceof AggregateError ? current.errors[0] : undefined)
  }
  return reason || String(error)
}
