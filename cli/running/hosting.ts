/** Runs the agents and tool servers of a system in this process. `kaos up` and `kaos host` are this with and without a broker of their own. */
import { randomBytes } from 'node:crypto'
import { announceAgent } from '../../actors/agent/announce.ts'
import { agentMachine } from '../../actors/agent/machine.ts'
import { agentRuntime, peersOf } from '../../actors/agent/runtime.ts'
import { crashFromEnv } from '../../actors/crash.ts'
import { createModelClient } from '../../actors/effects/endpoint.ts'
import type { ModelPlace } from '../../actors/effects/model.ts'
import { serveAgent } from '../../actors/service.ts'
import { systemClock } from '../../bus/contracts.ts'
import type { NatsBus } from '../../bus/open.ts'
import type { System } from '../../manifests/load.ts'
import { resolveToolServer } from '../../manifests/local.ts'
import type { Logger } from '../../telemetry/log.ts'
import { announceTools } from '../../tools/announce.ts'
import { serveTools, crashFromEnv as toolCrashFromEnv } from '../../tools/server.ts'
import { openSession } from '../../tools/session.ts'

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
  /** Names of agents and tool servers; absent: all. */
  readonly only?: ReadonlySet<string> | undefined
}

/** Throws ManifestError, before anything runs, when a tool server cannot run here. */
export function host(options: HostingOptions): Hosting {
  const { system, bus, log, env } = options
  const isWanted = (name: string) => !options.only || options.only.has(name)
  const servers = system.mcpServers
    .filter((server) => isWanted(server.metadata.name))
    .map((server) => ({ name: server.metadata.name, place: resolveToolServer(server, { env }) }))
  const identity = newIdentity()
  const client = createModelClient({ log })
  const machine = agentMachine()
  const crash = crashFromEnv(env)

  const tools = servers.map(({ name, place }) => {
    const session = openSession(place, { name, log })
    const announcing = announceTools({ server: name, session, catalog: bus.catalog, log })
    const service = serveTools({ bus, server: name, session, identity, clock: systemClock, log, crash: toolCrashFromEnv(env) })
    return { session, announcing, service }
  })
  const agents = system.agents
    .filter((agent) => isWanted(agent.metadata.name))
    .map((agent) => {
      const { name } = agent.metadata
      const peers = peersOf(agent, system.agents)
      const place = options.places.get(name)!
      const runtime = agentRuntime({
        agent,
        peers,
        machine,
        catalog: bus.catalog,
        subjects: bus.subjects,
        client,
        place,
        clock: systemClock,
      })
      const { description = '' } = agent.spec.config
      const announcing = announceAgent({ card: { v: 1, kind: 'agent', name, description }, catalog: bus.catalog, log })
      const service = serveAgent({ bus, agent: runtime, identity, clock: systemClock, log, crash })
      return { announcing, service }
    })

  return {
    hostId: identity.id,
    async stop(graceMs) {
      for (const { announcing } of [...agents, ...tools]) announcing.stop()
      await Promise.all(agents.map(({ service }) => service.stop(graceMs)))
      await Promise.all(tools.map(({ service }) => service.stop(graceMs)))
      await Promise.all(tools.map(({ session }) => session.close()))
      await client.close()
    },
  }
}

/** New at every start, so that nobody takes this process for one that ended. */
function newIdentity() {
  const id = `h${randomBytes(6).toString('hex')}`
  let appends = 0
  return { id, nextWriter: () => `${id}.${++appends}` }
}
