/** What the SDK says of itself goes to the log, never to the console; the same words at most once a minute. */
import type { DiagLogger } from '@opentelemetry/api'
import { LRUCache } from 'lru-cache'
import type { Logger } from '../log.ts'
import { redact } from '../redact.ts'

const INTERVAL_MS = 60_000
const KNOWN_MAX = 100
const CHARS_MAX = 500

export class SdkMessages implements DiagLogger {
  readonly #log: Logger
  readonly #told = new LRUCache<string, true>({ max: KNOWN_MAX, ttl: INTERVAL_MS })

  constructor(log: Logger) {
    this.#log = log
  }

  /** An error of the SDK's costs telemetry, never the work. */
  error = (message: string, ...more: readonly unknown[]) => this.#tell('warn', message, more)
  warn = (message: string, ...more: readonly unknown[]) => this.#tell('warn', message, more)
  info = (message: string, ...more: readonly unknown[]) => this.#tell('info', message, more)
  debug = (message: string, ...more: readonly unknown[]) => this.#tell('debug', message, more)
  verbose = (message: string, ...more: readonly unknown[]) => this.#tell('trace', message, more)

  #tell(level: 'warn' | 'info' | 'debug' | 'trace', message: string, more: readonly unknown[]): void {
    if (!this.#log.isLevelEnabled(level)) return
    const words = [message, ...more].map((part) => (part instanceof Error ? part.message : String(part))).join(' ')
    const text = redact(words).slice(0, CHARS_MAX)
    if (this.#told.has(text)) return
    this.#told.set(text, true)
    this.#log[level]({ says: text }, 'from the OpenTelemetry SDK')
  }
}
