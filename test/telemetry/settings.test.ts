import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readSettings, TELEMETRY_VARIABLES } from '../../telemetry/settings.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const ENDPOINT = 'http://localhost:4317'

const settingsOf = (env: NodeJS.ProcessEnv) => readSettings(env).settings

describe('whether something is exported', () => {
  it('is off when nothing is set, and says nothing', () => {
    const read = readSettings({})

    expect(read.settings).toMatchObject({ isOn: false, isDisabled: false, isAskedFor: false })
    expect(read).toMatchObject({ warnings: [], notes: [] })
  })

  it.each([
    ['an endpoint', { OTEL_EXPORTER_OTLP_ENDPOINT: ENDPOINT }, true],
    ['an endpoint of one signal', { OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: ENDPOINT }, true],
    ['an endpoint, but disabled', { OTEL_EXPORTER_OTLP_ENDPOINT: ENDPOINT, OTEL_SDK_DISABLED: ' TRUE ' }, false],
    ['a blank endpoint', { OTEL_EXPORTER_OTLP_ENDPOINT: '  ' }, false],
    ['an exporter that needs a place, and none', { OTEL_TRACES_EXPORTER: 'otlp' }, false],
    ['the console', { OTEL_METRICS_EXPORTER: 'console' }, true],
    [
      'an endpoint, and no exporter',
      {
        OTEL_EXPORTER_OTLP_ENDPOINT: ENDPOINT,
        OTEL_TRACES_EXPORTER: 'none',
        OTEL_METRICS_EXPORTER: 'none',
        OTEL_LOGS_EXPORTER: 'none',
      },
      false,
    ],
  ])('with %s is decided', (_what, env, isOn) => {
    expect(settingsOf(env).isOn).toBe(isOn)
  })
})

describe('where telemetry goes', () => {
  const tracesTo = (env: NodeJS.ProcessEnv) => settingsOf(env).signals.traces.destination

  it('is gRPC without a word about it', () => {
    const { settings, notes } = readSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4317/' })

    expect(settings.signals.traces.destination).toEqual({ url: 'http://collector:4317', protocol: 'grpc' })
    expect(notes).toEqual([])
  })

  it('is HTTP at port 4318, which one line says', () => {
    const { settings, notes } = readSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' })

    expect(settings.signals.traces.destination).toEqual({ url: 'http://collector:4318/v1/traces', protocol: 'http/protobuf' })
    expect(settings.signals.logs.destination?.url).toBe('http://collector:4318/v1/logs')
    expect(notes).toEqual([expect.stringContaining('port 4318 of OTEL_EXPORTER_OTLP_ENDPOINT')])
  })

  it.each([
    ['collector:4317', 'http://collector:4317'],
    ['grpc://collector:4317', 'http://collector:4317'],
    ['grpcs://collector:4317', 'https://collector:4317'],
    ['https://collector', 'https://collector'],
    ['collector', 'http://collector:4317'],
    ['[::1]:4317', 'http://[::1]:4317'],
  ])('takes %s', (text, url) => {
    expect(tracesTo({ OTEL_EXPORTER_OTLP_ENDPOINT: text })).toEqual({ url, protocol: 'grpc' })
  })

  it('takes host:port as TLS when OTEL_EXPORTER_OTLP_INSECURE is false', () => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317', OTEL_EXPORTER_OTLP_INSECURE: 'false' }

    expect(tracesTo(env)?.url).toBe('https://collector:4317')
  })

  it('lets one signal go elsewhere in another way, with the whole path as it is given', () => {
    const { signals } = settingsOf({
      OTEL_EXPORTER_OTLP_ENDPOINT: ENDPOINT,
      OTEL_EXPORTER_OTLP_TIMEOUT: '500',
      OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'https://prometheus/otlp/v1/metrics',
      OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: 'http/protobuf',
      OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: '700',
    })

    expect(signals.metrics).toMatchObject({
      destination: { url: 'https://prometheus/otlp/v1/metrics', protocol: 'http/protobuf' },
      timeoutMs: 700,
    })
    expect(signals.traces).toMatchObject({ destination: { url: ENDPOINT, protocol: 'grpc' }, timeoutMs: 500 })
  })

  it('keeps the path of a base address', () => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'https://host/base/', OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' }

    expect(tracesTo(env)?.url).toBe('https://host/base/v1/traces')
  })

  it.each(['htp:/x', 'file:///tmp/x', 'http://', 'http://host:99999'])('refuses "%s" once, with the variable', (text) => {
    const { settings, warnings } = readSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: text })

    expect(settings).toMatchObject({ isOn: false, isAskedFor: true })
    expect(warnings).toEqual([expect.stringMatching(/^OTEL_EXPORTER_OTLP_ENDPOINT is ".+", but takes a URL or host:port/)])
  })
})

