/** `kaos up`: everything that a system needs, in this process, until Ctrl-C. `kaos host`: only agents and tool servers, on a broker that runs. */
import { resolve } from 'node:path'
import type { BrokerSettings } from '../bus/access/settings.ts'
import { openBus } from '../bus/open.ts'
import { claimFolder, readRunFile } from '../bus/server/run-file.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { userParty } from '../bus/wire/subjects.ts'
import type { System } from '../manifests/load.ts'
import { createLog } from '../telemetry/log.ts'
import type { Telemetry } from '../telemetry/telemetry.ts'
import { namedBroker, runningBroker } from './client/session.ts'
import type { ListenAddress } from './process/address.ts'
import { EXIT } from './process/exit-codes.ts'
import { interrupted, readGraceMs } from './process/interrupt.ts'
import { Stopping } from './process/stopping.ts'
import { surviveStrayErrors } from './process/stray-errors.ts'
import { FLUSH_MS } from './process/telemetry.ts'
import { frontLines, frontPlaces, hostFront, startFront } from './running/front.ts'
import { host } from './running/hosting.ts'
import { resolveModels } from './running/models.ts'
import { isWanted, readOnly } from './running/only.ts'
import { daysKept, keepRecords, readRetentionDays } from './running/retention.ts'
import { inventoryOf, loadSystem, startSystem } from './running/system.ts'
import { placeLine, startHostTelemetry, type TelemetryPlace, telemetryPlaces } from './running/telemetry.ts'
import { paint, paintAside, print, printJson, say } from './view/terminal.ts'

const PORT = 4222

export async function up(options: {
  readonly file: readonly string[]
  readonly port?: number
  readonly context?: string
  readonly http?: ListenAddress | 'off'
  readonly health?: ListenAddress | 'off'
  readonly offline?: boolean
  readonly json?: boolean
}): Promise<number> {
  const files = options.file.map((file) => resolve(file))
  const system = loadSystem(files)
  let graceMs = readGraceMs(process.env)
  const days = readRetentionDays(process.env)
  const log = await createLog()
  surviveStrayErrors(log)
  const folder = process.cwd()
  const claim = await claimFolder(folder)
  const stopping = new Stopping(log)
  stopping.add(async () => claim.release())
  try {
    const { http, health } = await startFront(options, log, stopping)
    const storeDir = resolve(folder, '.kaos', 'nats')
    const broker = namedBroker(options.context)
    const telemetry = await startHostTelemetry({ system }, { env: process.env, log })
    stopping.add(() => telemetry.stop(FLUSH_MS))
    const running = await startSystem(system, {
      broker,
      telemetry,
      http,
      storeDir,
      port: options.port ?? PORT,
      env: process.env,
      isOffline: options.offline ?? false,
      log,
      say,
    })
    stopping.add(() => running.stop(graceMs))
    const { bus, settings, server, namespace, modelLines } = running
    const retention = keepRecords({ days: daysKept(days, server !== undefined), settings, namespace, log })
    stopping.add(() => retention.stop())
    const url = settings.servers.join(',')
    const told = interrupted() // before anybody can know that we are up and tell us to go
    health?.watch(bus)
    await Promise.race([told, health?.untilReady()])
    claim.publish({ url, namespace, manifests: files, ...(server && { storeDir }) })

    for (const warning of system.warnings) say(paintAside('yellow', `warning: ${warning}`))
    const places = telemetryPlaces({ system }, process.env)
    const more = { ...frontPlaces({ http, health }), ...(telemetry.isOn && { telemetry: places }) }
    if (options.json) printJson({ pid: process.pid, url, ...inventoryOf(system, namespace), models: modelLines, ...more })
    else
      describe(system, settings, modelLines, namespace, [...frontLines({ http, health }), ...telemetryLines(telemetry, places)])
    const reason = await Promise.race([told, ...(server ? [server.exited.then(() => 'broker' as const)] : [])])
    health?.drain()
    if (reason === 'broker') {
      graceMs = 0 // nothing can be finished without it
      throw new KaosError('broker_failed', `the embedded nats-server ended; its log is "${server!.logFile}"`)
    }
    say('\nfinishing what is in hand; press Ctrl-C again to leave at once')
    return EXIT.ok
  } finally {
    await stopping.all()
  }
}

