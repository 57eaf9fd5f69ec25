/** What the manifest files declare, as one process can run it, and which of it a host runs: all, or what `--only` names. */
import { KaosError } from '../../bus/wire/errors.ts'
import { loadManifests, type System } from '../../manifests/load.ts'
import { hint } from '../client/sending.ts'

/**
 * Throws ManifestError, and `usage` for more than one namespace or no agent: one process runs one namespace.
 *
 * @param options.isPart Tool servers alone will do.
 */
export function loadSystem(files: readonly string[], options: { readonly isPart?: boolean } = {}): System {
  const system = loadManifests(files)
  if (system.namespaces.length > 1) {
    throw new KaosError(
      'usage',
      `the manifests use namespaces ${system.namespaces.map((name) => `"${name}"`).join(' and ')}; run one at a time`,
    )
  }
  if (system.agents.length === 0 && !(options.isPart && system.mcpServers.length > 0)) {
    const wanted = options.isPart ? 'Agent or MCPServer' : 'Agent'
    throw new KaosError('usage', `there is no ${wanted} in ${files.map((file) => `"${file}"`).join(', ')}`)
  }
  return system
}

export function inventoryOf(system: System, namespace: string) {
  const nameOf = ({ metadata }: { readonly metadata: { readonly name: string } }) => metadata.name
  return { namespace, agents: system.agents.map(nameOf), tools: system.mcpServers.map(nameOf) }
}

/** `agent/NAME` and `tool/NAME`; undefined: all. */
export type Only = ReadonlySet<string> | undefined

export function isWanted(only: Only, kind: 'agent' | 'tool', name: string): boolean {
  return !only || only.has(`${kind}/${name}`)
}

/**
 * A name alone stands for the agent and for the tool server of that name.
 *
 * @throws KaosError `usage` for what the manifests do not have.
 */
export function readOnly(given: readonly string[] | undefined, { agents, mcpServers }: System): Only {
  if (!given) return undefined
  const known = [
    ...agents.map(({ metadata }) => ({ kind: 'agent', name: metadata.name })),
    ...mcpServers.map(({ metadata }) => ({ kind: 'tool', name: metadata.name })),
  ]
  const found = given.map((text) => {
    const fits = known.filter(({ kind, name }) => text === name || text === `${kind}/${name}`)
    if (fits.length > 0) return fits.map(({ kind, name }) => `${kind}/${name}`)
    const names = known.map(({ name }) => name)
    throw new KaosError('usage', `--only "${text}" is no agent or tool server of the manifests${hint(text, names)}`)
  })
  return new Set(found.flat())
}
