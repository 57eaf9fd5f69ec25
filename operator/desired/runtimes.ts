/** The registry of runtimes of tool servers: the ConfigMap kaos-mcp-runtimes of the operator's namespace, as KAOS has it. */
import { parse } from 'yaml'
import { z } from 'zod'
import { localRuntimes } from '../../manifests/kinds/tool-runtime.ts'
import { isMap } from './pod/merge.ts'

export const REGISTRY_CONFIG_MAP = 'kaos-mcp-runtimes'
export const REGISTRY_KEY = 'runtimes.yaml'

/** Fields of others are passed over: the registry is the user's. */
const runtimeSchema = z.object({
  type: z.string().optional().describe('Language of the image, for people.'),
  image: z.string().min(1).describe('Image that serves MCP over Streamable HTTP on port 8000.'),
  description: z.string().optional().describe('What it does, for people.'),
  command: z
    .array(z.string())
    .default([])
    .describe('Replaces the entry point. A list that begins with "-" is taken for arguments. Default []: as the image has it.'),
  args: z.array(z.string()).default([]).describe('Arguments. Default [].'),
  paramsEnvVar: z.string().min(1).optional().describe('Variable that spec.params is handed over in. Unset: params are not used.'),
  transport: z.literal('http').default('http').describe('How it is spoken to. Default "http", the only one.'),
  path: z.string().startsWith('/').default('/mcp').describe('Path of the endpoint. Default "/mcp".'),
  requiredEnv: z.array(z.string()).default([]).describe('Variables that spec.container.env has to set. Default [].'),
})

export type RuntimeEntry = Readonly<z.output<typeof runtimeSchema>>

export interface Registry {
  /** By name. An entry that cannot be read is a sentence that says why: it concerns only who uses it. */
  readonly entries: ReadonlyMap<string, RuntimeEntry | { readonly problem: string }>
  /** Why there are none. */
  readonly problem?: string
}

/** `text`: what stands under REGISTRY_KEY; undefined: there is no such ConfigMap. */
export function readRegistry(text: string | undefined): Registry {
  if (text === undefined) return { entries: new Map(), problem: `there is no ConfigMap ${REGISTRY_CONFIG_MAP}` }
  const value = readYaml(text)
  if (!isMap(value) || !isMap(value.runtimes)) {
    return { entries: new Map(), problem: `ConfigMap ${REGISTRY_CONFIG_MAP} has no mapping "runtimes" under ${REGISTRY_KEY}` }
  }
  return { entries: new Map(Object.entries(value.runtimes).map(([name, entry]) => [name, readEntry(name, entry)])) }
}

function readYaml(text: string): unknown {
  try {
    return parse(text)
  } catch {
    return undefined
  }
}

function readEntry(name: string, entry: unknown): RuntimeEntry | { readonly problem: string } {
  const result = runtimeSchema.safeParse(entry)
  if (!result.success) {
    const mistakes = result.error.issues.map(({ path, message }) => `${path.join('.') || 'the entry'}: ${message}`)
    return { problem: `runtime "${name}" of ConfigMap ${REGISTRY_CONFIG_MAP} cannot be used: ${mistakes.join('; ')}` }
  }
  const { command, args } = result.data
  // The entry of KAOS for slack has its flags as the command, which replaced the program by a flag.
  return command[0]?.startsWith('-') ? { ...result.data, command: [], args: [...command, ...args] } : result.data
}

/** Names that spec.runtime may have, for messages. */
export function runtimeNames(registry: Registry): readonly string[] {
  return [...new Set([...registry.entries.keys(), ...localRuntimes, 'custom'])].toSorted()
}