describe('a bad value', () => {
  it.each([
    ['OTEL_SDK_DISABLED', 'yes', 'false', 'isDisabled', false],
    ['OTEL_BSP_MAX_QUEUE_SIZE', '-1', '65536', 'spanQueue.itemsMax', 65_536],
    ['OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 'many', '4096', 'spanQueue.batchMax', 4_096],
    ['OTEL_BSP_SCHEDULE_DELAY', '1s', '100', 'spanQueue.delayMs', 100],
    ['OTEL_BLRP_MAX_QUEUE_SIZE', '0', '65536', 'logQueue.itemsMax', 65_536],
    ['OTEL_METRIC_EXPORT_INTERVAL', '0', '60000', 'metricIntervalMs', 60_000],
    ['OTEL_EXPORTER_OTLP_TIMEOUT', '1e3', '10000', 'signals.logs.timeoutMs', 10_000],
    ['OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT', 'x', '128', 'spanLimits.attributeCountLimit', 128],
    ['OTEL_TRACES_SAMPLER', 'sometimes', 'parentbased_always_on', 'sampler.root', 'always_on'],
    ['OTEL_TRACES_SAMPLER_ARG', '1.5', '1', 'sampler.ratio', 1],
    ['OTEL_LOG_LEVEL', 'loud', 'warn', 'sdkLogLevel', 'warn'],
    ['OTEL_PROPAGATORS', 'jaeger', 'tracecontext,baggage', 'isOn', false],
    ['OTEL_TRACES_EXPORTER', 'zipkin', 'otlp', 'signals.traces.isSent', true],
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'http/json', 'http/protobuf', 'signals.traces.protocol', 'http/protobuf'],
    ['OTEL_METRICS_EXPORTER', 'prometheus', 'otlp', 'signals.metrics.isSent', true],
    ['OTEL_INCLUDE_HTTP_CLIENT', '1', 'false', 'hasHttpClient', false],
    ['OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT', 'all', 'false', 'hasContent', false],
    ['OTEL_RESOURCE_ATTRIBUTES', 'a=1,b', 'the rest', 'resource.a', '1'],
  ])('of %s is a warning that names it, its value and what is used', (name, value, used, field, is) => {
    const { settings, warnings } = readSettings({ [name]: value })

    expect(warnings).toEqual([expect.stringContaining(`${name} is "${value}", but takes `)])
    expect(warnings[0]).toMatch(new RegExp(`; used: ${used}$`))
    expect(settings).toHaveProperty(field, is)
  })
})

