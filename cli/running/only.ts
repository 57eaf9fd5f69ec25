/** Which agents and tool servers of the manifests a host runs: all, or those that `--only` names. */
import { KaosError } from '../../bus/wire/errors.ts'
import type { System } from '../../manifests/load.ts'
import { hint } from '../client/sending.ts'

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
