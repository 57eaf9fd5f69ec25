import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { loadManifests, parseManifests, type System } from '../../manifests/load.ts'
import { ManifestError } from '../../manifests/problem.ts'

const samples = new URL('../../manifests/samples', import.meta.url).pathname
const folder = mkdtempSync(join(tmpdir(), 'kaos-manifests-'))

afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('fills in every default of a minimal Agent', () => {
  const { agents } = parse(`${models}---\n${agent('solo')}`)

  expect(agents).toEqual([
    {
      apiVersion: 'kaos.tools/v1alpha1',
      kind: 'Agent',
      metadata: { name: 'solo', namespace: 'default' },
      spec: {
        modelAPI: 'models',
        model: 'gpt-4o',
        mcpServers: [],
        agentNetwork: { expose: true, access: [] },
        scaling: { scaler: 'Builtin', minReplicas: 0, maxReplicas: 10, targetBacklogPerReplica: 32, cooldownSeconds: 120 },
        waitForDependencies: true,
        config: {
          reasoningLoopMaxSteps: 5,
          toolCallMode: 'auto',
          modelSettings: {},
          taskConfig: { maxIterations: 10, maxRuntimeSeconds: 300, maxToolCalls: 50 },
          memory: { enabled: true, contextLimit: 6, maxSessions: 1000, maxSessionEvents: 500, scope: 'agent' },
        },
      },
      source: { file: 'team.yaml', line: 6 },
    },
  ])
})

test('fills in the defaults of an autonomous mode only where it is switched on', () => {
  const { agents } = parse(`${models}---\n${agent('solo', '  config: { autonomous: { goal: Watch the shop. } }')}`)

  expect(agents[0]?.spec.config.autonomous).toEqual({ goal: 'Watch the shop.', intervalSeconds: 0, maxIterRuntimeSeconds: 60 })
})

test('takes a field without a value as left out, as the API server does', () => {
  const { agents } = parse(`${models}---\n${agent('solo', '  mcpServers:\n  config:\n    instructions:\n    memory:')}`)

  expect(agents[0]?.spec).toMatchObject({ mcpServers: [], config: { reasoningLoopMaxSteps: 5, memory: { contextLimit: 6 } } })
})

test('accepts what kubectl prints, with what the server and the operator wrote', () => {
  const { mcpServers, warnings } = parse(`apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata:
  name: tools
  namespace: team
  uid: 7d1f
  resourceVersion: "12"
  generation: 2
  creationTimestamp: "2026-01-31T10:00:00Z"
  labels: { part-of: demo }
  managedFields: [{ manager: kubectl }]
spec: { runtime: echo }
status: { phase: Ready, availableTools: [echo] }
`)

  expect(mcpServers[0]?.metadata).toMatchObject({ name: 'tools', namespace: 'team', labels: { 'part-of': 'demo' } })
  expect(warnings).toEqual([])
})

test('keeps a podSpec as it was written, removals included', () => {
  const { agents } = parse(`${models}---\n${agent('solo', '  podSpec: { nodeSelector: null, tolerations: [{ key: gpu }] }')}`)

  expect(agents[0]?.spec.podSpec).toEqual({ nodeSelector: null, tolerations: [{ key: 'gpu' }] })
})

test('keeps namespaces apart: the same names in two of them, each with its own references', () => {
  const inTeam = (text: string) => text.replaceAll(/name: (\w+) }/g, 'name: $1, namespace: team }')

  const system = parse([models, agent('solo'), inTeam(models), inTeam(agent('solo'))].join('---\n'))

  expect(system.namespaces).toEqual(['default', 'team'])
  expect(system.agents.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)).toEqual(['default/solo', 'team/solo'])
})

test.each([
  ['gpt-4o', ['gpt-4o']],
  ['gemini/flash', ['gpt-4o', 'gemini/*']],
  ['anything/at:all', ['*']],
])('lets an agent ask for the model %s of %j', (model, offered) => {
  const api = models.replace('["*"]', JSON.stringify(offered))

  expect(parse(`${api}---\n${agent('solo').replace('gpt-4o', model)}`).agents[0]?.spec.model).toBe(model)
})

test.each(['smollm2:135m', 'ollama/smollm2:135m'])('lets an agent ask for the hosted model as %s', (model) => {
  const api = models.replace(
    'mode: Proxy, proxyConfig: { models: ["*"] }',
    'mode: Hosted, hostedConfig: { model: "smollm2:135m" }',
  )

  expect(parse(`${api}---\n${agent('solo').replace('gpt-4o', `"${model}"`)}`).agents).toHaveLength(1)
})

