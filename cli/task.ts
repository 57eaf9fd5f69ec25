/** `kaos task`: sends tasks, waits for results, and shows what became of them. */
import { startHash } from '../actors/actor.ts'
import type { ResultRecord, TraceRecord } from '../actors/outbox.ts'
import { guarded } from '../bus/connection.ts'
import type { NatsBus } from '../bus/open.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { checkName, isRootTask, keyOf, rootTaskId } from '../bus/wire/ids.ts'
import type { Json } from '../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../bus/wire/limits.ts'
import { parseDoorBody, type StartBody } from '../bus/wire/message.ts'
import { isVerb } from '../bus/wire/subjects.ts'
import type { Logger } from '../telemetry/log.ts'
import { beginningOf, type Found, findRecord, findTask, isAtDoor, type TaskAddress } from './client/lookup.ts'
import { clientService } from './client/send-trace.ts'
import { newId, type SentTask, sendSignal, sendTask } from './client/sending.ts'
import { type ClientOptions, withBus } from './client/session.ts'
import { EXIT } from './process/exit-codes.ts'
import { withTelemetry } from './process/telemetry.ts'
import { LiveView, type ProgressEvent } from './view/live.ts'
import { type Paint, paint, paintAside, print, printable, printJson, say, seconds, shown } from './view/terminal.ts'
import { linkOf } from './view/trace-link.ts'

/** A host that runs begins a task within milliseconds. */
const NOT_BEGUN_MS = 5_000

interface Common extends ClientOptions {
  readonly json?: boolean
}

export async function taskSend(
  agent: string,
  words: readonly string[],
  options: Common & { readonly wait?: boolean; readonly id?: string; readonly timeout: number; readonly quiet?: boolean },
): Promise<number> {
  checkName(agent, 'agent')
  const id = options.id === undefined ? newId() : checkId(options.id)
  const input = words.length === 1 && words[0] === '-' ? await readStdin() : words.join(' ')
  if (input.trim() === '')
    throw new KaosError('usage', 'the task is empty: give its text after the agent, or "-" to read it from stdin')
  const start = parseDoorBody(input)
  return withBus(options, ({ bus, log }) =>
    withTelemetry(clientService(bus.namespace), log, async (telemetry) => {
      const isWatched = options.wait && !options.json && !options.quiet
      if (isWatched) await showLive(bus, bus.subjects.allProgress(), rootTaskId(agent, keyOf(bus.namespace, agent, id)), log)
      const sent = await sendTask(bus, agent, input, { id, telemetry, env: process.env })
      if (sent.refused !== undefined) say(`TRACEPARENT "${printable(sent.refused)}" is no trace context: a new trace begins`)
      const begun = options.id === undefined ? undefined : await beginningWith(bus, sent, start)
      if (!options.wait) return printSent({ ...sent, traceId: begun?.traceId ?? sent.traceId }, bus, options)
      const leave = () => {
        say(`\nthe work goes on: kaos task watch ${sent.task}`)
        process.exit(EXIT.interrupted)
      }
      process.once('SIGINT', leave)
      const result = await awaitResult(bus, sent, options).finally(() => process.off('SIGINT', leave))
      // A task of the same id may have been at the door before ours.
      if (options.id !== undefined && !begun) await beginningWith(bus, sent, start)
      return printOutcome(sent, result, options)
    }),
  )
}

/** Ends with 0 when the signal is stored; whether the task listens to it shows in its trace. */
export async function taskSignal(id: string, event: string, data: string | undefined, options: Common): Promise<number> {
  if (!isVerb(event)) throw new KaosError('usage', `"${event}" is no name of an event: letters, digits, "_" and "-" are allowed`)
  const value = data === undefined ? null : jsonOrText(data)
  return withBus(options, async ({ bus }) => {
    const task = id === 'last' ? (await findTask(bus, id)).task : id
    const found = await findRecord(bus, task)
    if (!found) throw new KaosError('unknown_task', `there is no task "${id}" that has begun in namespace "${bus.namespace}"`)
    const { agent, state } = found.record
    if (state !== 'working') throw new KaosError('usage', `task "${task}" has ended (${state}) and hears nothing any more`)
    await sendSignal(bus, { agent, task }, event, value)
    if (options.json) printJson({ task, event, sent: true })
    else print(`sent ${event} to ${task}`)
    return EXIT.ok
  })
}

