/** The telemetry backend of the bench, a process of its own: takes what comes over OTLP/gRPC and keeps nothing. */
import { listen } from '../../support/otlp/transport.ts'

const { port } = await listen('grpc', 0, async () => 0)
process.on('SIGTERM', () => process.exit(0))
console.log(`http://127.0.0.1:${port}`)
