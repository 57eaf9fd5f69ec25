/** Runtime `calculator`: one tool that evaluates an arithmetic expression. */
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { z } from 'zod'
import { EXPRESSION_LENGTH_MAX, evaluate, FUNCTION_NAMES } from './expression.ts'

export function calculatorServer(): McpServer {
  const server = new McpServer({ name: 'calculator', version: '1' })
  server.registerTool(
    'calculate',
    {
      description: `Evaluates an arithmetic expression with + - * / % ^, parentheses, pi, e and ${FUNCTION_NAMES.join(', ')}.`,
      inputSchema: {
        expression: z.string().min(1).max(EXPRESSION_LENGTH_MAX).describe('For example "(1 + 2) * 3 ^ 2" or "sqrt(2) / 2"'),
      },
      outputSchema: { result: z.number() },
      annotations: { readOnlyHint: true, idempotentHint: true },
    },
    ({ expression }) => {
      const result = evaluate(expression)
      return { content: [{ type: 'text', text: String(result) }], structuredContent: { result } }
    },
  )
  return server
}
