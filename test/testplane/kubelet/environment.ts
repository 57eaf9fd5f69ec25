/** The environment, command and working folder of a container, resolved as a kubelet does. */
import type { ApiClient } from '../api.ts'
import type { Pod } from './pods.ts'

/** As it stands in `spec.containers`. */
// biome-ignore lint/suspicious/noExplicitAny: what the API server has checked
export type ContainerSpec = any

/** Something that the container names is missing: it waits with the reason CreateContainerConfigError until it is there. */
export class ContainerConfigError extends Error {}

export interface EnvironmentSources {
  readonly api: ApiClient
  readonly pod: Pod
  readonly podIp: string
  readonly hostIp: string
}

/**
 * `env` and `envFrom` with references to ConfigMaps, Secrets, fields and resources, plus the variables of Services. Rejects with
 * ContainerConfigError for what is missing and not optional.
 */
export async function resolveEnvironment(container: ContainerSpec, sources: EnvironmentSources): Promise<Record<string, string>> {
  const found: Record<string, string> = { ...(await serviceVariables(sources)) }
  for (const { prefix = '', configMapRef, secretRef } of container.envFrom ?? []) {
    const data = configMapRef ? await readData(sources, 'configmap', configMapRef) : await readData(sources, 'secret', secretRef)
    for (const [key, value] of Object.entries(data ?? {})) found[`${prefix}${key}`] = value.toString()
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    const resolved = valueFrom ? await referred(valueFrom, container, sources) : expand(value ?? '', found)
    if (resolved !== undefined) found[name] = resolved
  }
  return found
}

/** `$(NAME)` becomes its value, `$$(NAME)` stays as `$(NAME)`, an unknown name stays as it is. */
export function expand(text: string, environment: Readonly<Record<string, string>>): string {
  return text.replace(/\$\$|\$\(([^)]+)\)/g, (all, name: string | undefined) =>
    name === undefined ? '$' : (environment[name] ?? all),
  )
}

/** The files of a ConfigMap or Secret; undefined where it may be missing and is. Rejects with ContainerConfigError. */
export async function readData(
  { api, pod }: Pick<EnvironmentSources, 'api' | 'pod'>,
  kind: 'configmap' | 'secret',
  { name, optional }: { readonly name: string; readonly optional?: boolean },
): Promise<Record<string, Buffer> | undefined> {
  const object = await api.find(`/api/v1/namespaces/${pod.metadata.namespace}/${kind}s/${name}`)
  if (!object) {
    if (optional) return undefined
    throw new ContainerConfigError(`${kind} "${name}" not found`)
  }
  const { data = {}, binaryData = {} } = object as { data?: Record<string, string>; binaryData?: Record<string, string> }
  const encoding = kind === 'secret' ? 'base64' : 'utf8'
  return Object.fromEntries([
    ...Object.entries(data).map(([key, value]) => [key, Buffer.from(value, encoding)] as const),
    ...Object.entries(binaryData).map(([key, value]) => [key, Buffer.from(value, 'base64')] as const),
  ])
}

/** A field as the downward API gives it. Throws ContainerConfigError for one that it does not know. */
export function fieldOf(path: string, { pod, podIp, hostIp }: Omit<EnvironmentSources, 'api'>): string {
  const { metadata, spec } = pod
  const [, map, key] = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path) ?? []
  if (map && key) return metadata[map as 'labels' | 'annotations']?.[key] ?? ''
  const fields: Record<string, string> = {
    'metadata.name': metadata.name,
    'metadata.namespace': metadata.namespace ?? '',
    'metadata.uid': metadata.uid ?? '',
    'spec.nodeName': spec.nodeName,
    'spec.serviceAccountName': spec.serviceAccountName ?? 'default',
    'status.podIP': podIp,
    'status.podIPs': podIp,
    'status.hostIP': hostIp,
    'status.hostIPs': hostIp,
  }
  const found = fields[path]
  if (found === undefined) throw new ContainerConfigError(`field "${path}" is not known here`)
  return found
}

async function referred(
  // biome-ignore lint/suspicious/noExplicitAny: an EnvVarSource
  { configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef }: any,
  container: ContainerSpec,
  sources: EnvironmentSources,
): Promise<string | undefined> {
  if (fieldRef) return fieldOf(fieldRef.fieldPath, sources)
  if (resourceFieldRef) return resourceOf(resourceFieldRef, container)
  const reference = configMapKeyRef ?? secretKeyRef
  const kind = configMapKeyRef ? 'configmap' : 'secret'
  const data = await readData(sources, kind, reference)
  const value = data?.[reference.key]
  if (value === undefined && !reference.optional) {
    throw new ContainerConfigError(
      `couldn't find key ${reference.key} in ${kind} ${sources.pod.metadata.namespace}/${reference.name}`,
    )
  }
  return value?.toString()
}

const UNITS: Record<string, number> = { m: 1e-3, k: 1e3, M: 1e6, G: 1e9, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 }

function quantity(text: string): number {
  const [, number = '0', unit = ''] = /^([\d.]+)(.*)$/.exec(text) ?? []
  return Number(number) * (UNITS[unit] ?? 1)
}

/** Rounded up to the divisor. A resource without a limit is that of the node; here 0. */
function resourceOf({ resource, divisor }: { resource: string; divisor?: string }, container: ContainerSpec): string {
  const [kind = '', name = ''] = resource.split('.')
  const amount = container.resources?.[kind]?.[name] ?? '0'
  return String(Math.ceil(quantity(String(amount)) / (quantity(divisor ?? '1') || 1)))
}

/** `NAME_SERVICE_HOST` and its kin for each Service of the namespace: a real kubelet sets them too, and their names may collide with others. */
async function serviceVariables({ api, pod }: EnvironmentSources): Promise<Record<string, string>> {
  if (pod.spec.enableServiceLinks === false) return {}
  const found: Record<string, string> = {}
  for (const { metadata, spec } of await api.list(`/api/v1/namespaces/${pod.metadata.namespace}/services`)) {
    const { clusterIP, ports = [] } = spec
    const [first] = ports as readonly { port: number; protocol: string }[]
    if (!first || !clusterIP || clusterIP === 'None') continue
    const name = metadata.name.toUpperCase().replaceAll('-', '_')
    const protocol = (first.protocol ?? 'TCP').toLowerCase()
    found[`${name}_SERVICE_HOST`] = clusterIP
    found[`${name}_SERVICE_PORT`] = String(first.port)
    found[`${name}_PORT`] = `${protocol}://${clusterIP}:${first.port}`
  }
  return found
}