/** What begins like JSON must be JSON: taken for a text, a mistyped object would be acted on. */
function jsonOrText(text: string): Json {
  try {
    return JSON.parse(text) as Json
  } catch (error) {
    if (!/^\s*[{["]/.test(text)) return text
    throw new KaosError('usage', `the data ${JSON.stringify(text)} begins like JSON and is none (${(error as Error).message})`)
  }
}

export async function taskGet(id: string, options: Common): Promise<number> {
  return withBus(options, async ({ bus }) => {
    const address = await findTask(bus, id)
    noteRoot(id, address)
    const state = await stateOf(bus, address)
    if (state.result) return printResult(state.result, options)
    const { task } = address
    if (options.json) {
      const { record = { task, agent: address.agent, state: 'submitted' }, traceId } = state.found ?? {}
      printJson({ ...record, ...(traceId && { trace: traceId }) })
    } else if (state.found) {
      const { record } = state.found
      print(`task ${task} is ${record.state}, for ${seconds(Date.now() - record.startedAt)}`)
    } else print(notBegun(address))
    return EXIT.timeout
  })
}

export async function taskWatch(id: string, options: Common & { readonly timeout: number }): Promise<number> {
  return withBus(options, async ({ bus, log }) => {
    const address = await findTask(bus, id)
    noteRoot(id, address)
    const { found } = await stateOf(bus, address)
    const subject = found ? bus.subjects.progressOf(found.traceId) : bus.subjects.allProgress()
    if (!options.json) await showLive(bus, subject, address.task, log)
    return printOutcome(address, await awaitResult(bus, address, options), options)
  })
}

export async function taskList(options: Common & { readonly limit: number }): Promise<number> {
  return withBus(options, async ({ bus }) => {
    const records = (await bus.traces.latest(options.limit * 8))
      .map(({ traceId, text }) => ({ trace: traceId, ...(JSON.parse(text) as TraceRecord) }))
      .filter((record) => isRootTask(record.task))
      .slice(0, options.limit)
    if (options.json) printJson(records)
    else if (records.length === 0) say('no tasks yet: send one with "kaos task send AGENT TEXT"')
    else for (const line of taskLines(records)) print(line)
    return EXIT.ok
  })
}

/** When it began, in local time, what became of it, and what it is called; a failure's code stands before the title. */
export function taskLines(records: readonly (TraceRecord & { readonly trace: string })[]): string[] {
  const width = Math.max(...records.map(({ task }) => task.length))
  return records.map((record) => {
    const took = record.endedAt === undefined ? 'for' : 'in'
    const time = seconds((record.endedAt ?? Date.now()) - record.startedAt)
    const code = record.failure ? `${paint('red', record.failure.code)}  ` : ''
    const columns = [
      paint('dim', localTime(record.startedAt)),
      record.task.padEnd(width),
      colored(paint, record.state, record.state.padEnd(9)),
      `${took} ${time}`.padEnd(12),
      paint('dim', record.trace),
      `${code}${printable(record.title)}`,
    ]
    return columns.join('  ').trimEnd()
  })
}

function checkId(id: string): string {
  if (id.trim() !== '' && printable(id) === id) return id
  throw new KaosError('usage', `${JSON.stringify(id)} cannot be the id of a task: it is empty or has control characters`)
}

/** The task that has begun under this id, if one has. Throws `key_conflict` when it is another one than `start` means. */
export async function beginningWith(bus: NatsBus, address: TaskAddress, start: StartBody) {
  return beginningAs(bus, address, startHash(start))
}

/** As `beginningWith`, by the hash of what the task was to begin with. */
export async function beginningAs(bus: NatsBus, address: TaskAddress, hash: string) {
  const begun = await beginningOf(bus, address)
  if (!begun || begun.startHash === hash) return begun
  throw new KaosError('key_conflict', `task "${address.task}" was begun with another input, so this one was not taken`)
}

/** Prints what happens in a task and in all that it causes. */
async function showLive(bus: NatsBus, subject: string, task: string, log: Logger): Promise<void> {
  const live = new LiveView(paintAside)
  const callback = guarded((_error, message) => {
    const event = message.json<ProgressEvent>()
    const isOfTask = event.task === task || event.task.startsWith(`${task}_`)
    if (isOfTask) for (const line of live.lines(event)) say(line)
  }, log)
  bus.connection.subscribe(subject, { callback })
  await bus.connection.flush()
}

/** What is known of a task. A task moves from the door to the index to its result, so one that moves meanwhile is seen. Throws `unknown_task`. */
async function stateOf(
  bus: NatsBus,
  address: TaskAddress,
): Promise<{ readonly found: Found | undefined; readonly result: ResultRecord | undefined }> {
  const isWaiting = await isAtDoor(bus, address)
  const found = await findRecord(bus, address.task)
  const text = await bus.results.get(address.agent, address.key)
  if (!isWaiting && !found && text === undefined) {
    throw new KaosError('unknown_task', `there is no task "${address.task}" in namespace "${bus.namespace}"`)
  }
  return { found, result: text === undefined ? undefined : (JSON.parse(text) as ResultRecord) }
}

/** Undefined when there is none in time. Says so when nobody seems to work on it. */
async function awaitResult(
  bus: NatsBus,
  address: TaskAddress,
  options: Common & { readonly timeout: number },
): Promise<ResultRecord | undefined> {
  const { agent, key, task } = address
  const wait = (deadlineMs: number) => bus.results.wait(agent, key, { deadlineMs })
  const deadlineMs = options.timeout * 1_000
  const patienceMs = Math.min(deadlineMs, NOT_BEGUN_MS)
  let text = await wait(patienceMs)
  if (text === undefined && !options.json && !(await findRecord(bus, task))) say(notBegun(address))
  text ??= await wait(deadlineMs - patienceMs)
  return text === undefined ? undefined : (JSON.parse(text) as ResultRecord)
}

function printSent({ task, agent, key, traceId: trace }: SentTask, bus: NatsBus, options: Common): number {
  const result = bus.subjects.result(agent, key)
  if (options.json) {
    printJson({ task, agent, key, trace, result })
    return EXIT.ok
  }
  print(`task ${task}\n  its result will be on ${result}\n  follow it with: kaos task watch ${task}`)
  const link = linkOf({ trace, task })
  if (link !== undefined) print(`  see it at: ${link}`)
  return EXIT.ok
}

function printOutcome(
  { task }: TaskAddress,
  result: ResultRecord | undefined,
  options: Common & { readonly timeout: number },
): number {
  if (result) return printResult(result, options)
  if (options.json) printJson({ task, state: 'working', timeoutSeconds: options.timeout })
  else say(`no result of ${task} within ${options.timeout} s; the work goes on: kaos task watch ${task}`)
  return EXIT.timeout
}

function printResult(result: ResultRecord, options: Common): number {
  const { state, trace, task } = result
  const code = state === 'completed' ? EXIT.ok : EXIT.failed
  if (options.json) {
    printJson(result)
    return code
  }
  // What was rejected never began.
  const hasTrace = state !== 'rejected'
  if (state === 'completed') print(shown(outputText(result.output)))
  else {
    const { failure } = result
    const more = hasTrace ? `, trace ${trace}: kaos trace show ${trace}` : ''
    say(`${colored(paintAside, state, state)}: ${printable(failure.message)}\n  ${failure.code}${more}`)
  }
  const link = hasTrace ? linkOf({ trace, task }) : undefined
  if (link !== undefined) say(`  ${link}`)
  return code
}

export function outputText(output: Json): string {
  return typeof output === 'string' ? output : JSON.stringify(output, null, 2)
}

function notBegun({ task, agent }: TaskAddress): string {
  return `task ${task} waits at the door of agent "${agent}": no host has begun it, or one waits for its tool servers`
}

/** The id may be that of a task inside another. */
function noteRoot(id: string, { task }: TaskAddress): void {
  if (id !== 'last' && id !== task) say(`${id} is a part of ${task}, whose result this is`)
}

function colored(paint: Paint, state: string, text: string): string {
  if (state === 'completed') return paint('green', text)
  return paint(state === 'working' ? 'yellow' : 'red', text)
}

/** "11-24 10:34:41". */
function localTime(at: number): string {
  const date = new Date(at)
  const two = (part: number) => String(part).padStart(2, '0')
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')
  return `${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of process.stdin) {
    bytes += (chunk as Buffer).length
    if (bytes > MESSAGE_LIMITS.bodyBytesMax) {
      throw new KaosError('payload_too_large', `the task on stdin has more than ${MESSAGE_LIMITS.bodyBytesMax} bytes`)
    }
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8')
}
