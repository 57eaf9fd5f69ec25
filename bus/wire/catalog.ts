/**
 * Catalog records: what agents and tool servers announce of themselves, and the names under which an agent's tools are offered to its
 * model. How the records are stored and read is bus/catalog.ts.
 */
import { z } from 'zod'
import { KaosError } from './errors.ts'
import { isObject, type JsonObject, sha256 } from './json.ts'

export const CATALOG_VERSION = 1

/** A tool as its server describes it. The hints decide what a crash may repeat. */
export interface ToolDescription {
  readonly name: string
  readonly description: string
  /** JSON Schema of the arguments. */
  readonly inputSchema: JsonObject
  /** JSON Schema of a structured result. */
  readonly outputSchema?: JsonObject
  readonly readOnlyHint: boolean
  readonly idempotentHint: boolean
  readonly destructiveHint?: boolean
}

export interface ToolList {
  readonly v: typeof CATALOG_VERSION
  readonly kind: 'tool'
  readonly server: string
  /** Of `tools`; an entry records the hash of the list that it used. */
  readonly hash: string
  readonly tools: readonly ToolDescription[]
}

export interface AgentCard {
  readonly v: typeof CATALOG_VERSION
  readonly kind: 'agent'
  readonly name: string
  readonly description: string
  readonly skills?: readonly { readonly name: string; readonly description: string }[]
}

export interface ServerTools {
  readonly server: string
  readonly tools: readonly ToolDescription[]
}

export interface OfferedTool {
  /** What the model calls it. */
  readonly name: string
  readonly server: string
  /** What its server calls it. */
  readonly tool: string
  readonly description: string
  readonly inputSchema: JsonObject
  readonly readOnlyHint: boolean
  readonly idempotentHint: boolean
}

const jsonObject = z.custom<JsonObject>(isObject, 'expected an object').meta({ type: 'object' })
const version = z.literal(CATALOG_VERSION)
const toolShape = z.object({
  name: z.string().min(1),
  description: z.string(),
  inputSchema: jsonObject.describe('JSON Schema of the arguments.'),
  outputSchema: jsonObject.exactOptional().describe('JSON Schema of a structured result.'),
  readOnlyHint: z.boolean().describe('It changes nothing: a crash may repeat it.'),
  idempotentHint: z.boolean().describe('Again is the same as once: a crash may repeat it.'),
  destructiveHint: z.boolean().exactOptional(),
})
const toolListShape = z.object({
  v: version,
  kind: z.literal('tool'),
  server: z.string().min(1),
  hash: z.string().min(1).describe('Of the tools; an entry records the hash of the list that it used.'),
  tools: z.array(toolShape),
})
const agentCardShape = z.object({
  v: version,
  kind: z.literal('agent'),
  name: z.string().min(1),
  description: z.string().describe('What it is good for; peers choose by it.'),
  skills: z.array(z.object({ name: z.string().min(1), description: z.string() })).exactOptional(),
})

/** The schemas by record, for the published JSON Schema. */
export const catalogShapes = { agent: agentCardShape, tool: toolListShape } as const

/** Unknown fields are left out. Throws `unsupported_version` for a higher version and `bad_message` with the field otherwise. */
export function parseToolList(value: unknown): ToolList {
  return parse('tool list', toolListShape, value)
}

/** As `parseToolList`. */
export function parseAgentCard(value: unknown): AgentCard {
  return parse('agent card', agentCardShape, value)
}

/** What model endpoints take as the name of a function. */
const OFFERED_NAME = /^[a-zA-Z0-9_-]{1,64}$/
const OFFERED_NAME_LENGTH_MAX = 64

/**
 * Names the tools of an agent for its model; `servers` in the order of `spec.mcpServers`. The rule: of several tools with one name the
 * first server's keeps it, the later ones are offered as `<server>_<tool>`. A name that models do not take has its other characters
 * replaced by `_`, and loses to one that was written so. What still collides, or is too long, ends in a short hash of server and tool.
 * The same servers always give the same names. `taken` are names that no tool may have, such as those of delegations.
 */
export function offerTools(servers: readonly ServerTools[], taken: Iterable<string> = []): readonly OfferedTool[] {
  const all = servers.flatMap(({ server, tools }) => tools.map((tool) => ({ server, tool })))
  const used = new Set(taken)
  const names = all.map(({ tool }) => (OFFERED_NAME.test(tool.name) && claim(used, tool.name) ? tool.name : undefined))

  return all.map(({ server, tool }, i) => ({
    name: names[i] ?? otherName(used, server, tool.name),
    server,
    tool: tool.name,
    description: tool.description,
    inputSchema: tool.inputSchema,
    readOnlyHint: tool.readOnlyHint,
    idempotentHint: tool.idempotentHint,
  }))
}

function otherName(used: Set<string>, server: string, tool: string): string {
  for (const wish of [tool, `${server}_${tool}`].map((name) => name.replace(/[^a-zA-Z0-9_-]/g, '_'))) {
    if (OFFERED_NAME.test(wish) && claim(used, wish)) return wish
  }
  for (let salt = 0; ; salt++) {
    const ending = `_${sha256(`${server}\n${tool}\n${salt}`).slice(0, 8)}`
    const start = `${server}_${tool}`.replace(/[^a-zA-Z0-9_-]/g, '_').slice(0, OFFERED_NAME_LENGTH_MAX - ending.length)
    if (claim(used, start + ending)) return start + ending
  }
}

function claim(used: Set<string>, name: string): boolean {
  if (used.has(name)) return false
  used.add(name)
  return true
}

function parse<T>(what: string, shape: z.ZodType<T>, value: unknown): T {
  const given = isObject(value) ? value.v : undefined
  if (typeof given === 'number' && given > CATALOG_VERSION) {
    throw new KaosError('unsupported_version', `the ${what} has version ${given}; this program reads up to ${CATALOG_VERSION}`)
  }
  const result = shape.safeParse(value)
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw new KaosError('bad_message', `the ${what} cannot be read: field "${issue?.path.join('.') || 'body'}": ${issue?.message}`)
}
