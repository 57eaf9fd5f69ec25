/** The tables of docs/kubernetes.md: reasons of conditions and Events, and metrics of the operator, from the source. */
import { operatorMetrics } from '../operator/process/metrics.ts'
import { eventReasons, reasons } from '../operator/status/reasons.ts'

const TABLES: Readonly<Record<string, () => string>> = { reasons: reasonTable, metrics: metricTable }
const TABLE = /(<!-- generated: the table of (\w+) -->\n)[\s\S]*?(\n<!-- end -->)/g

/** The page with its tables as the source has them. Throws for a table that nothing makes, and when one is missing. */
export function kubernetesPage(page: string): string {
  const missing = new Set(Object.keys(TABLES))
  const made = page.replaceAll(TABLE, (_all, begin: string, name: string, end: string) => {
    const table = TABLES[name]
    if (!table)
      throw new Error(`could not make the table of "${name}" of docs/kubernetes.md: allowed: ${Object.keys(TABLES).join(', ')}`)
    missing.delete(name)
    return `${begin}${table()}${end}`
  })
  if (missing.size > 0)
    throw new Error(`could not make docs/kubernetes.md: it has no place for the table of ${[...missing].join(', ')}`)
  return made
}

function reasonTable(): string {
  const told = Object.entries(reasons).map(([reason, { phase, meaning, ...row }]) => [
    reason,
    phase,
    'isStalled' in row ? 'yes' : '',
    meaning,
  ])
  const happened = Object.entries(eventReasons).map(([reason, meaning]) => [reason, 'Event only', '', meaning])
  return table(['reason', 'phase', 'stalled', 'means'], [...told, ...happened])
}

function metricTable(): string {
  const rows = Object.entries(operatorMetrics).map(([name, { type, help, labels }]) => [
    `\`${name}\``,
    type,
    labels.map((label) => `\`${label}\``).join(', '),
    help,
  ])
  return table(['metric', 'type', 'labels', 'says'], rows)
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ').replaceAll('  ', ' ')} |`).join('\n')
}
