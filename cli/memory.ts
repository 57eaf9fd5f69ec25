/** `kaos memory`: what agents remember of a request. */
import { loadTrace } from '../replay/load.ts'
import { type MemoryEvent, memoryEvents } from '../replay/memory-events.ts'
import { findTrace } from './client/lookup.ts'
import { type ClientOptions, withBus } from './client/session.ts'
import { EXIT } from './process/exit-codes.ts'
import { paint, print, printable, printJson, printWidth, say } from './view/terminal.ts'

const TYPE_COLUMNS = 'task_delegation_received'.length

export async function memoryEventsShow(
  options: ClientOptions & { readonly trace: string; readonly agent?: string; readonly json?: boolean },
): Promise<number> {
  return withBus(options, async ({ bus }) => {
    const trace = await loadTrace(bus, await findTrace(bus, options.trace))
    const events = memoryEvents(trace, { agent: options.agent })
    if (options.json) printJson(events)
    else if (events.length === 0) say(nothingOf(options.agent, [...new Set(trace.actors.map(({ agent }) => agent))]))
    else for (const line of eventLines(events, printWidth())) print(line)
    return EXIT.ok
  })
}

/** When, who, what, its content cut to the width, and its span. */
export function eventLines(events: readonly MemoryEvent[], width: number): readonly string[] {
  const agentColumns = Math.max(...events.map(({ agent }) => agent.length))
  return events.map(({ timestamp, agent, event_type: type, content, metadata }) => {
    const time = localTime(new Date(timestamp))
    const who = `${time}  ${agent.padEnd(agentColumns)}  `
    const head = `${who}${type.padEnd(TYPE_COLUMNS)}  ${metadata.span_id}  `
    const text = printable(typeof content === 'string' ? content : JSON.stringify(content))
    const line = head + text
    const cut = line.length <= width ? line : `${line.slice(0, Math.max(0, width - 1))}…`
    return paint('dim', cut.slice(0, time.length)) + cut.slice(time.length)
  })
}

/** "10:34:41.207". */
function localTime(date: Date): string {
  const two = (part: number) => String(part).padStart(2, '0')
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')
  return `${time}.${String(date.getMilliseconds()).padStart(3, '0')}`
}

function nothingOf(agent: string | undefined, agents: readonly string[]): string {
  const who = agent === undefined ? '' : ` of agent "${agent}"`
  return `the trace has no events${who}; its agents: ${agents.join(', ')}`
}
