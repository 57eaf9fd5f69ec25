/** What an installation forbids that resources set for their pods. The rest is for the namespace to admit or refuse. */
import type { Prohibition } from '../installation.ts'
import { isMap } from './merge.ts'

type Map = Readonly<Record<string, unknown>>

export interface Overrides {
  readonly container?: { readonly securityContext?: Map | undefined } | undefined
  readonly podSpec?: Map | undefined
  readonly serviceAccountName?: string | undefined
}

/** Paths of the fields that are forbidden, below spec; empty: none is. */
export function forbiddenFields(overrides: Overrides, forbidden: readonly Prohibition[]): readonly string[] {
  return forbidden.flatMap((prohibition) => [...finders[prohibition](overrides)])
}

const finders: Readonly<Record<Prohibition, (overrides: Overrides) => Iterable<string>>> = {
  *serviceAccountName({ podSpec = {}, serviceAccountName }) {
    if (serviceAccountName !== undefined) yield 'serviceAccountName'
    for (const field of ['serviceAccountName', 'serviceAccount']) if (isSet(podSpec[field])) yield `podSpec.${field}`
  },
  *hostPath({ podSpec = {} }) {
    for (const [index, volume] of listOf(podSpec.volumes).entries())
      if (isSet(volume.hostPath)) yield `podSpec.volumes[${index}].hostPath`
  },
  *hostNamespaces({ podSpec = {} }) {
    for (const field of ['hostNetwork', 'hostPID', 'hostIPC']) if (podSpec[field] === true) yield `podSpec.${field}`
    for (const [path, container] of containersOf(podSpec)) {
      for (const [index, port] of listOf(container.ports).entries())
        if (isSet(port.hostPort)) yield `${path}.ports[${index}].hostPort`
    }
  },
  *privileged({ container, podSpec = {} }) {
    if (isPrivileged(container?.securityContext)) yield 'container.securityContext'
    for (const [path, each] of containersOf(podSpec)) if (isPrivileged(each.securityContext)) yield `${path}.securityContext`
  },
}

function* containersOf(podSpec: Map): Generator<readonly [string, Map]> {
  for (const list of ['containers', 'initContainers', 'ephemeralContainers']) {
    for (const [index, container] of listOf(podSpec[list]).entries()) yield [`podSpec.${list}[${index}]`, container]
  }
}

function isPrivileged(context: unknown): boolean {
  return isMap(context) && (context.privileged === true || context.allowPrivilegeEscalation === true)
}

function listOf(value: unknown): readonly Map[] {
  return Array.isArray(value) ? value.filter(isMap) : []
}

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null
}
