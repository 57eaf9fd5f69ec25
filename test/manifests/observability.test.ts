/** The dashboard and the alerts ask for metrics and labels that are exported, by the names that Prometheus makes of them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { type MetricName, operatorMetrics } from '../../operator/process/metrics.ts'
import { METRICS, type MetricDefinition } from '../../telemetry/metrics.ts'

const folder = join(import.meta.dirname, '..', '..', 'manifests', 'observability')

interface Panel {
  readonly title: string
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[]
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
}
interface Rule {
  readonly alert: string
  readonly expr: string
  readonly annotations: Readonly<Record<string, string>>
}

const dashboard = JSON.parse(readFileSync(join(folder, 'grafana-dashboard.json'), 'utf8')) as {
  readonly panels: readonly Panel[]
}
const rules = ['prometheus-rules.yaml', 'operator-rules.yaml'].flatMap((file) => {
  const { groups } = parse(readFileSync(join(folder, file), 'utf8')) as { groups: { rules: Rule[] }[] }
  return groups.flatMap((group) => group.rules)
})
const targets = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map((target) => ({ title, ...target })))

/** Labels of each series by its name. */
const series = new Map<string, readonly string[]>(
  Object.values<MetricDefinition>(METRICS).flatMap((metric) => {
    const labels = ['job', 'instance', ...metric.labels.map(underscored)]
    const name = underscored(metric.name) + ({ ms: '_milliseconds', s: '_seconds' }[metric.unit] ?? '')
    if (metric.kind === 'counter') return [[`${name}_total`, labels] as const]
    if (metric.kind === 'gauge') return [[name, labels] as const]
    return [[`${name}_bucket`, [...labels, 'le']] as const, ...['_sum', '_count'].map((part) => [name + part, labels] as const)]
  }),
)

for (const name of Object.keys(operatorMetrics) as readonly MetricName[]) {
  const labels = ['job', 'instance', 'namespace', ...operatorMetrics[name].labels]
  const isHistogram = operatorMetrics[name].type === 'histogram'
  for (const each of isHistogram ? ['_bucket', '_sum', '_count'].map((part) => name + part) : [name]) series.set(each, labels)
}
/** The kubelet's. */
for (const name of ['kubelet_volume_stats_available_bytes', 'kubelet_volume_stats_capacity_bytes'])
  series.set(name, ['namespace', 'persistentvolumeclaim'])

describe('the dashboard', () => {
  it.each(targets)('$title asks for what is exported: $expr', ({ expr, legendFormat }) => {
    const asked = namesIn(expr)

    expect(asked.metrics.length).toBeGreaterThan(0)
    expect(asked.metrics.filter((name) => !series.has(name))).toEqual([])
    expect(asked.labels.filter((label) => !asked.metrics.some((name) => series.get(name)?.includes(label)))).toEqual([])
    const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!)
    expect(shown.filter((label) => !groupsOf(expr).includes(label))).toEqual([])
  })

  it('has no panel that lies over another', () => {
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    )

    expect(new Set(cells).size).toBe(cells.length)
  })
})

describe('the alerts', () => {
  it.each(rules)('$alert asks for what is exported, and says what to do', ({ expr, annotations }) => {
    const asked = namesIn(expr)

    expect(asked.metrics.filter((name) => !series.has(name))).toEqual([])
    expect(asked.labels.filter((label) => !asked.metrics.some((name) => series.get(name)?.includes(label)))).toEqual([])
    const shown = [...annotations.summary!.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label!)
    expect(shown.filter((label) => !groupsOf(expr).includes(label))).toEqual([])
    expect(annotations.runbook).toMatch(/\.$/)
  })

  it('name documents and variables that exist', () => {
    const words = rules.map(({ annotations }) => annotations.runbook).join(' ')

    for (const [file] of words.matchAll(/docs\/[\w./-]+\.md/g))
      expect(readFileSync(join(folder, '..', '..', file), 'utf8')).not.toBe('')
    const settings = readFileSync(join(folder, '..', '..', 'docs', 'configuration.md'), 'utf8')
    for (const [name] of words.matchAll(/\b(?:OTEL_[A-Z_]+|LOG_LEVEL)\b/g)) expect(settings).toContain(`\`${name}\``)
  })
})

/** Names of series and of labels in a PromQL expression: enough of the language for those of this folder. */
function namesIn(expr: string): { readonly metrics: readonly string[]; readonly labels: readonly string[] } {
  const matchers = [...expr.matchAll(/\{([^}]*)\}/g)].flatMap(([, inside]) => [...inside!.matchAll(/(\w+)\s*(?:=~|!=|!~|=)/g)])
  const rest = expr.replaceAll(/\{[^}]*\}|\[[^\]]*\]|"[^"]*"/g, ' ').replaceAll(/\b(?:by|on|without|ignoring)\s*\([^)]*\)/g, ' ')
  const metrics = [...rest.matchAll(/\b[a-z]\w*\b(?!\s*\()/g)].map(([name]) => name).filter((name) => !WORDS.has(name))
  return { metrics: [...new Set(metrics)], labels: [...matchers.map(([, label]) => label!), ...groupsOf(expr)] }
}

function groupsOf(expr: string): readonly string[] {
  return [...expr.matchAll(/\b(?:by|on)\s*\(([^)]*)\)/g)].flatMap(([, inside]) => inside!.split(/\s*,\s*/))
}

function underscored(name: string): string {
  return name.replaceAll(/[^a-zA-Z0-9_]/g, '_')
}

const WORDS = new Set(['and', 'or', 'unless'])