test('accepts the same telemetry in both places, and acts on it', () => {
  const { agents, warnings } = parse(
    `${models}---\n${agent('solo', '  telemetry: { enabled: true }\n  config: { telemetry: { enabled: true } }')}`,
  )

  expect(agents[0]?.spec.telemetry).toEqual({ enabled: true, traceBoundary: 'task' })
  expect(warnings).toEqual([])
})

test.each([
  'localhost:4317',
  '[::1]:4317',
  'http://otel-collector.observability.svc:4317',
  'https://ingest.example.com/otlp/v1',
  'grpc://collector:4317',
])('takes an OTLP endpoint as %s', (endpoint) => {
  const { agents } = parse(
    `${models}---\n${agent('solo', `  telemetry: { endpoint: "${endpoint}", traceBoundary: activation }`)}`,
  )

  expect(agents[0]?.spec.telemetry).toEqual({ endpoint, traceBoundary: 'activation' })
})

test('names all fields that change nothing yet in one warning, written ones only', () => {
  const { warnings } = parse(
    [
      models.replace('}\n', '}\n').replace('models: ["*"]', 'models: ["*"], configYaml: { fromString: "{}" }'),
      agent(
        'solo',
        `  podSpec: { tolerations: [] }
  waitForDependencies: false
  scaling: { minReplicas: 1 }
  replicas: 2
  agentNetwork: { expose: true, access: [other] }
  mcpServers: [cluster]
  config: { toolCallMode: string, memory: { contextLimit: 3, maxSessions: 5 }, taskConfig: { maxIterations: 3, maxToolCalls: 3 } }`,
      ),
      agent('other', '  config: { toolCallMode: native, memory: { maxSessions: 5 } }'),
      'apiVersion: kaos.tools/v1alpha1\nkind: MCPServer\nmetadata: { name: cluster }\nspec: { runtime: kubernetes, serviceAccountName: reader, params: "allowedNamespaces: [a]" }\n',
      'apiVersion: kaos.tools/v1alpha1\nkind: MCPServer\nmetadata: { name: own }\nspec: { runtime: my-company-runtime }\n',
    ].join('---\n'),
  )

  expect(warnings).toEqual([
    `accepted but not yet acted on: ${[
      'ModelAPI spec.proxyConfig.configYaml (models)',
      'Agent spec.podSpec (solo)',
      'Agent spec.waitForDependencies (solo)',
      'Agent spec.scaling (solo)',
      'Agent spec.replicas (solo)',
      'Agent spec.agentNetwork.expose (solo)',
      'Agent spec.config.memory.maxSessions (solo, other)',
      'Agent spec.config.taskConfig.maxIterations (solo)',
      'MCPServer spec.runtime "kubernetes" (cluster)',
      'MCPServer spec.serviceAccountName (cluster)',
      'MCPServer spec.params (cluster)',
      'MCPServer spec.runtime "my-company-runtime" (own)',
    ].join(', ')}`,
  ])
})

test('takes an external agent without a model, and names what its program does not read', () => {
  const { agents, warnings } = parse(
    'apiVersion: kaos.tools/v1alpha1\nkind: Agent\nmetadata: { name: outside }\nspec: { external: true, config: { description: d, instructions: i } }\n',
  )

  expect(agents[0]?.spec).toMatchObject({ external: true, config: { description: 'd' } })
  expect(warnings).toEqual(['accepted but not yet acted on: Agent spec.config.instructions (outside)'])
})

test('says nothing of fields that are acted on', () => {
  const { warnings } = parse(
    `${models}---\n${agent(
      'solo',
      `  config:
    description: d
    instructions: i
    systemPrompt: s
    reasoningLoopMaxSteps: 3
    toolCallMode: auto
    memory: { contextLimit: 3 }
    taskConfig: { maxToolCalls: 3, maxRuntimeSeconds: 30 }
    modelSettings: { temperature: 0, seed: 7, maxTokens: 100, timeoutSeconds: 30 }`,
    )}---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: everything }
spec: { runtime: stdio, params: npx -y @modelcontextprotocol/server-everything }
`,
  )

  expect(warnings).toEqual([])
})

test('passes over what other programs act on, and says so', () => {
  const { warnings, agents } = parse(
    `apiVersion: v1\nkind: Namespace\nmetadata: { name: team }\n---\n${models}---\n${agent('solo')}---\napiVersion: kaos.tools/v1alpha1\nkind: MemoryStore\nmetadata: { name: store }\nspec: {}\n---\n# nothing here\n`,
  )

  expect(agents).toHaveLength(1)
  expect(warnings).toEqual([
    'passed over, not Agent, MCPServer or ModelAPI: Namespace team (team.yaml:1), MemoryStore store (team.yaml:18)',
  ])
})

