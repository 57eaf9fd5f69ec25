/** What a session knows of the tools of its server: the last list, whether it still holds, and the reading of the next. */
import type { ToolDescription } from '../bus/wire/catalog.ts'
import { isObject } from '../bus/wire/json.ts'
import type { Logger } from '../telemetry/log.ts'
import { type Connection, serverError } from './connection.ts'
import { MCP_LIMITS } from './limits.ts'
import { OutputCheck } from './output-check.ts'
import { describeTool } from './tool-list.ts'

export interface KnownTools {
  readonly tools: ReadonlyMap<string, ToolDescription>
  readonly outputs: OutputCheck
  /** Time of `performance.now()`. */
  readonly readAt: number
}

interface Source {
  readonly connection: Connection
  /** How often the list had changed when it was asked for. */
  readonly version: number
}

export class Listing {
  private readonly server: string
  private readonly log: Logger
  private readonly timeoutMs: number
  private version = 0
  private last: (Source & KnownTools) | undefined
  private reading: (Source & { readonly result: Promise<KnownTools> }) | undefined

  constructor(server: string, log: Logger, timeoutMs: number) {
    this.server = server
    this.log = log
    this.timeoutMs = timeoutMs
  }

  /** The list changed, or may have. */
  outdate(): void {
    this.version++
  }

  /** The last list, if it is this connection's and has not changed since. */
  current(connection: Connection): KnownTools | undefined {
    return this.last && this.isUpToDate(this.last, connection) ? this.last : undefined
  }

  /** Reads all pages; callers at the same time share one reading. Rejects as `Connection.request`. */
  read(connection: Connection): Promise<KnownTools> {
    if (this.reading && this.isUpToDate(this.reading, connection)) return this.reading.result
    const { version } = this
    const reading = { connection, version, result: this.readPages({ connection, version }) }
    this.reading = reading
    const done = () => {
      if (this.reading === reading) this.reading = undefined
    }
    reading.result.then(done, done)
    return reading.result
  }

  private isUpToDate(source: Source, connection: Connection): boolean {
    return source.connection === connection && source.version === this.version
  }

  private async readPages(source: Source): Promise<KnownTools> {
    const deadline = performance.now() + this.timeoutMs
    const tools = new Map<string, ToolDescription>()
    let cursor: unknown
    for (let page = 0; page === 0 || cursor !== undefined; page++) {
      if (page === MCP_LIMITS.listPagesMax) {
        throw serverError(this.server, 'tool_failed', `lists its tools on more than ${MCP_LIMITS.listPagesMax} pages`, true)
      }
      const timeoutMs = Math.max(1, deadline - performance.now())
      const answer = await source.connection.request('tools/list', cursor === undefined ? {} : { cursor }, { timeoutMs })
      this.take(answer.tools, tools)
      cursor = typeof answer.nextCursor === 'string' ? answer.nextCursor : undefined
    }
    const known = { ...source, tools, outputs: new OutputCheck(this.log), readAt: performance.now() }
    if (source.version === this.version) this.last = known
    return known
  }

  private take(listed: unknown, tools: Map<string, ToolDescription>): void {
    if (!Array.isArray(listed))
      throw serverError(this.server, 'tool_failed', 'answered the list of its tools with something else', true)
    for (const given of listed) {
      const tool = describeTool(given)
      if (typeof tool === 'string') this.leaveOut(given, tool)
      else if (tools.has(tool.name)) this.leaveOut(given, 'another one has its name')
      else tools.set(tool.name, tool)
    }
    if (tools.size > MCP_LIMITS.toolsMax) {
      throw serverError(this.server, 'payload_too_large', `lists more than ${MCP_LIMITS.toolsMax} tools`, true)
    }
  }

  private leaveOut(given: unknown, reason: string): void {
    const name = isObject(given) && typeof given.name === 'string' ? given.name.slice(0, MCP_LIMITS.toolNameLengthMax) : null
    this.log.warn({ server: this.server, tool: name, reason }, 'a tool is not offered')
  }
}
