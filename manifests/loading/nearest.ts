/** What was probably meant by a name that nothing has. */
import { distance } from 'fastest-levenshtein'

const beginningCharsMin = 4

/**
 * The candidate nearest in spelling, upper and lower case alike, else one of which the name is the beginning or the other way round;
 * undefined when none is near enough to be worth a question.
 */
export function nearestTo(given: string, candidates: readonly string[]): string | undefined {
  const wanted = given.toLowerCase()
  let best: string | undefined
  let bestDistance = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const away = distance(wanted, candidate.toLowerCase())
    // Two of five letters may differ: "modelApiRef" still finds "modelAPI", "web" does not find "echo".
    const limit = Math.max(1, Math.floor(Math.max(given.length, candidate.length) * 0.4))
    if (away <= limit && away < bestDistance) {
      best = candidate
      bestDistance = away
    }
  }
  return best ?? candidates.find((candidate) => isBeginning(wanted, candidate.toLowerCase()))
}

function isBeginning(a: string, b: string): boolean {
  return Math.min(a.length, b.length) >= beginningCharsMin && (a.startsWith(b) || b.startsWith(a))
}
