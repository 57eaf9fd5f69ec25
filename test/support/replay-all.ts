/** Every recorded task must replay identically: that is what proves a record complete. */

import type { NatsBus } from '../../bus/open.ts'
import { replay } from '../../cli/replay.ts'
import type { System } from '../../manifests/load.ts'
import { verdictLine } from '../../replay/verdict.ts'

/** Replays every trace of the index and gives a line for each that is not identical. */
export async function replayAll(
  bus: NatsBus,
  system: System,
): Promise<{ readonly traces: number; readonly wrong: readonly string[] }> {
  const traces = new Set((await bus.traces.latest(5_000)).map(({ traceId }) => traceId))
  const wrong: string[] = []
  for (const traceId of traces) {
    const verdict = await replay(bus, traceId, system)
    if (verdict.verdict !== 'identical') wrong.push(`${traceId}: ${verdictLine(verdict)}`)
  }
  return { traces: traces.size, wrong }
}
