/** The exporters of the SDK, by signal and protocol. Headers, compression and certificates they read from the environment themselves. */
import { OTLPLogExporter as GrpcLogs } from '@opentelemetry/exporter-logs-otlp-grpc'
import { OTLPLogExporter as HttpLogs } from '@opentelemetry/exporter-logs-otlp-proto'
import { OTLPMetricExporter as GrpcMetrics } from '@opentelemetry/exporter-metrics-otlp-grpc'
import { OTLPMetricExporter as HttpMetrics } from '@opentelemetry/exporter-metrics-otlp-proto'
import { OTLPTraceExporter as GrpcTraces } from '@opentelemetry/exporter-trace-otlp-grpc'
import { OTLPTraceExporter as HttpTraces } from '@opentelemetry/exporter-trace-otlp-proto'
import type { LogRecordExporter } from '@opentelemetry/sdk-logs'
import type { PushMetricExporter } from '@opentelemetry/sdk-metrics'
import type { SpanExporter } from '@opentelemetry/sdk-trace'
import { SCOPE } from '../recording/resource.ts'
import type { Destination } from '../settings/endpoint.ts'

export interface Connection {
  readonly to: Destination
  /** Of one try. */
  readonly timeoutMs: number
  /** Counted from 1. Connections of one number share a socket: gRPC tells connections apart by their options alone, here by the user agent. */
  readonly n: number
}

export function createSpanExporter(connection: Connection): SpanExporter {
  return new (connection.to.protocol === 'grpc' ? GrpcTraces : HttpTraces)(options(connection))
}

export function createMetricExporter(connection: Connection): PushMetricExporter {
  return new (connection.to.protocol === 'grpc' ? GrpcMetrics : HttpMetrics)(options(connection))
}

export function createLogExporter(connection: Connection): LogRecordExporter {
  return new (connection.to.protocol === 'grpc' ? GrpcLogs : HttpLogs)(options(connection))
}

function options({ to, timeoutMs, n }: Connection) {
  const userAgent = `${SCOPE.name}/${SCOPE.version}${n === 1 ? '' : ` connection/${n}`}`
  return { url: to.url, timeoutMillis: timeoutMs, userAgent }
}
