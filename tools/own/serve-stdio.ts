/** Serves tools of the user's own over stdio, as any MCP client starts a server. */
import type { Readable } from 'node:stream'
import { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import type { Logger } from '../../telemetry/log.ts'
import { noService, type ServiceTelemetry } from '../../telemetry/telemetry.ts'
import { MCP_LIMITS } from '../limits.ts'
import { ownToolServer } from './mcp-server.ts'
import type { NamedTool } from './module.ts'

export interface StdioServing {
  /** Resolves when the client has closed our input and was answered, at most `MCP_LIMITS.servedLastCallsMs` later. */
  readonly ended: Promise<void>
  /** Aborts what runs. */
  close(): Promise<void>
}

/**
 * Keeps stdout for the protocol: whatever else writes to it, such as `console.log` in a tool, goes to stderr from now on. Call it before the
 * tools are imported.
 */
export function claimStdout(): Writable {
  const write = process.stdout.write.bind(process.stdout)
  process.stdout.write = process.stderr.write.bind(process.stderr) as typeof process.stdout.write
  return new Writable({ write: (chunk: Buffer, _encoding, done) => void write(chunk, (error) => done(error)) })
}

export async function serveOverStdio(options: {
  readonly name: string
  readonly tools: readonly NamedTool[]
  readonly log: Logger
  readonly stdin: Readable
  readonly stdout: Writable
  /** Default: off. */
  readonly telemetry?: ServiceTelemetry
}): Promise<StdioServing> {
  const { stdin, stdout, log, telemetry = noService } = options
  const { server, idle } = ownToolServer(options.name, options.tools, { log, telemetry, served: 'pipe' })
  const lost = Promise.withResolvers<void>()
  stdout.once('error', (error) => {
    log.debug({ reason: error.message }, 'the client reads no more')
    lost.resolve()
  })
  server.onclose = lost.resolve
  server.onerror = (error) => log.debug({ reason: error.message.slice(0, MCP_LIMITS.wordsLengthMax) }, 'MCP protocol error')
  stdin.once('end', () => void lastCalls(idle).then(lost.resolve))
  await server.connect(new StdioServerTransport(stdin, stdout, { maxBufferSize: MCP_LIMITS.messageBytesMax }))
  return { ended: lost.promise, close: () => server.close() }
}

async function lastCalls(idle: () => Promise<void>): Promise<void> {
  const timer = new AbortController()
  await delay(0) // the last message may just have been handed over
  await Promise.race([idle(), delay(MCP_LIMITS.servedLastCallsMs, undefined, { signal: timer.signal }).catch(() => {})])
  timer.abort()
  await delay(0) // the last answer leaves after its tool has ended
}
