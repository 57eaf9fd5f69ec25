/** What must hold of every journal at the end, whatever happened on the way. */
import { Actor } from '../../actors/actor.ts'
import { agentMachine } from '../../actors/agent/machine.ts'
import type { Machine } from '../../actors/machine.ts'
import { fold } from '../../actors/record.ts'
import type { Stored } from '../../bus/contracts.ts'
import { type Entry, openEntry } from '../../bus/wire/entry.ts'

/** Folds a journal from its first entry, which proves numbering, seals, commands and states, and gives its entries. */
export async function checkJournal(
  agent: string,
  task: string,
  stored: readonly Stored[],
  readBlob: (sha: string) => Promise<string>,
  machine: Machine = agentMachine(),
): Promise<{ readonly entries: readonly Entry[]; readonly actor: Actor }> {
  const actor = new Actor(agent, task)
  await fold(actor, machine, stored, readBlob)
  const entries = stored.map(({ text }, n) => openEntry(text, undefined, `entry ${n} of ${task}`).entry)
  const outcomes = entries.filter((entry) => entry.outcome)
  if (outcomes.length !== 1) throw new Error(`task ${task} has ${outcomes.length} outcomes`)
  const causes = entries.filter((entry) => entry.input.kind !== 'resumed').map((entry) => entry.cause)
  const twice = causes.filter((cause, i) => causes.indexOf(cause) !== i)
  if (twice.length > 0) throw new Error(`task ${task} decided twice: ${twice.join(', ')}`)
  return { entries, actor }
}
