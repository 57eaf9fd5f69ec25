/** What agents do while a request waits, in KAOS's words: which tool is called and who is asked. Pure. */
import type { ProgressEvent } from '../door.ts'

export interface ProgressRecord {
  readonly type: 'progress'
  readonly agent: string
  /** Which round of calls of that agent's task this is, from 1. */
  readonly step: number
  readonly action: 'tool_call' | 'delegate'
  /** The tool, or the agent that is asked. */
  readonly target: string
}

const ACTIONS: Readonly<Record<string, ProgressRecord['action']>> = { tool: 'tool_call', delegate: 'delegate' }

/** Counts the rounds of each task of a tree. */
export class ProgressRecords {
  private readonly rounds = new Map<string, number>()

  of({ kind, agent, task, begins = [] }: ProgressEvent): readonly ProgressRecord[] {
    const calls = begins.filter(({ effect }) => effect in ACTIONS)
    if (kind !== 'entry' || calls.length === 0) return []
    const step = (this.rounds.get(task) ?? 0) + 1
    this.rounds.set(task, step)
    return calls.map(({ effect, name = '' }) => ({ type: 'progress', agent, step, action: ACTIONS[effect]!, target: name }))
  }
}