/** Says "ready" on stdout when it pulls. The streams must be there already: a host creates none. */
export async function hostCommand(options: {
  readonly file: readonly string[]
  readonly only?: readonly string[]
  readonly context?: string
  readonly http?: ListenAddress | 'off'
  readonly health?: ListenAddress | 'off'
  readonly offline?: boolean
  readonly json?: boolean
}): Promise<number> {
  const system = loadSystem(
    options.file.map((file) => resolve(file)),
    { isPart: true },
  )
  const only = readOnly(options.only, system)
  const graceMs = readGraceMs(process.env)
  const log = await createLog()
  surviveStrayErrors(log)
  const [namespace = 'default'] = system.namespaces
  const settings = runningBroker(options.context, readRunFile(process.cwd()))
  const stopping = new Stopping(log)
  try {
    const agents = system.agents.filter(({ metadata }) => isWanted(only, 'agent', metadata.name))
    const { http, health } = await startFront(hostFront(options, process.env, { hasAgents: agents.length > 0 }), log, stopping)
    const telemetry = await startHostTelemetry({ system, only }, { env: process.env, log })
    stopping.add(() => telemetry.stop(FLUSH_MS))
    const bus = await openBus(settings, { namespace, as: userParty('host'), log })
    stopping.add(() => bus.close())
    if (http) stopping.add(() => http.shut())
    const models = await resolveModels(system, { env: process.env, log, isOffline: options.offline ?? false })
    stopping.add(() => models.stop())
    const hosting = await host({ system, bus, places: models.places, log, env: process.env, only, telemetry })
    stopping.add(() => hosting.stop(graceMs))
    http?.open(bus, agents)
    const told = interrupted() // before anybody can know that we are ready and tell us to go
    health?.watch(bus)
    await Promise.race([told, health?.untilReady()])
    const places = telemetryPlaces({ system, only }, process.env)
    const more = { ...frontPlaces({ http, health }), ...(telemetry.isOn && { telemetry: places }) }
    if (options.json) printJson({ ready: true, host: hosting.hostId, ...more })
    else {
      for (const line of [...frontLines({ http, health }), ...telemetryLines(telemetry, places)]) print(line)
      print(`ready ${hosting.hostId}`)
    }
    await told
    health?.drain()
    return EXIT.ok
  } finally {
    await stopping.all()
  }
}

function telemetryLines({ isOn }: Telemetry, places: readonly TelemetryPlace[]): readonly string[] {
  return isOn ? places.map((place) => `telemetry  ${placeLine(place)}`) : []
}

function describe(
  system: System,
  { servers, source, context }: BrokerSettings,
  modelLines: readonly string[],
  namespace: string,
  more: readonly string[],
): void {
  const url = servers.join(',')
  const [first] = system.agents
  const agent = first!.metadata.name
  print(`${paint('bold', 'kaos is up')}: ${system.agents.map(({ metadata }) => metadata.name).join(', ')}`)
  for (const line of modelLines) print(`  model   ${line}`)
  for (const { metadata, spec } of system.agents) {
    if (spec.external) print(`  waiting for a program of yours that answers for ${metadata.name}`)
  }
  print(`  NATS    ${url}${source === 'embedded' ? ' (embedded, this machine only; anybody on it can do anything)' : ''}`)
  for (const line of more) print(`  ${line}`)
  print(context === undefined ? `\n  export NATS_URL=${url}` : `\n  export NATS_CONTEXT=${context}`)
  print(`  npx kaos task send ${agent} "…" --wait`)
  print(`  nats req kaos.${namespace}.ask.${agent} "…" --timeout 60s`)
  print('\nCtrl-C ends it; what is not finished goes on at the next start.')
}
