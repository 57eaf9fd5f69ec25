/** Turns the bytes of OTLP requests into plain objects, by the schema beside this file: what a backend would see. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import protobuf from 'protobufjs'

export const SIGNALS = ['traces', 'metrics', 'logs'] as const
export type Signal = (typeof SIGNALS)[number]

/** Nested values stay nested; bytes are hex. */
export type Value = string | number | boolean | null | readonly Value[] | Values
export interface Values {
  readonly [key: string]: Value
}

/** What every item says of where it comes from. */
export interface Origin {
  /** `service.name` of its resource. */
  readonly service: string
  readonly resource: Values
  readonly scope: string
}

export interface ReceivedSpan extends Origin {
  readonly name: string
  readonly kind: 'unspecified' | 'internal' | 'server' | 'client' | 'producer' | 'consumer'
  readonly traceId: string
  readonly spanId: string
  /** Absent where the trace begins. */
  readonly parentSpanId?: string
  readonly flags: number
  readonly tracestate: string
  readonly startNs: bigint
  readonly endNs: bigint
  readonly status: { readonly code: 'unset' | 'ok' | 'error'; readonly message: string }
  readonly attributes: Values
  readonly events: readonly { readonly name: string; readonly atNs: bigint; readonly attributes: Values }[]
  readonly links: readonly {
    readonly traceId: string
    readonly spanId: string
    readonly flags: number
    readonly attributes: Values
  }[]
}

export interface ReceivedLog extends Origin {
  readonly severity: number
  readonly severityText: string
  readonly body: Value
  readonly attributes: Values
  readonly traceId?: string
  readonly spanId?: string
  readonly flags: number
  readonly timeNs: bigint
  readonly observedNs: bigint
  readonly eventName: string
}

export interface ReceivedMetric extends Origin {
  readonly name: string
  readonly unit: string
  readonly description: string
  readonly kind: 'gauge' | 'sum' | 'histogram' | 'other'
  /** Of sums and histograms. */
  readonly temporality?: 'unspecified' | 'delta' | 'cumulative'
  readonly isMonotonic?: boolean
  readonly points: readonly MetricPoint[]
}

export interface MetricPoint {
  readonly attributes: Values
  /** Of gauges and sums. */
  readonly value?: number
  /** The rest: of histograms. */
  readonly count?: number
  readonly sum?: number
  readonly min?: number
  readonly max?: number
  readonly bucketCounts?: readonly number[]
  readonly bounds?: readonly number[]
  readonly exemplars: readonly Exemplar[]
}

export interface Exemplar {
  readonly value: number
  readonly traceId: string
  readonly spanId: string
  readonly attributes: Values
}

const KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'] as const
const STATUSES = ['unset', 'ok', 'error'] as const
const TEMPORALITIES = ['unspecified', 'delta', 'cumulative'] as const

const { root } = protobuf.parse(readFileSync(join(import.meta.dirname, 'otlp.proto'), 'utf8'))

export function decodeSpans(body: Buffer): ReceivedSpan[] {
  return items<WireSpan>('Traces', body).map(({ origin, item }) => ({
    ...origin,
    name: item.name,
    kind: KINDS[item.kind]!,
    traceId: hex(item.traceId),
    spanId: hex(item.spanId),
    ...(item.parentSpanId.length > 0 && { parentSpanId: hex(item.parentSpanId) }),
    flags: item.flags,
    tracestate: item.traceState,
    startNs: BigInt(item.startTimeUnixNano),
    endNs: BigInt(item.endTimeUnixNano),
    status: { code: STATUSES[item.status?.code ?? 0]!, message: item.status?.message ?? '' },
    attributes: plainValues(item.attributes),
    events: item.events.map((event) => ({
      name: event.name,
      atNs: BigInt(event.timeUnixNano),
      attributes: plainValues(event.attributes),
    })),
    links: item.links.map((link) => ({
      traceId: hex(link.traceId),
      spanId: hex(link.spanId),
      flags: link.flags,
      attributes: plainValues(link.attributes),
    })),
  }))
}

export function decodeLogs(body: Buffer): ReceivedLog[] {
  return items<WireLog>('Logs', body).map(({ origin, item }) => ({
    ...origin,
    severity: item.severityNumber,
    severityText: item.severityText,
    body: plainValue(item.body),
    attributes: plainValues(item.attributes),
    ...(item.traceId.length > 0 && { traceId: hex(item.traceId) }),
    ...(item.spanId.length > 0 && { spanId: hex(item.spanId) }),
    flags: item.flags,
    timeNs: BigInt(item.timeUnixNano),
    observedNs: BigInt(item.observedTimeUnixNano),
    eventName: item.eventName,
  }))
}

export function decodeMetrics(body: Buffer): ReceivedMetric[] {
  return items<WireMetric>('Metrics', body).map(({ origin, item }) => {
    const data = item.gauge ?? item.sum ?? item.histogram
    const { temporality } = item.sum ?? item.histogram ?? {}
    return {
      ...origin,
      name: item.name,
      unit: item.unit,
      description: item.description,
      kind: item.gauge ? 'gauge' : item.sum ? 'sum' : item.histogram ? 'histogram' : 'other',
      ...(temporality !== undefined && { temporality: TEMPORALITIES[temporality]! }),
      ...(item.sum && { isMonotonic: item.sum.isMonotonic }),
      points: (data?.points ?? []).map(pointOf),
    }
  })
}

