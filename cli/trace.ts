/** `kaos trace`: what happened in a trace, over all its agents. */
import type { TraceRecord } from '../actors/outbox.ts'
import { isRootTask } from '../bus/wire/ids.ts'
import { loadTrace } from '../replay/load.ts'
import { buildTimeline } from '../replay/timeline.ts'
import { redact } from '../telemetry/redact.ts'
import { findTrace } from './client/lookup.ts'
import { type ClientOptions, withBus } from './client/session.ts'
import { EXIT } from './process/exit-codes.ts'
import { taskLines } from './task.ts'
import { isColorful, print, printJson, printWidth, say } from './view/terminal.ts'
import { linkOf } from './view/trace-link.ts'
import { drawTrace } from './view/trace-view.ts'

interface Common extends ClientOptions {
  readonly json?: boolean
}

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

export async function traceShow(
  id: string,
  options: Common & { readonly content?: boolean; readonly ids?: boolean },
): Promise<number> {
  return withBus(options, async ({ bus }) => {
    const trace = await loadTrace(bus, await findTrace(bus, id))
    const tree = buildTimeline(trace, { now: Date.now(), hasContent: options.content ?? false })
    const link = linkOf({ trace: tree.traceId, task: tree.roots[0]?.task ?? '' })
    // Failures may quote secrets, as drawn ones may; a line that is redacted stays JSON.
    if (options.json) printJson(JSON.parse(redact(JSON.stringify({ ...tree, ...(link !== undefined && { link }) }))))
    else {
      const drawing = { width: printWidth(), color: isColorful(process.stdout), hasIds: options.ids ?? false }
      for (const line of drawTrace(tree, drawing)) print(line)
      if (link !== undefined) print(link)
    }
    return EXIT.ok
  })
}
