/** `kaos task`: sends tasks, waits for results, and shows what became of them. */
import { randomBytes } from 'node:crypto'
import { distance } from 'fastest-levenshtein'
import type { ResultRecord, TraceRecord } from '../actors/outbox.ts'
import { guarded } from '../bus/connection.ts'
import type { NatsBus } from '../bus/open.ts'
import { type HeaderPairs, JS_CODES, PublishFailed } from '../bus/publish.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { isRootTask, isTaskId, keyOf, parseRootTask, rootTaskId } from '../bus/wire/ids.ts'
import { type Json, sha256 } from '../bus/wire/json.ts'
import { MESSAGE_LIMITS } from '../bus/wire/limits.ts'
import { blobBody, HEADERS } from '../bus/wire/message.ts'
import { agentParty } from '../bus/wire/subjects.ts'
import { formatTraceparent } from '../bus/wire/trace.ts'
import { EXIT } from './exit-codes.ts'
import { LiveView, type ProgressEvent } from './live.ts'
import { withBus } from './session.ts'
import { paint, print, printJson, say, seconds } from './terminal.ts'

export interface SentTask {
  readonly agent: string
  readonly key: string
  readonly task: string
  readonly traceId: string
}

const TRIES = 5

/**
 * Publishes a task at an agent's door, with an id, so that its result has a known subject and sending again is harmless. Throws `door_full`
 * and `unknown_agent`, which a plain `nats pub` cannot be told.
 */
export async function sendTask(
  bus: NatsBus,
  agent: string,
  input: string,
  options: { readonly id?: string | undefined } = {},
): Promise<SentTask> {
  const id = options.id ?? randomBytes(8).toString('hex')
  const key = keyOf(bus.namespace, agent, id)
  const task = rootTaskId(agent, key)
  const traceId = randomBytes(16).toString('hex')
  const headers: HeaderPairs = [
    [HEADERS.messageId, id],
    ['traceparent', formatTraceparent(traceId, randomBytes(8).toString('hex'), 1)],
  ]
  const body = await doorBody(bus, agent, task, input)
  for (let tries = 1; ; tries++) {
    try {
      await bus.publisher.publish(bus.subjects.door(agent), body, headers)
      return { agent, key, task, traceId }
    } catch (error) {
      if (!(error instanceof PublishFailed)) throw error
      if (error.kind === 'no-stream') throw await unknownAgent(bus, agent)
      if (error.code === JS_CODES.full)
        throw new KaosError('door_full', `the door of agent "${agent}" is full: ${error.message}`, { cause: error })
      if (tries === TRIES)
        throw new KaosError('publish_timeout', `could not send a task to agent "${agent}": ${error.message}`, { cause: error })
    }
  }
}

/** A task too large for the door lies as a blob in the agent's own store. */
async function doorBody(bus: NatsBus, agent: string, task: string, input: string): Promise<string> {
  if (Buffer.byteLength(input) <= MESSAGE_LIMITS.doorBytesMax - 64) return input
  const self = agentParty(agent)
  const sha = sha256(input)
  const bytes = Buffer.byteLength(input)
  await bus.blobs.write(self, self, task, sha, input)
  return blobBody({ owner: self, to: self, task, sha, bytes })
}

async function unknownAgent(bus: NatsBus, agent: string): Promise<KaosError> {
  const known = (await bus.catalog.agents()).map(({ name }) => name)
  return new KaosError('unknown_agent', `there is no agent "${agent}" in namespace "${bus.namespace}"${hint(agent, known)}`)
}

export function hint(given: string, known: readonly string[]): string {
  const nearest = known.toSorted((a, b) => distance(given, a) - distance(given, b))[0]
  if (nearest !== undefined && distance(given, nearest) <= Math.max(2, given.length / 2)) return `; did you mean "${nearest}"?`
  return known.length > 0 ? `; there are: ${known.toSorted().join(', ')}` : ''
}

interface Common {
  readonly json?: boolean
  readonly namespace?: string
}

export async function taskSend(
  agent: string,
  words: readonly string[],
  options: Common & { readonly wait?: boolean; readonly id?: string; readonly timeout: number; readonly quiet?: boolean },
): Promise<number> {
  const input = words.length === 1 && words[0] === '-' ? await readStdin() : words.join(' ')
  if (input.trim() === '')
    throw new KaosError('usage', 'the task is empty: give its text after the agent, or "-" to read it from stdin')
  return withBus(options, async ({ bus, log }) => {
    const watched = options.wait && !options.json && !options.quiet
    const live = new LiveView()
    let traceId: string | undefined
    const subscription =
      watched &&
      bus.connection.subscribe(bus.subjects.allProgress(), {
        callback: guarded((_error, message) => {
          const [, , , ofTrace] = message.subject.split('.')
          if (traceId === undefined || ofTrace === traceId)
            for (const line of live.lines(message.json<ProgressEvent>())) say(line)
        }, log),
      })
    if (subscription) await bus.connection.flush()
    const sent = await sendTask(bus, agent, input, { id: options.id })
    traceId = options.id === undefined ? sent.traceId : undefined
    if (!options.wait) {
      const result = bus.subjects.result(agent, sent.key)
      if (options.json) printJson({ task: sent.task, agent, key: sent.key, trace: sent.traceId, result })
      else print(`task ${sent.task}\n  its result will be on ${result}\n  follow it with: kaos task watch ${sent.task}`)
      return EXIT.ok
    }
    return waitAndPrint(bus, sent, options)
  })
}

