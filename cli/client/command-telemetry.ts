/** Telemetry of a process that is one service: started for its command, exported before it ends. Where nothing asks for it no SDK is loaded. */
import type { Logger } from '../../telemetry/log.ts'
import { startTelemetry } from '../../telemetry/start.ts'
import type { ServiceIdentity, ServiceTelemetry } from '../../telemetry/telemetry.ts'
import { FLUSH_MS } from '../running/telemetry.ts'

/** Who sends tasks, as a backend knows it where OTEL_SERVICE_NAME does not say it. */
export function clientService(namespace: string): ServiceIdentity {
  return { name: 'kaos-cli', namespace, kind: 'client' }
}

/** What was recorded meanwhile is exported before this resolves, or the time is over. Rejects with what `work` rejects with. */
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
