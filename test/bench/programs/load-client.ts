/** The client of the bench, a process of its own: publishes tasks at doors and sees their results, as any NATS client would. */
import type { ResultRecord } from '../../../actors/outbox.ts'
import { requiredBrokerSettings } from '../../../bus/access/settings.ts'
import { openBus } from '../../../bus/open.ts'
import { userParty } from '../../../bus/wire/subjects.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { type LoopOptions, runLoop } from '../closed-loop.ts'
import { answerQuestions } from '../process.ts'
import { NAMESPACE, RAW_BODY, textOf } from '../system.ts'

export type LoadQuestion = LoopOptions & {
  /** A door, or so many plain publishes with acknowledgement, one after the other, per task. */
  readonly load: { readonly agent: string; readonly modelMs: number } | { readonly publishes: number }
}

const TASK_MS = 60_000
const bus = await openBus(requiredBrokerSettings(process.env), {
  namespace: NAMESPACE,
  as: userParty('bench'),
  log: silentLog(),
})
const run = Date.now().toString(36)
let counter = 0
const waiting = new Map<string, (result: ResultRecord) => void>()
bus.connection.subscribe(bus.subjects.result('*', '*'), {
  callback: (_error, message) => {
    const key = message.subject.slice(message.subject.lastIndexOf('.') + 1)
    const resolve = waiting.get(key)
    if (!resolve) return
    waiting.delete(key)
    resolve(JSON.parse(message.string()) as ResultRecord)
  },
})

async function doTask(agent: string, modelMs: number): Promise<void> {
  const key = `${run}-${(counter++).toString(36)}`
  const { promise, resolve, reject } = Promise.withResolvers<ResultRecord>()
  waiting.set(key, resolve)
  const late = setTimeout(() => reject(new Error(`task "${agent}_${key}" has no result after ${TASK_MS} ms`)), TASK_MS)
  await bus.publisher.publish(bus.subjects.door(agent), textOf(key, modelMs), [['Nats-Msg-Id', key]])
  const result = await promise
  clearTimeout(late)
  if (result.state !== 'completed') throw new Error(`task "${agent}_${key}" is ${JSON.stringify(result)}`)
}

async function publishRaw(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await bus.publisher.publish(bus.subjects.result('raw', `${run}-${counter++}`), RAW_BODY, [])
}

answerQuestions<LoadQuestion>(({ load, ...options }) =>
  runLoop(options, () => ('agent' in load ? doTask(load.agent, load.modelMs) : publishRaw(load.publishes))),
)
process.on('SIGTERM', () => process.exit(0))
console.log('ready')
