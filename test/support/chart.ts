/** The chart as helm renders it, and the rights that it asks for. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { parse, parseAllDocuments, stringify } from 'yaml'
import type { KubeObject } from '../../operator/kube/object.ts'
import { helmPath } from '../testplane/kubectl.ts'

export const chartFolder = join(import.meta.dirname, '..', '..', 'manifests', 'chart')
const HELM_MS = 60_000

// biome-ignore lint/suspicious/noExplicitAny: tests look into whatever the chart makes
export type Rendered = KubeObject & { readonly spec?: any; readonly data?: any; readonly rules?: any; readonly subjects?: any }

export interface RenderOptions {
  readonly namespace?: string
  readonly release?: string
  readonly chart?: string
}

/** Rejects with what helm says. */
export async function renderChart(values: object = {}, options: RenderOptions = {}): Promise<readonly Rendered[]> {
  const { namespace = 'kaos-system', release = 'kaos', chart = chartFolder } = options
  const stdout = await withValues(values, (file) => helm('template', release, chart, '--namespace', namespace, '--values', file))
  return parseAllDocuments(stdout).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0]
    const object = document.toJS() as Rendered | null
    return object === null ? [] : [object]
  })
}

export async function helm(...args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(await helmPath(), [...args], { timeout: HELM_MS, maxBuffer: 32 * 1024 * 1024 })
    return stdout
  } catch (error) {
    throw new Error((error as { readonly stderr?: string }).stderr ?? String(error), { cause: error })
  }
}

export async function withValues<T>(values: object, use: (file: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'kaos-values-'))
  try {
    const file = join(folder, 'values.yaml')
    await writeFile(file, stringify(values))
    return await use(file)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Undefined if there is none. */
export function find(objects: readonly Rendered[], kind: string, name?: string): Rendered | undefined {
  return objects.find((object) => object.kind === kind && (name === undefined || object.metadata.name === name))
}

/** The installation as the operator reads it. */
export function installationIn(objects: readonly Rendered[]): unknown {
  return parse(find(objects, 'ConfigMap', 'kaos-operator-installation')!.data['installation.yaml'])
}

export interface Right {
  readonly group: string
  /** With its subresource: `agents/status`. */
  readonly resource: string
  readonly verb: string
  /** Absent: of any name. */
  readonly names?: readonly string[]
  /** Absent: in all namespaces. */
  readonly namespace?: string
}

/** Every single right of the operator's roles, as rendered: what it may do, and what a test can hold the audit log against. */
export function rightsIn(objects: readonly Rendered[]): readonly Right[] {
  const roles = objects.filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role')
  return roles.flatMap(({ metadata, rules }) =>
    (rules as readonly Rule[]).flatMap(({ apiGroups, resources, verbs, resourceNames }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) =>
          verbs.map((verb) => ({
            group,
            resource,
            verb,
            ...(resourceNames && { names: resourceNames }),
            ...(metadata.namespace !== undefined && { namespace: metadata.namespace }),
          })),
        ),
      ),
    ),
  )
}

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
  readonly resourceNames?: readonly string[]
}
