/** Turns telemetry on, if anything asks for it. Whoever is not asked loads no SDK. */
import { type Logger, tapLogs } from './log.ts'
import type { SdkOptions } from './sdk.ts'
import { readSettings } from './settings.ts'
import { noTelemetry, type ServiceIdentity, type Telemetry } from './telemetry.ts'

export interface StartOptions {
  /** What the process is called where no agent or tool server is meant; OTEL_SERVICE_NAME goes before. */
  readonly processName: string
  /** The agents and tool servers of this process: an endpoint that only a manifest names turns telemetry on as well. */
  readonly services: readonly ServiceIdentity[]
  readonly env: NodeJS.ProcessEnv
  readonly log: Logger
}

let running: { readonly telemetry: Promise<Telemetry>; readonly processName: string } | undefined
let started: Telemetry = noTelemetry

/** Telemetry of this process. A second start with another name keeps the first, and warns with both. Never throws. */
export async function startTelemetry(options: StartOptions): Promise<Telemetry> {
  const { log, env, services } = options
  const { settings, warnings, notes } = readSettings(env)
  const processName = settings.serviceName ?? options.processName
  if (running) {
    if (running.processName !== processName)
      log.warn({ running: running.processName, refused: processName }, 'telemetry runs already, under the first name')
    return running.telemetry
  }
  const isWanted =
    settings.isOn || (!settings.isDisabled && services.some(({ enabled, endpoint }) => endpoint && enabled !== false))
  if (isWanted || settings.isAskedFor) for (const warning of warnings) log.warn(warning)
  if (!isWanted) {
    const wanting = services.filter(({ enabled }) => enabled).map(({ name }) => name)
    if (wanting.length > 0 && !settings.isDisabled)
      log.warn({ services: wanting }, 'telemetry.enabled is true, but no endpoint is set, so that nothing is exported')
    return noTelemetry
  }
  for (const note of notes) log.info(note)
  running = { telemetry: start({ settings, processName, services, log }), processName }
  started = await running.telemetry
  return started
}

/** What `startTelemetry` gave; off before it and after its end. */
export function runningTelemetry(): Telemetry {
  return started
}

async function start(options: Omit<SdkOptions, 'onStopped'>): Promise<Telemetry> {
  const onStopped = () => {
    tapLogs(undefined)
    running = undefined
    started = noTelemetry
  }
  try {
    const { startSdk } = await import('./sdk.ts')
    const telemetry = await startSdk({ ...options, onStopped })
    tapLogs((line) => telemetry.log(line))
    return telemetry
  } catch (error) {
    options.log.warn({ err: error }, 'could not start telemetry, nothing is exported')
    onStopped()
    return noTelemetry
  }
}
