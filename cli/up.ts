/** `kaos up`: everything that a system needs, in this process, until Ctrl-C. */
import { resolve } from 'node:path'
import type { BrokerSettings } from '../bus/access/settings.ts'
import { claimFolder } from '../bus/server/run-file.ts'
import { KaosError } from '../bus/wire/errors.ts'
import type { System } from '../manifests/load.ts'
import { createLog } from '../telemetry/log.ts'
import { namedBroker } from './client/session.ts'
import type { ListenAddress } from './process/address.ts'
import { EXIT } from './process/exit-codes.ts'
import { interrupted, readGraceMs } from './process/interrupt.ts'
import { Stopping } from './process/stopping.ts'
import { surviveStrayErrors } from './process/stray-errors.ts'
import { FLUSH_MS } from './process/telemetry.ts'
import { inventoryOf, loadSystem } from './running/declared.ts'
import { frontLines, frontPlaces, startFront } from './running/front.ts'
import { daysKept, keepRecords, readRetentionDays } from './running/retention.ts'
import { startSystem } from './running/system.ts'
import { startHostTelemetry, telemetryLines, telemetryPlaces } from './running/telemetry.ts'
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
