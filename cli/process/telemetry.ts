/** Telemetry of a process: how long its end waits for a receiver, and a command that is one service. Where nothing asks for it no SDK is loaded. */
import type { Logger } from '../../telemetry/log.ts'
import { startTelemetry } from '../../telemetry/start.ts'
import type { ServiceIdentity, ServiceTelemetry } from '../../telemetry/telemetry.ts'

/** The longest that a process that is about to end waits for a collector: 3 s with the half second that open connections may take to end. */
export const FLUSH_MS = 2_500

/**
 * Runs a command whose process is one service. What was recorded meanwhile is exported before this resolves, or the time is over. Rejects with
 * what `work` rejects with.
 */
export async function withTelemetry<T>(
  service: ServiceIdentity,
  log: Logger,
  work: (telemetry: ServiceTelemetry) => Promise<T>,
): Promise<T> {
  const telemetry = await startTelemetry({ processName: service.name, services: [service], env: process.env, log })
  try {
    return await work(telemetry.service(service))
  } finally {
    await telemetry.stop(FLUSH_MS)
  }
}
