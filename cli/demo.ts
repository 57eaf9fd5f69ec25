/** `kaos demo`: a team works on a task, its host is killed with -9 in the middle and started again, and the trace is replayed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { ResultRecord } from '../actors/outbox.ts'
import { guarded } from '../bus/connection.ts'
import { type NatsBus, openBus } from '../bus/open.ts'
import { findServer } from '../bus/server/binary/find.ts'
import { startServer } from '../bus/server/embedded.ts'
import { createStreams } from '../bus/streams.ts'
import { openEntry } from '../bus/wire/entry.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { userParty } from '../bus/wire/subjects.ts'
import { parseManifests, type System } from '../manifests/load.ts'
import { loadTrace } from '../replay/load.ts'
import { buildTimeline } from '../replay/timeline.ts'
import { type Verdict, verdictLine } from '../replay/verdict.ts'
import { createLog, type Logger } from '../telemetry/log.ts'
import type { ServiceTelemetry } from '../telemetry/telemetry.ts'
import { clientService } from './client/send-trace.ts'
import { sendTask } from './client/sending.ts'
import { EXIT } from './process/exit-codes.ts'
import { interrupted } from './process/interrupt.ts'
import { withTelemetry } from './process/telemetry.ts'
import { replay } from './replay.ts'
import { inventoryOf, loadSystem } from './running/declared.ts'
import { type Models, OFFLINE, resolveModels } from './running/models.ts'
import { outputText } from './task.ts'
import { LiveView, type ProgressEvent } from './view/live.ts'
import { isColorful, paint, print, printJson, printWidth, say } from './view/terminal.ts'
import { linkOf } from './view/trace-link.ts'
import { drawTrace } from './view/trace-view.ts'

const SAMPLE = fileURLToPath(new URL('../manifests/samples/research-team.yaml', import.meta.url))
const TASK =
  'Compare NATS JetStream and Kafka for a fleet of AI agents: latency, operations, and the cost per month of 3 nodes at 140 USD.'
const AGENT = 'coordinator'
/** A line of the sample that the last act changes in a copy. */
const PROMPT_BEFORE = 'Then answer in at most five sentences'
const PROMPT_AFTER = 'Then answer in at most three sentences'
const RESULT_MS = 300_000
const READY_MS = 20_000
const STOP_MS = 5_000
/** How long the offline model takes for a task that its script does not know. */
const UNSCRIPTED_MS = 1_200
/** After a specialist began to think: the middle, if nothing better comes. */
const THINKING_MS = 800

export async function demo(words: readonly string[], options: { readonly json?: boolean }): Promise<number> {
  const text = words.join(' ') || TASK
  const tell = options.json ? () => {} : print
  const folder = await mkdtemp(join(tmpdir(), 'kaos-demo-'))
  const stopping: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })]
  const stop = async () => {
    for (const step of stopping.toReversed()) await step().catch(() => {})
  }
  void interrupted().then(async () => {
    await stop()
    process.exit(EXIT.interrupted)
  })
  try {
    const log = await createLog({ env: { LOG_LEVEL: 'ERROR', ...process.env } })
    const { path } = await findServer({ env: process.env, say })
    const server = await startServer({ binary: path, storeDir: join(folder, 'nats'), port: 0, log })
    stopping.push(() => server.stop())
    const system = loadSystem([SAMPLE])
    const settings = { servers: [server.url], source: 'embedded', identity: { kind: 'none' } } as const
    const bus = await openBus(settings, { namespace: 'default', as: userParty('demo'), log })
    stopping.push(() => bus.close())
    await createStreams(bus.connection, inventoryOf(system, 'default'))
    // Without a script the offline model would answer before anybody could be killed.
    const offlineDelayMs = words.length > 0 ? UNSCRIPTED_MS : undefined
    const models = await resolveModels(system, { env: process.env, log, offlineDelayMs })
    stopping.push(() => models.stop())
    heading(tell, `A team of three agents on ${server.url}`)
    for (const line of models.lines) tell(`  model: ${line}`)
    tell(`  task:  ${text}\n`)

    const hosts = new Hosts(server.url, models)
    stopping.push(() => hosts.stop())
    await hosts.start()
    const act = await withTelemetry(clientService(bus.namespace), log, (telemetry) =>
      killInTheMiddle({ bus, models, hosts, text, tell, log, telemetry }),
    )
    const { result } = act
    heading(tell, result.state === 'completed' ? 'The answer' : `The task ${result.state}`)
    tell(result.state === 'completed' ? outputText(result.output).trim() : `${result.failure.code}: ${result.failure.message}`)
    tell('')
    tell(resumedLine(act, models.offline !== undefined))

    heading(tell, `The trace: kaos trace show ${result.trace}`)
    const tree = buildTimeline(await loadTrace(bus, result.trace))
    for (const line of drawTrace(tree, { width: printWidth(), color: isColorful(process.stdout) })) tell(line)
    const link = linkOf({ trace: result.trace, task: result.task })
    if (link !== undefined) tell(link)

    heading(tell, 'kaos replay last')
    const same = await replay(bus, result.trace, system)
    tell(verdictLine(same))
    heading(tell, `One line of a prompt changed: "${PROMPT_BEFORE}" becomes "${PROMPT_AFTER}"`)
    const changed = await replay(bus, result.trace, await changedSystem())
    tell(verdictLine(changed))
    if (options.json)
      printJson({ result, killed: act.killed, finished: act.finished, repeated: act.repeated, replay: same, changed })
    else closing()
    return wentWell(result, act, same, changed) ? EXIT.ok : EXIT.failed
  } finally {
    await stop()
  }
}

