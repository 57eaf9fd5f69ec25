import { pino } from 'pino'
import { expect, it } from 'vitest'
import { leftBehind } from '../../../operator/process/left-behind.ts'
import { Metrics } from '../../../operator/process/metrics.ts'

it('tells of what stays in an Event, in the log and as a count', () => {
  const events: unknown[] = []
  const lines: string[] = []
  const metrics = new Metrics()
  const log = pino({ base: null, timestamp: false }, { write: (line: string) => void lines.push(line) })
  const tell = leftBehind({ recorder: { tell: (_about, notice) => void events.push(notice) }, metrics, log })
  const agent = { apiVersion: 'kaos.tools/v1alpha1', kind: 'Agent', metadata: { namespace: 'team', name: 'a' } }

  tell(agent, 'StreamsLeft', 'its streams stay')
  tell(agent, 'PodsLeft', 'its pods stay')

  expect(events).toMatchObject([
    { type: 'Warning', reason: 'StreamsLeft', note: 'its streams stay' },
    { type: 'Warning', reason: 'PodsLeft', note: 'its pods stay' },
  ])
  expect(JSON.parse(lines[0]!)).toMatchObject({ kind: 'Agent', namespace: 'team', name: 'a', reason: 'its streams stay' })
  expect(lines).toHaveLength(2)
  for (const what of ['streams', 'pods']) expect(metrics.text()).toContain(`kaos_operator_left_behind_total{what="${what}"} 1`)
})
