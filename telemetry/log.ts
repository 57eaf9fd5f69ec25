/**
 * The log: pino, JSON on a pipe and readable on a terminal, always on stderr so that stdout stays the command's answer. The same lines go to
 * telemetry, where that is on.
 */
import { destination, type Logger, pino } from 'pino'
import { redact } from './redact.ts'
import type { LogLine } from './telemetry.ts'

export type { Logger }

export const LOG_LEVELS = { TRACE: 'trace', DEBUG: 'debug', INFO: 'info', WARNING: 'warn', ERROR: 'error' } as const

let tap: ((line: LogLine) => void) | undefined
let isTelling = false

/**
 * Hands every line that any log of this process writes from now on to `take` as well, redacted. Undefined ends it. Lines that `take` itself
 * causes go to stderr only.
 */
export function tapLogs(take: ((line: LogLine) => void) | undefined): void {
  tap = take
}

/**
 * The level comes from LOG_LEVEL, else AGENT_LOG_LEVEL (TRACE, DEBUG, INFO, WARNING, ERROR; default INFO). Secrets are redacted in the
 * finished line, so that no field or nested error can carry one past.
 */
export async function createLog(
  options: { readonly env?: NodeJS.ProcessEnv; readonly terminal?: boolean } = {},
): Promise<Logger> {
  const env = options.env ?? process.env
  const wanted = (env.LOG_LEVEL || env.AGENT_LOG_LEVEL || 'INFO').toUpperCase()
  const level = wanted in LOG_LEVELS ? LOG_LEVELS[wanted as keyof typeof LOG_LEVELS] : 'info'
  const stream =
    (options.terminal ?? process.stderr.isTTY) ? await prettyStream(!env.NO_COLOR) : destination({ dest: 2, sync: true })
  const log = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: pino.stdSerializers.err },
    },
    {
      write: (line: string) => {
        const clean = redact(line)
        stream.write(clean)
        if (tap && !isTelling) tell(tap, clean)
      },
    },
  )
  if (!(wanted in LOG_LEVELS)) log.warn({ given: wanted, allowed: Object.keys(LOG_LEVELS) }, 'unknown log level, using INFO')
  return log
}

/** For tests and for callers that have nothing to say. */
export function silentLog(): Logger {
  return pino({ level: 'silent' })
}

function tell(take: (line: LogLine) => void, line: string): void {
  isTelling = true
  try {
    take(JSON.parse(line) as LogLine)
  } finally {
    isTelling = false
  }
}

async function prettyStream(colorize: boolean) {
  const { default: pretty } = await import('pino-pretty')
  return pretty({ destination: 2, sync: true, colorize, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l' })
}
