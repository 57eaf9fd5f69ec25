/** A whole system for a test: a real broker in a folder of its own, the declared agents and tool servers, and the offline model. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { ResultRecord } from '../../actors/outbox.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { keyOf, rootTaskId } from '../../bus/wire/ids.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { Verdict } from '../../replay/verdict.ts'
import { createLog } from '../../telemetry/log.ts'
import { sendSignal, sendTask } from '../client/sending.ts'
import { replay } from '../replay.ts'
import { loadSystem } from './declared.ts'
import { startSystem } from './system.ts'

/** How a task ended, with its trace and what it used. */
export type TaskResult = ResultRecord

export interface TestSystem extends AsyncDisposable {
  /** Where its broker listens, for any NATS client. */
  readonly url: string
  /** Sends a task and waits for how it ended. Rejects with `publish_timeout` when it has not ended after `timeoutMs` (default 30 s). */
  ask(agent: string, task: Json, options?: { readonly timeoutMs?: number; readonly id?: string }): Promise<TaskResult>
  /** Sends an event to the task of an agent with that id. */
  signal(agent: string, id: string, event: string, data?: Json): Promise<void>
  /** Re-executes a trace with the manifests and machines of this system. */
  replay(trace: string): Promise<Verdict>
  stop(): Promise<void>
}

/**
 * Runs a system for a test: a real broker of its own in a folder that is deleted afterwards, the agents and tool servers of the manifests, and
 * the offline model for every agent, whatever keys are set. It follows `<manifest>.script.yaml` beside a manifest.
 *
 * @param manifests Files or folders.
 */
export async function runSystem(manifests: string | readonly string[]): Promise<TestSystem> {
  const system = loadSystem([manifests].flat().map((file) => resolve(file)))
  const log = await createLog({ env: { LOG_LEVEL: 'ERROR', ...process.env } })
  const folder = await mkdtemp(join(tmpdir(), 'kaos-test-'))
  const remove = () => rm(folder, { recursive: true, force: true })
  const running = await startSystem(system, {
    broker: undefined,
    storeDir: join(folder, 'nats'),
    port: 0,
    env: process.env,
    isOffline: true,
    log,
    say: (line) => log.debug(line),
  }).catch(async (error: unknown) => {
    await remove()
    throw error
  })
  const { bus, server } = running
  const stop = async () => {
    await running.stop(STOP_MS)
    await remove()
  }
  return {
    url: server!.url,
    async ask(agent, task, { timeoutMs = ASK_MS, id } = {}) {
      const input = typeof task === 'string' ? task : JSON.stringify({ input: task })
      const sent = await sendTask(bus, agent, input, { id })
      const text = await bus.results.wait(agent, sent.key, { deadlineMs: timeoutMs })
      if (text !== undefined) return JSON.parse(text) as TaskResult
      throw new KaosError('publish_timeout', `task "${sent.task}" has not ended after ${timeoutMs} ms`)
    },
    signal: (agent, id, event, data = null) =>
      sendSignal(bus, { agent, task: rootTaskId(agent, keyOf(bus.namespace, agent, id)) }, event, data),
    replay: (trace) => replay(bus, trace, system),
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

const ASK_MS = 30_000
const STOP_MS = 2_000
