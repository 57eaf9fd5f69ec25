import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import { parseManifests, type System } from '../../manifests/load.ts'
import {
  type ModelResolution,
  type ModelSurroundings,
  resolveModel,
  resolveToolServer,
  type ToolServerResolution,
  type ToolServerSurroundings,
} from '../../manifests/local.ts'
import { ManifestError } from '../../manifests/problem.ts'

const wild = '{ mode: Proxy, proxyConfig: { models: ["*"] } }'
const hosted = '{ mode: Hosted, hostedConfig: { model: "smollm2:135m" } }'
const proxy = (more: string) => `{ mode: Proxy, proxyConfig: { models: ["*"], ${more} } }`
const secret = 'apiKey: { valueFrom: { secretKeyRef: { name: nebius-secrets, key: api-key } } }'
const everything = { MODEL_API_URL: 'http://gateway:4000', OPENAI_API_KEY: 'sk-openai', OPENAI_BASE_URL: 'http://other/v1' }

interface Case {
  readonly title: string
  readonly spec: string
  readonly model?: string
  readonly env?: Record<string, string>
  readonly ollama?: boolean
  readonly ollamaModels?: readonly string[]
  readonly found: object
  readonly key?: string
}

const cases: readonly Case[] = [
  {
    title: 'MODEL_API_URL wins over all, and gets the name as the agent has it',
    spec: proxy('apiBase: http://declared:1/v1, apiKey: { value: sk-declared }'),
    model: 'openai/gpt-4o',
    env: everything,
    ollama: true,
    found: { kind: 'endpoint', url: 'http://gateway:4000/v1', model: 'openai/gpt-4o', why: 'MODEL_API_URL is set' },
  },
  {
    title: 'MODEL_API_URL with name and key',
    spec: wild,
    env: { MODEL_API_URL: 'http://gateway/team/modelapi/models/', MODEL_NAME: 'small', MODEL_API_KEY: 'sk-gateway' },
    found: { kind: 'endpoint', url: 'http://gateway/team/modelapi/models/v1', model: 'small', why: 'MODEL_API_URL is set' },
    key: 'sk-gateway',
  },
  {
    title: 'a declared apiBase wins over OPENAI_API_KEY, which is not sent there',
    spec: proxy('apiBase: "http://vllm.local:8000"'),
    env: { OPENAI_API_KEY: 'sk-openai', OPENAI_MODEL: 'other' },
    ollama: true,
    found: {
      kind: 'endpoint',
      url: 'http://vllm.local:8000/v1',
      model: 'gpt-4o',
      why: 'ModelAPI "models" names vllm.local:8000',
    },
  },
  {
    title: 'a declared apiBase of another shape is kept, and a provider before the name taken off',
    spec: proxy('apiBase: "https://host/v1beta/openai/", apiKey: { value: sk-declared }'),
    model: 'gemini/flash',
    found: { kind: 'endpoint', url: 'https://host/v1beta/openai', model: 'flash', why: 'ModelAPI "models" names host' },
    key: 'sk-declared',
  },
  {
    title: 'a provider with a key has an address of its own',
    spec: proxy(`provider: nebius, ${secret}`),
    model: 'deepseek-ai/DeepSeek-V3',
    env: { KAOS_SECRET_NEBIUS_SECRETS_API_KEY: 'sk-nebius', OPENAI_API_KEY: 'sk-openai' },
    found: {
      kind: 'endpoint',
      url: 'https://api.studio.nebius.ai/v1',
      model: 'deepseek-ai/DeepSeek-V3',
      why: 'ModelAPI "models" names the provider nebius',
    },
    key: 'sk-nebius',
  },
  {
    title: 'OPENAI_API_KEY alone',
    spec: wild,
    model: 'openai/gpt-4o',
    env: { OPENAI_API_KEY: 'sk-openai' },
    ollama: true,
    found: { kind: 'endpoint', url: 'https://api.openai.com/v1', model: 'gpt-4o', why: 'OPENAI_API_KEY is set' },
    key: 'sk-openai',
  },
  {
    title: 'OPENAI_API_KEY with address and model',
    spec: hosted,
    model: 'smollm2:135m',
    env: { OPENAI_API_KEY: 'sk-openai', OPENAI_BASE_URL: 'http://proxy:4000/v1/', OPENAI_MODEL: 'openai/gpt-4o' },
    found: { kind: 'endpoint', url: 'http://proxy:4000/v1', model: 'openai/gpt-4o', why: 'OPENAI_API_KEY is set' },
    key: 'sk-openai',
  },
  {
    title: 'OPENAI_BASE_URL of a gateway that wants no key',
    spec: hosted,
    model: 'smollm2:135m',
    env: { OPENAI_BASE_URL: 'http://gateway:4000/v1' },
    found: { kind: 'endpoint', url: 'http://gateway:4000/v1', model: 'smollm2:135m', why: 'OPENAI_BASE_URL is set' },
  },
  {
    title: 'an Ollama of which nothing more is known',
    spec: hosted,
    model: 'smollm2:135m',
    ollama: true,
    found: {
      kind: 'endpoint',
      url: 'http://127.0.0.1:11434/v1',
      model: 'smollm2:135m',
      why: 'an Ollama answers on 127.0.0.1:11434',
    },
  },
  {
    title: 'an Ollama that has the model',
    spec: wild,
    model: 'ollama/llama3.2',
    ollama: true,
    ollamaModels: ['qwen3:4b', 'llama3.2:latest'],
    found: { kind: 'endpoint', url: 'http://127.0.0.1:11434/v1', model: 'llama3.2', why: 'an Ollama answers on 127.0.0.1:11434' },
  },
  {
    title: 'an Ollama that has another model, where any may answer',
    spec: wild,
    ollama: true,
    ollamaModels: ['qwen3:4b'],
    found: {
      kind: 'endpoint',
      url: 'http://127.0.0.1:11434/v1',
      model: 'qwen3:4b',
      why: 'an Ollama answers on 127.0.0.1:11434; it has no "gpt-4o", so "qwen3:4b" is asked',
    },
  },
  {
    title: 'an Ollama without the hosted model',
    spec: hosted,
    model: 'smollm2:135m',
    ollama: true,
    ollamaModels: ['qwen3:4b'],
    found: {
      kind: 'offline',
      why: 'an Ollama answers on 127.0.0.1:11434, but it has no "smollm2:135m" ("ollama pull smollm2:135m" gets it)',
    },
  },
  {
    title: 'nothing at all',
    spec: wild,
    env: { MODEL_API_URL: '', OPENAI_API_KEY: '' },
    found: {
      kind: 'offline',
      why: 'neither MODEL_API_URL nor OPENAI_API_KEY is set, the ModelAPI names no address, and no Ollama answers on 127.0.0.1:11434',
    },
  },
]