function pointOf(point: WirePoint): MetricPoint {
  const exemplars = point.exemplars.map((exemplar) => ({
    value: Number(exemplar.asInt ?? exemplar.asDouble),
    traceId: hex(exemplar.traceId),
    spanId: hex(exemplar.spanId),
    attributes: plainValues(exemplar.attributes),
  }))
  const attributes = plainValues(point.attributes)
  if (!point.bucketCounts) return { attributes, value: Number(point.asInt ?? point.asDouble), exemplars }
  return {
    attributes,
    count: Number(point.count),
    ...(point.sum !== undefined && { sum: point.sum }),
    ...(point.min !== undefined && { min: point.min }),
    ...(point.max !== undefined && { max: point.max }),
    bucketCounts: point.bucketCounts.map(Number),
    bounds: point.explicitBounds ?? [],
    exemplars,
  }
}

/** All items of a request with where each comes from. */
function items<T>(type: string, body: Buffer): { readonly origin: Origin; readonly item: T }[] {
  const request = root.lookupType(type)
  const { groups } = request.toObject(request.decode(body), { longs: String, defaults: true }) as WireRequest<T>
  return groups.flatMap(({ resource, scopes }) => {
    const attributes = plainValues(resource?.attributes ?? [])
    const service = String(attributes['service.name'] ?? '')
    return scopes.flatMap(({ scope, items }) =>
      items.map((item) => ({ origin: { service, resource: attributes, scope: scope?.name ?? '' }, item })),
    )
  })
}

function plainValues(pairs: readonly WirePair[]): Values {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, plainValue(value)]))
}

function plainValue(value: WireValue | null): Value {
  if (value?.stringValue !== undefined) return value.stringValue
  if (value?.boolValue !== undefined) return value.boolValue
  if (value?.intValue !== undefined) return Number(value.intValue)
  if (value?.doubleValue !== undefined) return value.doubleValue
  if (value?.arrayValue) return value.arrayValue.values.map(plainValue)
  if (value?.kvlistValue) return plainValues(value.kvlistValue.values)
  if (value?.bytesValue) return hex(value.bytesValue)
  return null
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

// What protobufjs makes of the schema: 64-bit numbers as text, absent messages null, absent members of a oneof missing.

interface WireRequest<T> {
  readonly groups: readonly {
    readonly resource: { readonly attributes: readonly WirePair[] } | null
    readonly scopes: readonly { readonly scope: { readonly name: string } | null; readonly items: readonly T[] }[]
  }[]
}

interface WirePair {
  readonly key: string
  readonly value: WireValue | null
}

interface WireValue {
  readonly stringValue?: string
  readonly boolValue?: boolean
  readonly intValue?: string
  readonly doubleValue?: number
  readonly arrayValue?: { readonly values: readonly WireValue[] }
  readonly kvlistValue?: { readonly values: readonly WirePair[] }
  readonly bytesValue?: Uint8Array
}

interface WireSpan {
  readonly traceId: Uint8Array
  readonly spanId: Uint8Array
  readonly traceState: string
  readonly parentSpanId: Uint8Array
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: readonly WirePair[]
  readonly events: readonly { readonly timeUnixNano: string; readonly name: string; readonly attributes: readonly WirePair[] }[]
  readonly links: readonly {
    readonly traceId: Uint8Array
    readonly spanId: Uint8Array
    readonly attributes: readonly WirePair[]
    readonly flags: number
  }[]
  readonly status: { readonly message: string; readonly code: number } | null
  readonly flags: number
}

interface WireLog {
  readonly timeUnixNano: string
  readonly severityNumber: number
  readonly severityText: string
  readonly body: WireValue | null
  readonly attributes: readonly WirePair[]
  readonly flags: number
  readonly traceId: Uint8Array
  readonly spanId: Uint8Array
  readonly observedTimeUnixNano: string
  readonly eventName: string
}

interface WireMetric {
  readonly name: string
  readonly description: string
  readonly unit: string
  readonly gauge?: { readonly points: readonly WirePoint[] }
  readonly sum?: { readonly points: readonly WirePoint[]; readonly temporality: number; readonly isMonotonic: boolean }
  readonly histogram?: { readonly points: readonly WirePoint[]; readonly temporality: number }
}

interface WirePoint {
  readonly attributes: readonly WirePair[]
  readonly asDouble?: number
  readonly asInt?: string
  readonly count?: string
  readonly sum?: number
  readonly min?: number
  readonly max?: number
  readonly bucketCounts?: readonly string[]
  readonly explicitBounds?: readonly number[]
  readonly exemplars: readonly {
    readonly asDouble?: number
    readonly asInt?: string
    readonly spanId: Uint8Array
    readonly traceId: Uint8Array
    readonly attributes: readonly WirePair[]
  }[]
}
