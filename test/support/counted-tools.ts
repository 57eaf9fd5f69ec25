/**
 * An MCP server over stdio whose tools count themselves: every execution is a line in the file LEDGER, written before anything else happens.
 * `note` may be repeated, `charge` may not. `ms` in the arguments makes either slow.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js'

/** One line of the ledger. */
export type LedgerLine =
  | { readonly kind: 'start'; readonly pid: number }
  | {
      readonly kind: 'run'
      /** Epoch ms. */
      readonly at: number
      readonly tool: string
      /** The idempotency key that the call carried. */
      readonly effect: string
      /** Of the tool server that made the call. */
      readonly host: number
    }

export const countedTools = fileURLToPath(import.meta.url)

export function readLedger(file: string): LedgerLine[] {
  if (!existsSync(file)) return []
  const lines = readFileSync(file, 'utf8').split('\n')
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as LedgerLine)
}

const inputSchema = {
  type: 'object',
  properties: { text: { type: 'string' }, ms: { type: 'number' } },
  required: ['text'],
}
const tools = [
  { name: 'note', description: 'Writes a text down.', inputSchema, annotations: { idempotentHint: true } },
  { name: 'charge', description: 'Charges an account.', inputSchema, annotations: { destructiveHint: true } },
]

async function serve(ledger: string): Promise<void> {
  const write = (line: LedgerLine) => appendFileSync(ledger, `${JSON.stringify(line)}\n`)
  write({ kind: 'start', pid: process.pid })
  process.stdin.on('end', () => process.exit(0))
  const server = new Server({ name: 'counted', version: '1' }, { capabilities: { tools: {} } })
  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools }) as never)
  server.setRequestHandler(CallToolRequestSchema, async ({ params }) => {
    const { name, arguments: given = {}, _meta: meta = {} } = params
    const effect = String(meta['kaos.tools/idempotency-key'])
    write({ kind: 'run', at: Date.now(), tool: name, effect, host: process.ppid })
    if (given.ms) await delay(Number(given.ms))
    return { content: [{ type: 'text', text: `R(${given.text})` }] }
  })
  await server.connect(new StdioServerTransport())
}

if (process.argv[1] === countedTools) await serve(process.env.LEDGER!)
