/** How long `kaos up` keeps what has ended. */
import type { BrokerSettings } from '../../bus/access/settings.ts'
import { type Retention, startRetention } from '../../bus/retention/retention.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { isRetentionDays, RETENTION_DAYS, RETENTION_LIMITS } from '../../bus/wire/limits.ts'
import type { Logger } from '../../telemetry/log.ts'

/** Undefined: nothing was said. Throws `bad_setting`. */
export function readRetentionDays(env: NodeJS.ProcessEnv): number | undefined {
  const text = env.KAOS_RETENTION_DAYS
  if (!text) return undefined
  const days = Number(text)
  if (isRetentionDays(days)) return days
  throw new KaosError('bad_setting', `KAOS_RETENTION_DAYS is "${text}"; ${RETENTION_DAYS}, is needed`)
}

/** On a broker of somebody else's nothing goes unless that was asked for: others may keep theirs longer. */
export function daysKept(days: number | undefined, isOwnBroker: boolean): number {
  return days ?? (isOwnBroker ? RETENTION_LIMITS.daysDefault : 0)
}

export function keepRecords(options: {
  readonly days: number
  readonly settings: BrokerSettings
  readonly namespace: string
  readonly log: Logger
}): Retention {
  const { days, settings, namespace, log } = options
  return startRetention({ settings, inboxPrefix: `_INBOX.${namespace}.user.up`, namespaces: [namespace], days, log })
}
