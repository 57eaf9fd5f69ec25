/**
 * What must hold on the broker when the work is done, whatever happened on the way. Only what stands there, what the model was asked and what
 * the tools themselves counted is looked at, never what a host says of itself.
 */
import { type JetStreamManager, jetstreamManager } from '@nats-io/jetstream'
import type { ResultRecord, TraceRecord } from '../../actors/outbox.ts'
import type { StoredMessage } from '../../bus/read.ts'
import type { Entry, Outcome, Usage } from '../../bus/wire/entry.ts'
import { effectId, isRootTask } from '../../bus/wire/ids.ts'
import { HEADERS } from '../../bus/wire/message.ts'
import { agentParty, streamNames } from '../../bus/wire/subjects.ts'
import { replay } from '../../cli/replay.ts'
import { loadMachines } from '../../cli/running/machines.ts'
import { verdictLine } from '../../replay/verdict.ts'
import type { HostProcess } from './host-process.ts'
import { checkJournal } from './journal-check.ts'
import { eventually } from './mcp-calls.ts'
import { AGENTS, type ProcessSystem, TOOL_SERVER } from './process-system.ts'

/** Something outside that was done for an effect: a request at the model, a run of a tool. */
export interface Deed {
  readonly effect: string
  /** Epoch ms. */
  readonly at: number
  readonly host: HostProcess | undefined
}

export interface Findings {
  readonly tasks: number
  readonly entries: number
  /** Entries that say that a host took over. */
  readonly takeovers: number
  readonly modelRequests: readonly Deed[]
  readonly toolRuns: readonly Deed[]
  /** Deeds of a process that slept while another finished the effect, done within a moment of its waking. Its id is what covers those. */
  readonly late: readonly Deed[]
  /** Epoch ms at which an effect was finished: its answer stood in the journal, or a tool's reply in `done`. */
  readonly finishedAt: ReadonlyMap<string, number>
  readonly journals: ReadonlyMap<string, readonly Entry[]>
}

interface Task {
  readonly agent: string
  readonly task: string
  readonly entries: readonly Entry[]
  readonly outcome: Outcome
  readonly usage: Usage
  /** Epoch ms, by the broker's clock, of each entry. */
  readonly storedAt: readonly number[]
}

/** How long a process that wakes may take to notice that it was overtaken. What it does after that counts as a mistake. */
const WAKING_MS = 1_000
/** A held mail is given back after ack_wait at the latest. */
const QUIET_MS = 15_000

/** Throws with all that is wrong, or says what was found. */
export async function checkBroker(system: ProcessSystem): Promise<Findings> {
  const { bus, namespace } = system
  const manager = await jetstreamManager(bus.connection)
  const wrong: string[] = []
  await untilNoMail(system, manager)

  const tasks = await readTasks(system, manager, wrong)
  await checkResults(system, manager, tasks, wrong)
  await checkIndex(system, tasks, wrong)
  checkDelegations(tasks, wrong)
  await checkReplay(system, tasks, wrong)
  const dead = await subjectsIn(manager, streamNames.dead, `kaos.${namespace}.dead.>`)
  if (dead.size > 0) wrong.push(`dead letters: ${[...dead.keys()].join(', ')}`)

  const effects = effectsOf(tasks)
  const answered = answeredAt(tasks)
  const done = await doneAt(system, manager, wrong)
  const late: Deed[] = []
  const judge = (deeds: readonly Deed[], kind: 'model' | 'tool', finished: ReadonlyMap<string, number>) => {
    for (const deed of deeds) {
      if (effects.get(deed.effect) !== kind) wrong.push(`a ${kind} was asked for "${deed.effect}", which no journal begins`)
      const at = finished.get(deed.effect)
      // The broker's clock is this machine's; both are cut to whole milliseconds.
      if (at === undefined || deed.at <= at) continue
      if (sleptThrough(deed, at)) late.push(deed)
      else wrong.push(`effect "${deed.effect}" was finished and ${deed.at - at} ms later done again by "${deed.host?.name}"`)
    }
  }
  const modelRequests = system.modelRequests().map(({ key, at, host }) => ({ effect: key, at, host }))
  const hostOf = new Map(system.processes.map((host) => [host.pid, host]))
  const toolRuns = system.toolRuns().map(({ effect, at, host }) => ({ effect, at, host: hostOf.get(host) }))
  judge(modelRequests, 'model', answered)
  judge(toolRuns, 'tool', done)

  if (wrong.length > 0) throw new Error(`${wrong.length} things are wrong:\n${wrong.slice(0, 20).join('\n')}\n${system.said()}`)
  const entries = tasks.flatMap((task) => task.entries)
  return {
    tasks: tasks.length,
    entries: entries.length,
    takeovers: entries.filter(({ input }) => input.kind === 'resumed').length,
    modelRequests,
    toolRuns,
    late,
    finishedAt: new Map([...answered, ...done]),
    journals: new Map(tasks.map((task) => [task.task, task.entries])),
  }
}

