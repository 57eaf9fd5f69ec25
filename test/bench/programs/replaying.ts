/** Replays recorded tasks of the bench in a process of its own, one after the other, as `kaos replay` does it: read the record, then decide it again. */
import { requiredBrokerSettings } from '../../../bus/access/settings.ts'
import { openBus } from '../../../bus/open.ts'
import { userParty } from '../../../bus/wire/subjects.ts'
import { loadSystem } from '../../../cli/running/declared.ts'
import { describeToday } from '../../../cli/running/machines.ts'
import { loadTrace } from '../../../replay/load.ts'
import { withoutNetwork } from '../../../replay/offline.ts'
import { replayTrace } from '../../../replay/replay.ts'
import { verdictLine } from '../../../replay/verdict.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { answerQuestions } from '../process.ts'
import { NAMESPACE } from '../system.ts'

export interface Replayed {
  readonly traces: number
  readonly entries: number
  readonly entriesPerSecond: number
}

const [manifest = ''] = process.argv.slice(2)
const system = loadSystem([manifest])
const bus = await openBus(requiredBrokerSettings(process.env), { namespace: NAMESPACE, as: userParty('bench'), log: silentLog() })

answerQuestions<{ readonly traces: number }>(async ({ traces }): Promise<Replayed> => {
  const latest = await bus.traces.latest(traces * 2)
  const ids = [...new Set(latest.map(({ traceId }) => traceId))].slice(0, traces)
  const today = await describeToday(system, bus.catalog)
  const startedAt = performance.now()
  let entries = 0
  for (const id of ids) {
    const loaded = await loadTrace(bus, id)
    const verdict = withoutNetwork(() => replayTrace(loaded, today))
    if (verdict.verdict !== 'identical') throw new Error(`trace ${id}: ${verdictLine(verdict)}`)
    entries += verdict.entries
  }
  return { traces: ids.length, entries, entriesPerSecond: (entries * 1_000) / (performance.now() - startedAt) }
})
process.on('SIGTERM', () => process.exit(0))
console.log('ready')
