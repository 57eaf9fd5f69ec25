/** Runs the agents and tool servers of a system in this process. `kaos up` and `kaos host` are this with and without a broker of their own. */
import { randomBytes } from 'node:crypto'
import { announceAgent } from '../../actors/agent/announce.ts'
import { agentMachine } from '../../actors/agent/machine.ts'
import { agentRuntime, peersOf } from '../../actors/agent/runtime.ts'
import { createModelClient } from '../../actors/effects/endpoint.ts'
import type { ModelPlace } from '../../actors/effects/model.ts'
import { ownRuntime } from '../../actors/own/runtime.ts'
import { serveAgent } from '../../actors/service.ts'
import { systemClock } from '../../bus/contracts.ts'
import type { NatsBus } from '../../bus/open.ts'
import { type AgentCard, CATALOG_VERSION } from '../../bus/wire/catalog.ts'
import type { Agent } from '../../manifests/kinds/agent.ts'
import type { System } from '../../manifests/load.ts'
import { resolveToolServer } from '../../manifests/local.ts'
import { parseBaggageKeys } from '../../telemetry/baggage.ts'
import type { Logger } from '../../telemetry/log.ts'
import { noTelemetry, type Telemetry } from '../../telemetry/telemetry.ts'
import { crashFromEnv } from '../process/crash.ts'
import { isWanted, type Only } from './declared.ts'
import { loadMachines } from './machines.ts'
import { agentService, toolService } from './telemetry.ts'

export interface Hosting {
  readonly hostId: string
  /** Finishes what is in hand, at most for `graceMs`, and stops. */
  stop(graceMs: number): Promise<void>
}

export interface HostingOptions {
  readonly system: System
  readonly bus: NatsBus
  readonly places: ReadonlyMap<string, ModelPlace>
  readonly log: Logger
  readonly env: NodeJS.ProcessEnv
  /** Default: off. It is not stopped here. */
  readonly telemetry?: Telemetry | undefined
  /** Names of agents and tool servers; absent: all. */
  readonly only?: Only
}

/** Rejects before anything runs when a tool server cannot run here, or the file of a machine or of tools cannot be loaded. */
export async function host(options: HostingOptions): Promise<Hosting> {
  const { system, bus, log, env, telemetry = noTelemetry } = options
  const baggageKeys = parseBaggageKeys(env.KAOS_BAGGAGE_KEYS)
  const isAgentWanted = (name: string) => isWanted(options.only, 'agent', name)
  const servers = system.mcpServers
    .filter((server) => isWanted(options.only, 'tool', server.metadata.name))
    .map((server) => ({
      name: server.metadata.name,
      place: resolveToolServer(server, { env }),
      telemetry: telemetry.service(toolService(server)),
    }))
  const identity = newIdentity()
  const client = createModelClient({ log, baggageKeys })
  const machine = agentMachine()
  const machines = await loadMachines(system, isAgentWanted)
  const crash = crashFromEnv(env)

  // All that can be wrong with a machine, before anything begins.
  const runtimes = system.agents
    .filter(({ metadata, spec }) => isAgentWanted(metadata.name) && !spec.external)
    .map((agent) => {
      const { name } = agent.metadata
      const peers = peersOf(agent, system.agents)
      const place = options.places.get(name)
      const own = machines.get(name)
      const { catalog, subjects } = bus
      const shared = { agent, peers, subjects, client, clock: systemClock }
      const service = telemetry.service(agentService(agent))
      const runtime = own
        ? ownRuntime({ ...shared, own, place, telemetry: service })
        : agentRuntime({ ...shared, machine, catalog, place: place! })
      return { agent, runtime, service }
    })
  // Before the agents: their first tasks want to know the tools.
  const tools =
    servers.length > 0
      ? await (await import('./tool-serving.ts')).serveToolServers({ servers, bus, identity, log, env, baggageKeys })
      : undefined
  const agents = runtimes.map(({ agent, runtime, service: ownTelemetry }) => {
    const announcing = announceAgent({ card: cardOf(agent), catalog: bus.catalog, log })
    const service = serveAgent({ bus, agent: runtime, identity, clock: systemClock, log, crash, telemetry: ownTelemetry })
    return { announcing, service }
  })

  return {
    hostId: identity.id,
    async stop(graceMs) {
      for (const { announcing } of agents) announcing.stop()
      const deadline = performance.now() + graceMs
      await Promise.all(agents.map(({ service }) => service.stop(graceMs)))
      await tools?.stop(Math.max(0, deadline - performance.now()))
      await client.close()
    },
  }
}

/** What an agent says of itself in the catalog. */
export function cardOf({ metadata, spec }: Agent): AgentCard {
  return { v: CATALOG_VERSION, kind: 'agent', name: metadata.name, description: spec.config.description ?? '' }
}

/** New at every start, so that nobody takes this process for one that ended. */
function newIdentity() {
  const id = `h${randomBytes(6).toString('hex')}`
  let appends = 0
  return { id, nextWriter: () => `${id}.${++appends}` }
}
