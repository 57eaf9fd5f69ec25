/** One document as a declaration: which kind it is, under which name, or why it is none of ours. */
import type { z } from 'zod'
import { agentSchema } from '../kinds/agent.ts'
import { mcpServerSchema } from '../kinds/mcp-server.ts'
import { modelApiSchema } from '../kinds/model-api.ts'
import { apiVersion, namespaceDefault } from '../metadata.ts'
import type { ManifestDocument } from './document.ts'
import { type Mistake, render, wrong } from './explain.ts'
import { nearestTo } from './nearest.ts'

/** The kinds that are read. */
export const kinds = { Agent: agentSchema, MCPServer: mcpServerSchema, ModelAPI: modelApiSchema } as const satisfies Record<
  string,
  z.ZodType
>
export type Kind = keyof typeof kinds

/** What every resource begins with. YAML without any of it, found in a folder, is something else. */
const headings = ['apiVersion', 'kind', 'metadata', 'spec']

/** Kinds of KAOS that nothing here acts on. */
const kindsPassedOver = ['MemoryStore', 'AccessGrant', 'ThirdPartyService']

export interface Declaration {
  readonly kind: Kind
  readonly name: string
  readonly namespace: string
  /** What was written, before any check. Fields without a value are left out, as the API server does. */
  readonly value: Readonly<Record<string, unknown>>
  readonly document: ManifestDocument
}

export type Reading =
  | { readonly is: 'declaration'; readonly declaration: Declaration }
  /** A resource that another program acts on. */
  | { readonly is: 'skipped'; readonly what: string }
  /** No resource at all. */
  | { readonly is: 'other' }
  | { readonly is: 'wrong'; readonly mistake: Mistake }

/** `found`: the file was found in a folder, where other YAML may lie beside the manifests. */
export function readDeclaration(document: ManifestDocument, found: boolean): Reading {
  const value = withoutNulls(document.value)
  if (!isObject(value)) {
    if (found) return { is: 'other' }
    return wrongAt([], { given: render(document.value, []), allowed: 'a mapping with apiVersion, kind, metadata and spec' })
  }
  const { kind, apiVersion: version } = value
  if (found && headings.every((field) => value[field] === undefined)) return { is: 'other' }
  for (const field of ['apiVersion', 'kind'] as const) {
    if (typeof value[field] !== 'string') {
      const allowed = field === 'kind' ? Object.keys(kinds).join(', ') : apiVersion
      return wrongAt([field], { given: render(value[field], [field]), allowed })
    }
  }
  const isOurs = Object.hasOwn(kinds, String(kind))
  const [group = ''] = String(version).split('/')
  if (!isOurs && group !== 'kaos.tools') return { is: 'skipped', what: nameOf(value) }
  if (version !== apiVersion) {
    return wrongAt(['apiVersion'], { given: JSON.stringify(version), allowed: apiVersion, nearest: apiVersion })
  }
  if (kindsPassedOver.includes(String(kind))) return { is: 'skipped', what: nameOf(value) }
  if (!isOurs) {
    const allowed = Object.keys(kinds)
    return wrongAt(['kind'], {
      given: JSON.stringify(kind),
      allowed: allowed.join(', '),
      nearest: nearestTo(String(kind), allowed),
    })
  }
  return { is: 'declaration', declaration: { kind: kind as Kind, ...nameAndNamespace(value), value, document } }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function nameAndNamespace(value: Record<string, unknown>): { readonly name: string; readonly namespace: string } {
  const metadata = isObject(value.metadata) ? value.metadata : {}
  return {
    name: typeof metadata.name === 'string' ? metadata.name : '',
    namespace: typeof metadata.namespace === 'string' ? metadata.namespace : namespaceDefault,
  }
}

function nameOf(value: Record<string, unknown>): string {
  return [String(value.kind), nameAndNamespace(value).name].filter(Boolean).join(' ')
}

function wrongAt(
  path: readonly string[],
  found: { readonly given: string; readonly allowed: string; readonly nearest?: string | undefined },
): Reading {
  return { is: 'wrong', mistake: wrong({ path, at: 'value', ...found }) }
}

/** `config:` with nothing below it means that config was not given. In a podSpec null has a meaning: it removes a field. */
function withoutNulls(value: unknown, key?: string): unknown {
  if (!isObject(value) || key === 'podSpec') return Array.isArray(value) ? value.map((item) => withoutNulls(item)) : value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== null)
      .map(([name, field]) => [name, withoutNulls(field, name)]),
  )
}
