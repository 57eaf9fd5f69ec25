/** Which broker a command uses: that of a context or of NATS_URL, else that of the `kaos up` of this folder. */
import { type BrokerSettings, brokerSettings, requiredBrokerSettings } from '../../bus/access/settings.ts'
import { type NatsBus, openBus } from '../../bus/open.ts'
import { type RunFile, readRunFile } from '../../bus/server/run-file.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { createLog, type Logger } from '../../telemetry/log.ts'
import { say } from '../view/terminal.ts'

/** What every command that needs a broker takes. */
export interface ClientOptions {
  /** Absent: that of the `kaos up` of this folder, else "default". */
  readonly namespace?: string | undefined
  /** A context of the `nats` command; absent: `NATS_CONTEXT`. */
  readonly context?: string | undefined
}

export interface ClientSession {
  readonly bus: NatsBus
  readonly log: Logger
  readonly run: RunFile | undefined
}

/** Opens a bus for one command and closes it afterwards, whatever happens. */
export async function withBus<T>(options: ClientOptions, work: (session: ClientSession) => Promise<T>): Promise<T> {
  const run = readRunFile(process.cwd())
  const log = await createLog({ env: { LOG_LEVEL: 'ERROR', ...process.env } })
  const settings = runningBroker(options.context, run)
  const namespace = options.namespace ?? run?.namespace ?? 'default'
  const bus = await openBus(settings, { namespace, as: userParty('cli'), log })
  try {
    return await work({ bus, log, run })
  } finally {
    await bus.close()
  }
}

/** A broker that somebody names by a variable or a context; undefined if nobody does. */
export function namedBroker(context: string | undefined): BrokerSettings | undefined {
  const settings = brokerSettings(process.env, { context })
  if (settings) sayWhoWins(settings)
  return settings
}

/** A broker that runs already. Throws `broker_unreachable` if there is none to be found. */
export function runningBroker(context: string | undefined, runFile: RunFile | undefined): BrokerSettings {
  const settings = requiredBrokerSettings(process.env, { context, runFile })
  sayWhoWins(settings)
  return settings
}

/** Who names a context may not remember that the variable is set. */
function sayWhoWins({ context, source, servers }: BrokerSettings): void {
  if (context !== undefined && source === 'NATS_URL')
    say(`NATS_URL comes before the context "${context}": using ${servers.join(', ')}`)
}