/** Effects that were done more than once, with how often. */
export function repeated(deeds: readonly Deed[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const { effect } of deeds) counts.set(effect, (counts.get(effect) ?? 0) + 1)
  return new Map([...counts].filter(([, count]) => count > 1))
}

/** Effects that were begun in the world before an instant and finished only after it. */
export function inFlightAt(instant: number, deeds: readonly Deed[], { finishedAt }: Findings): ReadonlySet<string> {
  const open = deeds.filter(({ effect, at }) => at <= instant && (finishedAt.get(effect) ?? Number.POSITIVE_INFINITY) >= instant)
  return new Set(open.map(({ effect }) => effect))
}

async function untilNoMail(system: ProcessSystem, manager: JetStreamManager): Promise<void> {
  const { namespace } = system
  const streams = [
    ...AGENTS.map((agent) => streamNames.agentMail(namespace, agent)),
    streamNames.toolMail(namespace, TOOL_SERVER),
  ]
  const left = new Map<string, number>()
  await eventually(async () => {
    left.clear()
    for (const stream of streams) {
      for (const [subject, count] of await subjectsIn(manager, stream, '>')) left.set(subject, count)
    }
    return left.size === 0
  }, QUIET_MS).catch((cause: unknown) => {
    throw new Error(`mail is left: ${[...left.keys()].slice(0, 10).join(', ')}\n${system.said()}`, { cause })
  })
}

async function readTasks(system: ProcessSystem, manager: JetStreamManager, wrong: string[]): Promise<readonly Task[]> {
  const { bus, namespace } = system
  const tasks: Task[] = []
  const machines = await loadMachines(system.declared)
  for (const agent of AGENTS) {
    const stream = streamNames.agentJournal(namespace, agent)
    const messages = await subjectsIn(manager, stream, bus.subjects.journals(agent))
    for (const subject of messages.keys()) {
      const task = subject.split('.').at(-1)!
      try {
        const self = agentParty(agent)
        const readBlob = (sha: string) => bus.blobs.read(self, self, task, sha)
        const journal = await bus.journal.read(agent, task, 0)
        const { entries, actor } = await checkJournal(agent, task, journal, readBlob, machines.get(agent)?.machine)
        const stored = await bus.reader.getAll(stream, subject, 1)
        checkSlots(task, stored, wrong)
        const last = entries.at(-1)!
        if (!last.outcome) wrong.push(`task ${task} has entries after its outcome`)
        if (actor.state!.pending.size > 0)
          wrong.push(`task ${task} has ended and waits for ${[...actor.state!.pending.keys()].join(', ')}`)
        tasks.push({
          agent,
          task,
          entries,
          outcome: actor.state!.outcome!,
          usage: actor.state!.usage,
          storedAt: stored.map(({ at }) => at),
        })
      } catch (error) {
        wrong.push(`journal of ${task}: ${(error as Error).message}`)
      }
    }
  }
  return tasks
}

function checkSlots(task: string, stored: readonly StoredMessage[], wrong: string[]): void {
  for (const [n, message] of stored.entries()) {
    const slot = message.header(HEADERS.slot)
    if (slot !== `${task}_${n}`) wrong.push(`journal of ${task} has entry "${slot}" in place ${n}`)
  }
}

/** Every task that was sent has one result, and it is the outcome of its journal. */
async function checkResults(
  system: ProcessSystem,
  manager: JetStreamManager,
  tasks: readonly Task[],
  wrong: string[],
): Promise<void> {
  const { bus, namespace, sent } = system
  const messages = await subjectsIn(manager, streamNames.results, `kaos.${namespace}.result.>`)
  for (const { agent, key, task } of sent) {
    const count = messages.get(bus.subjects.result(agent, key)) ?? 0
    if (count !== 1) wrong.push(`task ${task} has ${count} results`)
    if (count === 0) continue
    const result = JSON.parse((await bus.results.get(agent, key))!) as ResultRecord
    const outcome = tasks.find((found) => found.task === task)?.outcome
    if (!outcome || text(outcomeOf(result)) !== text(outcomeOf(outcome))) wrong.push(`the result of ${task} is not its outcome`)
  }
  const expected = new Set(sent.map(({ agent, key }) => bus.subjects.result(agent, key)))
  for (const subject of messages.keys()) if (!expected.has(subject)) wrong.push(`there is a result of no task: ${subject}`)
  const roots = tasks.filter(({ task }) => isRootTask(task)).length
  if (roots !== sent.length) wrong.push(`${sent.length} tasks were sent and ${roots} began`)
}

