/** Telemetry of a process that hosts agents and tool servers: each is a service of its own, as its manifest and the environment say. */
import type { Agent } from '../../manifests/kinds/agent.ts'
import type { McpServer } from '../../manifests/kinds/mcp-server.ts'
import type { System } from '../../manifests/load.ts'
import type { Logger } from '../../telemetry/log.ts'
import { readEndpoint, SIGNALS, type Signal } from '../../telemetry/settings/endpoint.ts'
import { readSettings } from '../../telemetry/settings.ts'
import { startTelemetry } from '../../telemetry/start.ts'
import type { ServiceIdentity, Telemetry } from '../../telemetry/telemetry.ts'
import { isWanted, type Only } from './declared.ts'

/** What the process is called beside its agents and tool servers where OTEL_SERVICE_NAME does not say it. */
const PROCESS_NAME = 'kaos'

export interface HostedSystem {
  readonly system: Pick<System, 'agents' | 'mcpServers'>
  /** Names of agents and tool servers that run in this process; absent: all. */
  readonly only?: Only
}

/** Off when nothing asks for it. Never throws. */
export function startHostTelemetry(
  hosted: HostedSystem,
  { log, env }: { readonly log: Logger; readonly env: NodeJS.ProcessEnv },
): Promise<Telemetry> {
  return startTelemetry({ processName: PROCESS_NAME, services: servicesOf(hosted), env, log })
}

export function agentService({ metadata, spec }: Agent): ServiceIdentity {
  const { enabled, endpoint } = spec.telemetry ?? spec.config.telemetry ?? {}
  return { name: metadata.name, namespace: metadata.namespace, kind: 'agent', enabled, endpoint }
}

export function toolService({ metadata, spec }: McpServer): ServiceIdentity {
  const { enabled, endpoint } = spec.telemetry ?? {}
  return { name: metadata.name, namespace: metadata.namespace, kind: 'tool-server', enabled, endpoint }
}

function servicesOf({ system, only }: HostedSystem): readonly ServiceIdentity[] {
  const agents = system.agents.filter(({ metadata, spec }) => !spec.external && isWanted(only, 'agent', metadata.name))
  const servers = system.mcpServers.filter(({ metadata }) => isWanted(only, 'tool', metadata.name))
  return [...agents.map(agentService), ...servers.map(toolService)]
}

/** Where telemetry goes, for people. */
export interface TelemetryPlace {
  /** An address without path and credentials, or `stderr`. */
  readonly to: string
  readonly signals: readonly Signal[]
  /** What alone is sent there; absent: all whose manifest names no other place. */
  readonly services?: readonly string[]
}

export function telemetryPlaces(hosted: HostedSystem, env: NodeJS.ProcessEnv): readonly TelemetryPlace[] {
  const { signals, isDisabled } = readSettings(env).settings
  if (isDisabled) return []
  const general = SIGNALS.flatMap((signal) => {
    const { isSent, isPrinted, destination } = signals[signal]
    const sent = isSent && destination ? [{ to: new URL(destination.url).origin, signal }] : []
    return [...sent, ...(isPrinted ? [{ to: 'stderr', signal }] : [])]
  })
  const sent = SIGNALS.filter((signal) => signals[signal].isSent)
  const own = servicesOf(hosted).flatMap(({ name, enabled, endpoint }) => {
    const url = enabled !== false && endpoint ? readEndpoint(endpoint) : undefined
    return url && sent.length > 0 ? [{ to: url.origin, name }] : []
  })
  return [
    ...[...Map.groupBy(general, ({ to }) => to)].map(([to, all]) => ({ to, signals: all.map(({ signal }) => signal) })),
    ...[...Map.groupBy(own, ({ to }) => to)].map(([to, all]) => ({ to, signals: sent, services: all.map(({ name }) => name) })),
  ]
}

/** `http://127.0.0.1:4317 (traces, metrics, logs)`. */
function placeLine({ to, signals, services }: TelemetryPlace): string {
  return `${to} (${signals.join(', ')})${services ? ` for ${services.join(', ')}` : ''}`
}

/** For people; none where telemetry is off. */
export function telemetryLines({ isOn }: Telemetry, places: readonly TelemetryPlace[]): readonly string[] {
  return isOn ? places.map((place) => `telemetry  ${placeLine(place)}`) : []
}
