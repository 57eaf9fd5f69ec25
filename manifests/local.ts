/** What a ModelAPI and an MCPServer mean on this machine: an endpoint, a process, a built-in runtime. Starts nothing, asks nothing. */
import { existsSync, readdirSync, readFileSync, type Stats, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { listOf } from './fields.ts'
import type { Agent } from './kinds/agent.ts'
import type { McpServer } from './kinds/mcp-server.ts'
import type { ModelApi } from './kinds/model-api.ts'
import {
  localRuntimes,
  ParamsError,
  parseFilesParams,
  parseHttpFetchParams,
  parseStdioParams,
  parseTypescriptParams,
  parseUrlParams,
  podRuntimes,
} from './kinds/tool-runtime.ts'
import type { System } from './load.ts'
import { nearestTo } from './loading/nearest.ts'
import { providerBaseUrl, upstreamModel } from './model-provider.ts'
import { ManifestError } from './problem.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export const ollamaUrl = 'http://127.0.0.1:11434'
const openAiUrl = 'https://api.openai.com/v1'
/** Entries of a folder that are compared with a path that leads nowhere. */
const neighboursMax = 1_000

export type ModelResolution =
  | {
      readonly kind: 'endpoint'
      /** Base of an OpenAI-compatible API, such as "https://api.openai.com/v1": `/chat/completions` comes after it. */
      readonly url: string
      /** The model's name as this API knows it. */
      readonly model: string
      /** A function, so that no log and no JSON can show it. Absent: the API wants none. */
      readonly apiKey?: () => string
      /** One sentence for people. */
      readonly why: string
    }
  | { readonly kind: 'offline'; readonly why: string }

export interface ModelSurroundings {
  readonly env: Environment
  /** Whether an Ollama answers on 127.0.0.1:11434. */
  readonly ollamaAnswers: boolean
  /** Models that this Ollama has (its `/api/tags`). Absent: unknown, the declared model is taken. */
  readonly ollamaModels?: readonly string[]
  /** Text of a file, undefined when there is none; a relative path counts from the working directory. For tests. */
  readonly readText?: (path: string) => string | undefined
}

/**
 * Where an agent's model answers, which must have one. The most deliberate statement wins:
 *
 * 1. `MODEL_API_URL` (with `MODEL_NAME`, `MODEL_API_KEY`): says "all agents, here", whatever the manifests say.
 * 2. The ModelAPI's own `apiBase`, or its `provider` together with an `apiKey`: says where this very model answers. It wins over
 *    `OPENAI_API_KEY`, which many shells carry for other reasons, and which must not be sent to an address it was not meant for.
 * 3. `OPENAI_API_KEY` (with `OPENAI_BASE_URL`, `OPENAI_MODEL`), or `OPENAI_BASE_URL` alone: many local gateways want no key.
 * 4. An Ollama on this machine: with the hosted model, else with the agent's, else (mode Proxy) with the first that it has.
 * 5. The offline model.
 *
 * Where an API is asked directly, a provider before the model's name is taken off ("openai/gpt-4o-mini" is asked for as "gpt-4o-mini"), as
 * KAOS's proxy does; an address from a variable may be such a proxy, so there the name is sent as the agent has it.
 *
 * A key is `value`, or comes by reference from the variable `KAOS_SECRET_<NAME>_<KEY>` (upper case, `_` for all else), else from the file
 * `.kaos/secrets/<name>/<key>`. Throws ManifestError when neither is there, or an address cannot be read.
 */
export function resolveModel(system: Pick<System, 'modelAPIs'>, agent: Agent, surroundings: ModelSurroundings): ModelResolution {
  const { env } = surroundings
  const api = modelApiOf(system, agent)
  const proxy = api.spec.proxyConfig
  const declaredModel = agent.spec.model ?? refuse(agent, 'spec.model', undefined, 'the name of a model')
  const model = upstreamModel(declaredModel, proxy?.provider)

  if (env.MODEL_API_URL) {
    const url = baseUrl(env.MODEL_API_URL, () => refuse(agent, '', env.MODEL_API_URL, 'a URL in the variable MODEL_API_URL'))
    return {
      kind: 'endpoint',
      url,
      model: env.MODEL_NAME || declaredModel,
      ...keyOf(env.MODEL_API_KEY),
      why: 'MODEL_API_URL is set',
    }
  }
  const declared = proxy?.apiBase ?? (proxy?.apiKey ? providerBaseUrl(proxy.provider) : undefined)
  if (declared !== undefined) {
    const url = baseUrl(declared, () => refuse(api, 'spec.proxyConfig.apiBase', declared, 'a URL'))
    const why = `ModelAPI "${api.metadata.name}" names ${proxy?.apiBase ? new URL(url).host : `the provider ${proxy?.provider}`}`
    return { kind: 'endpoint', url, model, ...keyOf(declaredKey(api, surroundings)), why }
  }
  if (env.OPENAI_API_KEY || env.OPENAI_BASE_URL) {
    const given = env.OPENAI_BASE_URL || openAiUrl
    const url = baseUrl(given, () => refuse(agent, '', given, 'a URL in the variable OPENAI_BASE_URL'))
    const name = env.OPENAI_MODEL || (env.OPENAI_BASE_URL ? declaredModel : model)
    return {
      kind: 'endpoint',
      url,
      model: name,
      ...keyOf(env.OPENAI_API_KEY),
      why: `${env.OPENAI_API_KEY ? 'OPENAI_API_KEY' : 'OPENAI_BASE_URL'} is set`,
    }
  }
  if (surroundings.ollamaAnswers) return resolveOllama(api, model, surroundings)
  return {
    kind: 'offline',
    why: 'neither MODEL_API_URL nor OPENAI_API_KEY is set, the ModelAPI names no address, and no Ollama answers on 127.0.0.1:11434',
  }
}

/** The file of an agent's own machine; undefined when it has none. Throws ManifestError when no file is there. */
export function resolveMachine(agent: Agent): string | undefined {
  const path = agent.spec.machineRef?.path
  if (path === undefined) return undefined
  const file = resolve(dirname(agent.source.file), path)
  if (existsSync(file)) return file
  return refuse(
    agent,
    'spec.machineRef.path',
    path,
    `the path of a file, from the folder of its manifest; there is none at "${file}"`,
  )
}

export type ToolServerResolution =
  | { readonly runtime: 'calculator' }
  | { readonly runtime: 'echo' }
  | {
      readonly runtime: 'files'
      /** Absolute path of a folder that is there. */
      readonly root: string
      readonly writable: boolean
    }
  | { readonly runtime: 'http-fetch'; readonly hosts: readonly string[]; readonly allowPrivate: boolean }
  | {
      readonly runtime: 'typescript'
      /** Absolute path of a file that is there. */
      readonly file: string
    }
  | {
      readonly runtime: 'stdio'
      readonly command: string
      readonly args: readonly string[]
      /** Beyond the basics that every process gets (PATH, HOME and the like). May hold secrets: not for logs. */
      readonly env: Readonly<Record<string, string>>
      readonly cwd: string
    }
  | {
      readonly runtime: 'url'
      readonly url: string
      /** May hold secrets: not for logs. */
      readonly headers: Readonly<Record<string, string>>
    }

export interface ToolServerSurroundings {
  readonly env: Environment
  /** Working directory of a `stdio` server. Default: the folder of its manifest. */
  readonly folder?: string
}

/** How an MCPServer runs on this machine. Throws ManifestError when it cannot, or when a variable, file or folder that it names is not there. */
export function resolveToolServer(server: McpServer, { env, folder }: ToolServerSurroundings): ToolServerResolution {
  const { runtime, params } = server.spec
  const variable = (name: string): string =>
    env[name] ?? refuse(server, 'spec.params', undefined, `a value in the variable ${name}, which params names`)
  try {
    switch (runtime) {
      case 'calculator':
      case 'echo':
        return { runtime }
      case 'files': {
        const { root, writable } = parseFilesParams(params)
        return { runtime, root: placeOf(server, root, 'folder'), writable }
      }
      case 'http-fetch':
        return { runtime, ...parseHttpFetchParams(params) }
      case 'typescript':
        return { runtime, file: placeOf(server, parseTypescriptParams(params).path, 'file') }
      case 'stdio': {
        const { command, args, env: own, passEnv } = parseStdioParams(params)
        const passed = Object.fromEntries(passEnv.map((name) => [name, variable(name)]))
        return { runtime, command, args, env: { ...passed, ...own }, cwd: folder ?? dirname(server.source.file) }
      }
      case 'url': {
        const { url, headersFromEnv } = parseUrlParams(params)
        return {
          runtime,
          url,
          headers: Object.fromEntries(Object.entries(headersFromEnv).map(([header, name]) => [header, variable(name)])),
        }
      }
      default:
        return refuse(server, 'spec.runtime', runtime, notHere(runtime), nearestTo(runtime, localRuntimes))
    }
  } catch (error) {
    if (error instanceof ParamsError) return refuse(server, 'spec.params', undefined, error.message)
    throw error
  }
}

/** The absolute path of what params name, which counts from the manifest. */
function placeOf(server: McpServer, path: string, kind: 'file' | 'folder'): string {
  const isRight = (stats: Stats | undefined) => (kind === 'file' ? stats?.isFile() : stats?.isDirectory()) === true
  const place = resolve(dirname(server.source.file), path)
  if (isRight(statSync(place, { throwIfNoEntry: false }))) return place
  return refuse(server, 'spec.params', path, `a ${kind} that is there; "${place}" is none`, neighbourOf(place, isRight))
}

/** What was probably meant by a path that leads nowhere, if something in its folder has nearly that name. */
function neighbourOf(place: string, isRight: (stats: Stats | undefined) => boolean): string | undefined {
  try {
    const names = readdirSync(dirname(place)).slice(0, neighboursMax)
    return nearestTo(
      basename(place),
      names.filter((name) => isRight(statSync(join(dirname(place), name), { throwIfNoEntry: false }))),
    )
  } catch {
    return undefined // there is no such folder either
  }
}

function resolveOllama(api: ModelApi, asked: string, { ollamaModels }: ModelSurroundings): ModelResolution {
  const hosted = api.spec.hostedConfig?.model
  const model = hosted ?? asked
  const answers = `an Ollama answers on ${new URL(ollamaUrl).host}`
  const endpoint = { kind: 'endpoint', url: `${ollamaUrl}/v1` } as const
  // Ollama lists "llama3.2:latest" and answers for "llama3.2" too.
  if (!ollamaModels || ollamaModels.some((tag) => tag === model || tag === `${model}:latest`))
    return { ...endpoint, model, why: answers }
  const [first] = ollamaModels
  if (hosted === undefined && first !== undefined)
    return { ...endpoint, model: first, why: `${answers}; it has no "${model}", so "${first}" is asked` }
  return { kind: 'offline', why: `${answers}, but it has no "${model}" ("ollama pull ${model}" gets it)` }
}

function modelApiOf(system: Pick<System, 'modelAPIs'>, agent: Agent): ModelApi {
  const found = system.modelAPIs.find(
    ({ metadata }) => metadata.name === agent.spec.modelAPI && metadata.namespace === agent.metadata.namespace,
  )
  return found ?? refuse(agent, 'spec.modelAPI', agent.spec.modelAPI, 'a ModelAPI of its namespace')
}

function keyOf(key: string | undefined): { apiKey?: () => string } {
  return key ? { apiKey: () => key } : {}
}

function declaredKey(api: ModelApi, { env, readText = readTextFile }: ModelSurroundings): string | undefined {
  const { value, valueFrom } = api.spec.proxyConfig?.apiKey ?? {}
  const field = valueFrom?.secretKeyRef ? 'secretKeyRef' : 'configMapKeyRef'
  const ref = valueFrom?.[field]
  if (value !== undefined || ref === undefined) return value
  const variable = `KAOS_SECRET_${upperSnake(ref.name)}_${upperSnake(ref.key)}`
  const file = join('.kaos', 'secrets', ref.name, ref.key)
  // A key may be written with dots only, which would name a folder above.
  const key = env[variable] || (/^\.+$/.test(ref.key) ? undefined : readText(file)?.trim())
  if (key || ref.optional) return key || undefined
  const allowed = `the key in the variable ${variable}, or in the file ${file}`
  return refuse(api, `spec.proxyConfig.apiKey.valueFrom.${field}`, undefined, allowed)
}

/** The base with its version: "http://host:4000" and "http://gateway/team/models" get "/v1", "https://host/v1beta/openai" has one. */
function baseUrl(given: string, refuseIt: () => never): string {
  const url = URL.parse(given)
  if (!url || !/^https?:$/.test(url.protocol)) return refuseIt()
  const path = url.pathname.replace(/\/+$/, '')
  url.pathname = path.split('/').some((segment) => /^v\d/.test(segment)) ? path : `${path}/v1`
  return url.href.replace(/\/$/, '')
}

function upperSnake(text: string): string {
  return text.toUpperCase().replace(/[^A-Z0-9]/g, '_')
}

function readTextFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function notHere(runtime: string): string {
  const runs = `${listOf(localRuntimes)} on this machine`
  return (podRuntimes as readonly string[]).includes(runtime) ? `${runs}; "${runtime}" needs a pod in a cluster` : runs
}

function refuse(
  resource: Agent | McpServer | ModelApi,
  path: string,
  value: string | undefined,
  allowed: string,
  nearest?: string,
): never {
  const given = value === undefined ? 'nothing' : JSON.stringify(value)
  throw new ManifestError([
    {
      ...resource.source,
      column: 1,
      resource: `${resource.kind} ${resource.metadata.name}`,
      path,
      given,
      allowed,
      ...(nearest === undefined ? {} : { nearest }),
      message: `given ${given}, allowed: ${allowed}${nearest === undefined ? '' : `; did you mean "${nearest}"?`}`,
    },
  ])
}
