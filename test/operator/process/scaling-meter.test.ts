import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Metrics } from '../../../operator/process/metrics.ts'
import { StateChanges, scalingMeter } from '../../../operator/process/scaling-meter.ts'

const agent = { namespace: 'team', name: 'a' }
const awake = { active: 'True', replicas: 1 } as const

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

it('looks at once when the count changes, and now and then while only the backlog does', () => {
  const looked: string[] = []
  const changes = new StateChanges((key) => looked.push(key))

  changes.note(agent, awake)
  changes.note(agent, awake)
  changes.note(agent, awake)
  const atOnce = [...looked]
  vi.advanceTimersByTime(15_000)
  const later = [...looked]
  changes.note(agent, { ...awake, replicas: 2 })

  expect([atOnce, later, looked]).toEqual([['team/a'], ['team/a', 'team/a'], ['team/a', 'team/a', 'team/a']])
})

it('knows of whom nothing was told', () => {
  const changes = new StateChanges(() => {})
  const before = changes.hasTold(agent)

  changes.note(agent, awake)
  const told = changes.hasTold(agent)
  changes.forget(agent)

  expect([before, told, changes.hasTold(agent)]).toEqual([false, true, false])
})

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
