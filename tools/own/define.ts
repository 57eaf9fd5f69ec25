/**
 * What a tool of the user's own is. Users import this file through the package: it knows neither MCP nor the bus, and what it makes is plain
 * data with a function, which another copy of the package reads as well.
 */
import { z } from 'zod'
import { KaosError } from '../../bus/wire/errors.ts'
import type { JsonObject } from '../../bus/wire/json.ts'
import { checkSpanName } from '../../bus/wire/trace.ts'

/** What a run is given besides its input. */
export interface ToolContext {
  /** The effect's id: the same when the call is repeated after a crash. Hand it on to whatever must not happen twice. */
  readonly idempotencyKey: string
  /** Aborted when nobody waits any more: canceled, out of time, or stopping. Whether the tool heeds it or not, its answer is then dropped. */
  readonly signal: AbortSignal
  /** W3C trace context of the call, for requests of the tool's own. A caller that sent none gets a new trace. */
  readonly traceparent: string
  readonly tracestate?: string
  /**
   * Runs a function as a span of its own below this call, or below the span that it is called in, and returns what the function returns. The span
   * ends when the function does, for a promise when it settles; what is thrown is thrown on. Without telemetry it only runs the function. The
   * name is the same each time, of 1 to 128 characters; else it throws `span_name`.
   *
   * @example
   * const rows = await span('read the orders', () => database.query(orders))
   */
  span<T>(name: string, run: () => T): T
}

/** A zod 4 schema, of whichever copy of zod: their types differ by version, and this is what all have in common. */
export interface ToolSchema {
  readonly _zod: { readonly input: unknown; readonly output: unknown; readonly def: { readonly type: string } }
  safeParseAsync(value: unknown): Promise<Parsed>
}

type Parsed =
  | { readonly success: true; readonly data: unknown }
  | { readonly success: false; readonly error: { readonly issues: readonly SchemaIssue[] } }

export interface SchemaIssue {
  readonly path: readonly PropertyKey[]
  readonly message: string
}

/** What `run` may return: what the output schema takes, else text or anything that JSON holds. */
export type ToolAnswer<Output> = Output extends ToolSchema ? Output['_zod']['input'] : unknown

export interface ToolDefinition<Input extends ToolSchema, Output extends ToolSchema | undefined, Result> {
  /** Default: the name of its export; of a default export, the name of its file. */
  readonly name?: string
  /** A name for people. */
  readonly title?: string
  /** What it does and when to use it. The model reads this. */
  readonly description: string
  /** A zod object. It checks what the model gives before `run` sees it; what is wrong goes back to the model. */
  readonly input: Input
  /** A zod object. It checks what `run` returns, and tells models and clients what to expect. */
  readonly output?: Output
  /** It changes nothing: after a crash it may run again. Default false. */
  readonly readOnlyHint?: boolean
  /** Running it twice with the same input does what running it once does: after a crash it may run again. Default false. */
  readonly idempotentHint?: boolean
  /** It may destroy something. MCP takes true where nothing is said. */
  readonly destructiveHint?: boolean
  /**
   * Does the work. Text goes back as text, an object as a structured result, nothing as null; anything else as its JSON text. What it throws
   * is told to the model as the tool's error. It runs in the process of the host: work that never yields holds up everything else.
   */
  readonly run: (input: Input['_zod']['output'], context: ToolContext) => Result
}

/** Two copies of this package in one process know each other's tools. */
const BRAND = Symbol.for('kaos-actors.tool')

/** A tool as it is exported. `run` may be called as it is in a unit test: it checks nothing then, and makes up what its context lacks. */
export interface OwnTool<Input = unknown, Result = unknown> {
  readonly name?: string
  readonly title?: string
  readonly description: string
  readonly input: ToolSchema
  readonly output?: ToolSchema
  /** JSON Schema of `input` and `output`. */
  readonly inputSchema: JsonObject
  readonly outputSchema?: JsonObject
  /** MCP's annotations. */
  readonly hints: { readonly readOnlyHint?: boolean; readonly idempotentHint?: boolean; readonly destructiveHint?: boolean }
  run(input: Input, context?: Partial<ToolContext>): Result
}

const FIELDS = ['name', 'title', 'description', 'input', 'output', 'readOnlyHint', 'idempotentHint', 'destructiveHint', 'run']
const HINTS = ['readOnlyHint', 'idempotentHint', 'destructiveHint'] as const
/** What every MCP client takes. */
const TOOL_NAME = /^[A-Za-z0-9_.-]{1,128}$/

/** Makes a tool. Export it from a file that an MCPServer with `runtime: typescript` names. Throws `tool_module` with the field that is wrong. */
export function defineTool<
  const Input extends ToolSchema,
  Result extends ToolAnswer<Output> | Promise<ToolAnswer<Output>>,
  const Output extends ToolSchema | undefined = undefined,
