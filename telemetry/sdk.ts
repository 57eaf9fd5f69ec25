/**
 * The one owner of the OpenTelemetry SDK: a service for each agent and tool server of the process, exporters that they share, and what is global.
 * Loaded only where telemetry is on.
 */
import { context, DiagLogLevel, diag, logs, metrics, ProxyTracerProvider, propagation, trace } from '@opentelemetry/api'
import { NodeSDK } from '@opentelemetry/sdk-node'
import { Losses } from './export/losses.ts'
import { Outlets } from './export/outlets.ts'
import { SdkMessages } from './export/sdk-messages.ts'
import type { Logger } from './log.ts'
import { KEYS } from './names.ts'
import { libraryTracerProvider } from './recording/library-spans.ts'
import { createResource } from './recording/resource.ts'
import { Sampling } from './recording/sampling.ts'
import { SdkService } from './recording/service.ts'
import { type Destination, destinationAt, readEndpoint, SIGNALS, type Signal } from './settings/endpoint.ts'
import type { Settings } from './settings.ts'
import { type LogLine, noService, type ServiceIdentity, type ServiceTelemetry, type Telemetry } from './telemetry.ts'

export interface SdkOptions {
  readonly settings: Settings
  readonly processName: string
  readonly services: readonly ServiceIdentity[]
  readonly log: Logger
  readonly onStopped: () => void
}

/** The share of the time of an end that spans and log records get; metrics, which count what was lost of them, get the rest. */
const SPANS_SHARE = 2 / 3

/** Of a process that exports no spans. */
const NO_TRACERS = new ProxyTracerProvider()

export async function startSdk(options: SdkOptions): Promise<Telemetry> {
  const sdk = new Sdk(options)
  await sdk.startHttp()
  return sdk
}

class Sdk implements Telemetry {
  readonly isOn = true
  readonly #options: SdkOptions
  readonly #losses: Losses
  readonly #outlets: Outlets
  readonly #sampling: Sampling
  /** By kind, namespace and name; undefined for those that export nothing. */
  readonly #services = new Map<string, SdkService | undefined>()
  readonly #process: SdkService
  readonly #node: NodeSDK
  #endHttp: () => void = () => {}
  #stopped: Promise<void> | undefined

