/** A whole system in this process: broker, streams, models, agents, tool servers and the request door. `kaos up` and tests are made of it. */
import { announceAgent } from '../../actors/agent/announce.ts'
import type { BrokerSettings } from '../../bus/access/settings.ts'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { findServer } from '../../bus/server/binary/find.ts'
import { type EmbeddedServer, startServer } from '../../bus/server/embedded.ts'
import { createStreams } from '../../bus/streams.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import type { System } from '../../manifests/load.ts'
import type { Telemetry } from '../../telemetry/telemetry.ts'
import { Stopping } from '../process/stopping.ts'
import { serveAsk } from './ask.ts'
import { inventoryOf } from './declared.ts'
import type { HttpDoor } from './gateway.ts'
import { cardOf, host } from './hosting.ts'
import { type ModelsOptions, resolveModels } from './models.ts'

export interface RunningSystem {
  readonly bus: NatsBus
  readonly settings: BrokerSettings
  readonly namespace: string
  /** One line per way to a model, for people. */
  readonly modelLines: readonly string[]
  /** Absent: somebody else's broker. */
  readonly server: EmbeddedServer | undefined
  /** Finishes what is in hand, at most for `graceMs`, and stops everything, the broker last. */
  stop(graceMs: number): Promise<void>
}

export interface SystemOptions extends ModelsOptions {
  /** Absent: a broker of its own. */
  readonly broker: BrokerSettings | undefined
  /** Where a broker of its own keeps its streams. */
  readonly storeDir: string
  /** Of a broker of its own: this one, or any if it is taken; 0: any. */
  readonly port: number
  /** Default: off. It is not stopped here. */
  readonly telemetry?: Telemetry | undefined
  /** Opened for all agents once they run, and shut after they have ended; not stopped here. */
  readonly http?: Pick<HttpDoor, 'open' | 'shut'> | undefined
  /** Told in words what somebody who waits wants to know. */
  readonly say: (line: string) => void
}

/** Rejects with nothing left running. */
export async function startSystem(system: System, options: SystemOptions): Promise<RunningSystem> {
  const { log, env, say, telemetry, http } = options
  const stopping = new Stopping(log)
  let graceMs = 0
  try {
    const server = options.broker ? undefined : await startBroker(options)
    if (server) stopping.add(() => server.stop())
    if (server && options.port !== 0 && server.port !== options.port)
      say(`port ${options.port} is taken, so NATS listens on ${server.port}`)
    const settings = options.broker ?? { servers: [server!.url], source: 'embedded', identity: { kind: 'none' } }
    const [namespace = 'default'] = system.namespaces
    const bus = await openBus(settings, { namespace, as: userParty('up'), log })
    stopping.add(() => bus.close())
    if (http) stopping.add(() => http.shut())
    await createStreams(bus.connection, inventoryOf(system, namespace))
    const models = await resolveModels(system, options)
    stopping.add(() => models.stop())
    const hosting = await host({ system, bus, places: models.places, log, env, telemetry })
    stopping.add(() => hosting.stop(graceMs))
    const external = system.agents.filter(({ spec }) => spec.external)
    const announcing = external.map((agent) => announceAgent({ card: cardOf(agent), catalog: bus.catalog, log }))
    stopping.add(async () => announcing.forEach((each) => void each.stop()))
    const names = system.agents.map(({ metadata }) => metadata.name)
    const ask = serveAsk(bus, names, log)
    stopping.add(async () => ask.unsubscribe())
    http?.open(bus, system.agents)
    await bus.connection.flush() // the request door is open before anybody can know that we are up
    return {
      bus,
      settings,
      namespace,
      modelLines: models.lines,
      server,
      stop(ms) {
        graceMs = ms
        return stopping.all()
      },
    }
  } catch (error) {
    await stopping.all()
    throw error
  }
}

async function startBroker({ env, say, storeDir, port, log }: SystemOptions): Promise<EmbeddedServer> {
  const { path } = await findServer({ env, say })
  return startServer({ binary: path, storeDir, port: port === 0 ? 0 : { prefer: port }, log })
}
