/**
 * The test tools over stdio. LEDGER names a file that gets a line per start and execution. STUBBORN: ignores the end of its input and
 * SIGTERM, and has a child that does so too. SILENT: never answers. NOISY: writes lines that are no messages.
 */
import { spawn } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { createTestServer } from './mcp-test-tools.ts'

const { LEDGER, STUBBORN, SILENT, NOISY } = process.env
const ledger = (line: string) => {
  if (LEDGER) appendFileSync(LEDGER, `${line}\n`)
}

ledger(`start ${process.pid}`)
if (STUBBORN) {
  process.on('SIGTERM', () => ledger('ignored SIGTERM'))
  const child = spawn(process.execPath, ['-e', 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000)'], {
    stdio: 'inherit',
  })
  ledger(`child ${child.pid}`)
  setInterval(() => {}, 1_000)
} else {
  process.stdin.on('end', () => process.exit(0))
}
if (NOISY) {
  process.stdout.write('starting up, please wait\n')
  process.stderr.write('listening with key abcdef-secret-123456\n')
}
if (!SILENT) await createTestServer({ ledger }).connect(new StdioServerTransport())
else process.stdin.resume()
