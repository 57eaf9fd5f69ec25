/** Telemetry settings: the same for all kinds, and what only an agent has. */
import { z } from 'zod'
import { text, urlCharsMax } from '../bounds.ts'

const HOST = String.raw`(?:[^\s/?#@:[\]]+|\[[\da-fA-F:.]+\])`
/** Credentials have no place here: manifests are read by many, and OTEL_EXPORTER_OTLP_HEADERS carries them. */
const ENDPOINT = new RegExp(String.raw`^(?:(?:https?|grpcs?)://${HOST}(?::\d{1,5})?(?:/\S*)?|${HOST}:\d{1,5})$`)

export const telemetrySchema = z.strictObject({
  enabled: z
    .boolean()
    .optional()
    .describe(
      'Whether traces, metrics and correlated logs are exported. Unset: as set for the whole installation, which is off by default.',
    ),
  endpoint: text(urlCharsMax)
    .regex(ENDPOINT, {
      error: 'host:port, or a URL that begins with http://, https:// or grpc://, without user and password',
    })
    .optional()
    .describe('Where the OTLP receiver listens, as URL or host:port. Unset: as set for the whole installation.'),
})

/** When the span of a task is written that has to wait. */
export const agentTelemetrySchema = telemetrySchema.extend({
  traceBoundary: z
    .enum(['task', 'activation'])
    .default('task')
    .describe(
      'When the span of a task ends: with the task (task), or with the first mail that it works on, and each later one is a span "agent.activate" below it (activation). A span is exported when it ends, so choose activation for tasks that wait for days: a backend then shows the tree meanwhile. Default "task".',
    ),
})

export type TraceBoundary = z.output<typeof agentTelemetrySchema>['traceBoundary']
