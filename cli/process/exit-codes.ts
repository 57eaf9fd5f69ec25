/** What the kaos command ends with. Documented in docs/using.md. */

import type { ErrorCode } from '../../bus/wire/error-codes.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { ManifestError } from '../../manifests/problem.ts'

export const EXIT = {
  ok: 0,
  /** The task failed, was rejected or canceled; a replay diverged. */
  failed: 1,
  /** The command line, a manifest or a setting cannot be understood; a replay is inconclusive. */
  usage: 2,
  /** No broker, or none that lets us in. */
  unreachable: 3,
  /** Nothing came in time; the work goes on. */
  timeout: 4,
  notFound: 5,
  interrupted: 130,
} as const

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  usage: EXIT.usage,
  bad_setting: EXIT.usage,
  bad_script: EXIT.usage,
  folder_unusable: EXIT.usage,
  port_taken: EXIT.usage,
  program_missing: EXIT.usage,
  machine_contract: EXIT.usage,
  machine_file: EXIT.usage,
  machine_timer_unsupported: EXIT.usage,
  tool_module: EXIT.usage,
  bad_message: EXIT.usage,
  bad_name: EXIT.usage,
  payload_too_large: EXIT.usage,
  already_running: EXIT.usage,
  broker_unreachable: EXIT.unreachable,
  broker_too_old: EXIT.unreachable,
  broker_not_found: EXIT.unreachable,
  broker_failed: EXIT.unreachable,
  jetstream_disabled: EXIT.unreachable,
  access_denied: EXIT.unreachable,
  cluster_settings: EXIT.usage,
  cluster_unreachable: EXIT.unreachable,
  cluster_denied: EXIT.unreachable,
  unknown_agent: EXIT.notFound,
  unknown_task: EXIT.notFound,
  unknown_trace: EXIT.notFound,
  expired: EXIT.notFound,
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof KaosError) return BY_CODE[error.code] ?? EXIT.failed
  return error instanceof ManifestError ? EXIT.usage : EXIT.failed
}
