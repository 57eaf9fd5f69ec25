/** What the operator removes when it has been recorded long ago: also of agents that are not declared any more. */
import { randomBytes } from 'node:crypto'
import { expect, it, onTestFinished } from 'vitest'
import { until } from '../support/memory-system.ts'
import { Records } from '../support/old-records.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const MONTH_MS = 32 * 86_400_000

const AGENT = `
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: a }
spec: { modelAPI: models, model: m }
`

it('keeps the journal of a deleted agent until its traces have ended long ago, and those that have not', async () => {
  const stand = await OperatorStand.create(plane, 'retention')
  onTestFinished(() => stand[Symbol.asyncDispose]())
  const first = await stand.operator()
  await stand.apply(AGENT)
  const streams = ['mail', 'journal'].map((kind) => `kaos_${stand.namespace}_agent_a_${kind}`)
  await until(async () => (await stand.streams()).includes(streams[1]!) || undefined, 'its streams')
  const [records, others] = [
    await Records.open(stand.broker.settings, stand.namespace),
    await Records.open(stand.broker.settings, 'elsewhere'),
  ]
  stand.add(() => Promise.all([records.bus.close(), others.bus.close()]))
  const newTrace = () => randomBytes(16).toString('hex')
  await records.write({ trace: newTrace(), task: 'a_ended' })
  await records.write({ trace: newTrace(), task: 'a_works', journal: 'working', index: 'working' })
  await others.write({ trace: newTrace(), task: 'a_other' })
  const kept = await others.left()
  await plane.api.delete(stand.path('Agent', 'a'))
  await stand.untilGone('Agent', 'a')
  const before = await records.left()
  await first.stop()

  const second = await stand.operator({ retentionTimes: { firstMs: 0, now: () => Date.now() + MONTH_MS } })
  const removed = () => second.health.metricsText().match(/^kaos_operator_retention_removed_total.*$/gm)
  await until(() => removed() ?? undefined, 'a run', 30_000)

  expect(removed()).toEqual([
    'kaos_operator_retention_removed_total{what="traces"} 1',
    'kaos_operator_retention_removed_total{what="tasks"} 1',
    'kaos_operator_retention_removed_total{what="messages"} 8',
  ])
  expect(await stand.streams()).not.toContain(streams[0])
  const left = Object.entries(before).filter(([subject]) => subject.includes('a_works') || subject.endsWith('works'))
  expect(await records.left()).toEqual(Object.fromEntries(left))
  expect(await others.left()).toEqual(kept)
})
