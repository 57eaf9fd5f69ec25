/** `kaos up`: everything that a system needs, in this process, until Ctrl-C. `kaos host`: only agents and tool servers, on a broker that runs. */
import { resolve } from 'node:path'
import { type BrokerSettings, brokerSettings, requiredBrokerSettings } from '../bus/access/settings.ts'
import { openBus } from '../bus/open.ts'
import { findServer } from '../bus/server/binary/find.ts'
import { type EmbeddedServer, startServer } from '../bus/server/embedded.ts'
import { claimFolder, readRunFile } from '../bus/server/run-file.ts'
import { createStreams } from '../bus/streams.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { userParty } from '../bus/wire/subjects.ts'
import { loadManifests, type System } from '../manifests/load.ts'
import { createLog, type Logger } from '../telemetry/log.ts'
import { EXIT } from './exit-codes.ts'
import { interrupted } from './interrupt.ts'
import { serveAsk } from './running/ask.ts'
import { host } from './running/hosting.ts'
import { resolveModels } from './running/models.ts'
import { hint } from './task.ts'
import { paint, paintAside, print, printJson, say } from './view/terminal.ts'

const PORT = 4222
const GRACE_MS = 25_000

export async function up(options: {
  readonly file: readonly string[]
  readonly port?: number
  readonly json?: boolean
}): Promise<number> {
  const files = options.file.map((file) => resolve(file))
  const system = loadSystem(files)
  const log = await createLog()
  const folder = process.cwd()
  const claim = await claimFolder(folder)
  const stopping: (() => Promise<unknown>)[] = [async () => claim.release()]
  let graceMs = GRACE_MS
  try {
    const named = brokerSettings(process.env)
    const storeDir = resolve(folder, '.kaos', 'nats')
    let server: EmbeddedServer | undefined
    if (!named) {
      const { path } = await findServer({ env: process.env, say })
      const prefer = options.port ?? PORT
      server = await startServer({ binary: path, storeDir, port: prefer === 0 ? 0 : { prefer }, log })
      if (prefer !== 0 && server.port !== prefer) say(`port ${prefer} is taken, so NATS listens on ${server.port}`)
      stopping.push(() => server!.stop())
    }
    const settings: BrokerSettings = named ?? { servers: [server!.url], source: 'embedded', identity: { kind: 'none' } }
    const [namespace = 'default'] = system.namespaces
    const bus = await openBus(settings, { namespace, as: userParty('up'), log })
    stopping.push(() => bus.close())
    await createStreams(bus.connection, inventoryOf(system, namespace))
    const models = await resolveModels(system, { env: process.env, log })
    stopping.push(() => models.stop())
    const hosting = host({ system, bus, places: models.places, log, env: process.env })
    stopping.push(() => hosting.stop(graceMs))
    const ask = serveAsk(
      bus,
      system.agents.map(({ metadata }) => metadata.name),
      log,
    )
    stopping.push(async () => ask.unsubscribe())
    const url = settings.servers.join(',')
    const told = interrupted() // before anybody can know that we are up and tell us to go
    claim.publish({ url, namespace, manifests: files, ...(server && { storeDir }) })

    for (const warning of system.warnings) say(paintAside('yellow', `warning: ${warning}`))
    if (options.json) printJson({ pid: process.pid, url, ...inventoryOf(system, namespace), models: models.lines })
    else describe(system, url, models.lines, server !== undefined, namespace)
    const reason = await Promise.race([told, ...(server ? [server.exited.then(() => 'broker' as const)] : [])])
    if (reason === 'broker') {
      graceMs = 0 // nothing can be finished without it
      throw new KaosError('broker_failed', `the embedded nats-server ended; its log is "${server!.logFile}"`)
    }
    say('\nfinishing what is in hand; press Ctrl-C again to leave at once')
    return EXIT.ok
  } finally {
    await stopAll(stopping, log)
  }
}

/** Says "ready" on stdout when it pulls. The streams must be there already: a host creates none. */
export async function hostCommand(options: {
  readonly file: readonly string[]
  readonly only?: readonly string[]
  readonly json?: boolean
}): Promise<number> {
  const system = loadSystem(options.file.map((file) => resolve(file)))
  const names = [...system.agents, ...system.mcpServers].map(({ metadata }) => metadata.name)
  for (const name of options.only ?? []) {
    if (!names.includes(name))
      throw new KaosError('usage', `--only "${name}" is no agent or tool server of the manifests${hint(name, names)}`)
  }
  const log = await createLog()
  const [namespace = 'default'] = system.namespaces
  const settings = requiredBrokerSettings(process.env, readRunFile(process.cwd()))
  const stopping: (() => Promise<unknown>)[] = []
  try {
    const bus = await openBus(settings, { namespace, as: userParty('host'), log })
    stopping.push(() => bus.close())
    const models = await resolveModels(system, { env: process.env, log })
    stopping.push(() => models.stop())
    const only = options.only && new Set(options.only)
    const hosting = host({ system, bus, places: models.places, log, env: process.env, only })
    stopping.push(() => hosting.stop(GRACE_MS))
    const told = interrupted() // before anybody can know that we are ready and tell us to go
    if (options.json) printJson({ ready: true, host: hosting.hostId })
    else print(`ready ${hosting.hostId}`)
    await told
    return EXIT.ok
  } finally {
    await stopAll(stopping, log)
  }
}

/** The last that began stops first. */
async function stopAll(stopping: readonly (() => Promise<unknown>)[], log: Logger): Promise<void> {
  for (const stop of stopping.toReversed()) {
    await stop().catch((error: unknown) => log.warn({ err: error }, 'a part did not stop cleanly'))
  }
}

/** Local commands run one namespace at a time. */
export function loadSystem(files: readonly string[]): System {
  const system = loadManifests(files)
  if (system.namespaces.length > 1) {
    throw new KaosError(
      'usage',
      `the manifests use namespaces ${system.namespaces.map((name) => `"${name}"`).join(' and ')}; run one at a time`,
    )
  }
  if (system.agents.length === 0)
    throw new KaosError('usage', `there is no Agent in ${files.map((file) => `"${file}"`).join(', ')}`)
  return system
}

export function inventoryOf(system: System, namespace: string) {
  const nameOf = ({ metadata }: { readonly metadata: { readonly name: string } }) => metadata.name
  return { namespace, agents: system.agents.map(nameOf), tools: system.mcpServers.map(nameOf) }
}

function describe(system: System, url: string, modelLines: readonly string[], isEmbedded: boolean, namespace: string): void {
  const [first] = system.agents
  const agent = first!.metadata.name
  print(`${paint('bold', 'kaos is up')}: ${system.agents.map(({ metadata }) => metadata.name).join(', ')}`)
  for (const line of modelLines) print(`  model   ${line}`)
  print(`  NATS    ${url}${isEmbedded ? ' (embedded, this machine only; anybody on it can do anything)' : ''}`)
  print(`\n  export NATS_URL=${url}`)
  print(`  npx kaos task send ${agent} "…" --wait`)
  print(`  nats req kaos.${namespace}.ask.${agent} "…" --timeout 60s`)
  print('\nCtrl-C ends it; what is not finished goes on at the next start.')
}
