/** Environment variables of containers. What a resource sets in `container.env` wins over everything that the operator sets. */
import type { Installation } from '../installation.ts'
import { isMap } from './merge.ts'

export interface EnvVar {
  readonly name: string
  readonly value?: string | undefined
  readonly valueFrom?: { readonly [source: string]: unknown } | undefined
}

/** The kernel takes no longer one: MAX_ARG_STRLEN, with name, "=" and the closing zero. */
const VARIABLE_BYTES_MAX = 131_072

/** A variable with exactly this text: without the escape the kubelet replaces "$(NAME)" in it. */
export function textVar(name: string, text: string): EnvVar {
  return { name, value: literal(text) }
}

/** As the kubelet has to read it to arrive at the text, in variables, commands and arguments. */
export function literal(text: string): string {
  return text.replaceAll(/\$\$|\$\(/g, (pair) => (pair === '$$' ? '$$$$' : '$$('))
}

/** Whether a process can be started with it. */
export function fitsVariable(name: string, text: string): boolean {
  return Buffer.byteLength(name) + Buffer.byteLength(text) + 2 <= VARIABLE_BYTES_MAX
}

export function secretVar(name: string, secretName: string, key: string, optional?: boolean): EnvVar {
  return { name, valueFrom: { secretKeyRef: { name: secretName, key, ...(optional && { optional }) } } }
}

export function fieldVar(name: string, fieldPath: string): EnvVar {
  return { name, valueFrom: { fieldRef: { fieldPath } } }
}

/**
 * Ours, then theirs, so that theirs can refer to ours as "$(NAME)"; of one name only theirs: server-side apply refuses one that
 * stands twice.
 */
export function withUserVars(ours: readonly EnvVar[], theirs: readonly EnvVar[] = []): readonly EnvVar[] {
  const names = new Set(theirs.map(({ name }) => name))
  return [...ours.filter(({ name }) => !names.has(name)), ...theirs]
}

export interface DeclaredVars {
  readonly names: ReadonlySet<string>
  /** There may be others, which only the cluster knows. */
  readonly hasUnknown: boolean
}

/** What a resource sets for its container, in `container` and in `podSpec`. */
export function declaredVars(
  {
    container,
    podSpec,
  }: { readonly container?: { readonly env?: readonly EnvVar[] | undefined } | undefined; readonly podSpec?: unknown },
  containerName: string,
): DeclaredVars {
  const listed = isMap(podSpec) && Array.isArray(podSpec.containers) ? podSpec.containers.filter(isMap) : []
  const own = listed.filter(({ name }) => name === containerName)
  const patched = own.flatMap(({ env }) => (Array.isArray(env) ? env.filter(isMap) : []))
  const names = [...(container?.env ?? []), ...patched].map(({ name }) => String(name))
  return { names: new Set(names), hasUnknown: own.some(({ envFrom }) => Array.isArray(envFrom) && envFrom.length > 0) }
}

const BROKER_VOLUME = 'broker'
const BROKER_FOLDER = '/etc/kaos/broker'

/** What a host needs of the grace period of its pod to tell its collector, and to end. */
const GRACE_MARGIN_SECONDS = 10
/** A host takes no longer one. */
const GRACE_SECONDS_MAX = 86_400

/** How long a host may finish what is in hand, where `podSpec` gives its pod another grace period than ours. */
export function graceVars({
  podSpec,
}: {
  readonly podSpec?: { readonly [field: string]: unknown } | undefined
}): readonly EnvVar[] {
  const seconds = podSpec?.terminationGracePeriodSeconds
  if (typeof seconds !== 'number') return []
  const grace = Math.min(Math.max(0, seconds - GRACE_MARGIN_SECONDS), GRACE_SECONDS_MAX)
  return [textVar('KAOS_GRACE_SECONDS', String(grace))]
}

export interface BrokerAccess {
  readonly env: readonly EnvVar[]
  readonly volumes: readonly { readonly [key: string]: unknown }[]
  readonly volumeMounts: readonly { readonly [key: string]: unknown }[]
}

/**
 * How a container that speaks to the broker finds it. A credentials file is mounted, not set: a new one is then read without a
 * restart.
 */
export function brokerAccess({ broker }: Pick<Installation, 'broker'>): BrokerAccess {
  const { url, credentials, ca } = broker
  const env: EnvVar[] = [textVar('NATS_URL', url)]
  const sources: { readonly [key: string]: unknown }[] = []
  if (credentials?.form === 'creds') {
    env.push(textVar('NATS_CREDS', `${BROKER_FOLDER}/nats.creds`))
    sources.push({ secret: { name: credentials.secretName, items: [{ key: 'nats.creds', path: 'nats.creds' }] } })
  }
  if (credentials?.form === 'user') {
    env.push(secretVar('NATS_USER', credentials.secretName, 'username'))
    env.push(secretVar('NATS_PASSWORD', credentials.secretName, 'password'))
  }
  if (credentials?.form === 'token') env.push(secretVar('NATS_TOKEN', credentials.secretName, 'token'))
  if (ca) {
    env.push(textVar('NATS_CA', `${BROKER_FOLDER}/ca.crt`))
    sources.push({ configMap: { name: ca.configMapName, items: [{ key: ca.key, path: 'ca.crt' }] } })
  }
  if (sources.length === 0) return { env, volumes: [], volumeMounts: [] }
  return {
    env,
    volumes: [{ name: BROKER_VOLUME, projected: { sources } }],
    volumeMounts: [{ name: BROKER_VOLUME, mountPath: BROKER_FOLDER, readOnly: true }],
  }
}
