/** What of telemetry and log level holds for a resource, and how its pods are told. Nothing here knows an SDK. */
import { readEndpoint } from '../../../telemetry/settings/endpoint.ts'
import type { Finding } from '../../status/reasons.ts'
import type { Installation, LogLevel } from '../installation.ts'
import { containerName, type OwnedKind, type Place, workloadName } from '../names.ts'
import { type EnvVar, fieldVar, textVar } from './environment.ts'

/** Where a value comes from: the resource itself, the installation (Helm), or nobody, and the default counts. */
export type TelemetrySource = 'Resource' | 'Installation' | 'Default'

export interface EffectiveTelemetry {
  readonly enabled: boolean
  /** As it was written; absent: none is known. */
  readonly endpoint?: string
  readonly enabledFrom: TelemetrySource
  readonly endpointFrom: TelemetrySource
  /** Why nothing is exported though it is enabled. */
  readonly problem?: Finding
  /** Where pods export to, as a URL; absent: nothing is exported. */
  readonly url?: string
}

export interface DeclaredTelemetry {
  readonly enabled?: boolean | undefined
  readonly endpoint?: string | undefined
}

/**
 * Field by field: what the resource says, else the installation. `enabled` has three states: where neither says it, telemetry is
 * on for what has an endpoint. So a resource that sets only an endpoint keeps the installation's switch.
 */
export function effectiveTelemetry(
  resource: DeclaredTelemetry | undefined,
  { telemetry }: Pick<Installation, 'telemetry'>,
): EffectiveTelemetry {
  const [endpoint, endpointFrom] = firstOf(resource?.endpoint || undefined, telemetry.endpoint || undefined)
  const [declared, declaredFrom] = firstOf(resource?.enabled, telemetry.enabled)
  const enabled = declared ?? endpoint !== undefined
  const enabledFrom = declared === undefined ? endpointFrom : declaredFrom
  const said = { enabled, enabledFrom, endpointFrom, ...(endpoint !== undefined && { endpoint }) }
  if (!enabled) return said
  if (endpoint === undefined) {
    const message =
      'telemetry is enabled and no endpoint is set: set spec.telemetry.endpoint, or telemetry.endpoint of the installation'
    return { ...said, problem: { reason: 'TelemetryEndpointMissing', message } }
  }
  const url = endpointUrl(endpoint)
  if (url !== undefined) return { ...said, url }
  const where = endpointFrom === 'Resource' ? 'spec.telemetry.endpoint' : 'telemetry.endpoint of the installation'
  const message = `could not use ${where}, given "${shown(endpoint)}": expected host:port, or a URL that begins with http://, https:// or grpc://, without user and password`
  return { ...said, problem: { reason: 'TelemetryEndpointInvalid', message } }
}

/** With a scheme, which exporters for Python need to know whether TLS is spoken; without a slash that stands for nothing. */
function endpointUrl(text: string): string | undefined {
  const url = readEndpoint(text)
  if (!url || url.username || url.password) return undefined
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text.trim()) && url.port === '') return undefined
  return url.href.replace(/\/$/, '')
}

/** A password that was put into an address is not repeated. */
function shown(endpoint: string): string {
  return endpoint.replace(/[^/@]*@/, '…@')
}

function firstOf<Value>(
  resource: Value | undefined,
  installation: Value | undefined,
): readonly [Value | undefined, TelemetrySource] {
  if (resource !== undefined) return [resource, 'Resource']
  return installation === undefined ? [undefined, 'Default'] : [installation, 'Installation']
}

/**
 * For agents, our tool servers and Python runtimes. Off because somebody says so is told, off because nobody says anything is
 * not.
 */
export function telemetryVars(
  effective: EffectiveTelemetry,
  kind: OwnedKind,
  place: Place,
  container = containerName(kind),
): readonly EnvVar[] {
  const { url, enabled, enabledFrom } = effective
  if (url === undefined) return enabled || enabledFrom === 'Default' ? [] : [textVar('OTEL_SDK_DISABLED', 'true')]
  return [
    textVar('OTEL_SDK_DISABLED', 'false'),
    ...exporterVars(url, kind, place, container),
    textVar('OTEL_PYTHON_FASTAPI_EXCLUDED_URLS', '/health,/ready'),
    ...(isHttp(url) ? [textVar('OTEL_EXPORTER_OTLP_PROTOCOL', 'http/protobuf')] : []),
  ]
}

/** For LiteLLM, which has names of its own for some. */
export function litellmTelemetryVars({ url }: EffectiveTelemetry, place: Place): readonly EnvVar[] {
  if (url === undefined) return []
  return [
    textVar('OTEL_EXPORTER', isHttp(url) ? 'otlp_http' : 'otlp_grpc'),
    ...exporterVars(url, 'ModelAPI', place, containerName('ModelAPI')),
    textVar('OTEL_PYTHON_EXCLUDED_URLS', '/health'),
    textVar('USE_OTEL_LITELLM_REQUEST_SPAN', 'true'), // else the attributes of a call go to whatever span is above it
  ]
}

function exporterVars(url: string, kind: OwnedKind, place: Place, container: string): readonly EnvVar[] {
  const attributes = [
    `service.namespace=${place.namespace}`,
    `kaos.resource.name=${place.name}`,
    `k8s.namespace.name=${place.namespace}`,
    `k8s.deployment.name=${workloadName(kind, place.name)}`,
    `k8s.container.name=${container}`,
    'k8s.pod.name=$(K8S_POD_NAME)',
    'k8s.pod.uid=$(K8S_POD_UID)',
    'k8s.node.name=$(K8S_NODE_NAME)',
  ]
  return [
    textVar('OTEL_SERVICE_NAME', place.name),
    textVar('OTEL_EXPORTER_OTLP_ENDPOINT', url),
    fieldVar('K8S_POD_NAME', 'metadata.name'),
    fieldVar('K8S_POD_UID', 'metadata.uid'),
    fieldVar('K8S_NODE_NAME', 'spec.nodeName'),
    { name: 'OTEL_RESOURCE_ATTRIBUTES', value: attributes.join(',') }, // the kubelet fills in what stands above
  ]
}

/** Port 4318 is where receivers speak HTTP, by convention. */
function isHttp(url: string): boolean {
  return new URL(url).port === '4318'
}

export function logLevelVar(level: LogLevel): EnvVar {
  return textVar('LOG_LEVEL', level)
}

/** LiteLLM knows no TRACE. */
export function litellmLogVar(level: LogLevel): EnvVar {
  return textVar('LITELLM_LOG', level === 'TRACE' ? 'DEBUG' : level)
}

/** Ollama has two levels of debugging and no other. */
export function ollamaLogVars(level: LogLevel): readonly EnvVar[] {
  if (level === 'TRACE') return [textVar('OLLAMA_DEBUG', '2')]
  return level === 'DEBUG' ? [textVar('OLLAMA_DEBUG', '1')] : []
}
