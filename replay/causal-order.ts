/** Entries of a whole tree in the order in which one could lead to another. */
import { delegationsOf, type LoadedTrace } from './load.ts'
import type { RecordedActor } from './record.ts'

/** Smaller than any two clock readings, large enough to count in a double that holds epoch ms. */
const TICK_MS = 0.001

/**
 * A time for every entry, by entry id: when it was decided, moved behind all that led to it, since the clocks of hosts differ. A child's entries
 * come after the one that began it, and the one that takes its answer after them.
 */
export function causalTimes(trace: LoadedTrace): ReadonlyMap<string, number> {
  const times = new Map<string, number>()
  const actors = new Map(trace.actors.map((actor) => [actor.task, actor]))
  const stamp = (actor: RecordedActor, begun: number): number => {
    const children = delegationsOf(actor)
    const ends = new Map<number, number>()
    let time = begun
    for (const { id, entry } of actor.entries) {
      time = Math.max(entry.at, time + TICK_MS, (ends.get(entry.n) ?? 0) + TICK_MS)
      times.set(id, time)
      for (const { task, n, answeredAt } of children) {
        const child = n === entry.n ? actors.get(task) : undefined
        if (!child) continue
        const end = stamp(child, time)
        if (answeredAt !== undefined) ends.set(answeredAt, end)
      }
    }
    return time
  }
  for (const actor of trace.actors) if (actor.parent === undefined) stamp(actor, 0)
  return times
}
