/**
 * Runtime `stdio`: an MCP server that is a child process. The SDK has such a transport; this one differs in that a too large answer costs
 * only its own call instead of the process with all its calls, that the whole process group ends (npx starts a chain of three), and that it
 * hands the child nothing but a safe environment.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { deserializeMessage, serializeMessage } from '@modelcontextprotocol/sdk/shared/stdio.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { ErrorCode, type JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js'
import type { Logger } from '../../telemetry/log.ts'
import { MCP_LIMITS } from '../limits.ts'
import { type Channel, type ChannelOptions, OVERSIZED } from './channel.ts'
import { conceal } from './conceal.ts'
import { Lines } from './lines.ts'

export interface StdioRuntime {
  readonly runtime: 'stdio'
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Default: the folder of this process. */
  readonly cwd?: string | undefined
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>

/** What a child inherits. Everything else, keys above all, has to be declared for it. */
const INHERITED = [
  ...['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'TERM', 'TMPDIR', 'TZ', 'LANG', 'LC_ALL', 'LC_CTYPE'],
  ...['XDG_CACHE_HOME', 'XDG_CONFIG_HOME', 'XDG_DATA_HOME', 'NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'SSL_CERT_DIR'],
]

/** After the exit of a child, how long its last output may take to arrive. */
const LAST_OUTPUT_MS = 300

export function openStdio(runtime: StdioRuntime, options: ChannelOptions): Channel {
  const transport = new StdioTransport(runtime, options)
  return {
    transport,
    secrets: Object.values(runtime.env),
    lastWords: () => transport.said,
    judge: (error) => ({
      sent: !(error instanceof UnsentError),
      message: error instanceof Error ? error.message : String(error),
    }),
    end: () => transport.close(),
  }
}

function childEnvironment(from: NodeJS.ProcessEnv, declared: Readonly<Record<string, string>>): Record<string, string> {
  const inherited = INHERITED.flatMap((name) => (from[name] === undefined ? [] : [[name, from[name]] as const]))
  return { ...Object.fromEntries(inherited), ...declared }
}

/** Thrown before anything is written. */
class UnsentError extends Error {}

class StdioTransport implements Transport {
  onclose?: () => void
  onerror?: (error: Error) => void
  onmessage?: Transport['onmessage']
  /** The end of its stderr, and how it ended. */
  said = ''

  private readonly runtime: StdioRuntime
  private readonly log: Logger
  private readonly env: Record<string, string>
  private readonly exited = Promise.withResolvers<void>()
  private child: Child | undefined
  private isEnded = false

  constructor(runtime: StdioRuntime, options: ChannelOptions) {
    this.runtime = runtime
    this.log = options.log
    this.env = childEnvironment(options.env, runtime.env)
  }

  async start(): Promise<void> {
    const { command, args, cwd } = this.runtime
    // A group of its own, so that all that the command starts can be ended with it; Ctrl-C reaches it only through us.
    const child = spawn(command, args, { env: this.env, cwd, stdio: ['pipe', 'pipe', 'pipe'], detached: true })
    this.child = child
    const spawned = Promise.withResolvers<void>()
    child.once('spawn', spawned.resolve)
    child.on('error', (error) => {
      spawned.reject(new Error(startFailure(error, command, cwd), { cause: error }))
      if (child.pid === undefined) this.ended()
    })
    if (child.pid !== undefined) this.read(child) // else there may be no pipes
    child.once('exit', (code, signal) => {
      this.say(signal ? `ended by ${signal}` : `ended with exit code ${code}`)
      killGroup(child, 'SIGKILL') // what the command started and left behind would keep the pipes open
      setTimeout(() => this.ended(), LAST_OUTPUT_MS).unref()
    })
    child.once('close', () => this.ended())
    await spawned.promise
    if (!this.isEnded) living.add(child)
  }

  async send(message: JSONRPCMessage): Promise<void> {
    if (!this.child || this.isEnded) throw new UnsentError('the server has ended')
    const { stdin } = this.child
    if (stdin.writableLength > MCP_LIMITS.stdinBytesMax) {
      killGroup(this.child, 'SIGKILL')
      throw new UnsentError(`the server does not read its input: ${stdin.writableLength} bytes wait`)
    }
    stdin.write(serializeMessage(message))
  }

  /** End of input, then SIGTERM, then SIGKILL. */
  async close(): Promise<void> {
    const { child } = this
    if (!child || this.isEnded) return
    const steps = [() => child.stdin.end(), () => killGroup(child, 'SIGTERM'), () => killGroup(child, 'SIGKILL')]
    for (const step of steps) {
      step()
      if (await within(MCP_LIMITS.closeStepMs, this.exited.promise)) return
    }
    this.ended()
  }

  private read(child: Child): void {
    const messages = new Lines(MCP_LIMITS.messageBytesMax, {
      onLine: (line) => this.receive(line),
      onOversized: (head, tail) => this.refuse(head, tail),
    })
    const words = new Lines(MCP_LIMITS.stderrLineBytesMax, {
      onLine: (line) => this.say(line),
      onOversized: (head) => this.say(`${head} …`),
    })
    child.stdout.on('data', (chunk: Buffer) => messages.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => words.push(chunk))
    // A broken pipe is only noted: that the server is gone is told by its exit.
    for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.on('error', (error) => this.onerror?.(error))
  }

  private receive(line: string): void {
    if (line.trim() === '') return
    let message: JSONRPCMessage
    try {
      message = deserializeMessage(line)
    } catch {
      this.log.debug(
        { line: conceal(line.slice(0, 500), Object.values(this.runtime.env)) },
        'tool server wrote a line that is no message',
      )
      return
    }
    this.onmessage?.(message)
  }

  /** A line was too large to be kept. Whose answer it was stands at one of its ends, else nobody's call can be told and all are lost. */
  private refuse(head: string, tail: string): void {
    const id =
      /^\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d+)\s*,/.exec(head)?.[1] ?? /"id"\s*:\s*(\d+)\s*\}\s*$/.exec(tail)?.[1]
    if (id !== undefined) {
      const message = `answered more than ${MCP_LIMITS.messageBytesMax} bytes`
      const error = { code: ErrorCode.InternalError, message, data: OVERSIZED }
      this.onmessage?.({ jsonrpc: '2.0', id: Number(id), error })
      return
    }
    this.log.warn({ limitBytes: MCP_LIMITS.messageBytesMax }, 'tool server wrote a message that is too large, and is ended')
    if (this.child) killGroup(this.child, 'SIGKILL')
  }

  private say(line: string): void {
    if (line.trim() === '') return
    this.said = `${this.said}\n${line}`.slice(-MCP_LIMITS.stderrLineBytesMax)
    if (this.log.isLevelEnabled('debug')) {
      this.log.debug({ line: conceal(line, Object.values(this.runtime.env)) }, 'tool server said')
    }
  }

  private ended(): void {
    if (this.isEnded) return
    this.isEnded = true
    const { child } = this
    if (child?.pid !== undefined) {
      living.delete(child)
      for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.destroy()
    }
    this.exited.resolve()
    this.onclose?.()
  }
}

/** Children that would outlive this process when it ends without closing its sessions. */
const living = new Set<Child>()
process.on('exit', () => {
  for (const child of living) killGroup(child, 'SIGKILL')
})

function killGroup(child: Child, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // nobody of the group is left
  }
}

function startFailure(error: Error, command: string, cwd: string | undefined): string {
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ENOENT')
    return `could not start "${command}": no such command${cwd === undefined ? '' : `, or no folder "${cwd}"`}`
  return `could not start "${command}": ${code ?? error.message}`
}

/** True when the promise ended in time. */
async function within(ms: number, promise: Promise<void>): Promise<boolean> {
  const timer = new AbortController()
  try {
    return await Promise.race([promise.then(() => true), delay(ms, false, { signal: timer.signal })])
  } finally {
    timer.abort()
  }
}
