/** Reads the standard OpenTelemetry variables, and says what is wrong with them. Knows no SDK: it is read also where telemetry is off. */
import type { Naming } from './names.ts'
import {
  type Destination,
  destinationAt,
  HTTP_PORT,
  type Protocol,
  readEndpoint,
  SIGNALS,
  type Signal,
} from './settings/endpoint.ts'
import { Reading } from './settings/reading.ts'

/** A variable of OpenTelemetry, or one of the two of ours: for the docs, and where defaults stand. */
export interface TelemetryVariable {
  readonly name: string
  /** False: it is known, and does nothing here; `meaning` says what does. */
  readonly honoured: boolean
  /** What counts when it is not set, or blank. */
  readonly default: string
  readonly meaning: string
  /** The test that shows it; none where the SDK's exporter reads it by itself. */
  readonly test?: string
}

const SETTINGS = 'test/telemetry/settings.test.ts'
const EXPORT = 'test/telemetry/export.test.ts'
const SDK = 'test/telemetry/sdk.test.ts'
const LIBRARIES = 'test/telemetry/library-spans.test.ts'

type Row = readonly [name: string, otherwise: string, meaning: string, test?: string | undefined]

const HONOURED: readonly Row[] = [
  ['OTEL_SDK_DISABLED', 'false', 'true: nothing is exported, whatever else is set', SDK],
  ['OTEL_SERVICE_NAME', 'the name of the agent or tool server', 'service.name, where the process has exactly one', SDK],
  ['OTEL_RESOURCE_ATTRIBUTES', 'none', 'attributes of every service of the process: key=value with commas between', SDK],
  ['OTEL_TRACES_EXPORTER', 'otlp', 'otlp, console (to stderr), none; several with commas between', SETTINGS],
  ['OTEL_METRICS_EXPORTER', 'otlp', 'the same for metrics; prometheus counts as otlp, with a warning', SETTINGS],
  ['OTEL_LOGS_EXPORTER', 'otlp', 'the same for logs', SETTINGS],
  ['OTEL_EXPORTER_OTLP_ENDPOINT', 'none: nothing is exported', 'where the receiver listens: URL or host:port', SETTINGS],
  [
    'OTEL_EXPORTER_OTLP_PROTOCOL',
    'grpc; http/protobuf at port 4318',
    'grpc or http/protobuf; http/json counts as the latter',
    SETTINGS,
  ],
  ['OTEL_EXPORTER_OTLP_HEADERS', 'none', 'headers of each export: key=value with commas between, percent-encoded', EXPORT],
  ['OTEL_EXPORTER_OTLP_TIMEOUT', '10000', 'ms that one try of an export may take', SETTINGS],
  ['OTEL_EXPORTER_OTLP_COMPRESSION', 'none', 'gzip or none', EXPORT],
  ['OTEL_EXPORTER_OTLP_CERTIFICATE', 'those of the system', "PEM file that the receiver's certificate is checked with"],
  ['OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE', 'none', 'PEM file of a client certificate; together with the key'],
  ['OTEL_EXPORTER_OTLP_CLIENT_KEY', 'none', 'PEM file of its key'],
  ['OTEL_EXPORTER_OTLP_INSECURE', 'true', 'false: an address without http:// or https:// is spoken to with TLS', SETTINGS],
  ['OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE', 'cumulative', 'cumulative, delta or lowmemory', EXPORT],
  ['OTEL_TRACES_SAMPLER', 'parentbased_always_on', 'always_on, always_off, traceidratio, and each with parentbased_', SDK],
  ['OTEL_TRACES_SAMPLER_ARG', '1', 'share of traces that a sampler with traceidratio keeps, 0 to 1', SDK],
  ['OTEL_PROPAGATORS', 'tracecontext,baggage', 'for spans of libraries; messages always carry W3C trace context', SETTINGS],
  ['OTEL_BSP_MAX_QUEUE_SIZE', '65536', 'finished spans that wait; more are dropped and counted', EXPORT],
  ['OTEL_BSP_MAX_EXPORT_BATCH_SIZE', '4096', 'spans of one export', EXPORT],
  ['OTEL_BSP_SCHEDULE_DELAY', '100', 'ms that a span waits at most before its export begins', EXPORT],
  ['OTEL_BSP_EXPORT_TIMEOUT', '30000', 'ms that an export may take with all its tries; at most 20000 count', SETTINGS],
  ['OTEL_BLRP_MAX_QUEUE_SIZE', '65536', 'log records that wait; more are dropped and counted', SETTINGS],
  ['OTEL_BLRP_MAX_EXPORT_BATCH_SIZE', '4096', 'log records of one export', SETTINGS],
  ['OTEL_BLRP_SCHEDULE_DELAY', '1000', 'ms that a log record waits at most before its export begins', SETTINGS],
  ['OTEL_BLRP_EXPORT_TIMEOUT', '30000', 'as OTEL_BSP_EXPORT_TIMEOUT', SETTINGS],
  ['OTEL_METRIC_EXPORT_INTERVAL', '60000', 'ms between exports of metrics', SDK],
  ['OTEL_METRIC_EXPORT_TIMEOUT', '30000', 'ms that an export of metrics may take; at most the interval', SETTINGS],
  ['OTEL_ATTRIBUTE_COUNT_LIMIT', '128', 'attributes of a span or log record', SETTINGS],
  ['OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT', '32768', 'characters of a text in an attribute; the rest is cut off', SETTINGS],
  ['OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT', 'OTEL_ATTRIBUTE_COUNT_LIMIT', 'attributes of a span', SDK],
  ['OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'characters in an attribute of a span', SDK],
  ['OTEL_SPAN_EVENT_COUNT_LIMIT', '128', 'events of a span', SETTINGS],
  ['OTEL_SPAN_LINK_COUNT_LIMIT', '128', 'links of a span', SETTINGS],
  ['OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT', '128', 'attributes of an event of a span', SETTINGS],
  ['OTEL_LINK_ATTRIBUTE_COUNT_LIMIT', '128', 'attributes of a link of a span', SETTINGS],
  ['OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT', 'OTEL_ATTRIBUTE_COUNT_LIMIT', 'attributes of a log record', SETTINGS],
  ['OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT', 'characters in one of them', SETTINGS],
  ['OTEL_LOG_LEVEL', 'warn', "what of the SDK's own messages is logged: none, error, warn, info, debug, verbose, all", SETTINGS],
  [
    'OTEL_SEMCONV_STABILITY_OPT_IN',
    'names of KAOS',
    'gen_ai_latest_experimental: span and metric names as OpenTelemetry has them',
    SETTINGS,
  ],
  [
    'OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT',
    'false',
    'true: prompts, arguments and results stand in spans',
    SETTINGS,
  ],
  ['OTEL_INCLUDE_HTTP_CLIENT', 'false', 'true: spans of HTTP requests that are sent. Of KAOS', LIBRARIES],
  [
    'OTEL_INCLUDE_HTTP_SERVER',
    'false',
    'true: spans of HTTP requests that come in, but for /health and /ready. Of KAOS',
    LIBRARIES,
  ],
]

const PER_SIGNAL = [
  'ENDPOINT',
  'PROTOCOL',
  'HEADERS',
  'TIMEOUT',
  'COMPRESSION',
  'CERTIFICATE',
  'CLIENT_CERTIFICATE',
  'CLIENT_KEY',
  'INSECURE',
]

const IGNORED: readonly Row[] = [
  ['OTEL_CONFIG_FILE', 'none', 'set the variables above'],
  ['OTEL_NODE_RESOURCE_DETECTORS', 'none', "the resource has host and instance, never the process's arguments"],
  ['OTEL_NODE_ENABLED_INSTRUMENTATIONS', 'none', 'OTEL_INCLUDE_HTTP_CLIENT and OTEL_INCLUDE_HTTP_SERVER'],
  ['OTEL_EXPORTER_PROMETHEUS_HOST', 'none', 'metrics are pushed; a Collector serves them to Prometheus'],
  ['OTEL_EXPORTER_PROMETHEUS_PORT', 'none', 'the same'],
  ['OTEL_METRICS_EXEMPLAR_FILTER', 'none', 'the SDK for JavaScript has no exemplars'],
  ['OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION', 'none', 'the SDK for JavaScript does not read it'],
]

/** Every variable that is read, then those that are known and not honoured. */
export const TELEMETRY_VARIABLES: readonly TelemetryVariable[] = [
  ...HONOURED.map((row) => variable(row, true)),
  ...PER_SIGNAL.map((what) => {
    const meaning = `that of one signal: TRACES, METRICS or LOGS${what === 'ENDPOINT' ? '; for HTTP with its whole path' : ''}`
    const test = HONOURED.find(([name]) => name === `OTEL_EXPORTER_OTLP_${what}`)?.[3]
    return variable([`OTEL_EXPORTER_OTLP_<SIGNAL>_${what}`, `OTEL_EXPORTER_OTLP_${what}`, meaning, test], true)
  }),
  ...IGNORED.map((row) => variable(row, false)),
]

const DEFAULTS = new Map(HONOURED.map(([name, otherwise]) => [name, otherwise]))

const ENDPOINTS = ['', ...SIGNALS.map((signal) => `${signal.toUpperCase()}_`)].map((own) => `OTEL_EXPORTER_OTLP_${own}ENDPOINT`)

const SAMPLERS = ['always_on', 'always_off', 'traceidratio'] as const
const SAMPLER_NAMES = [...SAMPLERS, ...SAMPLERS.map((name) => `parentbased_${name}` as const)]
const LOG_LEVELS = ['none', 'error', 'warn', 'info', 'debug', 'verbose', 'all'] as const

export interface SignalSettings {
  /** Over OTLP, to wherever an environment or a manifest says. */
  readonly isSent: boolean
  /** To stderr. */
  readonly isPrinted: boolean
  /** Where the environment says; undefined: nowhere. */
  readonly destination?: Destination
  /** What a variable says; undefined: as the port has it. */
  readonly protocol?: Protocol
  /** Of one try. */
  readonly timeoutMs: number
}

export interface QueueSettings {
  readonly itemsMax: number
  readonly batchMax: number
  readonly delayMs: number
  /** Of an export with all its tries. */
  readonly timeoutMs: number
}

export interface AttributeLimits {
  readonly attributeCountLimit: number
  readonly attributeValueLengthLimit: number
}

export interface SpanLimits extends AttributeLimits {
  readonly eventCountLimit: number
  readonly linkCountLimit: number
  readonly attributePerEventCountLimit: number
  readonly attributePerLinkCountLimit: number
}

export interface Settings {
  /** The environment names a place that something is exported to. */
  readonly isOn: boolean
  /** An endpoint is named, though perhaps none that can be read. */
  readonly isAskedFor: boolean
  /** Nothing may turn it on. */
  readonly isDisabled: boolean
  readonly serviceName?: string
  readonly resource: { readonly [key: string]: string }
  readonly signals: { readonly [signal in Signal]: SignalSettings }
  readonly sampler: {
    readonly root: (typeof SAMPLERS)[number]
    /** Whether what the caller decided goes before. */
    readonly followsParent: boolean
    readonly ratio: number
  }
  readonly spanQueue: QueueSettings
  readonly logQueue: QueueSettings
  readonly metricIntervalMs: number
  readonly metricTimeoutMs: number
  readonly spanLimits: SpanLimits
  readonly logLimits: AttributeLimits
  readonly sdkLogLevel: (typeof LOG_LEVELS)[number]
  readonly naming: Naming
  readonly hasContent: boolean
  readonly hasHttpClient: boolean
  readonly hasHttpServer: boolean
}

export interface ReadSettings {
  readonly settings: Settings
  /** Values that could not be used, each with what is used instead. */
  readonly warnings: readonly string[]
  /** What was chosen for the user and may surprise. */
  readonly notes: readonly string[]
}

/** Never throws, and reads nothing but its argument. */
export function readSettings(env: NodeJS.ProcessEnv): ReadSettings {
  const reading = new Reading(env, DEFAULTS)
  const notes = new Set<string>()
  const isDisabled = reading.isTrue('OTEL_SDK_DISABLED')
  const signals = {
    traces: readSignal('traces', reading, notes),
    metrics: readSignal('metrics', reading, notes),
    logs: readSignal('logs', reading, notes),
  }
  const { 'service.name': namedAsResource, ...resource } = reading.pairs('OTEL_RESOURCE_ATTRIBUTES')
  const serviceName = reading.text('OTEL_SERVICE_NAME') ?? namedAsResource
  const sampler = reading.choice('OTEL_TRACES_SAMPLER', SAMPLER_NAMES) ?? 'parentbased_always_on'
  reading.list('OTEL_PROPAGATORS', ['tracecontext', 'baggage', 'b3', 'b3multi', 'none']) // NodeSDK takes them from the environment
  const intervalMs = reading.whole('OTEL_METRIC_EXPORT_INTERVAL', 1, 2 ** 31 - 1)
  const settings: Settings = {
    isOn:
      !isDisabled &&
      SIGNALS.some((signal) => signals[signal].isPrinted || (signals[signal].isSent && signals[signal].destination)),
    isAskedFor: !isDisabled && ENDPOINTS.some((name) => reading.text(name) !== undefined),
    isDisabled,
    ...(serviceName && { serviceName }),
    resource,
    signals,
    sampler: {
      root: SAMPLERS.find((name) => sampler.endsWith(name))!,
      followsParent: sampler.startsWith('parentbased_'),
      ratio: reading.ratio('OTEL_TRACES_SAMPLER_ARG'),
    },
    spanQueue: readQueue('OTEL_BSP', reading),
    logQueue: readQueue('OTEL_BLRP', reading),
    metricIntervalMs: intervalMs,
    metricTimeoutMs: Math.min(reading.whole('OTEL_METRIC_EXPORT_TIMEOUT', 1, 2 ** 31 - 1), intervalMs),
    spanLimits: {
      ...readAttributeLimits('OTEL_SPAN', reading),
      eventCountLimit: reading.whole('OTEL_SPAN_EVENT_COUNT_LIMIT', 1),
      linkCountLimit: reading.whole('OTEL_SPAN_LINK_COUNT_LIMIT', 1),
      attributePerEventCountLimit: reading.whole('OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT', 1),
      attributePerLinkCountLimit: reading.whole('OTEL_LINK_ATTRIBUTE_COUNT_LIMIT', 1),
    },
    logLimits: readAttributeLimits('OTEL_LOGRECORD', reading),
    sdkLogLevel: reading.choice('OTEL_LOG_LEVEL', LOG_LEVELS) ?? 'warn',
    naming: reading
      .text('OTEL_SEMCONV_STABILITY_OPT_IN')
      ?.split(/\s*,\s*/)
      .includes('gen_ai_latest_experimental')
      ? 'gen_ai'
      : 'kaos',
    hasContent: readsContent(reading),
    hasHttpClient: reading.isTrue('OTEL_INCLUDE_HTTP_CLIENT'),
    hasHttpServer: reading.isTrue('OTEL_INCLUDE_HTTP_SERVER'),
  }
  return { settings, warnings: reading.warnings, notes: [...notes] }
}

function readSignal(signal: Signal, reading: Reading, notes: Set<string>): SignalSettings {
  const own = signal.toUpperCase()
  const first = (what: string) => {
    const names = [`OTEL_EXPORTER_OTLP_${own}_${what}`, `OTEL_EXPORTER_OTLP_${what}`]
    return names.find((name) => reading.text(name) !== undefined) ?? names[1]!
  }
  const { isSent, isPrinted } = readExporters(`OTEL_${own}_EXPORTER`, signal, reading)
  const spoken = reading.choice(first('PROTOCOL'), ['grpc', 'http/protobuf', 'http/json'])
  if (spoken === 'http/json') reading.warn(first('PROTOCOL'), 'grpc or http/protobuf', 'http/protobuf')
  const protocol = spoken === 'http/json' ? 'http/protobuf' : spoken
  const place = first('ENDPOINT')
  const text = reading.text(place)
  const url = text === undefined ? undefined : readEndpoint(text, reading.text(first('INSECURE'))?.toLowerCase() === 'false')
  if (text !== undefined && !url) reading.warn(place, 'a URL or host:port', 'nothing, so that nothing is exported there')
  if (url?.port === HTTP_PORT && !protocol)
    notes.add(
      `port ${HTTP_PORT} of ${place} is that of OTLP over HTTP: http/protobuf is used, as OTEL_EXPORTER_OTLP_PROTOCOL would say`,
    )
  return {
    isSent,
    isPrinted,
    ...(url && { destination: destinationAt(url, signal, protocol, place.includes(own)) }),
    ...(protocol && { protocol }),
    timeoutMs: reading.whole([`OTEL_EXPORTER_OTLP_${own}_TIMEOUT`, 'OTEL_EXPORTER_OTLP_TIMEOUT'], 1, 2 ** 31 - 1),
  }
}

function readExporters(name: string, signal: Signal, reading: Reading): Pick<SignalSettings, 'isSent' | 'isPrinted'> {
  const allowed = ['otlp', 'console', 'none', ...(signal === 'metrics' ? (['prometheus'] as const) : [])] as const
  const exporters = reading.list(name, allowed) ?? ['otlp']
  if (exporters.includes('prometheus'))
    reading.warn(name, 'otlp, console or none; Prometheus gets its metrics from a Collector', 'otlp')
  const isNone = exporters.includes('none')
  return {
    isSent: !isNone && (exporters.includes('otlp') || exporters.includes('prometheus')),
    isPrinted: !isNone && exporters.includes('console'),
  }
}

function readQueue(prefix: 'OTEL_BSP' | 'OTEL_BLRP', reading: Reading): QueueSettings {
  const itemsMax = reading.whole(`${prefix}_MAX_QUEUE_SIZE`, 1)
  return {
    itemsMax,
    batchMax: Math.min(reading.whole(`${prefix}_MAX_EXPORT_BATCH_SIZE`, 1), itemsMax),
    delayMs: reading.whole(`${prefix}_SCHEDULE_DELAY`, 0, 2 ** 31 - 1),
    timeoutMs: reading.whole(`${prefix}_EXPORT_TIMEOUT`, 1, 2 ** 31 - 1),
  }
}

function readAttributeLimits(prefix: 'OTEL_SPAN' | 'OTEL_LOGRECORD', reading: Reading): AttributeLimits {
  const limit = (what: string) => reading.whole([`${prefix}_ATTRIBUTE_${what}_LIMIT`, `OTEL_ATTRIBUTE_${what}_LIMIT`], 1)
  return { attributeCountLimit: limit('COUNT'), attributeValueLengthLimit: limit('VALUE_LENGTH') }
}

/** `true` is what instrumentations took at first; the names are what those of Python take by now. */
function readsContent(reading: Reading): boolean {
  const name = 'OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT'
  const wanted = reading.choice(name, ['true', 'span_only', 'span_and_event', 'event_only', 'no_content', 'false'])
  return wanted === 'true' || wanted === 'span_only' || wanted === 'span_and_event'
}

function variable([name, otherwise, meaning, test]: Row, honoured: boolean): TelemetryVariable {
  return { name, honoured, default: otherwise, meaning, ...(test && { test }) }
}
