/** Which model answers for each agent here: what the environment or a manifest names, else an Ollama, else the offline model. */
import { existsSync } from 'node:fs'
import { basename, dirname, extname, join } from 'node:path'
import type { ModelPlace } from '../../actors/effects/model.ts'
import type { ModelServer } from '../../actors/testing/model-server.ts'
import type { System } from '../../manifests/load.ts'
import { type ModelResolution, ollamaUrl, resolveModel } from '../../manifests/local.ts'
import type { Logger } from '../../telemetry/log.ts'

export interface Models {
  readonly places: ReadonlyMap<string, ModelPlace>
  /** One line per way that is used, for people. */
  readonly lines: readonly string[]
  readonly offline: ModelServer | undefined
  stop(): Promise<void>
}

const OLLAMA_ANSWER_MS = 300
/** What requests and traces call it, whatever model the agent declares. */
export const OFFLINE = 'offline-model'

export interface ModelsOptions {
  readonly env: NodeJS.ProcessEnv
  readonly log: Logger
  /** The offline model answers for every agent, whatever is declared or set. */
  readonly isOffline?: boolean
  /** Added to every answer of the offline model. */
  readonly offlineDelayMs?: number | undefined
}

const asked = { kind: 'offline', why: 'as asked for' } as const

export async function resolveModels(system: System, options: ModelsOptions): Promise<Models> {
  const places = new Map<string, ModelPlace>()
  const byReason = new Map<string, string[]>()
  // All of them before the first server starts: a key that is missing is an error here.
  const found = await foundModels(system, options)
  const isOfflineUsed = found.some(({ model }) => model.kind === 'offline')
  const offline = isOfflineUsed ? await startOffline(system.files, options) : undefined
  for (const { name, model } of found) {
    if (model.kind === 'endpoint') {
      places.set(name, { url: model.url, model: model.model, ...(model.apiKey && { apiKey: model.apiKey }) })
      note(`model "${model.model}" at ${new URL(model.url).host}: ${model.why}`, name)
    } else {
      places.set(name, { url: offline!.url, model: OFFLINE })
      note(`the offline model: ${model.why}`, name)
    }
  }
  const lines = [...byReason].map(([reason, agents]) => (byReason.size === 1 ? reason : `${agents.join(', ')}: ${reason}`))
  return { places, lines, offline, stop: async () => void (await offline?.stop()) }

  function note(reason: string, agent: string): void {
    byReason.set(reason, [...(byReason.get(reason) ?? []), agent])
  }
}

async function foundModels(
  system: System,
  { env, isOffline }: ModelsOptions,
): Promise<readonly { readonly name: string; readonly model: ModelResolution }[]> {
  const agents = system.agents.filter(({ spec }) => spec.modelAPI !== undefined && !spec.external)
  const resolved = (ollamaModels?: readonly string[]) =>
    agents.map((agent) => {
      const surroundings = { env, ollamaAnswers: ollamaModels !== undefined, ...(ollamaModels && { ollamaModels }) }
      return { name: agent.metadata.name, model: isOffline ? asked : resolveModel(system, agent, surroundings) }
    })
  const found = resolved()
  // Where every agent is told of a model, nobody waits for an Ollama that is not there.
  if (isOffline || found.every(({ model }) => model.kind === 'endpoint')) return found
  return resolved(await askOllama())
}

/** The offline model follows `<manifest>.script.yaml` where one lies beside a manifest. */
async function startOffline(files: readonly string[], { log, offlineDelayMs: delayMs }: ModelsOptions): Promise<ModelServer> {
  const [{ loadScript }, { startModelServer }] = await Promise.all([
    import('../../actors/testing/model-script.ts'),
    import('../../actors/testing/model-server.ts'),
  ])
  const scripts = files.map(scriptBeside).filter((file) => existsSync(file))
  const rules = (await Promise.all(scripts.map((file) => loadScript(file)))).flatMap((script) => script.rules)
  return startModelServer({ log, delayMs, ...(rules.length > 0 && { script: { rules } }) })
}

function scriptBeside(manifest: string): string {
  return join(dirname(manifest), `${basename(manifest, extname(manifest))}.script.yaml`)
}

async function askOllama(): Promise<string[] | undefined> {
  try {
    const answer = await fetch(`${ollamaUrl}/api/tags`, { signal: AbortSignal.timeout(OLLAMA_ANSWER_MS) })
    if (!answer.ok) return undefined
    const { models = [] } = (await answer.json()) as { models?: { name: string }[] }
    return models.map(({ name }) => name)
  } catch {
    return undefined
  }
}