test('warns of a key that stands in the manifest, without showing it', () => {
  const { warnings } = parse(models.replace('models: ["*"]', 'models: ["*"], apiKey: { value: sk-1234567890 }'))

  expect(warnings).toEqual([
    'a key stands in plain text, prefer apiKey.valueFrom.secretKeyRef: ModelAPI spec.proxyConfig.apiKey.value (models)',
  ])
})

test('reads a folder by the names of its files, YAML only, without subfolders, and each file once', () => {
  const team = inFolder('team')
  write(team, 'b.yml', agent('second'))
  write(team, 'a.yaml', `${models}---\n${agent('first')}`)
  write(team, 'compose.yaml', 'services: {}\n')
  write(team, 'notes.txt', 'not: [yaml')
  write(inFolder('team/more'), 'c.yaml', 'kind: Broken')

  const system = loadManifests([join(team, 'a.yaml'), team])

  expect(system.agents.map(({ metadata }) => metadata.name)).toEqual(['first', 'second'])
  expect(system.files).toEqual(['a.yaml', 'b.yml', 'compose.yaml'].map((name) => join(team, name)))
  expect(system.warnings).toEqual([])
})

test('refuses the same file that is no manifest when it is named', () => {
  const file = write(inFolder('named'), 'compose.yaml', 'services: {}\n')

  expect(messageOf(() => loadManifests([file]))).toContain(
    'compose.yaml:1:1  apiVersion\n    given nothing, allowed: kaos.tools/v1alpha1',
  )
})

test('reports files that cannot be read beside the mistakes in the others', () => {
  const team = inFolder('reports')
  write(team, 'team.yaml', agent('solo', '  confg: {}'))
  const empty = inFolder('empty')
  write(team, 'huge.yaml', `# ${'x'.repeat(8 * 1024 * 1024)}`)

  const message = messageOf(() =>
    loadManifests([join(team, 'teem.yaml'), join(team, 'team.yaml'), empty, join(team, 'huge.yaml')]),
  )

  expect(message).toBe(`4 mistakes in the manifests
${join(team, 'teem.yaml')}
    no such file or folder; did you mean "${join(team, 'team.yaml')}"?
${empty}
    the folder holds no *.yaml or *.yml
${join(team, 'huge.yaml')}
    the file is larger than 8388608 bytes
${join(team, 'team.yaml')}:7:3  Agent solo spec.confg
    unknown field, allowed: modelAPI, model, machineRef, external, mcpServers, agentNetwork, config, telemetry, scaling, replicas, waitForDependencies, gatewayRoute, container, podSpec; did you mean "config"?`)
})

test('refuses to load nothing', () => {
  expect(messageOf(() => loadManifests([]))).toContain('allowed: at least one Agent, MCPServer or ModelAPI')
})

test('loads the samples, one by one and together, without a warning', () => {
  for (const sample of ['research-team.yaml', 'hierarchy.yaml', 'simple.yaml', 'day-out.yaml', 'newsroom.yaml']) {
    expect(loadManifests([join(samples, sample)]).warnings).toEqual([])
  }
  expect(loadManifests([samples]).warnings).toEqual([])
})

test('declares the research team that the demo needs: two specialists, each with a tool server', () => {
  const { agents, mcpServers } = loadManifests([join(samples, 'research-team.yaml')])

  const [coordinator, ...specialists] = agents
  expect(mcpServers).toHaveLength(2)
  expect(coordinator?.metadata.name).toBe('coordinator')
  expect(coordinator?.spec.agentNetwork.access).toEqual(specialists.map(({ metadata }) => metadata.name))
  expect(specialists.map(({ spec }) => spec.mcpServers)).toEqual([['notes'], ['calculator']])
})

test('declares a hierarchy of three levels', () => {
  const { agents } = loadManifests([join(samples, 'hierarchy.yaml')])

  const peers = (name: string) => agents.find(({ metadata }) => metadata.name === name)!.spec.agentNetwork.access
  expect(peers('supervisor').map(peers)).toEqual([['researcher-1', 'researcher-2'], ['analyst-1']])
})

/** Lines 1-4. */
const models = `apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
`

/** Six lines and `more`, below spec. */
function agent(name: string, more = ''): string {
  return `apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: ${name} }
spec:
  modelAPI: models
  model: gpt-4o
${more}
`
}

function parse(text: string): System {
  return parseManifests([{ file: 'team.yaml', text }])
}

function inFolder(name: string): string {
  const path = join(folder, name)
  mkdirSync(path)
  return path
}

function write(path: string, name: string, text: string): string {
  writeFileSync(join(path, name), text)
  return join(path, name)
}

function messageOf(load: () => unknown): string {
  try {
    load()
  } catch (error) {
    if (error instanceof ManifestError) return error.message
    throw error
  }
  throw new Error('expected the manifests to be refused')
}
