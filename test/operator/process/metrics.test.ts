import { expect, it } from 'vitest'
import { Metrics, operatorMetrics } from '../../../operator/process/metrics.ts'

/** Lines of one metric without its head. */
function linesOf(metrics: Metrics, name: string): readonly string[] {
  return metrics
    .text()
    .split('\n')
    .filter((line) => line.startsWith(name))
}

it('tells every metric of the table with its type and what it means, also when nothing was counted', () => {
  const text = new Metrics().text()

  for (const [name, { type, help }] of Object.entries(operatorMetrics)) {
    expect(text).toContain(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`)
  }
})

it('adds up what is counted, by labels', () => {
  const metrics = new Metrics()

  metrics.add('kaos_operator_watch_restarts_total', { kind: 'Agent', why: 'ended' })
  metrics.add('kaos_operator_watch_restarts_total', { kind: 'Agent', why: 'ended' })
  metrics.add('kaos_operator_events_dropped_total')

  expect(linesOf(metrics, 'kaos_operator_watch')).toEqual(['kaos_operator_watch_restarts_total{kind="Agent",why="ended"} 2'])
  expect(linesOf(metrics, 'kaos_operator_events')).toEqual(['kaos_operator_events_dropped_total 1'])
})

it('puts what is measured into every bucket that holds it', () => {
  const metrics = new Metrics()

  for (const seconds of [0.004, 0.3, 100]) metrics.observe('kaos_operator_wake_seconds', seconds)
  const lines = linesOf(metrics, 'kaos_operator_wake_seconds')

  expect(lines).toContain('kaos_operator_wake_seconds_bucket{le="0.005"} 1')
  expect(lines).toContain('kaos_operator_wake_seconds_bucket{le="0.5"} 2')
  expect(lines).toContain('kaos_operator_wake_seconds_bucket{le="60"} 2')
  expect(lines).toContain('kaos_operator_wake_seconds_bucket{le="+Inf"} 3')
  expect(lines).toContain('kaos_operator_wake_seconds_sum 100.304')
  expect(lines).toContain('kaos_operator_wake_seconds_count 3')
})

it('reads gauges when it is asked, with whatever stands in a label', () => {
  const metrics = new Metrics()
  let backlog = 1
  metrics.gauge('kaos_agent_backlog', () => [[{ namespace: 'a"b\\c\nd', agent: 'x' }, backlog]])

  backlog = 7

  expect(linesOf(metrics, 'kaos_agent_backlog')).toEqual(['kaos_agent_backlog{namespace="a\\"b\\\\c\\nd",agent="x"} 7'])
})