test.each(cases)('resolves the model: $title', ({ spec, model, env = {}, ollama = false, ollamaModels, found, key }) => {
  const resolution = resolve(spec, { env, ollamaAnswers: ollama, ...(ollamaModels && { ollamaModels }) }, model)

  const { apiKey, ...rest } = resolution.kind === 'endpoint' ? resolution : { ...resolution, apiKey: undefined }
  expect(rest).toEqual(found)
  expect(apiKey?.()).toBe(key)
})

test('keeps the key out of whatever prints the resolution', () => {
  const resolution = resolve(wild, { env: { OPENAI_API_KEY: 'sk-openai' }, ollamaAnswers: false })

  expect(inspect(resolution) + JSON.stringify(resolution)).not.toContain('sk-openai')
})

test.each(['secretKeyRef', 'configMapKeyRef'])('finds a key by %s in a variable before a file', (field) => {
  const spec = proxy(`apiBase: http://host/v1, ${secret.replace('secretKeyRef', field)}`)
  const files: Record<string, string> = { '.kaos/secrets/nebius-secrets/api-key': 'sk-file\n' }
  const readText = (path: string) => files[path]

  const fromFile = resolve(spec, { env: {}, ollamaAnswers: false, readText })
  const fromVariable = resolve(spec, {
    env: { KAOS_SECRET_NEBIUS_SECRETS_API_KEY: 'sk-variable' },
    ollamaAnswers: false,
    readText,
  })

  expect(keyOf(fromFile)).toBe('sk-file')
  expect(keyOf(fromVariable)).toBe('sk-variable')
})