  constructor(options: SdkOptions) {
    const { settings, services, log, processName } = options
    this.#options = options
    this.#losses = new Losses(log, (signal, reason, items) =>
      this.#process.count('dropped', items, { [KEYS.lossSignal]: signal, [KEYS.lossReason]: reason }),
    )
    this.#outlets = new Outlets(settings, this.#losses, log)
    this.#sampling = new Sampling(settings.sampler)
    for (const identity of services) this.service(identity)
    const only = services.length === 1 ? this.#services.get(keyOf(services[0]!)) : undefined
    this.#process = only ?? this.#create(processName, undefined)!
    this.#node = withoutConsole(
      () => new NodeSDK({ autoDetectResources: false, spanProcessors: [], metricReaders: [], logRecordProcessors: [] }),
    )
    this.#becomeGlobal()
  }

  service(identity: ServiceIdentity): ServiceTelemetry {
    const key = keyOf(identity)
    if (!this.#services.has(key))
      this.#services.set(key, identity.enabled === false ? undefined : this.#create(this.#nameOf(identity), identity))
    return this.#services.get(key) ?? noService
  }

  log(line: LogLine): void {
    this.#serviceOf(line)?.log(line)
  }

  async flush(timeoutMs: number): Promise<void> {
    await atMost(timeoutMs, async () => {
      await Promise.all([this.#outlets.flush(), ...this.#all().map((service) => service.flushMetrics())])
    })
  }

  stop(timeoutMs: number): Promise<void> {
    this.#stopped ??= this.#stop(timeoutMs)
    return this.#stopped
  }

  async startHttp(): Promise<void> {
    const { hasHttpClient, hasHttpServer } = this.#options.settings
    if (!hasHttpClient && !hasHttpServer) return
    const { startHttpSpans } = await import('./recording/http-spans.ts')
    const meters = this.#process.meterProvider
    this.#endHttp = startHttpSpans({ client: hasHttpClient, server: hasHttpServer, tracers: trace.getTracerProvider(), meters })
  }

  async #stop(timeoutMs: number): Promise<void> {
    const until = performance.now() + timeoutMs
    this.#endHttp()
    this.#outlets.leave()
    await atMost(timeoutMs * SPANS_SHARE, () => this.#outlets.flush())
    await atMost(until - performance.now(), async () => {
      await Promise.all(this.#all().map((service) => service.stopMetrics()))
    })
    await this.#outlets.close()
    this.#losses.tell()
    await atMost(0, () => this.#node.shutdown())
    for (const api of [trace, metrics, logs, propagation, context, diag]) api.disable()
    this.#options.onStopped()
  }

  #becomeGlobal(): void {
    const { settings, log } = this.#options
    if (settings.sdkLogLevel === 'none') diag.disable()
    else
      diag.setLogger(new SdkMessages(log), {
        logLevel: DiagLogLevel[settings.sdkLogLevel.toUpperCase() as keyof typeof DiagLogLevel],
        suppressOverrideMessage: true,
      })
    trace.setGlobalTracerProvider(
      libraryTracerProvider((name, version) => this.#process.tracer(name, version) ?? NO_TRACERS.getTracer(name)),
    )
    if (this.#process.meterProvider) metrics.setGlobalMeterProvider(this.#process.meterProvider)
    this.#node.start()
  }

  /** Undefined when nothing is exported: there is no place for it, or the one that is declared cannot be read. */
  #create(name: string, identity: ServiceIdentity | undefined): SdkService | undefined {
    const { settings, log } = this.#options
    const { endpoint, namespace } = identity ?? {}
    const url = endpoint === undefined ? undefined : readEndpoint(endpoint)
    if (endpoint !== undefined && !url) {
      log.warn({ service: name, endpoint }, 'telemetry.endpoint is neither a URL nor host:port, nothing is exported for it')
      return undefined
    }
    const destinations: { [signal in Signal]?: Destination } = {}
    for (const signal of SIGNALS) {
      const { isSent, destination, protocol } = settings.signals[signal]
      const to = url ? destinationAt(url, signal, protocol) : destination
      if (isSent && to) destinations[signal] = to
    }
    const isPrinted = SIGNALS.some((signal) => settings.signals[signal].isPrinted)
    if (identity && !isPrinted && Object.keys(destinations).length === 0) return undefined
    const resource = createResource(name, namespace, settings.resource)
    return new SdkService({
      resource,
      settings,
      sampling: this.#sampling,
      outlets: this.#outlets,
      losses: this.#losses,
      destinations,
    })
  }

  /** OTEL_SERVICE_NAME means one service: where there are several, each keeps its own name. */
  #nameOf(identity: ServiceIdentity): string {
    const { services, settings } = this.#options
    const isOnly = services.length === 1 && keyOf(services[0]!) === keyOf(identity)
    return (isOnly && settings.serviceName) || identity.name
  }

  #serviceOf({ agent, server }: LogLine): SdkService | undefined {
    for (const [kind, name] of [
      ['agent', agent],
      ['tool-server', server],
    ] as const) {
      if (typeof name !== 'string') continue
      for (const [key, service] of this.#services) if (key.startsWith(`${kind} ${name} `)) return service
    }
    return this.#process
  }

  #all(): readonly SdkService[] {
    return [...new Set([...this.#services.values(), this.#process])].filter((service) => service !== undefined)
  }
}

function keyOf({ kind, name, namespace }: ServiceIdentity): string {
  return `${kind} ${name} ${namespace}`
}

/** Where OTEL_LOG_LEVEL is set the SDK prints what it says of itself to stdout, which is the command's answer; it goes to the log. */
function withoutConsole<T>(make: () => T): T {
  const { OTEL_LOG_LEVEL } = process.env
  delete process.env.OTEL_LOG_LEVEL
  try {
    return make()
  } finally {
    if (OTEL_LOG_LEVEL !== undefined) process.env.OTEL_LOG_LEVEL = OTEL_LOG_LEVEL
  }
}

/** Waits for work at most so long; never rejects. */
async function atMost(ms: number, work: () => Promise<void>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, Math.max(0, ms))
  await Promise.race([work().catch(() => undefined), late]) // What did not arrive is counted where it was to be sent.
  clearTimeout(timer)
}
