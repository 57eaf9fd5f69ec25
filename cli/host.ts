/**
 * `kaos host`: agents and tool servers on a broker that runs. A pod that is woken for a task is this command, so what stands between its start and the
 * first entry counts: what a host may do without is loaded by whoever needs it, when it is needed.
 */
import { resolve } from 'node:path'
import { openBus } from '../bus/open.ts'
import { readRunFile } from '../bus/server/run-file.ts'
import { userParty } from '../bus/wire/subjects.ts'
import { createLog } from '../telemetry/log.ts'
import { runningBroker } from './client/session.ts'
import type { ListenAddress } from './process/address.ts'
import { EXIT } from './process/exit-codes.ts'
import { interrupted, readGraceMs } from './process/interrupt.ts'
import { Stopping } from './process/stopping.ts'
import { surviveStrayErrors } from './process/stray-errors.ts'
import { FLUSH_MS } from './process/telemetry.ts'
import { isWanted, loadSystem, readOnly } from './running/declared.ts'
import { frontLines, frontPlaces, hostFront, startFront } from './running/front.ts'
import { host } from './running/hosting.ts'
import { resolveModels } from './running/models.ts'
import { startHostTelemetry, telemetryLines, telemetryPlaces } from './running/telemetry.ts'
import { print, printJson } from './view/terminal.ts'

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