async function checkIndex(system: ProcessSystem, tasks: readonly Task[], wrong: string[]): Promise<void> {
  const records = new Map<string, TraceRecord>()
  for (const traceId of tracesOf(tasks)) {
    for (const { task, text: body } of await system.bus.traces.actors(traceId)) records.set(task, JSON.parse(body) as TraceRecord)
  }
  for (const { task, outcome, entries, usage } of tasks) {
    const { state, entries: count, usage: used, failure } = records.get(task) ?? {}
    const indexed = text([state, count, used, failure])
    const expected = text([outcome.state, entries.length, usage, outcome.state === 'completed' ? undefined : outcome.failure])
    if (indexed !== expected) wrong.push(`the index has task ${task} as ${indexed}; its journal says ${expected}`)
  }
  if (records.size !== tasks.length) wrong.push(`the index has ${records.size} tasks and the journals ${tasks.length}`)
}

/** The record of every trace is complete: today's code decides the same from it. */
async function checkReplay({ bus, declared }: ProcessSystem, tasks: readonly Task[], wrong: string[]): Promise<void> {
  for (const traceId of tracesOf(tasks)) {
    const verdict = await replay(bus, traceId, declared)
    if (verdict.verdict !== 'identical') wrong.push(`replay of ${traceId}: ${verdictLine(verdict)}`)
  }
}

function tracesOf(tasks: readonly Task[]): ReadonlySet<string> {
  return new Set(tasks.map(({ entries }) => entries[0]!.trace!.traceId))
}

/** What a parent took as the answer is what its child decided. */
function checkDelegations(tasks: readonly Task[], wrong: string[]): void {
  const outcomes = new Map(tasks.map(({ task, outcome }) => [task, outcome]))
  for (const { task, entries } of tasks) {
    for (const { input } of entries) {
      if (input.kind !== 'result' && input.kind !== 'error') continue
      const child = outcomes.get(input.effect)
      if (!child) continue
      const isSame = input.kind === 'result' ? child.state === 'completed' : child.state !== 'completed'
      if (!isSame) wrong.push(`task ${task} was told "${input.kind}" by ${input.effect}, which is ${child.state}`)
    }
  }
}

/** The kind of every effect that a journal begins. */
function effectsOf(tasks: readonly Task[]): ReadonlyMap<string, string> {
  const effects = new Map<string, string>()
  for (const { task, entries } of tasks) {
    for (const { n, commands } of entries) {
      for (const [k, command] of commands.entries()) {
        if (command.kind === 'start') effects.set(effectId(task, n, k), command.effect)
      }
    }
  }
  return effects
}

function answeredAt(tasks: readonly Task[]): ReadonlyMap<string, number> {
  const answered = new Map<string, number>()
  for (const { entries, storedAt } of tasks) {
    for (const [n, { input }] of entries.entries()) {
      if (input.kind === 'result' || input.kind === 'error') answered.set(input.effect, storedAt[n]!)
    }
  }
  return answered
}

/** When the reply to each effect of the tool server stood. There is one, after the claims. */
async function doneAt(system: ProcessSystem, manager: JetStreamManager, wrong: string[]): Promise<ReadonlyMap<string, number>> {
  const { bus, namespace } = system
  const stream = streamNames.toolDone(namespace, TOOL_SERVER)
  const done = new Map<string, number>()
  const messages = await subjectsIn(manager, stream, bus.subjects.done(TOOL_SERVER, '*'))
  for (const subject of messages.keys()) {
    const effect = subject.split('.').at(-1)!
    const replies = (await bus.reader.getAll(stream, subject, 1)).filter((message) => !message.text.startsWith('{"begun":'))
    if (replies.length !== 1) wrong.push(`effect "${effect}" has ${replies.length} replies in "done"`)
    else done.set(effect, replies[0]!.at)
  }
  return done
}

/** Whether the effect was finished while the process slept, and it only did what it was about to do when it fell asleep. */
function sleptThrough({ host, at }: Deed, finishedAt: number): boolean {
  return (
    host?.freezes.some(({ from, to = Number.POSITIVE_INFINITY }) => from <= finishedAt && at >= to && at <= to + WAKING_MS) ??
    false
  )
}

async function subjectsIn(manager: JetStreamManager, stream: string, filter: string): Promise<ReadonlyMap<string, number>> {
  const { state } = await manager.streams.info(stream, { subjects_filter: filter })
  return new Map(Object.entries(state.subjects ?? {}))
}

const outcomeOf = (outcome: Outcome) =>
  outcome.state === 'completed' ? [outcome.state, outcome.output] : [outcome.state, outcome.failure]
const text = (value: unknown) => JSON.stringify(value)
