/** Telemetry settings, the same for all kinds. */
import { z } from 'zod'

export const telemetrySchema = z.strictObject({
  enabled: z
    .boolean()
    .optional()
    .describe(
      'Whether traces, metrics and correlated logs are exported. Unset: as set for the whole installation, which is off by default.',
    ),
  endpoint: z
    .string()
    .min(1)
    .optional()
    .describe('Where the OTLP gRPC receiver listens, as URL or host:port. Unset: as set for the whole installation.'),
})
