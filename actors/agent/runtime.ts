/** From a declared agent to one that runs: its definition, its machine and its effects. */
import type { Catalog, Clock } from '../../bus/contracts.ts'
import type { ServerTools } from '../../bus/wire/catalog.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { Subjects } from '../../bus/wire/subjects.ts'
import type { Agent } from '../../manifests/kinds/agent.ts'
import type { TraceBoundary } from '../../manifests/kinds/telemetry.ts'
import { delegateEffect } from '../effects/delegation.ts'
import type { ModelClient } from '../effects/endpoint.ts'
import { type ModelPlace, modelEffect } from '../effects/model.ts'
import { toolEffect } from '../effects/tool.ts'
import type { Machine } from '../machine.ts'
import type { AgentRuntime } from '../runtime.ts'
import { type AgentDefinition, asJson, defineAgent, type Peer } from './definition.ts'

/** The part of a definition that the manifest alone decides. */
function declaredBy(agent: Agent, peers: readonly Peer[]): Omit<AgentDefinition, 'tools' | 'toolsHash' | 'failure'> {
  const { spec, metadata } = agent
  const { config } = spec
  return {
    name: metadata.name,
    description: config.description ?? '',
    instructions: config.instructions ?? '',
    systemPrompt: config.systemPrompt ?? '',
    // The declared name, not the one that an endpoint knows it by: a task must replay wherever it is replayed.
    model: spec.model ?? '',
    settings: config.modelSettings,
    toolCallMode: config.toolCallMode,
    peers,
    steps: config.reasoningLoopMaxSteps,
    contextLimit: config.memory.contextLimit,
    toolCalls: config.taskConfig.maxToolCalls,
    runtimeSeconds: config.taskConfig.maxRuntimeSeconds,
  }
}

/** The peers that a manifest names, with what they say of themselves. */
export function peersOf(agent: Agent, agents: readonly Agent[]): readonly Peer[] {
  return agent.spec.agentNetwork.access.map((name) => {
    const peer = agents.find((other) => other.metadata.name === name && other.metadata.namespace === agent.metadata.namespace)
    const description = peer?.spec.config.description ?? ''
    return peer?.spec.external ? { name, description, external: true } : { name, description }
  })
}

/** What a task takes along now. Throws `tool_list_missing` (retryable) while a server has not announced its tools. */
export async function definitionOf(
  agent: Agent,
  peers: readonly Peer[],
  catalog: Pick<Catalog, 'tools'>,
): Promise<AgentDefinition> {
  const servers: ServerTools[] = []
  for (const server of agent.spec.mcpServers) {
    const list = await catalog.tools(server)
    if (!list) {
      const message = `tool server "${server}" of agent "${agent.metadata.name}" has not announced its tools`
      throw new KaosError('tool_list_missing', message, { retryAfterMs: 1_000, details: { server } })
    }
    servers.push({ server, tools: list.tools })
  }
  return defineAgent(declaredBy(agent, peers), servers)
}

/** Where the spans of an agent end. */
export function traceBoundaryOf({ spec }: Agent): TraceBoundary {
  return (spec.telemetry ?? spec.config.telemetry)?.traceBoundary ?? 'task'
}

export function agentRuntime(options: {
  readonly agent: Agent
  readonly peers: readonly Peer[]
  readonly machine: Machine
  readonly catalog: Pick<Catalog, 'tools'>
  readonly subjects: Subjects
  readonly client: ModelClient
  readonly place: ModelPlace
  readonly clock: Clock
}): AgentRuntime {
  const { agent, peers, machine, catalog, subjects, client, place, clock } = options
  return {
    name: agent.metadata.name,
    machine,
    effects: { model: modelEffect(client, place, clock), tool: toolEffect(subjects), delegate: delegateEffect(subjects) },
    definition: async (): Promise<Json> => asJson(await definitionOf(agent, peers, catalog)),
    withoutTools: (failure) => asJson({ ...defineAgent(declaredBy(agent, peers), []), failure }),
    traceBoundary: traceBoundaryOf(agent),
  }
}
