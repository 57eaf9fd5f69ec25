/** What a declaration says about others: names that must exist, must differ, or must not be its own. */

import type { ModelApiSpec } from '../kinds/model-api.ts'
import { offeredModels, offersModel } from '../kinds/model-api.ts'
import { localRuntimes, podRuntimes } from '../kinds/tool-runtime.ts'
import { type Declaration, isObject, type Kind } from './declaration.ts'
import type { Path } from './document.ts'
import { type Mistake, notAmong, wrong } from './explain.ts'
import { nearestTo } from './nearest.ts'

export interface Neighbours {
  readonly all: readonly Declaration[]
  /** False when a document could not be read: a name that seems to be missing may stand in there. */
  readonly complete: boolean
}

/** Reads what was written, checked or not, so that these mistakes show beside all others. */
export function findReferenceMistakes(declaration: Declaration, neighbours: Neighbours): Mistake[] {
  const spec = isObject(declaration.value.spec) ? declaration.value.spec : {}
  const own = [...repeatedName(declaration, neighbours.all)]
  if (declaration.kind === 'MCPServer') return [...own, ...misspeltRuntime(spec)]
  if (declaration.kind === 'ModelAPI') return own
  const network = isObject(spec.agentNetwork) ? spec.agentNetwork : {}
  return [
    ...own,
    ...references(declaration, neighbours, 'ModelAPI', [{ path: ['spec', 'modelAPI'], name: spec.modelAPI }]),
    ...modelNotOffered(declaration, spec, neighbours.all),
    ...references(declaration, neighbours, 'MCPServer', listed(['spec', 'mcpServers'], spec.mcpServers)),
    ...references(declaration, neighbours, 'Agent', listed(['spec', 'agentNetwork', 'access'], network.access)),
  ]
}

interface Reference {
  readonly path: Path
  readonly name: unknown
}

function listed(path: Path, names: unknown): Reference[] {
  return Array.isArray(names) ? names.map((name, index) => ({ path: [...path, index], name })) : []
}

function* references(
  from: Declaration,
  { all, complete }: Neighbours,
  kind: Kind,
  list: readonly Reference[],
): Generator<Mistake> {
  const names = namesOf(all, kind, from.namespace).filter((name) => !(kind === 'Agent' && name === from.name))
  for (const [index, { path, name }] of list.entries()) {
    if (typeof name !== 'string' || name === '' || names.includes(name) || !complete) continue
    // Its own name, and one that it names twice, are mistakes that the definition sees.
    if ((kind === 'Agent' && name === from.name) || list.slice(0, index).some((earlier) => earlier.name === name)) continue
    yield missing(notAmong(path, name, names, `${kind}s of namespace ${from.namespace}`), kind, name, all)
  }
}

function missing(mistake: Mistake, kind: Kind, name: string, all: readonly Declaration[]): Mistake {
  const elsewhere = all.find((other) => other.kind === kind && other.name === name)
  if (!elsewhere) return mistake
  return {
    ...mistake,
    message: `${mistake.message}; the one in namespace ${elsewhere.namespace} cannot be referred to from here`,
  }
}

function* modelNotOffered(from: Declaration, spec: Record<string, unknown>, all: readonly Declaration[]): Generator<Mistake> {
  const api = all.find((other) => other.kind === 'ModelAPI' && other.namespace === from.namespace && other.name === spec.modelAPI)
  const offered = api && offeredBy(api)
  if (!offered?.length || typeof spec.model !== 'string' || spec.model === '' || offersModel(offered, spec.model)) return
  yield notAmong(['spec', 'model'], spec.model, offered, `what ModelAPI ${api?.name} offers`)
}

/** Undefined when it is not sound enough to tell. */
function offeredBy({ value }: Declaration): readonly string[] | undefined {
  const { spec } = value
  if (!isObject(spec)) return undefined
  const models = isObject(spec.proxyConfig) ? spec.proxyConfig.models : []
  const hosted = isObject(spec.hostedConfig) ? spec.hostedConfig.model : ''
  if (!Array.isArray(models) || !models.every((model) => typeof model === 'string') || typeof hosted !== 'string')
    return undefined
  return offeredModels(spec as unknown as ModelApiSpec)
}

/** A runtime that nobody knows may come from the installation; one that is nearly known is a misspelling. */
function* misspeltRuntime(spec: Record<string, unknown>): Generator<Mistake> {
  const known = [...localRuntimes, ...podRuntimes]
  if (typeof spec.runtime !== 'string' || (known as string[]).includes(spec.runtime)) return
  const nearest = nearestTo(spec.runtime, known)
  if (nearest === undefined) return
  yield wrong({
    path: ['spec', 'runtime'],
    at: 'value',
    given: JSON.stringify(spec.runtime),
    allowed: `${known.join(', ')}, or another runtime of the installation`,
    nearest,
  })
}

function* repeatedName(declaration: Declaration, all: readonly Declaration[]): Generator<Mistake> {
  const first = all.find((other) => isSame(other, declaration))
  if (!first || first === declaration || declaration.name === '') return
  const path = ['metadata', 'name']
  const { line } = first.document.locate(path, 'value')
  yield wrong({
    path,
    at: 'value',
    given: `${JSON.stringify(declaration.name)} again`,
    allowed: `one ${declaration.kind} of this name in namespace ${declaration.namespace}; the first stands at ${first.document.file}:${line}`,
  })
}

function isSame(a: Declaration, b: Declaration): boolean {
  return a.kind === b.kind && a.name === b.name && a.namespace === b.namespace
}

function namesOf(all: readonly Declaration[], kind: Kind, namespace: string): string[] {
  return [
    ...new Set(all.filter((other) => other.kind === kind && other.namespace === namespace && other.name).map(({ name }) => name)),
  ]
}