/** What was counted, and never a claim about a kill that did not take place. */
function resumedLine({ killed, finished, repeated }: Act, isModelOurs: boolean): string {
  if (!killed) return paint('yellow', 'not killed: the task ended before its host could be killed in the middle')
  const which = isModelOurs ? '' : "; a foreign model's calls cannot be counted, tool calls can"
  const counted = paint('dim', ` (of ${finished} finished before the kill${which})`)
  return paint('bold', `resumed after kill -9: ${repeated} finished steps repeated`) + counted
}

interface Act {
  readonly result: ResultRecord
  readonly killed: boolean
  /** Model calls and tool calls that had their result in a journal when the host died, as far as they can be counted. */
  readonly finished: number
  /** Those of them that were asked for again afterwards. */
  readonly repeated: number
}

/** Sends the task, kills the host once a specialist waits for its model again, and counts what runs twice. */
async function killInTheMiddle(options: {
  readonly bus: NatsBus
  readonly models: Models
  readonly hosts: Hosts
  readonly text: string
  readonly tell: (line: string) => void
  readonly log: Logger
  readonly telemetry: ServiceTelemetry
}): Promise<Act> {
  const { bus, models, hosts, text, tell, log, telemetry } = options
  const live = new LiveView(paint)
  const asked: { readonly effect: string; readonly at: number }[] = []
  let killedAt = Number.POSITIVE_INFINITY
  let isMiddle: () => void = () => {}
  const middle = new Promise<void>((resolve) => {
    isMiddle = resolve
  })
  const progress = bus.connection.subscribe(bus.subjects.allProgress(), {
    callback: guarded((_error, message) => {
      const event = message.json<ProgressEvent>()
      for (const line of live.lines(event)) tell(line)
      const isAsking = event.agent !== AGENT && event.begins?.some(({ effect }) => effect === 'model')
      // Best once a specialist thinks again, with a result in hand; one that calls no tool never does.
      if (isAsking && event.input === 'result') isMiddle()
      else if (isAsking) setTimeout(isMiddle, THINKING_MS)
    }, log),
  })
  const calls = bus.connection.subscribe(`kaos.${bus.namespace}.tool.*.call.>`, {
    callback: guarded((_error, message) => void asked.push({ effect: message.subject.split('.').at(-1)!, at: Date.now() }), log),
  })
  await bus.connection.flush()
  const sent = await sendTask(bus, AGENT, text, { telemetry, env: process.env })
  const result = bus.results.wait(AGENT, sent.key, { deadlineMs: RESULT_MS })
  await Promise.race([middle, result])
  let finished = new Set<string>()
  const isStillRunning = (await bus.results.get(AGENT, sent.key)) === undefined
  if (isStillRunning) {
    await hosts.kill()
    killedAt = Date.now()
    finished = await finishedEffects(bus, sent.traceId)
    tell(
      paint(
        'red',
        `          kill -9 of the agent host (pid ${hosts.lastPid}); starting it again. Its mail comes back within 4 s.`,
      ),
    )
    await hosts.start()
  }
  const record = await result
  progress.unsubscribe()
  calls.unsubscribe()
  if (record === undefined)
    throw new KaosError('publish_timeout', `the task "${sent.task}" has no result after ${RESULT_MS / 1_000} s`)
  for (const request of models.offline?.requests ?? []) asked.push({ effect: request.key, at: request.at })
  const counted = new Set(asked.filter(({ effect }) => finished.has(effect)).map(({ effect }) => effect))
  const repeated = asked.filter(({ effect, at }) => at > killedAt && counted.has(effect)).length
  return { result: JSON.parse(record) as ResultRecord, killed: isStillRunning, finished: counted.size, repeated }
}

