/** The connection that client commands share: to NATS_URL, else to the `kaos up` of this folder. */

import { requiredBrokerSettings } from '../bus/access/settings.ts'
import { type NatsBus, openBus } from '../bus/open.ts'
import { type RunFile, readRunFile } from '../bus/server/run-file.ts'
import { userParty } from '../bus/wire/subjects.ts'
import { createLog, type Logger } from '../telemetry/log.ts'

export interface ClientSession {
  readonly bus: NatsBus
  readonly log: Logger
  readonly run: RunFile | undefined
}

/** Opens a bus for one command and closes it afterwards, whatever happens. */
export async function withBus<T>(
  options: { readonly namespace?: string | undefined },
  work: (session: ClientSession) => Promise<T>,
): Promise<T> {
  const run = readRunFile(process.cwd())
  const log = await createLog({ env: { LOG_LEVEL: 'ERROR', ...process.env } })
  const settings = requiredBrokerSettings(process.env, run)
  const namespace = options.namespace ?? run?.namespace ?? 'default'
  const bus = await openBus(settings, { namespace, as: userParty('cli'), log })
  try {
    return await work({ bus, log, run })
  } finally {
    await bus.close()
  }
}
