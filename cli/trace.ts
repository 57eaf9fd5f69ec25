/** `kaos trace`: what happened in a trace, over all its agents. */
import type { TraceRecord } from '../actors/outbox.ts'
import type { NatsBus } from '../bus/open.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { isRootTask, isTaskId, parseRootTask, rootTaskId } from '../bus/wire/ids.ts'
import { loadTrace } from '../replay/load.ts'
import { buildTimeline } from '../replay/timeline.ts'
import { EXIT } from './exit-codes.ts'
import { withBus } from './session.ts'
import { taskLines } from './task.ts'
import { isColorful, print, printJson, say } from './terminal.ts'
import { drawTrace } from './trace-view.ts'

interface Common {
  readonly json?: boolean
  readonly namespace?: string
}

/** Records of the index that a search looks at. */
const SEARCHED_MAX = 2_000

export async function traceList(options: Common & { readonly limit: number }): Promise<number> {
  return withBus(options, async ({ bus }) => {
    const found = await bus.traces.latest(options.limit * 8)
    const traces = new Map<string, { root: TraceRecord | undefined; actors: number }>()
    for (const { traceId, text } of found) {
      const record = JSON.parse(text) as TraceRecord
      const trace = traces.get(traceId) ?? { root: undefined, actors: 0 }
      traces.set(traceId, { root: isRootTask(record.task) ? record : trace.root, actors: trace.actors + 1 })
    }
    const rows = [...traces]
      .flatMap(([trace, { root, actors }]) => (root ? [{ ...root, trace, actors }] : []))
      .slice(0, options.limit)
    if (options.json) printJson(rows)
    else if (rows.length === 0) say('no traces yet: send a task with "kaos task send AGENT TEXT"')
    else for (const line of taskLines(rows)) print(line)
    return EXIT.ok
  })
}

export async function traceShow(id: string, options: Common): Promise<number> {
  return withBus(options, async ({ bus }) => {
    const tree = buildTimeline(await loadTrace(bus, await findTrace(bus, id)))
    if (options.json) printJson(tree)
    else for (const line of drawTrace(tree, { width: process.stdout.columns ?? 100, color: isColorful() })) print(line)
    return EXIT.ok
  })
}

/** The trace of a trace id, of a task id, or of the last root task. Throws `unknown_trace`. */
export async function findTrace(bus: NatsBus, id: string): Promise<string> {
  if (/^[0-9a-f]{32}$/.test(id)) return id
  if (id !== 'last' && !isTaskId(id)) {
    throw new KaosError(
      'usage',
      `"${id}" is neither a trace id (32 hex digits) nor a task id (like "coordinator_order-17") nor "last"`,
    )
  }
  const latest = await bus.traces.latest(SEARCHED_MAX)
  const root = id === 'last' ? undefined : parseRootTask(id)
  const wanted = root && rootTaskId(root.agent, root.key)
  const found = latest.find(({ task }) => (wanted === undefined ? isRootTask(task) : task === wanted))
  if (!found) throw new KaosError('unknown_trace', `there is no trace of "${id}" in namespace "${bus.namespace}"`)
  return found.traceId
}
