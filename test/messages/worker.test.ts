/** An agent in Python, with a NATS client and nothing of ours, beside agents that run here. */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { jetstreamManager } from '@nats-io/jetstream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openBus } from '../../bus/open.ts'
import { agentParty, streamNames, userParty } from '../../bus/wire/subjects.ts'
import { silentLog } from '../../telemetry/log.ts'
import { cleanEnv, Folder, Started } from '../support/cli.ts'
import { until } from '../support/memory-system.ts'
import { findPython } from './python.ts'

const examples = join(import.meta.dirname, '..', '..', 'docs', 'examples', 'worker')
const INSTALL_MS = 240_000

describe('an agent with only a NATS client', () => {
  let folder: Folder
  let python: string
  let url: string
  const workers: ChildProcess[] = []

  beforeAll(async () => {
    python = await findPython()
    folder = await Folder.create()
    const up = await folder.start(['up', '-f', join(examples, 'team.yaml'), '--port', '0'], 'Ctrl-C ends it')
    url = /export NATS_URL=(\S+)/.exec(up.output)![1]!
  }, INSTALL_MS)

  afterAll(async () => {
    await Promise.all(workers.map(end))
    await folder?.remove()
  })

  async function startWorker(workSeconds = 0): Promise<Started> {
    const env = cleanEnv({ NATS_URL: url, WORK_SECONDS: String(workSeconds), PYTHONDONTWRITEBYTECODE: '1' })
    const child = spawn(python, [join(examples, 'worker.py')], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    workers.push(child)
    const worker = new Started(child)
    await worker.waitFor('ready')
    return worker
  }

  async function end(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    const closed = new Promise((resolve) => child.once('close', resolve))
    child.kill('SIGKILL')
    await closed
  }

  async function withBus<T>(work: (bus: Awaited<ReturnType<typeof openBus>>) => Promise<T>): Promise<T> {
    const settings = { servers: [url], source: 'NATS_URL', identity: { kind: 'none' } } as const
    const bus = await openBus(settings, { namespace: 'default', as: userParty('test'), log: silentLog() })
    try {
      return await work(bus)
    } finally {
      await bus.close()
    }
  }

  it('gets a task that waited for it while no host took it, and its answer is in that of who asked', async () => {
    const host = await folder.start(['host', '-f', join(examples, 'team.yaml')], 'ready')
    const sent = await folder.kaos(['task', 'send', 'coordinator', 'Greet the world', '--id', 'greeting'])
    const worker = await startWorker()

    const { code, stdout } = await folder.kaos(['task', 'watch', 'coordinator_greeting', '--json'])

    await Promise.all([end(worker.child), host.end()])
    expect(sent.code).toBe(0)
    expect(code).toBe(0)
    expect(JSON.parse(stdout).output).toBe('The translator says: Bonjour! (Hello, world)')
  })

  it('is shown in the trace with the time it took, and the trace replays identically', async () => {
    const [show, tree, replay] = await Promise.all([
      folder.kaos(['trace', 'show', 'coordinator_greeting']),
      folder.kaos(['trace', 'show', 'coordinator_greeting', '--json']),
      folder.kaos(['replay', 'coordinator_greeting']),
    ])

    const [root] = JSON.parse(tree.stdout).roots
    expect(show.stdout).toMatch(/asks translator +\d+(\.\d+)? m?s/)
    expect(root.effects.map((effect: { name: string }) => effect.name)).toContain('translator')
    expect(root.effects[1]).toMatchObject({ state: 'completed', host: expect.stringMatching(/^python-\d+$/) })
    expect(replay).toMatchObject({ code: 0, stdout: expect.stringMatching(/^identical: 4 entries, 0 calls/) })
  })

  it('completes a task once when it is killed in the middle and started again', async () => {
    const first = await startWorker(600)
    await folder.kaos(['task', 'send', 'coordinator', 'Greet the world', '--id', 'killed'])
    await first.waitFor('working on coordinator_killed_')
    await end(first.child)
    const second = await startWorker()

    const { stdout } = await folder.kaos(['task', 'watch', 'coordinator_killed', '--json'])

    const entries = await withBus((bus) => bus.journal.read('coordinator', 'coordinator_killed', 0))
    await end(second.child)
    expect(JSON.parse(stdout)).toMatchObject({ state: 'completed', output: expect.stringContaining('Bonjour!') })
    expect(entries).toHaveLength(4)
    expect(
      JSON.parse((await folder.kaos(['trace', 'show', 'coordinator_killed', '--json'])).stdout).roots[0].effects[1],
    ).toMatchObject({ attempts: 2 })
  })

  it('answers at its own door under the key of the id that was given', async () => {
    const worker = await startWorker()

    const [name, text] = await Promise.all([
      folder.kaos(['task', 'send', 'translator', 'Good night', '--wait', '--json', '--id', 'night']),
      folder.kaos(['task', 'send', 'translator', 'Good night', '--wait', '--json', '--id', 'No Name!']),
    ])

    await end(worker.child)
    expect(JSON.parse(name.stdout)).toMatchObject({
      state: 'completed',
      task: 'translator_night',
      output: 'Bonjour! (Good night)',
    })
    expect(JSON.parse(text.stdout)).toMatchObject({
      state: 'completed',
      task: expect.stringMatching(/^translator_h[a-z2-7]{26}$/),
    })
  })

  it('refuses a message of a higher version, and takes a cancel for read', async () => {
    const worker = await startWorker()

    const reply = await withBus(async (bus) => {
      const { subjects, connection } = bus
      const effect = 'coordinator_future_1-0'
      const answers = connection.subscribe(subjects.reply('coordinator', agentParty('translator'), effect), { max: 1 })
      await bus.post.send({
        subject: subjects.signal('translator', 'cancel', agentParty('coordinator'), effect),
        id: `${effect}.cancel`,
        body: '',
      })
      await bus.publisher.publish(subjects.start('translator', 'coordinator', effect), '{"input":"x"}', [['Kaos-V', 2]])
      for await (const answer of answers) {
        // Acked, both of them.
        const { streams } = await jetstreamManager(connection)
        const isEmpty = async () => (await streams.info(streamNames.agentMail('default', 'translator'))).state.messages === 0
        await until(async () => (await isEmpty()) || undefined, 'an empty mail stream', 10_000)
        return answer.json()
      }
      return undefined
    })

    await end(worker.child)
    expect(reply).toMatchObject({ kind: 'error', failure: { code: 'unsupported_version' } })
  })
})
