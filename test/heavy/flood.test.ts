/** A door filled to its limit before anybody reads: who comes later is told, and the rest is worked off in bounded memory, each once. */
import { jetstream } from '@nats-io/jetstream'
import { headers } from '@nats-io/transport-node'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { STREAM_LIMITS } from '../../bus/wire/limits.ts'
import { streamNames } from '../../bus/wire/subjects.ts'
import { serveAsk } from '../../cli/running/ask.ts'
import { silentLog } from '../../telemetry/log.ts'
import { until } from '../support/memory-system.ts'
import { AGENT, inMiB, memoryOf, NAMESPACE, Stand, say } from './stand.ts'

const TASKS = STREAM_LIMITS.doorMessagesMax
const HOST_MIB_MAX = 400
const ALL_DONE_MS = 100_000
const FULL = 10077

const textOf = (n: number) => `task ${n}`
const keyOf = (n: number) => `flood-${n}`

let stand: Stand
beforeAll(async () => {
  stand = await Stand.start({ model: say((text) => `did ${text}`) })
  const taken = await Promise.all(Array.from({ length: TASKS }, (_, n) => stand.publish(textOf(n), { 'Nats-Msg-Id': keyOf(n) })))
  expect(new Set(taken).size).toBe(TASKS)
})
afterAll(() => stand[Symbol.asyncDispose]())

it('a full door is told to whoever asks for a receipt', async () => {
  const { connection, subjects } = stand.bus
  const door = subjects.door(AGENT)
  const asking = serveAsk(stand.bus, [AGENT], silentLog())
  const nobody = headers()
  nobody.set('Nats-Msg-Id', 'too-late')

  const published = jetstream(connection).publish(door, 'too late', { msgID: 'too-late' })
  await expect(published).rejects.toMatchObject({ code: FULL, message: expect.stringContaining('maximum messages per subject') })
  const receipt = await connection.request(door, 'too late', { timeout: 5_000, headers: nobody })
  const asked = await connection.request(`kaos.${NAMESPACE}.ask.${AGENT}`, 'too late', { timeout: 5_000 })
  const sent = await stand.kaos(['task', 'send', AGENT, 'too late', '--json'])
  const shown = await stand.kaos(['task', 'send', AGENT, 'too late'])
  asking.unsubscribe()

  expect(receipt.json()).toMatchObject({ error: { err_code: FULL, description: 'maximum messages per subject exceeded' } })
  expect(asked.json()).toMatchObject({ error: { code: 'door_full' } })
  expect(asked.headers!.get('Nats-Service-Error-Code')).toBe('door_full')
  expect([sent.code, JSON.parse(sent.stdout).error.code]).toEqual([1, 'door_full'])
  expect(shown.stderr).toContain('door of agent "worker" is full')
  expect(shown.stderr).toContain('Send again later')
  expect(await stand.mailLeft()).toBe(TASKS)
})

it('a full door keeps nobody else out: other users have doors of their own, and replies pass', async () => {
  const { publisher, subjects } = stand.bus
  const other = subjects.doorOf(AGENT, 'other')
  const cancel = `kaos.${NAMESPACE}.agent.${AGENT}.mail.signal.cancel.user.other.worker_nothing`

  await publisher.publish(other, 'from another', [['Nats-Msg-Id', 'other']])
  await publisher.publish(cancel, '', [['Kaos-Id', 'cancel-1']])

  expect(await stand.mailLeft()).toBe(TASKS + 2)
})

it(
  'ten thousand tasks at once all end, each once, in bounded memory',
  async () => {
    const host = await stand.startHost()
    const idle = memoryOf(host)
    const began = performance.now()

    const results = streamNames.results
    await until(
      async () => (await stand.manager.streams.info(results)).state.messages > TASKS || undefined,
      `all results\n${stand.said()}`,
      ALL_DONE_MS,
    )
    const seconds = (performance.now() - began) / 1_000
    await stand.untilNoMail()
    const { peak } = memoryOf(host)

    console.log(
      `${TASKS} tasks in ${seconds.toFixed(1)} s (${Math.round(TASKS / seconds)}/s); ` +
        `memory of the host: ${inMiB(idle.now)} MiB idle, at most ${inMiB(peak)} MiB`,
    )
    const { state } = await stand.manager.streams.info(results)
    const stored = await stand.bus.reader.getAll(results, `kaos.${NAMESPACE}.result.${AGENT}.>`, 1)
    const outputs = new Map(stored.map(({ subject, text }) => [subject.split('.').at(-1)!, JSON.parse(text).output as string]))
    // The other user's task, and the canceled one that never was.
    expect([state.messages, state.num_subjects]).toEqual([TASKS + 2, TASKS + 2])
    for (let n = 0; n < TASKS; n++) expect(outputs.get(keyOf(n))).toBe(`did ${textOf(n)}`)
    expect(stand.modelRequests).toHaveLength(TASKS + 1)
    expect(await stand.deadLetters()).toEqual([])
    expect(inMiB(peak)).toBeLessThan(HOST_MIB_MAX)
    expect(await stand.nextTask('after')).toBe('completed: did after')
  },
  ALL_DONE_MS + 30_000,
)
