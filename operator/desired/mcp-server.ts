/**
 * What stands behind an MCPServer. A runtime of ours is one container that answers calls from the bus. An image that speaks MCP
 * gets our tool server beside it in the pod, which hands calls on: so broker credentials never lie where code of others runs.
 */
import { isLocalRuntime, parseStdioParams, parseUrlParams } from '../../manifests/kinds/tool-runtime.ts'
import type { KubeObject } from '../kube/object.ts'
import type { Installation } from './installation.ts'
import { hostArgs, MANIFEST_KEY, manifestMount, manifestVolume, toolServerManifest } from './manifest.ts'
import { containerName, HTTP_PORT, hashOf, SIDECAR, SIDECAR_PORT, workloadName } from './names.ts'
import { type ClusterMcpServer, type Plan, planned, RefusedError } from './plan.ts'
import { brokerAccess, declaredVars, type EnvVar, fitsVariable, graceVars, literal, textVar } from './pod/environment.ts'
import {
  type Container,
  configMapOf,
  deploymentOf,
  HOST_GRACE_SECONDS,
  httpProbe,
  type Pod,
  serviceOf,
  tcpProbe,
} from './pod/pod.ts'
import { type EffectiveTelemetry, effectiveTelemetry, logLevelVar, telemetryVars } from './pod/telemetry.ts'
import { REGISTRY_CONFIG_MAP, type Registry, type RuntimeEntry, runtimeNames } from './runtimes.ts'

const MAIN = containerName('MCPServer')
const SERVICE_ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount'
const TOKEN_VOLUME = 'kube-api-access'
const TOKEN_SECONDS = 3_607

export interface McpServerCircumstances {
  readonly installation: Installation
  readonly registry: Registry
}

export function desiredMcpServer(server: ClusterMcpServer, { installation, registry }: McpServerCircumstances): Plan {
  const telemetry = effectiveTelemetry(server.spec.telemetry, installation)
  return planned(telemetry, () => {
    const entry = runtimeOf(server, registry)
    requireVars(server, entry)
    return { objects: childrenOf(server, entry, telemetry, installation), secrets: [], unmet: [] }
  })
}

/** Undefined: our tool server runs it itself. The registry goes before what is built in. Throws RefusedError. */
function runtimeOf({ spec }: ClusterMcpServer, registry: Registry): RuntimeEntry | undefined {
  const { runtime, container } = spec
  const entry = registry.entries.get(runtime)
  if (entry && 'problem' in entry) throw new RefusedError('UnknownRuntime', entry.problem)
  if (entry) return entry
  if (isLocalRuntime(runtime)) return undefined
  if (runtime !== 'custom') {
    const known = runtimeNames(registry).join(', ')
    const unread = registry.problem === undefined ? '' : `; ${registry.problem}`
    throw new RefusedError(
      'UnknownRuntime',
      `no runtime "${runtime}" of spec.runtime; there are ${known}. Others are added to ConfigMap ${REGISTRY_CONFIG_MAP}${unread}`,
    )
  }
  if (container?.image === undefined) {
    throw new RefusedError(
      'SpecInvalid',
      'spec.runtime "custom" needs spec.container.image: an image that serves MCP over HTTP on port 8000',
    )
  }
  return { image: container.image, command: [], args: [], transport: 'http', path: '/mcp', requiredEnv: [] }
}

/** All that the runtime cannot work without. Throws RefusedError with every name that is missing. */
function requireVars({ spec }: ClusterMcpServer, entry: RuntimeEntry | undefined): void {
  const { names, hasUnknown } = declaredVars(spec, MAIN)
  if (hasUnknown) return
  const missing = (entry?.requiredEnv ?? namedInParams(spec)).filter((name) => !names.has(name))
  if (missing.length === 0) return
  const message = `runtime "${spec.runtime}" needs ${missing.join(', ')}: set ${missing.length === 1 ? 'it' : 'them'} in spec.container.env`
  throw new RefusedError('RequiredEnvMissing', message)
}

function namedInParams({ runtime, params }: ClusterMcpServer['spec']): readonly string[] {
  if (runtime === 'stdio') return parseStdioParams(params).passEnv
  return runtime === 'url' ? Object.values(parseUrlParams(params).headersFromEnv) : []
}

function childrenOf(
  server: ClusterMcpServer,
  entry: RuntimeEntry | undefined,
  telemetry: EffectiveTelemetry,
  installation: Installation,
): readonly KubeObject[] {
  const name = workloadName('MCPServer', server.metadata.name)
  const workingDir = server.spec.container?.workingDir ?? installation.workingDir
  const address = entry && `http://127.0.0.1:${HTTP_PORT}${entry.path}`
  const manifest = toolServerManifest(server, { workingDir, ...(address !== undefined && { address }) })
  const pod = entry ? imagePod(server, entry, telemetry, installation) : ownPod(server, telemetry, installation)
  return [
    configMapOf(server, name, { [MANIFEST_KEY]: manifest }),
    deploymentOf(server, { name, replicas: 1, configHash: hashOf([manifest]), pod }, installation),
    serviceOf(server, name, HTTP_PORT),
  ]
}

