/**
 * Runs tool servers in this process. Only who has some loads this file: the MCP SDK and its schemas take 17 MB and 0.1 s, which a host of
 * agents alone need not pay.
 */
import { systemClock } from '../../bus/contracts.ts'
import type { NatsBus } from '../../bus/open.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { ServiceTelemetry } from '../../telemetry/telemetry.ts'
import { announceTools } from '../../tools/announce.ts'
import { loadToolModule } from '../../tools/own/module.ts'
import type { ResolvedRuntime } from '../../tools/runtimes/open.ts'
import { serveTools } from '../../tools/server.ts'
import { openSession } from '../../tools/session.ts'
import { crashFromEnv } from '../process/crash.ts'

export interface ToolServing {
  /** Finishes what is in hand, at most for `graceMs`, and ends the servers. */
  stop(graceMs: number): Promise<void>
}

export interface ToolServingOptions {
  readonly servers: readonly {
    readonly name: string
    readonly place: ResolvedRuntime
    readonly telemetry: ServiceTelemetry
  }[]
  readonly bus: NatsBus
  readonly identity: { readonly id: string; nextWriter(): string }
  readonly log: Logger
  readonly env: NodeJS.ProcessEnv
  /** Which baggage MCP servers are sent, by key. */
  readonly baggageKeys: readonly string[]
}

/** Rejects before anything runs when the file of tools cannot be loaded. */
export async function serveToolServers(options: ToolServingOptions): Promise<ToolServing> {
  const { servers, bus, identity, log, env, baggageKeys } = options
  for (const { place } of servers) if (place.runtime === 'typescript') await loadToolModule(place.file)
  const crash = crashFromEnv(env)
  const tools = servers.map(({ name, place, telemetry }) => {
    const session = openSession(place, { name, log, telemetry, baggageKeys })
    const announcing = announceTools({ server: name, session, catalog: bus.catalog, log })
    const service = serveTools({ bus, server: name, session, identity, clock: systemClock, log, crash, telemetry })
    return { session, announcing, service }
  })
  return {
    async stop(graceMs) {
      for (const { announcing } of tools) announcing.stop()
      await Promise.all(tools.map(({ service }) => service.stop(graceMs)))
      await Promise.all(tools.map(({ session }) => session.close()))
    },
  }
}
