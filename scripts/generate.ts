/** `npm run generate`: writes all files that are made from the source. With `--check` it writes nothing and ends with 1 if one is not as it would be. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { chartFiles } from './chart.ts'
import { configurationPage } from './configuration.ts'
import { crdFiles } from './crds.ts'
import { errorsPage } from './errors.ts'
import { kubernetesPage } from './kubernetes.ts'
import { messageTable, schemaFiles } from './messages.ts'
import { telemetryPage } from './telemetry.ts'

const root = join(import.meta.dirname, '..')
const SCHEMAS = 'docs/messages'
const CRDS = 'manifests/crds'
const CHART_FILES = 'manifests/chart/files'
const MESSAGES_PAGE = 'docs/messages.md'
const KUBERNETES_PAGE = 'docs/kubernetes.md'
const TELEMETRY_PAGE = 'docs/telemetry.md'
const TABLE = /(<!-- generated: the table of messages -->\n)[\s\S]*?(\n<!-- end -->)/

/** Every generated file with its text, by its path from the root of the repository. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const page = read(MESSAGES_PAGE) ?? ''
  return new Map([
    ...[...schemaFiles()].map(([file, text]) => [`${SCHEMAS}/${file}`, text] as const),
    [MESSAGES_PAGE, page.replace(TABLE, (_all, begin: string, end: string) => `${begin}${messageTable()}${end}`)],
    ['docs/errors.md', errorsPage()],
    ['docs/configuration.md', configurationPage()],
    ...[...crdFiles()].map(([file, text]) => [`${CRDS}/${file}`, text] as const),
    ...[...chartFiles()].map(([file, text]) => [`${CHART_FILES}/${file}`, text] as const),
    [KUBERNETES_PAGE, kubernetesPage(read(KUBERNETES_PAGE) ?? '')],
    [TELEMETRY_PAGE, telemetryPage(read(TELEMETRY_PAGE) ?? '')],
  ])
}

/** Files that are missing, are not as they would be generated, or are not generated any more. */
export function staleFiles(): readonly string[] {
  const wanted = generatedFiles()
  const changed = [...wanted].filter(([file, text]) => read(file) !== text).map(([file]) => file)
  const found = [...onDisk(SCHEMAS, '.json'), ...onDisk(CRDS, '.yaml'), ...onDisk(CHART_FILES, '.yaml')]
  return [...changed, ...found.filter((file) => !wanted.has(file))]
}

function onDisk(folder: string, ending: string): readonly string[] {
  try {
    const names = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    return names.filter((name) => name.endsWith(ending)).map((name) => `${folder}/${name}`)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(join(root, file), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function write(): void {
  const wanted = generatedFiles()
  for (const file of staleFiles()) {
    const text = wanted.get(file)
    process.stdout.write(`${text === undefined ? 'removed' : 'wrote'} ${file}\n`)
    if (text === undefined) rmSync(join(root, file))
    else {
      mkdirSync(dirname(join(root, file)), { recursive: true })
      writeFileSync(join(root, file), text)
    }
  }
}

if (import.meta.main) {
  if (process.argv.includes('--check')) {
    const stale = staleFiles()
    if (stale.length > 0) {
      process.stderr.write(`not as generated: ${stale.join(', ')}; run "npm run generate"\n`)
      process.exitCode = 1
    }
  } else write()
}