function ownPod(server: ClusterMcpServer, telemetry: EffectiveTelemetry, installation: Installation): Pod {
  const host = hostContainer(server, MAIN, HTTP_PORT, telemetry, installation)
  return podAround(server, { main: withToken(host, server), installation })
}

function imagePod(server: ClusterMcpServer, entry: RuntimeEntry, telemetry: EffectiveTelemetry, installation: Installation): Pod {
  const { image, command, args } = entry
  const main: Container = {
    name: MAIN,
    image,
    ...(command.length > 0 && { command: command.map(literal) }),
    ...(args.length > 0 && { args: args.map(literal) }),
    env: [
      ...paramsVars(server, entry),
      logLevelVar(installation.logLevel),
      ...telemetryVars(telemetry, 'MCPServer', server.metadata),
    ],
    ports: [{ name: 'http', containerPort: HTTP_PORT, protocol: 'TCP' }],
    resources: installation.resources.toolRuntime,
    livenessProbe: tcpProbe(HTTP_PORT, { initialDelaySeconds: 20, periodSeconds: 10, timeoutSeconds: 3, failureThreshold: 3 }),
    readinessProbe: tcpProbe(HTTP_PORT, { initialDelaySeconds: 3, periodSeconds: 5, timeoutSeconds: 3, failureThreshold: 2 }),
  }
  const sidecar = hostContainer(server, SIDECAR, SIDECAR_PORT, telemetry, installation)
  return podAround(server, { main: withToken(main, server), sidecars: [sidecar], installation })
}

interface PodParts {
  readonly main: Container
  readonly sidecars?: readonly Container[]
  readonly installation: Installation
}

function podAround({ metadata, spec }: ClusterMcpServer, { installation, ...containers }: PodParts): Pod {
  const { serviceAccountName } = spec
  return {
    ...containers,
    volumes: [
      manifestVolume(workloadName('MCPServer', metadata.name)),
      ...brokerAccess(installation).volumes,
      ...(serviceAccountName === undefined ? [] : [tokenVolume]),
    ],
    ...(serviceAccountName !== undefined && { serviceAccountName }),
    graceSeconds: HOST_GRACE_SECONDS,
  }
}

function hostContainer(
  { metadata, spec }: ClusterMcpServer,
  name: string,
  port: number,
  telemetry: EffectiveTelemetry,
  installation: Installation,
): Container {
  const access = brokerAccess(installation)
  return {
    name,
    image: installation.images.host,
    command: installation.hostCommand,
    args: [...hostArgs(metadata.name), ...(port === HTTP_PORT ? [] : ['--health', `*:${port}`])],
    env: [
      ...access.env,
      ...graceVars(spec),
      logLevelVar(installation.logLevel),
      ...telemetryVars(telemetry, 'MCPServer', metadata, name),
    ],
    ports: [{ name: port === HTTP_PORT ? 'http' : 'health', containerPort: port, protocol: 'TCP' }],
    resources: installation.resources.toolServer,
    volumeMounts: [manifestMount, ...access.volumeMounts],
    livenessProbe: httpProbe('/health', port, {
      initialDelaySeconds: 5,
      periodSeconds: 10,
      timeoutSeconds: 3,
      failureThreshold: 3,
    }),
    readinessProbe: httpProbe('/ready', port, {
      initialDelaySeconds: 1,
      periodSeconds: 2,
      timeoutSeconds: 2,
      failureThreshold: 3,
    }),
  }
}

function paramsVars({ spec }: ClusterMcpServer, { paramsEnvVar }: RuntimeEntry): readonly EnvVar[] {
  if (paramsEnvVar === undefined || spec.params === undefined) return []
  if (fitsVariable(paramsEnvVar, spec.params)) return [textVar(paramsEnvVar, spec.params)]
  const bytes = Buffer.byteLength(spec.params)
  throw new RefusedError(
    'SpecInvalid',
    `spec.params has ${bytes} bytes; runtime "${spec.runtime}" takes it as the variable ${paramsEnvVar}, which holds 128 KiB with its name`,
  )
}

/** Who names a ServiceAccount wants its rights: for the container that does the work, and for no other of the pod. */
function withToken(container: Container, { spec }: ClusterMcpServer): Container {
  if (spec.serviceAccountName === undefined) return container
  const mount = { name: TOKEN_VOLUME, mountPath: SERVICE_ACCOUNT_FOLDER, readOnly: true }
  return { ...container, volumeMounts: [...(container.volumeMounts ?? []), mount] }
}

/** The same three files that Kubernetes mounts by itself into every container of a pod. */
const tokenVolume = {
  name: TOKEN_VOLUME,
  projected: {
    sources: [
      { serviceAccountToken: { path: 'token', expirationSeconds: TOKEN_SECONDS } },
      { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
      { downwardAPI: { items: [{ path: 'namespace', fieldRef: { fieldPath: 'metadata.namespace' } }] } },
    ],
  },
}
