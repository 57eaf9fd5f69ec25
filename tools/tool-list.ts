/** Tool lists: what a server lists, checked and in canonical form. */
import { CATALOG_VERSION, type ToolDescription, type ToolList } from '../bus/wire/catalog.ts'
import { KaosError } from '../bus/wire/errors.ts'
import { canonicalText, isObject, type JsonObject, sha256 } from '../bus/wire/json.ts'
import { MCP_LIMITS } from './limits.ts'

/** The catalog record of a server. Its hash does not depend on the order in which the server lists. Throws `payload_too_large`. */
export function toolListOf(server: string, tools: readonly ToolDescription[]): ToolList {
  const sorted = tools.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  const text = canonicalText(sorted)
  if (Buffer.byteLength(text) > MCP_LIMITS.toolListBytesMax) {
    throw new KaosError(
      'payload_too_large',
      `the tool list of server "${server}" has ${Buffer.byteLength(text)} bytes; at most ${MCP_LIMITS.toolListBytesMax} are allowed`,
    )
  }
  return { v: CATALOG_VERSION, kind: 'tool', server, hash: sha256(text), tools: sorted }
}

/**
 * Reads one listed tool. One that cannot be offered gives the reason instead, so that it does not take the others with it (the SDK refuses a
 * whole list for one bad schema).
 */
export function describeTool(listed: unknown): ToolDescription | string {
  if (!isObject(listed)) return 'it is no object'
  const { name, description, inputSchema = { type: 'object', properties: {} }, outputSchema, annotations, execution } = listed
  if (typeof name !== 'string' || !isToolName(name)) return 'its name is empty, too long or has control characters'
  if (!isObject(inputSchema) || inputSchema.type !== 'object') return 'its input schema does not describe an object'
  if (isObject(execution) && execution.taskSupport === 'required') return 'it runs only as an MCP task, which is not supported'
  const hints = isObject(annotations) ? annotations : {}
  return {
    name,
    description: typeof description === 'string' ? description : '',
    inputSchema: inputSchema as JsonObject,
    ...(isObject(outputSchema) ? { outputSchema: outputSchema as JsonObject } : {}),
    readOnlyHint: hints.readOnlyHint === true,
    idempotentHint: hints.idempotentHint === true,
    ...(typeof hints.destructiveHint === 'boolean' ? { destructiveHint: hints.destructiveHint } : {}),
  }
}

function isToolName(name: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  return name.length > 0 && name.length <= MCP_LIMITS.toolNameLengthMax && !/[\u0000-\u001f\u007f]/.test(name)
}
