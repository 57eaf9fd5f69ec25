import { expect, it } from 'vitest'
import { Metrics } from '../../../operator/process/metrics.ts'
import { scalingMeter } from '../../../operator/process/scaling-meter.ts'

const agent = { namespace: 'team', name: 'a' }

it('counts what the scaler does, and forgets the backlog of an agent that is gone', () => {
  const metrics = new Metrics()
  const forgotten: unknown[] = []
  const meter = scalingMeter(metrics, (gone) => forgotten.push(gone))

  meter.backlog(agent, 12)
  meter.scaled(agent, 0, 2, 'WokenUp')
  meter.woke(agent, 40)
  meter.listed(3, true)
  const text = metrics.text()
  meter.forgot(agent)

  expect(text).toContain('kaos_agent_backlog{namespace="team",agent="a"} 12')
  expect(text).toContain('kaos_operator_scale_total{direction="up",why="WokenUp"} 1')
  expect(text).toContain('kaos_operator_wake_seconds_bucket{le="0.05"} 1')
  expect(text).toContain('kaos_operator_backlog_list_seconds_count{result="ok"} 1')
  expect(metrics.text()).not.toContain('kaos_agent_backlog{')
  expect(forgotten).toEqual([agent])
})

it('shows no backlog that is not known any more', () => {
  const metrics = new Metrics()
  const meter = scalingMeter(metrics, () => {})
  meter.backlog(agent, 12)

  meter.backlog(agent, undefined)

  expect(metrics.text()).not.toContain('kaos_agent_backlog{')
})
