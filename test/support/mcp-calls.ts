/** Short forms for calling tools of a session in tests. */
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ErrorCode } from '../../bus/wire/error-codes.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { JsonObject } from '../../bus/wire/json.ts'
import type { StdioRuntime } from '../../tools/runtimes/stdio.ts'
import type { ToolCall, ToolSession } from '../../tools/session.ts'
import type { ToolResult } from '../../tools/tool-result.ts'

export const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

export function callTool(
  session: ToolSession,
  tool: string,
  args: JsonObject = {},
  more: Partial<ToolCall> = {},
): Promise<ToolResult> {
  return session.call({ tool, arguments: args, timeoutMs: 10_000, idempotencyKey: 'task_0-0', traceparent: TRACEPARENT, ...more })
}

/** The error that a promise rejects with, checked for its code. */
export async function errorOf(work: Promise<unknown>, code: ErrorCode): Promise<KaosError> {
  const error = await work.then(
    () => new Error('it did not reject'),
    (rejected: unknown) => rejected,
  )
  if (error instanceof KaosError && error.code === code) return error
  throw new Error(`expected a rejection with "${code}"`, { cause: error })
}

/** The test server over stdio and the lines that it notes. */
export function stdioServer(env: Readonly<Record<string, string>> = {}): {
  readonly runtime: StdioRuntime
  readonly ledger: () => string[]
} {
  const LEDGER = join(mkdtempSync(join(tmpdir(), 'kaos-mcp-')), 'ledger')
  writeFileSync(LEDGER, '')
  const script = fileURLToPath(new URL('./mcp-stdio-server.ts', import.meta.url))
  return {
    runtime: { runtime: 'stdio', command: process.execPath, args: [script], env: { LEDGER, ...env }, cwd: process.cwd() },
    ledger: () => readFileSync(LEDGER, 'utf8').trim().split('\n'),
  }
}

/** Looks until something holds; the deadline is of the test's patience, not of the product. */
export async function eventually(holds: () => boolean | Promise<boolean>, patienceMs = 10_000): Promise<void> {
  const deadline = performance.now() + patienceMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('it did not come about')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** A process that ended but that nobody asked for its exit code does not count. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !existsSync(`/proc/${pid}/stat`) || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
