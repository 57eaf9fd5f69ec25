/** YAML on the pages that is none of ours: of a Collector, of Prometheus, of LiteLLM, of Kubernetes itself. Their own tools checked it by hand; here it stays readable and whole. And the file of `kaos operator`. */
import { parseDocument } from 'yaml'
import { readInstallation } from '../../operator/desired/installation.ts'

export function isForeign(text: string): boolean {
  return !/^apiVersion: kaos\.tools\//m.test(text)
}

type Parts = Readonly<Record<string, unknown>>
interface Collector {
  readonly service: { readonly pipelines: Readonly<Record<string, Readonly<Record<(typeof KINDS)[number], readonly string[]>>>> }
}

const KINDS = ['receivers', 'processors', 'exporters'] as const

/** What keeps a block from being read, and of a Collector what its pipelines name and nothing declares, or the other way round. */
export function foreignMistakes(text: string): readonly string[] {
  const document = parseDocument(text)
  if (document.errors.length > 0) return document.errors.map(({ message }) => message)
  const value = document.toJS() as Parts | null
  if (typeof value !== 'object' || value === null) return ['no mapping']
  if ('broker' in value && 'images' in value) return installationMistakes(value)
  return 'receivers' in value ? collectorMistakes(value as Parts & Collector) : []
}

function installationMistakes(value: Parts): readonly string[] {
  try {
    readInstallation(value)
    return []
  } catch (error) {
    return [(error as Error).message]
  }
}

function collectorMistakes(config: Parts & Collector): readonly string[] {
  const pipelines = Object.values(config.service.pipelines)
  return KINDS.flatMap((kind) => {
    const declared = Object.keys((config[kind] ?? {}) as Parts)
    const used = pipelines.flatMap((pipeline) => pipeline[kind] ?? [])
    return [
      ...used.filter((name) => !declared.includes(name)).map((name) => `${kind}: "${name}" is used and not declared`),
      ...declared.filter((name) => !used.includes(name)).map((name) => `${kind}: "${name}" is declared and not used`),
    ]
  })
}
