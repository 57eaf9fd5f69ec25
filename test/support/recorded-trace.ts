/** Traces of a MemorySystem as `replay/` reads them, and ways to damage them. */
import { agentMachine } from '../../actors/agent/machine.ts'
import type { Machine } from '../../actors/machine.ts'
import type { Json } from '../../bus/wire/json.ts'
import { loadTrace, type TraceSource } from '../../replay/load.ts'
import { replayTrace } from '../../replay/replay.ts'
import type { Verdict } from '../../replay/verdict.ts'
import { type AgentSpec, definitionOf, type MemorySystem } from './memory-system.ts'

export function memorySource(system: MemorySystem): TraceSource {
  const { broker } = system
  const { journal, blobs } = broker.connect()
  return {
    journal,
    blobs,
    traces: {
      async actors(traceId) {
        return [...broker.records].flatMap(([subject, stored]) => {
          if (!subject.startsWith(broker.subjects.tracesOf(traceId).slice(0, -1))) return []
          const [agent = '', task = ''] = subject.split('.').slice(4)
          const { text, sequence } = stored.at(-1)!
          return [{ traceId, agent, task, text, sequence }]
        })
      },
    },
  }
}

/** What the agents are "today" when nothing changed. */
export function today(
  specs: readonly AgentSpec[],
  options: { readonly machine?: Machine; readonly define?: (spec: AgentSpec) => object | undefined } = {},
) {
  const define = options.define ?? ((spec: AgentSpec) => definitionOf(spec))
  return {
    machine: () => options.machine ?? agentMachine(),
    definition(agent: string): Json | undefined {
      const spec = specs.find(({ name }) => name === agent)
      return spec && (define(spec) as Json | undefined)
    },
  }
}

export async function replayed(system: MemorySystem, traceId: string, now: ReturnType<typeof today>): Promise<Verdict> {
  return replayTrace(await loadTrace(memorySource(system), traceId), now)
}

/** The subject of a record of this kind whose subject contains the text. */
export function subjectOf(system: MemorySystem, kind: 'journal' | 'blob' | 'trace', text: string): string {
  const found = [...system.broker.records.keys()].find((subject) => subject.includes(`.${kind}.`) && subject.includes(text))
  if (!found) throw new Error(`no ${kind} with "${text}"`)
  return found
}

/** Takes one entry out of a journal, as if the store had lost it. */
export function dropEntry(system: MemorySystem, subject: string, n: number): void {
  system.broker.records.set(
    subject,
    system.broker.records.get(subject)!.filter((_, i) => i !== n),
  )
}