describe('other settings', () => {
  it.each([
    ['always_on', 'always_on', false],
    ['always_off', 'always_off', false],
    ['traceidratio', 'traceidratio', false],
    ['parentbased_always_on', 'always_on', true],
    ['parentbased_always_off', 'always_off', true],
    ['parentbased_traceidratio', 'traceidratio', true],
  ])('take the sampler %s', (name, root, followsParent) => {
    const env = { OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: '0.25' }

    expect(settingsOf(env).sampler).toEqual({ root, followsParent, ratio: 0.25 })
  })

  it('take the limits of all signals where one has none of its own', () => {
    const { spanLimits, logLimits } = settingsOf({
      OTEL_ATTRIBUTE_COUNT_LIMIT: '10',
      OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT: '100',
      OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT: '20',
      OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT: '200',
      OTEL_SPAN_EVENT_COUNT_LIMIT: '3',
      OTEL_SPAN_LINK_COUNT_LIMIT: '4',
      OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT: '5',
      OTEL_LINK_ATTRIBUTE_COUNT_LIMIT: '6',
    })

    expect(logLimits).toEqual({ attributeCountLimit: 20, attributeValueLengthLimit: 200 })
    expect(spanLimits).toEqual({
      attributeCountLimit: 10,
      attributeValueLengthLimit: 100,
      eventCountLimit: 3,
      linkCountLimit: 4,
      attributePerEventCountLimit: 5,
      attributePerLinkCountLimit: 6,
    })
  })

  it('take queues, and never a batch larger than its queue', () => {
    const { spanQueue, logQueue } = settingsOf({
      OTEL_BSP_MAX_QUEUE_SIZE: '100',
      OTEL_BSP_EXPORT_TIMEOUT: '7000',
      OTEL_BLRP_MAX_EXPORT_BATCH_SIZE: '9',
      OTEL_BLRP_SCHEDULE_DELAY: '5',
      OTEL_BLRP_EXPORT_TIMEOUT: '8000',
    })

    expect(spanQueue).toEqual({ itemsMax: 100, batchMax: 100, delayMs: 100, timeoutMs: 7_000 })
    expect(logQueue).toEqual({ itemsMax: 65_536, batchMax: 9, delayMs: 5, timeoutMs: 8_000 })
  })

  it('let an export of metrics take no longer than the time between two', () => {
    const env = { OTEL_METRIC_EXPORT_INTERVAL: '1000', OTEL_METRIC_EXPORT_TIMEOUT: '5000' }

    expect(settingsOf(env).metricTimeoutMs).toBe(1_000)
  })

  it('take the names of the conventions when they are asked for, among others', () => {
    const env = { OTEL_SEMCONV_STABILITY_OPT_IN: 'http, gen_ai_latest_experimental' }

    expect(settingsOf(env).naming).toBe('gen_ai')
    expect(settingsOf({ OTEL_SEMCONV_STABILITY_OPT_IN: 'http' }).naming).toBe('kaos')
  })

  it.each([
    ['true', true],
    ['SPAN_ONLY', true],
    ['SPAN_AND_EVENT', true],
    ['EVENT_ONLY', false],
    ['NO_CONTENT', false],
    ['false', false],
  ])('let content stand in spans at %s: %s', (value, hasContent) => {
    expect(settingsOf({ OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: value }).hasContent).toBe(hasContent)
  })

  it('take the name of the service from the resource, unless a variable of its own says it', () => {
    const inResource = settingsOf({ OTEL_RESOURCE_ATTRIBUTES: 'service.name=a%20b, team=x' })
    const own = settingsOf({ OTEL_RESOURCE_ATTRIBUTES: 'service.name=a', OTEL_SERVICE_NAME: 'mine' })

    expect(inResource).toMatchObject({ serviceName: 'a b', resource: { team: 'x' } })
    expect(own.serviceName).toBe('mine')
  })
})

describe('the table of variables', () => {
  it('names for each a test that knows it', () => {
    const ofOneSignal = 'OTEL_EXPORTER_OTLP_<SIGNAL>_'
    const own = TELEMETRY_VARIABLES.filter(({ name, test }) => test && !name.startsWith(ofOneSignal))
    const unknown = own.filter(({ name, test }) => !new RegExp(`${name}\\b`).test(readFileSync(join(ROOT, test!), 'utf8')))

    expect(own.length).toBeGreaterThan(35)
    expect(unknown.map(({ name }) => name)).toEqual([])
  })

  it('names each once', () => {
    const names = TELEMETRY_VARIABLES.map(({ name }) => name)

    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([])
  })

  it('is of OpenTelemetry: none has a name of ours where there is a standard one', () => {
    const folders = readdirSync(ROOT, { withFileTypes: true }).filter(
      (entry) => entry.isDirectory() && !entry.name.startsWith('.') && entry.name !== 'node_modules',
    )
    const files = folders.flatMap(({ name }) =>
      readdirSync(join(ROOT, name), { recursive: true, encoding: 'utf8' }).map((file) => join(ROOT, name, file)),
    )
    const forbidden = ['KAOS', 'OTEL', ''].join('_')
    const wrong = files.filter((file) => /\.(ts|js|md|ya?ml|json)$/.test(file) && readFileSync(file, 'utf8').includes(forbidden))

    expect(wrong).toEqual([])
  })
})