export async function taskGet(id: string, options: Common): Promise<number> {
  return withBus(options, async ({ bus }) => {
    const { agent, key, task } = await findTask(bus, id)
    const text = await bus.results.get(agent, key)
    if (text !== undefined) return printResult(JSON.parse(text) as ResultRecord, options)
    const record = await findRecord(bus, task)
    if (!record) throw new KaosError('unknown_task', `there is no task "${id}" in namespace "${bus.namespace}"`)
    if (options.json) printJson({ ...record.record, trace: record.traceId })
    else print(`task ${task} is ${record.record.state} since ${seconds(Date.now() - record.record.startedAt)}`)
    return EXIT.timeout
  })
}

export async function taskWatch(id: string, options: Common & { readonly timeout: number }): Promise<number> {
  return withBus(options, async ({ bus, log }) => {
    const found = await findTask(bus, id)
    const record = await findRecord(bus, found.task)
    const live = new LiveView()
    const subject = record ? bus.subjects.progressOf(record.traceId) : bus.subjects.allProgress()
    const callback = guarded((_error, message) => {
      const event = message.json<ProgressEvent>()
      if (options.json) print(JSON.stringify(event))
      else if (event.task.startsWith(found.task)) for (const line of live.lines(event)) say(line)
    }, log)
    bus.connection.subscribe(subject, { callback })
    return waitAndPrint(bus, found, options)
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

export function taskLines(records: readonly (TraceRecord & { readonly trace: string })[]): string[] {
  const width = Math.max(...records.map(({ task }) => task.length))
  return records.map((record) => {
    const took = record.endedAt === undefined ? 'since' : 'in'
    const time = seconds((record.endedAt ?? Date.now()) - record.startedAt)
    return `${record.task.padEnd(width)}  ${stateText(record.state).padEnd(9)}  ${`${took} ${time}`.padEnd(12)}  ${paint('dim', record.trace)}  ${record.title}`
  })
}

async function waitAndPrint(
  bus: NatsBus,
  task: { readonly agent: string; readonly key: string; readonly task: string },
  options: Common & { readonly timeout: number },
): Promise<number> {
  const text = await bus.results.wait(task.agent, task.key, { deadlineMs: options.timeout * 1_000 })
  if (text !== undefined) return printResult(JSON.parse(text) as ResultRecord, options)
  const message = `no result of ${task.task} within ${options.timeout} s; the work goes on: kaos task watch ${task.task}`
  if (options.json) printJson({ task: task.task, state: 'working', timeoutSeconds: options.timeout })
  else say(message)
  return EXIT.timeout
}

export function printResult(result: ResultRecord, options: Common): number {
  if (options.json) printJson(result)
  else if (result.state === 'completed') print(outputText(result.output))
  else {
    say(`${stateText(result.state)}: ${result.failure.message}`)
    say(`  ${result.failure.code}, trace ${result.trace}: kaos trace show ${result.trace}`)
  }
  return result.state === 'completed' ? EXIT.ok : EXIT.failed
}

export function outputText(output: Json): string {
  return typeof output === 'string' ? output : JSON.stringify(output, null, 2)
}

function stateText(state: string): string {
  if (state === 'completed') return paint('green', state)
  return state === 'working' ? paint('yellow', state) : paint('red', state)
}

/** A task by its id, or the last one. */
async function findTask(bus: NatsBus, id: string): Promise<{ agent: string; key: string; task: string }> {
  const task = id === 'last' ? (await latestRoot(bus))?.task : id
  if (task === undefined) throw new KaosError('unknown_task', `there are no tasks in namespace "${bus.namespace}"`)
  if (!isTaskId(task)) throw new KaosError('usage', `"${id}" is no task id; one reads like "coordinator_order-17", or is "last"`)
  const root = parseRootTask(task)
  return { ...root, task: rootTaskId(root.agent, root.key) }
}

async function latestRoot(bus: NatsBus): Promise<TraceRecord | undefined> {
  const records = (await bus.traces.latest(SEARCHED_MAX)).map(({ text }) => JSON.parse(text) as TraceRecord)
  return records.find((record) => isRootTask(record.task))
}

const SEARCHED_MAX = 2_000

async function findRecord(bus: NatsBus, task: string): Promise<{ traceId: string; record: TraceRecord } | undefined> {
  const found = (await bus.traces.latest(SEARCHED_MAX)).find((record) => record.task === task)
  return found && { traceId: found.traceId, record: JSON.parse(found.text) as TraceRecord }
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
