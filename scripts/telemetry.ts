/** The tables of docs/telemetry.md: spans, attributes, events, metrics and variables, from the source. */
import { METRICS, type MetricDefinition } from '../telemetry/metrics.ts'
import { EVENTS, KEYS, type Naming, type Operation, spanName } from '../telemetry/names.ts'
import { EVENT_REFERENCE, type Key, MEANINGS, SPANS } from '../telemetry/reference.ts'
import { TELEMETRY_VARIABLES } from '../telemetry/settings.ts'

const TABLES: Readonly<Record<string, () => string>> = { spans, attributes, events, metrics, variables }
const NAMING = {
  kaos: ' Not with `gen_ai_latest_experimental`.',
  gen_ai: ' With `gen_ai_latest_experimental` only.',
} as const satisfies Record<Naming, string>
/** Said by links of later deliveries. */
const LINK_KEYS: readonly Key[] = ['attempts', 'referenceKind']
const TABLE = /(<!-- generated: the table of (\w+) -->\n)[\s\S]*?(\n<!-- end -->)/g

/** The page with its tables as the source has them. Throws for a table that nothing makes, and when one is missing. */
export function telemetryPage(page: string): string {
  const missing = new Set(Object.keys(TABLES))
  const made = page.replaceAll(TABLE, (_all, begin: string, name: string, end: string) => {
    const table = TABLES[name]
    if (!table)
      throw new Error(`could not make the table of "${name}" of docs/telemetry.md: allowed: ${Object.keys(TABLES).join(', ')}`)
    missing.delete(name)
    return `${begin}${table()}${end}`
  })
  if (missing.size > 0)
    throw new Error(`could not make docs/telemetry.md: it has no place for the table of ${[...missing].join(', ')}`)
  return made
}

function spans(): string {
  const rows = SPANS.map(({ operation, of, kind, service, parents, lasts }) => [
    code(spanName(operation, of, 'kaos')),
    code(spanName(operation, of, 'gen_ai')),
    kind.toUpperCase(),
    service,
    parents.map((parent) => code(nameOf(parent))).join(', ') || 'what the client sent, if anything',
    lasts,
  ])
  return table(['span', 'with `gen_ai_latest_experimental`', 'kind', 'service', 'below', 'lasts'], rows)
}

function nameOf(operation: Operation): string {
  return spanName(operation, SPANS.find((span) => span.operation === operation)!.of, 'kaos')
}

function attributes(): string {
  const rows = (Object.keys(MEANINGS) as Key[]).map((key) => [code(KEYS[key]), MEANINGS[key], places(key)])
  return table(['attribute', 'says', 'on, by `kaos.op`'], rows)
}

/** Where an attribute is found: spans by their operation, events, metrics, links. */
function places(key: Key): string {
  const spans = SPANS.filter((span) => [...span.always, ...span.sometimes].includes(key)).map(({ operation }) => code(operation))
  const events = Object.entries(EVENT_REFERENCE).filter(([, { attributes }]) => attributes.includes(key))
  const isLabel = Object.values<MetricDefinition>(METRICS).some(({ labels }) => labels.includes(KEYS[key]))
  return [
    ...(spans.length === SPANS.length ? ['all spans'] : spans),
    ...events.map(([event]) => `event ${code(EVENTS[event as keyof typeof EVENTS])}`),
    ...(isLabel ? ['metrics'] : []),
    ...(LINK_KEYS.includes(key) ? ['links'] : []),
  ].join(', ')
}

function events(): string {
  const rows = Object.entries(EVENT_REFERENCE).map(([event, { says, on, attributes }]) => [
    code(EVENTS[event as keyof typeof EVENTS]),
    says,
    on === 'any' ? 'any span' : on.map((operation) => code(operation)).join(', '),
    attributes.map((key) => code(KEYS[key])).join(', '),
  ])
  return table(['event', 'says', 'on, by `kaos.op`', 'attributes'], rows)
}

function metrics(): string {
  const rows = Object.values<MetricDefinition>(METRICS).map(({ name, kind, unit, description, labels, naming }) => [
    code(name),
    kind,
    unit === '1' ? '' : code(unit),
    `${description}${naming ? NAMING[naming] : ''}`,
    labels.map((label) => code(label)).join(', '),
  ])
  return table(['metric', 'kind', 'unit', 'counts', 'labels'], rows)
}

function variables(): string {
  const rows = TELEMETRY_VARIABLES.map(({ name, honoured, default: otherwise, meaning, test }) => [
    code(name),
    honoured ? 'yes' : 'no',
    otherwise,
    meaning,
    test ? code(test) : honoured ? "the SDK's exporter" : '',
  ])
  return table(['variable', 'honoured', 'not set', 'means', 'shown by'], rows)
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.map(cell).join(' | ')} |`).join('\n')
}

function code(text: string): string {
  return `\`${text}\``
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}