/** The model and tool calls whose answers stand in the journals now. */
async function finishedEffects(bus: NatsBus, traceId: string): Promise<Set<string>> {
  const finished = new Set<string>()
  for (const { agent, task } of await bus.traces.actors(traceId)) {
    for (const { text } of await bus.journal.read(agent, task, 0)) {
      const { input } = openEntry(text, undefined, `an entry of "${task}"`).entry
      if (input.kind === 'result' || input.kind === 'error') finished.add(input.effect)
    }
  }
  return finished
}

/** The process that runs all agents and tool servers. */
class Hosts {
  lastPid = 0
  private readonly url: string
  private readonly models: Models
  private child: ChildProcess | undefined

  constructor(url: string, models: Models) {
    this.url = url
    this.models = models
  }

  async start(): Promise<void> {
    const main = fileURLToPath(new URL('./kaos.js', import.meta.url))
    const { offline } = this.models
    const env = {
      ...process.env,
      NATS_URL: this.url,
      NATS_CONTEXT: '',
      LOG_LEVEL: process.env.LOG_LEVEL ?? 'ERROR',
      ...(offline && { MODEL_API_URL: offline.url, MODEL_NAME: OFFLINE }),
    }
    const child = spawn(process.execPath, [main, 'host', '-f', SAMPLE, '--health', 'off'], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.child = child
    this.lastPid = child.pid ?? 0
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(
        () => reject(new KaosError('internal', `the agent host was not ready within ${READY_MS / 1_000} s`)),
        READY_MS,
      )
      const done = () => clearTimeout(late)
      child.once('exit', (code) =>
        reject(new KaosError('internal', `the agent host ended with code ${code} before it was ready`)),
      )
      createInterface({ input: child.stdout! }).on('line', (line) => {
        if (!line.startsWith('ready')) return
        done()
        resolve()
      })
    })
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const { child } = this
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    child.kill(signal)
    await gone
  }

  /** As a user would, so that its telemetry arrives; by force where that takes too long. */
  async stop(): Promise<void> {
    const force = setTimeout(() => this.child?.kill('SIGKILL'), STOP_MS)
    await this.kill('SIGTERM')
    clearTimeout(force)
  }
}

async function changedSystem(): Promise<System> {
  const text = await readFile(SAMPLE, 'utf8')
  if (!text.includes(PROMPT_BEFORE)) throw new KaosError('internal', `the sample does not hold the line "${PROMPT_BEFORE}"`)
  return parseManifests([{ file: SAMPLE, text: text.replace(PROMPT_BEFORE, PROMPT_AFTER) }])
}

function wentWell(result: ResultRecord, act: Act, same: Verdict, changed: Verdict): boolean {
  return result.state === 'completed' && act.repeated === 0 && same.verdict === 'identical' && changed.verdict === 'diverged'
}

function heading(tell: (line: string) => void, text: string): void {
  tell(`\n${paint('bold', text)}`)
}

function closing(): void {
  const file = relative(process.cwd(), SAMPLE)
  print(`\nNow yours: npx kaos up -f ${file.startsWith('..') ? join(dirname(SAMPLE), 'research-team.yaml') : file}`)
}
