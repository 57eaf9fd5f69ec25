/**
 * The manifest that a pod is given: what `kaos host` needs to run one agent or one tool server, and no more. What it refers to is
 * there in a few words, so that every reference leads somewhere; keys and addresses of models are not, for the pod asks the
 * ModelAPI's Service.
 */
import { posix } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { stringify } from 'yaml'
import { agentSpecSchema } from '../../manifests/kinds/agent.ts'
import { isLocalRuntime, parseFilesParams, parseTypescriptParams } from '../../manifests/kinds/tool-runtime.ts'
import { apiVersion } from '../../manifests/metadata.ts'
import type { ClusterAgent, ClusterMcpServer } from './plan.ts'
import { isMap } from './pod/merge.ts'

export const MANIFEST_KEY = 'kaos.yaml'
const MANIFEST_FOLDER = '/etc/kaos/manifest'
const MANIFEST_VOLUME = 'manifest'

/** Arguments of the kaos command that runs one agent or tool server of the mounted manifest. */
export function hostArgs(name: string): readonly string[] {
  return ['host', '--file', `${MANIFEST_FOLDER}/${MANIFEST_KEY}`, '--only', name]
}

export const manifestMount = { name: MANIFEST_VOLUME, mountPath: MANIFEST_FOLDER, readOnly: true } as const

export function manifestVolume(configMap: string) {
  return { name: MANIFEST_VOLUME, configMap: { name: configMap } }
}

export interface AgentSurroundings {
  /** Peers of `agentNetwork.access` that are there; the others are left out of it. */
  readonly peers: readonly ClusterAgent[]
  /** Folder that a relative path counts from, in the image. */
  readonly workingDir: string
}

/** The same text for the same meaning: the order of `peers` does not matter. */
export function agentManifest(agent: ClusterAgent, { peers, workingDir }: AgentSurroundings): string {
  const { metadata, spec } = agent
  const { namespace } = metadata
  const access = spec.agentNetwork.access.filter((name) => peers.some((peer) => peer.metadata.name === name))
  const { telemetry: oldTelemetry, ...config } = spec.config
  const told = withoutDefaults(config, defaultConfig)
  const traceBoundary = (spec.telemetry ?? oldTelemetry)?.traceBoundary
  const own = {
    ...(spec.modelAPI !== undefined && { modelAPI: spec.modelAPI, model: spec.model }),
    ...(spec.machineRef && { machineRef: { path: posix.resolve(workingDir, spec.machineRef.path) } }),
    mcpServers: spec.mcpServers,
    agentNetwork: { access },
    ...(told !== undefined && { config: told }),
    // Where it goes is told by variables, which the resource can set too.
    ...(traceBoundary === 'activation' && { telemetry: { traceBoundary } }),
  }
  const resources = [
    resource('Agent', metadata.name, namespace, own),
    ...(spec.modelAPI === undefined ? [] : [resource('ModelAPI', spec.modelAPI, namespace, standInModel(spec.model!))]),
    ...spec.mcpServers.map((name) => resource('MCPServer', name, namespace, { runtime: 'echo' })),
    ...access.map((name) => resource('Agent', name, namespace, standInPeer(peers.find((peer) => peer.metadata.name === name)!))),
  ]
  return text(resources)
}

/** `address`: where an image serves MCP; absent: the runtime is one that our tool server runs itself. */
export function toolServerManifest(
  { metadata, spec }: ClusterMcpServer,
  { address, workingDir }: { readonly address?: string; readonly workingDir: string },
): string {
  const { runtime } = spec
  const own = address === undefined ? { runtime, ...paramsIn(spec, workingDir) } : { runtime: 'url', params: address }
  return text([resource('MCPServer', metadata.name, metadata.namespace, own)])
}

function standInModel(model: string) {
  return { mode: 'Proxy', proxyConfig: { models: [model] } }
}

/** Nobody runs a peer from here: its machine is named so that it needs no model. */
function standInPeer({ spec }: ClusterAgent) {
  const { description } = spec.config
  const config = description === undefined ? {} : { config: { description } }
  return spec.external ? { external: true, ...config } : { machineRef: { path: 'elsewhere' }, ...config }
}

/** With paths that count from the image, where the files are, and not from the manifest. */
function paramsIn({ runtime, params }: ClusterMcpServer['spec'], workingDir: string) {
  if (params === undefined || !isLocalRuntime(runtime)) return {}
  if (runtime === 'typescript') return { params: posix.resolve(workingDir, parseTypescriptParams(params).path) }
  if (runtime !== 'files') return { params }
  const { root, writable } = parseFilesParams(params)
  return { params: stringify({ root: posix.resolve(workingDir, root), writable }) }
}

const defaultConfig = agentSpecSchema.parse({ modelAPI: 'any', model: 'any' }).config

/**
 * What differs; undefined: nothing does. So a field that the next version has more, with its default, changes no manifest and
 * rolls no pod.
 */
function withoutDefaults(value: unknown, defaults: unknown): unknown {
  if (!isMap(value) || !isMap(defaults)) return isDeepStrictEqual(value, defaults) ? undefined : value
  const fields = Object.entries(value).map(([name, field]) => [name, withoutDefaults(field, defaults[name])] as const)
  const told = fields.filter(([, field]) => field !== undefined)
  return told.length === 0 ? undefined : Object.fromEntries(told)
}

function resource(kind: string, name: string, namespace: string, spec: object) {
  return { apiVersion, kind, metadata: { name, namespace }, spec }
}

function text(resources: readonly object[]): string {
  return resources.map((each) => stringify(each, { lineWidth: 0, aliasDuplicateObjects: false })).join('---\n')
}
