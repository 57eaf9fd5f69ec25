/** Loads a file with tools of the user's own: imports it and collects what it exports. */
import { statSync } from 'node:fs'
import { basename, extname, resolve } from 'node:path'
import { KaosError, messageOf } from '../../bus/wire/errors.ts'
import { extensionMistake, importMistake, importUserModule } from '../../telemetry/user/module.ts'
import { MCP_LIMITS } from '../limits.ts'
import { isOwnTool, isToolName, type OwnTool } from './define.ts'

export interface NamedTool {
  readonly name: string
  readonly tool: OwnTool
}

export interface ToolModule {
  /** Absolute. */
  readonly file: string
  /** At least one; names differ. */
  readonly tools: readonly NamedTool[]
}

/**
 * Imports a `.ts` or `.js` file; a relative path counts from the working directory. A file runs once per process: changes need a restart.
 * Throws `tool_module` with the file and the reason: it is not there, its import throws or takes longer than `timeoutMs` (default 30 s), or
 * it exports no tool, two of one name, or one whose name no client takes.
 */
export async function loadToolModule(
  path: string,
  { timeoutMs = MCP_LIMITS.openMs }: { readonly timeoutMs?: number } = {},
): Promise<ToolModule> {
  const file = resolve(path)
  const refuse = (why: string, cause?: unknown) =>
    new KaosError('tool_module', `could not load tools from "${file}": ${why}`, { cause })
  const misnamed = extensionMistake(file)
  if (misnamed) throw refuse(misnamed)
  if (!statSync(file, { throwIfNoEntry: false })?.isFile()) throw refuse('there is no such file')
  const exported = await importUserModule(file, { tool: basename(file) }, timeoutMs).catch((error: unknown) => {
    throw refuse(reasonOf(error, file), error)
  })
  const tools = collect(exported, basename(file, extname(file)))
  if (tools.length === 0) throw refuse('it exports no tool made with tool({ description, input, run })')
  const names = new Set<string>()
  for (const { name } of tools) {
    if (!isToolName(name))
      throw refuse(`"${name}" is no name for a tool: give the tool a name of letters, digits, "_", "." and "-"`)
    if (names.has(name)) throw refuse(`it exports two tools of the name "${name}"`)
    names.add(name)
  }
  return { file, tools }
}

/** One tool under two exports counts once. Of a CommonJS file the default export holds the others too. */
function collect(exported: object, fileName: string): NamedTool[] {
  const found = new Map<OwnTool, NamedTool>()
  const entries = Object.entries(exported).toSorted(([a], [b]) => Number(b === 'default') - Number(a === 'default'))
  for (const [key, tool] of entries) {
    if (!isOwnTool(tool) || found.has(tool)) continue
    found.set(tool, { name: tool.name ?? (key === 'default' ? fileName : key), tool })
  }
  return [...found.values()]
}

function reasonOf(error: unknown, file: string): string {
  // By its name: the file may use another copy of this package.
  if (error instanceof Error && error.name === 'KaosError') return error.message
  return `its import failed: ${importMistake(error, messageOf(error), file)}`
}
