/** What the operator counts: the table of its metrics, and their text as Prometheus reads it. */

interface Row {
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labels: readonly string[]
  /** Upper bounds, rising. */
  readonly buckets?: readonly number[]
}

const seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

export const operatorMetrics = {
  kaos_operator_leader: row('gauge', 'Whether this process leads: 1 or 0.'),
  kaos_operator_reconcile_seconds: row('histogram', 'How long a reconcile took.', ['kind', 'result'], seconds),
  kaos_operator_queue_wait_seconds: row('histogram', 'From being due until the reconcile began.', ['kind'], seconds),
  kaos_operator_queue_depth: row('gauge', 'Resources that are due and wait.', ['kind']),
  kaos_operator_queue_running: row('gauge', 'Resources that are being looked at.', ['kind']),
  kaos_operator_queue_oldest_seconds: row('gauge', 'How long the one that has waited longest is due.', ['kind']),
  kaos_operator_queue_failing: row('gauge', 'Resources whose last reconcile failed; they are tried again.', ['kind']),
  kaos_operator_resources: row('gauge', 'Resources and children that are known.', ['kind']),
  kaos_operator_watch_restarts_total: row('counter', 'Watches that began again.', ['kind', 'why']),
  kaos_operator_kinds_denied: row('gauge', 'Kinds that may not be read in a namespace; above 0 nothing is done there.', [
    'namespace',
  ]),
  kaos_operator_api_seconds: row('histogram', 'Answers of the API server; code 0: none came.', ['verb', 'kind', 'code'], seconds),
  kaos_operator_events_dropped_total: row('counter', 'Kubernetes Events that were left out.'),
  kaos_operator_broker_connected: row('gauge', 'Whether the broker can be asked: 1 or 0.'),
  kaos_operator_backlog_list_seconds: row('histogram', 'How long the list of all backlogs took.', ['result'], seconds),
  kaos_operator_scale_total: row('counter', 'Changes of the count of pods.', ['direction', 'why']),
  kaos_operator_wake_seconds: row(
    'histogram',
    'From the storing of the first message to the count that was written.',
    [],
    seconds,
  ),
  kaos_operator_retention_seconds: row('histogram', 'How long a run took that removes what ended long ago.', ['result'], seconds),
  kaos_operator_retention_removed_total: row('counter', 'What was removed because it ended long ago: traces, tasks, messages.', [
    'what',
  ]),
  kaos_operator_left_behind_total: row('counter', 'Deleted resources whose pods or streams stayed.', ['what']),
  kaos_agent_backlog: row('gauge', 'Messages that wait or are in hand.', ['namespace', 'agent']),
  kaos_tool_backlog: row('gauge', 'Calls that wait for a tool server or are in hand.', ['namespace', 'tool']),
  kaos_agent_replicas: row('gauge', 'Pods that are asked for (desired) and that are ready, as the leader sees them.', [
    'namespace',
    'agent',
    'state',
  ]),
} as const satisfies Readonly<Record<string, Row>>

export type MetricName = keyof typeof operatorMetrics
export type Labels = Readonly<Record<string, string>>

/** A gauge is asked for when it is read. */
export type GaugeReader = () => Iterable<readonly [labels: Labels, value: number]>

interface Histogram {
  readonly counts: number[]
  sum: number
  count: number
}

/** A kind of thing has few label values; whatever is above this is a mistake, and dropped. */
const SERIES_MAX = 20_000

export class Metrics {
  private readonly counters = new Map<MetricName, Map<string, number>>()
  private readonly histograms = new Map<MetricName, Map<string, Histogram>>()
  private readonly gauges = new Map<MetricName, GaugeReader>()

  add(name: MetricName, labels: Labels = {}, by = 1): void {
    const series = seriesOf(this.counters, name)
    const key = keyOf(labels)
    if (series.has(key) || series.size < SERIES_MAX) series.set(key, (series.get(key) ?? 0) + by)
  }

  /** In the unit of the metric: seconds. */
  observe(name: MetricName, value: number, labels: Labels = {}): void {
    const { buckets = [] } = operatorMetrics[name] as Row
    const series = seriesOf(this.histograms, name)
    const key = keyOf(labels)
    let histogram = series.get(key)
    if (!histogram) {
      if (series.size >= SERIES_MAX) return
      histogram = { counts: buckets.map(() => 0), sum: 0, count: 0 }
      series.set(key, histogram)
    }
    const at = buckets.findIndex((bound) => value <= bound)
    if (at >= 0) histogram.counts[at]!++
    histogram.sum += value
    histogram.count++
  }

  /** One reader each; again replaces. */
  gauge(name: MetricName, read: GaugeReader): void {
    this.gauges.set(name, read)
  }

  /** Text format 0.0.4. */
  text(): string {
    return (Object.keys(operatorMetrics) as readonly MetricName[])
      .map((name) => {
        const { type, help } = operatorMetrics[name]
        return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...this.lines(name)].join('\n')
      })
      .join('\n')
      .concat('\n')
  }

  private lines(name: MetricName): readonly string[] {
    const { type } = operatorMetrics[name]
    if (type === 'gauge') return [...(this.gauges.get(name)?.() ?? [])].map(([labels, value]) => line(name, keyOf(labels), value))
    if (type === 'counter') return [...seriesOf(this.counters, name)].map(([key, value]) => line(name, key, value))
    return [...seriesOf(this.histograms, name)].flatMap(([key, histogram]) => histogramLines(name, key, histogram))
  }
}

function histogramLines(name: MetricName, key: string, { counts, sum, count }: Histogram): readonly string[] {
  const { buckets = [] } = operatorMetrics[name] as Row
  const below = (i: number) => counts.slice(0, i + 1).reduce((total, each) => total + each, 0)
  const withBound = (bound: string) => (key === '' ? `le="${bound}"` : `${key},le="${bound}"`)
  return [
    ...buckets.map((bound, i) => line(`${name}_bucket`, withBound(String(bound)), below(i))),
    line(`${name}_bucket`, withBound('+Inf'), count),
    line(`${name}_sum`, key, sum),
    line(`${name}_count`, key, count),
  ]
}

function seriesOf<Value>(all: Map<MetricName, Map<string, Value>>, name: MetricName): Map<string, Value> {
  let series = all.get(name)
  if (!series) {
    series = new Map()
    all.set(name, series)
  }
  return series
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' }

function keyOf(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${value.replaceAll(/[\\"\n]/g, (char) => ESCAPES[char]!)}"`)
    .join(',')
}

function line(name: string, key: string, value: number): string {
  return `${name}${key === '' ? '' : `{${key}}`} ${value}`
}

function row(type: Row['type'], help: string, labels: readonly string[] = [], buckets?: readonly number[]): Row {
  return { type, help, labels, ...(buckets && { buckets }) }
}