test('names both ways to give a key that is missing', () => {
  const readText = () => undefined

  expect(messageOf(() => resolve(proxy(`apiBase: http://host/v1, ${secret}`), { env: {}, ollamaAnswers: true, readText }))).toBe(
    `1 mistake in the manifests
team.yaml:1:1  ModelAPI models spec.proxyConfig.apiKey.valueFrom.secretKeyRef
    given nothing, allowed: the key in the variable KAOS_SECRET_NEBIUS_SECRETS_API_KEY, or in the file .kaos/secrets/nebius-secrets/api-key`,
  )
})

test('does without a key that may be missing, and never looks above the folder of secrets', () => {
  const asked: string[] = []
  const readText = (path: string) => void asked.push(path)
  const optional = secret.replace('key: api-key', 'key: api-key, optional: true')
  const above = secret.replace('key: api-key', 'key: ..')

  expect(keyOf(resolve(proxy(`apiBase: http://host/v1, ${optional}`), { env: {}, ollamaAnswers: false, readText }))).toBe(
    undefined,
  )
  expect(
    messageOf(() => resolve(proxy(`apiBase: http://host/v1, ${above}`), { env: {}, ollamaAnswers: false, readText })),
  ).toContain('given nothing')
  expect(asked).toEqual(['.kaos/secrets/nebius-secrets/api-key'])
})

test.each([
  ['MODEL_API_URL', { MODEL_API_URL: 'gateway:4000' }],
  ['OPENAI_BASE_URL', { OPENAI_API_KEY: 'sk-openai', OPENAI_BASE_URL: 'not a url' }],
])('refuses an address in %s that is none', (variable, env) => {
  expect(messageOf(() => resolve(wild, { env, ollamaAnswers: false }))).toContain(`allowed: a URL in the variable ${variable}`)
})

test.each<[string, string, ToolServerResolution]>([
  ['calculator', 'runtime: calculator', { runtime: 'calculator' }],
  ['echo', 'runtime: echo', { runtime: 'echo' }],
  [
    'stdio, in the folder of its manifest',
    'runtime: stdio\n  params: node server.js',
    { runtime: 'stdio', command: 'node', args: ['server.js'], env: {}, cwd: 'teams/red' },
  ],
  [
    'stdio with variables set and passed on',
    'runtime: stdio\n  params: |\n    command: node\n    env: { MODE: test }\n    passEnv: [TOKEN]',
    { runtime: 'stdio', command: 'node', args: [], env: { TOKEN: 't-1', MODE: 'test' }, cwd: 'teams/red' },
  ],
  ['url', 'runtime: url\n  params: https://tools.example/mcp', { runtime: 'url', url: 'https://tools.example/mcp', headers: {} }],
  [
    'url with a header from a variable',
    'runtime: url\n  params: |\n    url: https://tools.example/mcp\n    headersFromEnv: { X-Token: TOKEN }',
    { runtime: 'url', url: 'https://tools.example/mcp', headers: { 'X-Token': 't-1' } },
  ],
])('resolves the runtime %s', (_title, spec, resolution) => {
  expect(resolveServer(spec, { env: { TOKEN: 't-1' } })).toEqual(resolution)
})

test('starts a stdio server in another folder when one is given', () => {
  expect(resolveServer('runtime: stdio\n  params: node server.js', { env: {}, folder: 'work' })).toMatchObject({ cwd: 'work' })
})

