/** Which fields change anything today. The others are accepted, so that manifests of a cluster load unchanged, and named in one warning. */
import { isLocalRuntime } from '../kinds/tool-runtime.ts'
import { type Declaration, isObject, type Kind } from './declaration.ts'

type Test = (value: unknown, spec: Readonly<Record<string, unknown>>) => boolean

const always: Test = () => true
/** Whoever answers for an external agent reads none of it. */
const ifRunHere: Test = (_value, { external }) => external !== true

/** Dotted paths below spec; all below a path counts as well. Take a line out of the warning by adding it here. */
const actedOn: Readonly<Record<Kind, Readonly<Record<string, Test>>>> = {
  Agent: {
    modelAPI: ifRunHere,
    model: ifRunHere,
    machineRef: always,
    external: always,
    mcpServers: ifRunHere,
    'agentNetwork.access': ifRunHere,
    'config.description': always,
    'config.instructions': ifRunHere,
    'config.systemPrompt': ifRunHere,
    'config.reasoningLoopMaxSteps': ifRunHere,
    'config.toolCallMode': ifRunHere,
    'config.modelSettings': ifRunHere,
    'config.taskConfig.maxRuntimeSeconds': ifRunHere,
    'config.taskConfig.maxToolCalls': ifRunHere,
    'config.memory.contextLimit': ifRunHere,
    telemetry: ifRunHere,
    'config.telemetry': ifRunHere,
  },
  MCPServer: {
    runtime: (runtime) => isLocalRuntime(String(runtime)),
    params: (_params, { runtime }) => isLocalRuntime(String(runtime)) && runtime !== 'calculator' && runtime !== 'echo',
    telemetry: always,
  },
  ModelAPI: {
    mode: always,
    'proxyConfig.models': always,
    'proxyConfig.provider': always,
    'proxyConfig.apiBase': always,
    'proxyConfig.apiKey': always,
    'hostedConfig.model': always,
  },
}

/** One sentence about all fields that were written and change nothing; undefined when there are none. */
export function warnOfUnused(declarations: readonly Declaration[]): string | undefined {
  const users = new Map<string, string[]>()
  for (const { kind, name, value } of declarations) {
    const spec = isObject(value.spec) ? value.spec : {}
    for (const path of unused(spec, '', actedOn[kind], spec)) {
      const label = kind === 'MCPServer' && path === 'runtime' ? `runtime ${JSON.stringify(spec.runtime)}` : path
      const key = `${kind} spec.${label}`
      users.set(key, [...(users.get(key) ?? []), name])
    }
  }
  if (users.size === 0) return undefined
  return `accepted but not yet acted on: ${[...users].map(([field, names]) => `${field} (${names.join(', ')})`).join(', ')}`
}

/** The highest fields below which nothing is acted on. */
function unused(
  value: unknown,
  path: string,
  table: Readonly<Record<string, Test>>,
  spec: Readonly<Record<string, unknown>>,
): string[] {
  const test = table[path]
  if (test) return test(value, spec) ? [] : [path]
  const partly = Object.keys(table).some((known) => path === '' || known.startsWith(`${path}.`))
  if (!partly || !isObject(value)) return [path]
  return Object.entries(value).flatMap(([name, field]) => unused(field, path === '' ? name : `${path}.${name}`, table, spec))
}