>(definition: ToolDefinition<Input, Output, Result>): OwnTool<Input['_zod']['output'], Result> {
  if (typeof definition !== 'object' || definition === null) throw mistake(undefined, 'expected { description, input, run }')
  const { name, title, description, input, output, run } = definition
  // A misspelt hint would decide what a crash repeats.
  const unknown = Object.keys(definition).find((field) => !FIELDS.includes(field))
  if (unknown !== undefined) throw mistake(name, `there is no field "${unknown}"; there are: ${FIELDS.join(', ')}`)
  if (name !== undefined && !isToolName(name))
    throw mistake(undefined, `name ${JSON.stringify(name)} is not of 1 to 128 letters, digits, "_", "." and "-"`)
  if (title !== undefined && typeof title !== 'string') throw mistake(name, 'title is no text')
  if (typeof description !== 'string' || description.trim() === '')
    throw mistake(name, 'description is missing: the model reads it to know what the tool does')
  if (typeof run !== 'function') throw mistake(name, 'run is no function (input, context) => result')
  const hints: { [hint: string]: boolean } = {}
  for (const hint of HINTS) {
    const given: unknown = definition[hint]
    if (given !== undefined && typeof given !== 'boolean') throw mistake(name, `${hint} is neither true nor false`)
    if (given !== undefined) hints[hint] = given
  }
  const tool = {
    ...(name === undefined ? {} : { name }),
    ...(title === undefined ? {} : { title }),
    description,
    input,
    inputSchema: jsonSchemaOf(name, 'input', input),
    ...(output === undefined ? {} : { output, outputSchema: jsonSchemaOf(name, 'output', output) }),
    hints,
    run: (given: Input['_zod']['output'], context: Partial<ToolContext> = {}) => run(given, completed(context)),
  }
  // Not enumerable, so that a copy by spreading is no tool: its schemas might not be those that it announces.
  return Object.freeze(Object.defineProperty(tool, BRAND, { value: true }))
}

function completed(context: Partial<ToolContext>): ToolContext {
  return {
    idempotencyKey: 'test',
    signal: new AbortController().signal,
    traceparent: '',
    span(name, work) {
      checkSpanName(name)
      return work()
    },
    ...context,
  }
}

export function isOwnTool(value: unknown): value is OwnTool {
  return typeof value === 'object' && value !== null && (value as { [BRAND]?: unknown })[BRAND] === true
}

export function isToolName(name: unknown): name is string {
  return typeof name === 'string' && TOOL_NAME.test(name)
}

function jsonSchemaOf(tool: string | undefined, field: 'input' | 'output', schema: unknown): JsonObject {
  if (!isZod4(schema))
    throw mistake(tool, `${field} is ${nameOf(schema)}, not a zod 4 object such as z.object({ city: z.string() })`)
  // Draft 7, as the MCP SDK announces it: every client and model endpoint reads it.
  const options = { io: field, target: 'draft-7' } as const
  const own = (schema as { toJSONSchema?: (params: typeof options) => unknown }).toJSONSchema
  let made: unknown
  try {
    // Its own copy of zod knows best what it says; those before 4.2 have no such method.
    made = own
      ? own.call(schema, options)
      : z.toJSONSchema(schema as unknown as z.ZodType, { ...options, override: keepDescription })
  } catch (error) {
    throw mistake(
      tool,
      `${field} has a part that JSON Schema cannot say, so no model can be told of it: ${(error as Error).message}`,
    )
  }
  const { $schema: _dialect, ...json } = JSON.parse(JSON.stringify(made)) as { [key: string]: never }
  if ((json as JsonObject).type !== 'object')
    throw mistake(tool, `${field} is a zod "${schema._zod.def.type}", not an object: use z.object({ … })`)
  return json
}

/** A copy of zod before 4.1 keeps descriptions where ours does not look. */
function keepDescription(made: { readonly zodSchema: unknown; readonly jsonSchema: { description?: string | undefined } }): void {
  const { description } = made.zodSchema as { description?: string }
  if (description !== undefined) made.jsonSchema.description ??= description
}

function isZod4(schema: unknown): schema is ToolSchema {
  const { _zod, safeParseAsync } = (schema ?? {}) as Partial<ToolSchema>
  return typeof _zod?.def?.type === 'string' && typeof safeParseAsync === 'function'
}

function nameOf(schema: unknown): string {
  if (schema === undefined) return 'missing'
  if (typeof schema !== 'object' || schema === null) return JSON.stringify(schema) ?? `a ${typeof schema}`
  return '_def' in schema ? 'a schema of zod 3' : 'some other object'
}

function mistake(tool: string | undefined, why: string): KaosError {
  return new KaosError('tool_module', `could not define ${tool === undefined ? 'a tool' : `tool "${tool}"`}: ${why}`)
}
