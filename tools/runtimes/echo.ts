/** Runtime `echo`: one tool that answers what it was given, for samples and tests. */
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { z } from 'zod'

export function echoServer(): McpServer {
  const server = new McpServer({ name: 'echo', version: '1' })
  server.registerTool(
    'echo',
    {
      description: 'Returns the text that it is given.',
      inputSchema: { text: z.string().describe('The text to return') },
      annotations: { readOnlyHint: true, idempotentHint: true },
    },
    ({ text }) => ({ content: [{ type: 'text', text }] }),
  )
  return server
}
