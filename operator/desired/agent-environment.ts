/**
 * Variables of an agent's pod: those of KAOS, and how it finds broker and collector. The host reads MODEL_*, NATS_*, LOG_LEVEL
 * and OTEL_*; the rest says the same as its manifest, for images and machines of one's own.
 */

import type { Installation } from './installation.ts'
import { containerName, HTTP_PORT, MASTER_KEY, masterKeySecretName, OLLAMA_PORT, serviceUrl } from './names.ts'
import type { ClusterAgent, ClusterModelApi } from './plan.ts'
import { brokerAccess, declaredVars, type EnvVar, fitsVariable, graceVars, secretVar, textVar } from './pod/environment.ts'
import { type EffectiveTelemetry, logLevelVar, telemetryVars } from './pod/telemetry.ts'

export interface AgentEnvironment {
  readonly modelApi: ClusterModelApi | undefined
  /** Names of peers that are there. */
  readonly peers: readonly string[]
  readonly telemetry: EffectiveTelemetry
  readonly installation: Installation
}

/** What `container.env` sets is not yet in it. */
export function agentVars(
  agent: ClusterAgent,
  { modelApi, peers, telemetry, installation }: AgentEnvironment,
): readonly EnvVar[] {
  const { metadata } = agent
  return [
    ...identityVars(agent),
    ...modelVars(agent, modelApi, installation),
    ...limitVars(agent),
    ...neighbourVars(agent, peers, installation),
    ...brokerAccess(installation).env,
    ...graceVars(agent.spec),
    logLevelVar(installation.logLevel),
    ...telemetryVars(telemetry, 'Agent', metadata, containerName('Agent')),
  ]
}

function identityVars({ metadata, spec }: ClusterAgent): readonly EnvVar[] {
  const { description, instructions, systemPrompt } = spec.config
  return [
    textVar('AGENT_NAME', metadata.name),
    ...optional('AGENT_DESCRIPTION', description),
    ...optional('AGENT_INSTRUCTIONS', instructions),
    ...optional('AGENT_SYSTEM_PROMPT', systemPrompt),
  ]
}

/** Absent, or longer than a process can be started with: then it stands in the manifest only. */
function optional(name: string, text: string | undefined): readonly EnvVar[] {
  return text === undefined || !fitsVariable(name, text) ? [] : [textVar(name, text)]
}

function modelVars(
  { spec, metadata }: ClusterAgent,
  api: ClusterModelApi | undefined,
  { clusterDomain }: Installation,
): readonly EnvVar[] {
  if (!api || spec.model === undefined) return []
  const isHosted = api.spec.mode === 'Hosted'
  const place = { name: api.metadata.name, namespace: metadata.namespace }
  const vars = [
    textVar('MODEL_API_URL', serviceUrl('ModelAPI', place, clusterDomain, isHosted ? OLLAMA_PORT : HTTP_PORT)),
    // An Ollama knows the model by its own name only, not as "ollama/…".
    textVar('MODEL_NAME', isHosted ? (api.spec.hostedConfig?.model ?? spec.model) : spec.model),
  ]
  return isGivenKey({ spec }, api) ? [...vars, masterKeyVar('MODEL_API_KEY', api)] : vars
}

/** An Ollama asks for none, and whoever asks another address is not sent ours. */
export function isGivenKey({ spec }: Pick<ClusterAgent, 'spec'>, api: ClusterModelApi): boolean {
  return api.spec.mode !== 'Hosted' && !declaredVars(spec, containerName('Agent')).names.has('MODEL_API_URL')
}

/** Whether its proxy has a key that is made at random, in a Secret of its own. */
export function hasGeneratedKey({ spec }: Pick<ClusterModelApi, 'spec'>): boolean {
  return spec.mode !== 'Hosted' && !declaredVars(spec, containerName('ModelAPI')).names.has('LITELLM_MASTER_KEY')
}

/** The key that a proxy asks of its callers: the one that its own container is given. */
export function masterKeyVar(name: string, { metadata, spec }: ClusterModelApi): EnvVar {
  const own = spec.container?.env?.find((variable) => variable.name === 'LITELLM_MASTER_KEY')
  return own ? { ...own, name } : secretVar(name, masterKeySecretName(metadata.name), MASTER_KEY)
}

function limitVars({ spec }: ClusterAgent): readonly EnvVar[] {
  const { reasoningLoopMaxSteps, toolCallMode, taskConfig, memory, autonomous } = spec.config
  return Object.entries({
    AGENTIC_LOOP_MAX_STEPS: reasoningLoopMaxSteps,
    TOOL_CALL_MODE: toolCallMode,
    TASK_MAX_ITERATIONS: taskConfig.maxIterations,
    TASK_MAX_RUNTIME_SECONDS: taskConfig.maxRuntimeSeconds,
    TASK_MAX_TOOL_CALLS: taskConfig.maxToolCalls,
    MEMORY_ENABLED: memory.enabled,
    MEMORY_TYPE: memory.type ?? (memory.memoryStore === undefined ? 'local' : 'remote'),
    MEMORY_CONTEXT_LIMIT: memory.contextLimit,
    MEMORY_MAX_SESSIONS: memory.maxSessions,
    MEMORY_MAX_SESSION_EVENTS: memory.maxSessionEvents,
    ...(autonomous?.goal !== undefined && {
      AUTONOMOUS_GOAL: autonomous.goal,
      AUTONOMOUS_INTERVAL_SECONDS: autonomous.intervalSeconds,
      AUTONOMOUS_MAX_ITER_RUNTIME_SECONDS: autonomous.maxIterRuntimeSeconds,
    }),
  }).flatMap(([name, value]) => optional(name, String(value)))
}

/** Sorted, so that the order in which somebody writes names rolls no pod. */
function neighbourVars(agent: ClusterAgent, peers: readonly string[], { clusterDomain }: Installation): readonly EnvVar[] {
  const { namespace } = agent.metadata
  const servers = agent.spec.mcpServers.toSorted()
  const present = agent.spec.agentNetwork.access.filter((name) => peers.includes(name)).toSorted()
  const serverUrl = (name: string) => serviceUrl('MCPServer', { name, namespace }, clusterDomain)
  const peerUrl = (name: string) => serviceUrl('Agent', { name, namespace }, clusterDomain)
  return [
    ...(servers.length > 0 ? [textVar('MCP_SERVERS', servers.join(','))] : []),
    ...servers.map((name) => textVar(`MCP_SERVER_${name}_URL`, serverUrl(name))),
    ...(present.length > 0 ? [textVar('PEER_AGENTS', present.join(','))] : []),
    ...present.map((name) => textVar(`PEER_AGENT_${upperSnake(name)}_CARD_URL`, peerUrl(name))),
  ]
}

function upperSnake(name: string): string {
  return name.toUpperCase().replaceAll('-', '_')
}