test.each([
  [
    'runtime: stdio\n  params: "{command: node, passEnv: [TOKEN]}"',
    'spec.params\n    given nothing, allowed: a value in the variable TOKEN, which params names',
  ],
  [
    'runtime: url\n  params: "{url: https://tools.example/mcp, headersFromEnv: {X-Token: TOKEN}}"',
    'spec.params\n    given nothing, allowed: a value in the variable TOKEN, which params names',
  ],
  [
    'runtime: python-string',
    'spec.runtime\n    given "python-string", allowed: calculator, echo, files, http-fetch, stdio, typescript or url on this machine; "python-string" needs a pod in a cluster',
  ],
  [
    'runtime: custom',
    'spec.runtime\n    given "custom", allowed: calculator, echo, files, http-fetch, stdio, typescript or url on this machine; "custom" needs a pod in a cluster',
  ],
  [
    'runtime: my-company',
    'spec.runtime\n    given "my-company", allowed: calculator, echo, files, http-fetch, stdio, typescript or url on this machine',
  ],
])('says why a server cannot run here: %j', (spec, message) => {
  expect(messageOf(() => resolveServer(spec, { env: {} }))).toBe(
    `1 mistake in the manifests\nteams/red/tools.yaml:1:1  MCPServer tools ${message}`,
  )
})

describe('files and folders that params name', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kaos-manifest-'))
  mkdirSync(join(folder, 'tools', 'notes'), { recursive: true })
  writeFileSync(join(folder, 'tools', 'weather.ts'), '')
  const at = (spec: string) => resolveServer(spec, { env: {} }, join(folder, 'system.yaml'))

  test('count from the manifest', () => {
    expect(at('runtime: typescript\n  params: ./tools/weather.ts')).toEqual({
      runtime: 'typescript',
      file: join(folder, 'tools', 'weather.ts'),
    })
    expect(at('runtime: files\n  params: "{ root: tools/notes, writable: true }"')).toEqual({
      runtime: 'files',
      root: join(folder, 'tools', 'notes'),
      writable: true,
    })
    expect(at(`runtime: files\n  params: ${folder}`)).toEqual({ runtime: 'files', root: folder, writable: false })
  })

  test.each([
    [
      'runtime: typescript\n  params: tools/wether.ts',
      /given "tools\/wether.ts", allowed: a file that is there; ".*wether.ts" is none; did you mean "weather.ts"\?/,
    ],
    [
      'runtime: typescript\n  params: else/where.ts',
      /given "else\/where.ts", allowed: a file that is there; ".*where.ts" is none$/,
    ],
    [
      'runtime: files\n  params: tools/note',
      /given "tools\/note", allowed: a folder that is there; ".*note" is none; did you mean "notes"\?/,
    ],
    ['runtime: files\n  params: tools/weather.ts', /allowed: a folder that is there; ".*weather.ts" is none$/],
  ])('have to be there: %j', (spec, message) => {
    expect(messageOf(() => at(spec))).toMatch(message)
  })
})

test('resolves the runtime http-fetch', () => {
  expect(resolveServer('runtime: http-fetch\n  params: "hosts: [example.org]"', { env: {} })).toEqual({
    runtime: 'http-fetch',
    hosts: ['example.org'],
    allowPrivate: false,
  })
})

function resolve(spec: string, surroundings: ModelSurroundings, model = 'gpt-4o'): ModelResolution {
  const system = parse(
    'team.yaml',
    `apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: ${spec}
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: solo }
spec: { modelAPI: models, model: "${model}" }
`,
  )
  return resolveModel(system, system.agents[0]!, surroundings)
}

function resolveServer(spec: string, surroundings: ToolServerSurroundings, file = 'teams/red/tools.yaml'): ToolServerResolution {
  const { mcpServers } = parse(
    file,
    `apiVersion: kaos.tools/v1alpha1\nkind: MCPServer\nmetadata: { name: tools }\nspec:\n  ${spec}\n`,
  )
  return resolveToolServer(mcpServers[0]!, surroundings)
}

function parse(file: string, text: string): System {
  return parseManifests([{ file, text }])
}

function keyOf(resolution: ModelResolution): string | undefined {
  return resolution.kind === 'endpoint' ? resolution.apiKey?.() : undefined
}

function messageOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof ManifestError) return error.message
    throw error
  }
  throw new Error('expected a ManifestError')
}
