/**
 * What `import … from 'kaos-actors'` offers: the words for machines and tools of your own. This folder lists every public name; whatever is not
 * named here may change at any time.
 */
import type { PromiseActorLogic } from 'xstate'
import { toolOf } from '../actors/own/effects.ts'
import { defineTool, type OwnTool, type ToolAnswer, type ToolDefinition, type ToolSchema } from '../tools/own/define.ts'

/** The zod of this package, for the schemas of tools; a zod 4 of your own does as well. */
export { z } from 'zod'
export { delegate, type LocalContext, local, type ModelAnswer, type ModelQuestion, model } from '../actors/own/effects.ts'
export type { Failure } from '../bus/wire/errors.ts'
export type { Json } from '../bus/wire/json.ts'
export type { OwnTool, ToolAnswer, ToolContext, ToolDefinition, ToolSchema } from '../tools/own/define.ts'

/**
 * In a machine: a tool of an MCPServer that the agent's `spec.mcpServers` names, as a source for `setup({ actors })`. `event.output` is what it
 * answered: structured content, or its text. After a crash the tool is run again only if it declares itself idempotent or read-only; else the
 * machine gets the error `indeterminate`.
 */
export function tool<Input, Output>(server: string, name: string): PromiseActorLogic<Output, Input>
/**
 * In a file of its own: a tool, which an MCPServer with `runtime: typescript` serves. `input` is a zod object; the model reads its
 * descriptions, and what does not fit never reaches `run`. `readOnlyHint` and `idempotentHint` say what may be run again after a crash.
 * Throws `tool_module` with the field that is wrong.
 */
export function tool<
  const Input extends ToolSchema,
  Result extends ToolAnswer<Output> | Promise<ToolAnswer<Output>>,
  const Output extends ToolSchema | undefined = undefined,
>(definition: ToolDefinition<Input, Output, Result>): OwnTool<Input['_zod']['output'], Result>
export function tool(what: unknown, name?: string): unknown {
  return typeof what === 'string' ? toolOf(what, name!) : defineTool(what as ToolDefinition<ToolSchema, undefined, unknown>)
}
