import { expect, test } from 'vitest'
import { parseManifests } from '../../manifests/load.ts'
import { ManifestError, type Problem } from '../../manifests/problem.ts'

/** One rule broken, nothing else: where it is reported and in which words. Lines count from the first line of the file. */
interface Case {
  readonly title: string
  readonly text: string
  /** line:column, resource, path */
  readonly at: string
  readonly message: string
  readonly nearest?: string
}

/** Lines 1-8: a ModelAPI. */
const models = `apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec:
  mode: Proxy
  proxyConfig:
    models: [gpt-4o, "gemini/*"]
---
`

/** Line 9 is the first of the Agent, line 13 the first of `spec`. */
function agent(spec: string, metadata = '{ name: boss }', more = ''): string {
  return `${models}apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: ${metadata}
spec:
${spec}${more}`
}

/** Line 15 is the first after what every Agent needs. */
const working = (spec: string, more = '') => agent(`  modelAPI: models\n  model: gpt-4o\n${spec}`, '{ name: boss }', more)

/** Line 5 is the first of `spec`. */
function mcpServer(spec: string, name = 'tools'): string {
  return `apiVersion: kaos.tools/v1alpha1\nkind: MCPServer\nmetadata: { name: ${name} }\nspec:\n${spec}\n`
}

function modelApi(spec: string, name = 'models'): string {
  return `apiVersion: kaos.tools/v1alpha1\nkind: ModelAPI\nmetadata: { name: ${name} }\nspec:\n${spec}\n`
}

const agentFields =
  'modelAPI, model, machineRef, external, mcpServers, agentNetwork, config, telemetry, scaling, replicas, waitForDependencies, gatewayRoute, container, podSpec'

const cases: readonly Case[] = [
  // what a document is
  {
    title: 'text that is not YAML',
    text: 'kind: Agent\nmetadata: [1\n',
    at: '3:1',
    message: 'not YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
  },
  {
    title: 'the same field twice',
    text: `${models}kind: Agent\nkind: Agent\n`,
    at: '10:1',
    message: 'not YAML: Map keys must be unique',
  },
  {
    title: 'a reference bomb',
    text: 'a: &a [x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n',
    at: '1:1',
    message: 'not YAML: Excessive alias count indicates a resource exhaustion attack',
  },
  {
    title: 'text nested without end',
    text: '['.repeat(50_000),
    at: expect.stringMatching(/^1:\d+$/) as string,
    message: 'not YAML: Maximum call stack size exceeded',
  },
  {
    title: 'a document that is no mapping',
    text: 'hello\n',
    at: '1:1',
    message: 'given "hello", allowed: a mapping with apiVersion, kind, metadata and spec',
  },
  { title: 'no apiVersion', text: 'kind: Agent\n', at: '1:1 apiVersion', message: 'given nothing, allowed: kaos.tools/v1alpha1' },
  {
    title: 'no kind',
    text: 'apiVersion: kaos.tools/v1alpha1\n',
    at: '1:1 kind',
    message: 'given nothing, allowed: Agent, MCPServer, ModelAPI',
  },
  {
    title: 'an earlier apiVersion',
    text: 'kind: Agent\napiVersion: ethical.institute/v1alpha1\n',
    at: '2:13 apiVersion',
    message: 'given "ethical.institute/v1alpha1", allowed: kaos.tools/v1alpha1; did you mean "kaos.tools/v1alpha1"?',
    nearest: 'kaos.tools/v1alpha1',
  },
  {
    title: 'an unknown kind',
    text: 'apiVersion: kaos.tools/v1alpha1\nkind: McpServr\n',
    at: '2:7 kind',
    message: 'given "McpServr", allowed: Agent, MCPServer, ModelAPI; did you mean "MCPServer"?',
    nearest: 'MCPServer',
  },
  {
    title: 'nothing of ours',
    text: 'apiVersion: v1\nkind: Namespace\nmetadata: { name: team }\n',
    at: '0:0',
    message: 'given Namespace team (team.yaml:1), allowed: at least one Agent, MCPServer or ModelAPI',
  },
  // names
  {
    title: 'a name with capitals',
    text: mcpServer('  runtime: echo', 'My_Tools'),
    at: '3:19 MCPServer My_Tools metadata.name',
    message: 'given "My_Tools", allowed: lower-case letters, digits and "-", not at the ends, at most 40 characters',
  },
  {
    title: 'a name that is too long',
    text: mcpServer('  runtime: echo', 'a'.repeat(41)),
    at: `3:19 MCPServer ${'a'.repeat(41)} metadata.name`,
    message: `given "${'a'.repeat(41)}", allowed: lower-case letters, digits and "-", not at the ends, at most 40 characters`,
  },
  {
    title: 'the long name of a ModelAPI',
    text: modelApi('  mode: Hosted\n  hostedConfig: { model: m }', 'a'.repeat(55)),
    at: `3:19 ModelAPI ${'a'.repeat(55)} metadata.name`,
    message: `given "${'a'.repeat(55)}", allowed: lower-case letters, digits and "-", not at the ends, at most 54 characters`,
  },
  {
    title: 'no name',
    text: 'apiVersion: kaos.tools/v1alpha1\nkind: MCPServer\nspec: { runtime: echo }\n',
    at: '1:1 MCPServer metadata',
    message: expect.stringContaining('given nothing, allowed: a mapping (name, namespace, labels, annotations,') as string,
  },
  {
    title: 'a name twice',
    text: `${mcpServer('  runtime: echo')}---\n${mcpServer('  runtime: echo')}`,
    at: '9:19 MCPServer tools metadata.name',
    message: 'given "tools" again, allowed: one MCPServer of this name in namespace default; the first stands at team.yaml:3',
  },
  {
    title: 'a namespace that is no label',
    text: mcpServer('  runtime: echo', 'tools, namespace: Team'),
    at: '3:37 MCPServer tools metadata.namespace',
    message: 'given "Team", allowed: lower-case letters, digits and "-", not at the ends, at most 63 characters',
  },
  // fields
  {
    title: 'a misspelt field',
    text: working('  mcpServer: []'),
    at: '15:3 Agent boss spec.mcpServer',
    message: `unknown field, allowed: ${agentFields}; did you mean "mcpServers"?`,
    nearest: 'mcpServers',
  },
  {
    title: 'a field in the wrong place',
    text: working('  instructions: Be brief.'),
    at: '15:3 Agent boss spec.instructions',
    message: `unknown field, allowed: ${agentFields}; did you mean "spec.config.instructions"?`,
    nearest: 'spec.config.instructions',
  },
  {
    title: 'a field that nothing resembles',
    text: working('  quantum: 1'),
    at: '15:3 Agent boss spec.quantum',
    message: `unknown field, allowed: ${agentFields}`,
  },
  {
    title: 'a required field left out',
    text: agent('  modelAPI: models'),
    at: '12:1 Agent boss spec.model',
    message: 'given nothing, allowed: text that is not empty: the name of a model of modelAPI',
  },
  {
    title: 'a required field without a value',
    text: agent('  modelAPI: models\n  model:'),
    at: '14:9 Agent boss spec.model',
    message: 'given nothing, allowed: text that is not empty: the name of a model of modelAPI',
  },
  {
    title: 'a model without the API that offers it',
    text: agent('  model: gpt-4o'),
    at: '12:1 Agent boss spec.modelAPI',
    message: 'given nothing, allowed: the name of a ModelAPI that offers the model',
  },
  {
    title: 'an agent that nobody answers for',
    text: agent('  mcpServers: []'),
    at: '12:1 Agent boss spec.modelAPI',
    message: 'given nothing, allowed: modelAPI and model, unless machineRef or external is set',
  },
  {
    title: 'a machine for an agent that does not run here',
    text: agent('  external: true\n  machineRef: { path: ./boss.ts }'),
    at: '13:13 Agent boss spec.external',
    message: 'given true, allowed: no external with machineRef: a machine runs here',
  },
  {
    title: 'a number where text is wanted',
    text: working('  container: { image: 3 }'),
    at: '15:23 Agent boss spec.container.image',
    message: 'given 3, allowed: text that is not empty (put it in quotes)',
  },
  {
    title: 'text where a number is wanted',
    text: working('  config: { taskConfig: { maxToolCalls: "5" } }'),
    at: '15:41 Agent boss spec.config.taskConfig.maxToolCalls',
    message: 'given "5", allowed: a whole number from 0 to 10000',
  },
  {
    title: 'text where a list is wanted',
    text: working('  mcpServers: tools'),
    at: '15:15 Agent boss spec.mcpServers',
    message: 'given "tools", allowed: a list',
  },
  {
    title: 'text where a mapping is wanted',
    text: working('  config: be nice'),
    at: '15:11 Agent boss spec.config',
    message: expect.stringMatching(/^given "be nice", allowed: a mapping \(description, instructions, /) as string,
  },
  {
    title: 'a word where true or false is wanted',
    text: working('  waitForDependencies: yes'),
    at: '15:24 Agent boss spec.waitForDependencies',
    message: 'given "yes", allowed: true or false',
  },
  {
    title: 'a quantity that is a list',
    text: working('  container: { resources: { limits: { cpu: [1] } } }'),
    at: '15:44 Agent boss spec.container.resources.limits.cpu',
    message: 'given a list, allowed: a quantity such as 100m, 0.5 (in quotes), 2 or 128Mi',
  },
  {
    title: 'a timeout that is no duration',
    text: working('  gatewayRoute: { timeout: 5 minutes }'),
    at: '15:28 Agent boss spec.gatewayRoute.timeout',
    message: 'given "5 minutes", allowed: a duration such as "30s", "5m" or "1h30m"; "0s" is unlimited',
  },
  {
    title: 'a misspelt choice',
    text: working('  config: { toolCallMode: natve }'),
    at: '15:27 Agent boss spec.config.toolCallMode',
    message: 'given "natve", allowed: "auto", "native" or "string"; did you mean "native"?',
    nearest: 'native',
  },
  // bounds
  ...(
    [
      ['reasoningLoopMaxSteps: 0', 'reasoningLoopMaxSteps', '0', 'a whole number from 1 to 20'],
      ['reasoningLoopMaxSteps: 21', 'reasoningLoopMaxSteps', '21', 'a whole number from 1 to 20'],
      ['reasoningLoopMaxSteps: 2.5', 'reasoningLoopMaxSteps', '2.5', 'a whole number from 1 to 20'],
      ['memory: { contextLimit: 101 }', 'memory.contextLimit', '101', 'a whole number from 1 to 100'],
      ['memory: { maxSessions: 0 }', 'memory.maxSessions', '0', 'a whole number from 1 to 100000'],
      ['memory: { maxSessionEvents: 10001 }', 'memory.maxSessionEvents', '10001', 'a whole number from 1 to 10000'],
      ['taskConfig: { maxIterations: 1001 }', 'taskConfig.maxIterations', '1001', 'a whole number from 0 to 1000'],
      ['taskConfig: { maxRuntimeSeconds: 86401 }', 'taskConfig.maxRuntimeSeconds', '86401', 'a whole number from 0 to 86400'],
      ['taskConfig: { maxToolCalls: -1 }', 'taskConfig.maxToolCalls', '-1', 'a whole number from 0 to 10000'],
      ['autonomous: { intervalSeconds: 3601 }', 'autonomous.intervalSeconds', '3601', 'a whole number from 0 to 3600'],
      ['autonomous: { maxIterRuntimeSeconds: -1 }', 'autonomous.maxIterRuntimeSeconds', '-1', 'a whole number from 0 to 86400'],
      ['modelSettings: { temperature: 2.1 }', 'modelSettings.temperature', '2.1', 'a number from 0 to 2'],
      ['modelSettings: { seed: 0.5 }', 'modelSettings.seed', '0.5', 'a whole number'],
      ['modelSettings: { maxTokens: 0 }', 'modelSettings.maxTokens', '0', 'a whole number of at least 1'],
      ['modelSettings: { timeoutSeconds: 3601 }', 'modelSettings.timeoutSeconds', '3601', 'a whole number from 1 to 3600'],
    ] as const
  ).map(([config, path, given, allowed]) => ({
    title: `out of bounds: ${config}`,
    text: working(`  config: { ${config} }`),
    at: expect.stringMatching(`^15:\\d+ Agent boss spec.config.${path}$`) as string,
    message: `given ${given}, allowed: ${allowed}`,
  })),
  // fields that contradict each other
  {
    title: 'telemetry in two places that differ',
    text: working('  telemetry: { enabled: true }\n  config: { telemetry: { enabled: false } }'),
    at: '15:14 Agent boss spec.telemetry',
    message:
      'given a mapping with enabled, allowed: one of spec.telemetry and spec.config.telemetry, or the same in both; they differ',
  },
  ...['localhost', 'ftp://collector:21', 'http://', 'http://user:secret@collector:4317', ':4317', 'collector:4317/v1'].map(
    (endpoint) => ({
      title: `an OTLP endpoint that is none: ${endpoint}`,
      text: working(`  telemetry: { endpoint: "${endpoint}" }`),
      at: '15:26 Agent boss spec.telemetry.endpoint',
      message: `given "${endpoint.replace('user:secret', '…')}", allowed: host:port, or a URL that begins with http://, https:// or grpc://, without user and password`,
    }),
  ),
  {
    title: 'a trace boundary where no task is',
    text: mcpServer('  runtime: echo\n  telemetry: { traceBoundary: task }'),
    at: '6:16 MCPServer tools spec.telemetry.traceBoundary',
    message: 'unknown field, allowed: enabled, endpoint',
  },
  {
    title: 'a trace boundary that is none',
    text: working('  telemetry: { traceBoundary: turn }'),
    at: '15:31 Agent boss spec.telemetry.traceBoundary',
    message: 'given "turn", allowed: "task" or "activation"',
  },
  {
    title: 'more pods at least than at most',
    text: working('  scaling: { minReplicas: 3, maxReplicas: 2 }'),
    at: '15:27 Agent boss spec.scaling.minReplicas',
    message: 'given 3, allowed: at most maxReplicas',
  },
  {
    title: 'a scaler that is none',
    text: working('  scaling: { scaler: builtin }'),
    at: '15:22 Agent boss spec.scaling.scaler',
    message: 'given "builtin", allowed: "Builtin" or "External"; did you mean "Builtin"?',
    nearest: 'Builtin',
  },
  {
    title: 'a quantity with a fraction that is no text',
    text: working('  container: { resources: { limits: { cpu: 0.5 } } }'),
    at: '15:44 Agent boss spec.container.resources.limits.cpu',
    message: 'given 0.5, allowed: a quantity such as 100m, 0.5 (in quotes), 2 or 128Mi',
  },
  {
    title: 'a variable set twice',
    text: working('  container: { env: [{ name: MODE, value: a }, { name: MODE, value: b }] }'),
    at: '15:56 Agent boss spec.container.env[1].name',
    message: 'given text that is not shown here, allowed: each name once',
  },
  {
    title: 'a text that no variable of a pod can hold',
    text: working(`  config: { instructions: ${'x'.repeat(131_073)} }`),
    at: '15:27 Agent boss spec.config.instructions',
    message: expect.stringMatching(/^given "x+…", allowed: text of at most 131072 characters$/) as string,
  },
  ...(
    [
      ['type: remote', 'type', '"remote"', '"remote" only with memoryStore'],
      ['type: local, memoryStore: store', 'memoryStore', '"store"', 'no memoryStore with type "local"'],
      ['scope: user', 'scope', '"user"', '"user" and "group" only with memoryStore'],
      ['tools: read', 'tools', '"read"', 'memory tools only with memoryStore'],
      ['defaultReadScope: agent', 'defaultReadScope', '"agent"', 'only "session" without memoryStore'],
      ['readScopes: [agent]', 'readScopes', 'a list', 'only "session" without memoryStore'],
      ['memoryStore: s, defaultReadScope: user, readScopes: [agent]', 'defaultReadScope', '"user"', 'one of readScopes'],
      ['memoryStore: s, readScopes: [agent, user]', 'readScopes', 'a list', 'one scope, unless tools is "read" or "all"'],
    ] as const
  ).map(([memory, path, given, allowed]) => ({
    title: `memory: ${memory}`,
    text: working(`  config: { memory: { ${memory} } }`),
    at: expect.stringMatching(`^15:\\d+ Agent boss spec.config.memory.${path}$`) as string,
    message: `given ${given}, allowed: ${allowed}`,
  })),
  {
    title: 'Proxy with hostedConfig',
    text: modelApi('  mode: Proxy\n  proxyConfig: { models: ["*"] }\n  hostedConfig: { model: m }'),
    at: '7:17 ModelAPI models spec.hostedConfig',
    message: 'given a mapping with model, allowed: hostedConfig only with mode Hosted',
  },
  {
    title: 'Hosted with proxyConfig',
    text: modelApi('  mode: Hosted\n  hostedConfig: { model: m }\n  proxyConfig: { models: ["*"] }'),
    at: '7:16 ModelAPI models spec.proxyConfig',
    message: 'given a mapping with models, allowed: proxyConfig only with mode Proxy',
  },
  {
    title: 'Proxy without proxyConfig',
    text: modelApi('  mode: Proxy'),
    at: '4:1 ModelAPI models spec.proxyConfig',
    message: 'given nothing, allowed: proxyConfig, which mode Proxy needs',
  },
  {
    title: 'Hosted without hostedConfig',
    text: modelApi('  mode: Hosted'),
    at: '4:1 ModelAPI models spec.hostedConfig',
    message: 'given nothing, allowed: hostedConfig, which mode Hosted needs',
  },
  {
    title: 'no models',
    text: modelApi('  mode: Proxy\n  proxyConfig: { models: [] }'),
    at: '6:26 ModelAPI models spec.proxyConfig.models',
    message: 'given an empty list, allowed: a list that is not empty',
  },
  {
    title: 'a misspelt mode',
    text: modelApi('  mode: proxy\n  proxyConfig: { models: [m] }'),
    at: '5:9 ModelAPI models spec.mode',
    message: 'given "proxy", allowed: "Proxy" or "Hosted"; did you mean "Proxy"?',
    nearest: 'Proxy',
  },
  {
    title: 'an address that is no URL',
    text: modelApi('  mode: Proxy\n  proxyConfig: { models: [m], apiBase: localhost:11434 }'),
    at: '6:40 ModelAPI models spec.proxyConfig.apiBase',
    message: 'given "localhost:11434", allowed: a URL that begins with http:// or https://',
  },
  {
    title: 'a key as text, which is not repeated',
    text: modelApi('  mode: Proxy\n  proxyConfig: { models: [m], apiKey: sk-1234567890 }'),
    at: '6:39 ModelAPI models spec.proxyConfig.apiKey',
    message: 'given text that is not shown here, allowed: a mapping (value, valueFrom)',
  },
  {
    title: 'a key from two places',
    text: modelApi(
      '  mode: Proxy\n  proxyConfig: { models: [m], apiKey: { value: sk-1234567890, valueFrom: { secretKeyRef: { name: a, key: b } } } }',
    ),
    at: '6:48 ModelAPI models spec.proxyConfig.apiKey.value',
    message: 'given text that is not shown here, allowed: exactly one of value and valueFrom',
  },
  {
    title: 'a key from nowhere',
    text: modelApi('  mode: Proxy\n  proxyConfig: { models: [m], apiKey: { valueFrom: {} } }'),
    at: '6:41 ModelAPI models spec.proxyConfig.apiKey.valueFrom.secretKeyRef',
    message: 'given nothing, allowed: exactly one of secretKeyRef and configMapKeyRef',
  },
  {
    title: 'a Secret name that leads elsewhere',
    text: modelApi(
      '  mode: Proxy\n  proxyConfig: { models: [m], apiKey: { valueFrom: { secretKeyRef: { name: ../etc, key: passwd } } } }',
    ),
    at: '6:76 ModelAPI models spec.proxyConfig.apiKey.valueFrom.secretKeyRef.name',
    message:
      'given text that is not shown here, allowed: the name of a Secret or ConfigMap: lower-case letters, digits, "-" and "."',
  },
  {
    title: 'no configuration behind configYaml',
    text: modelApi('  mode: Proxy\n  proxyConfig: { models: [m], configYaml: {} }'),
    at: '6:31 ModelAPI models spec.proxyConfig.configYaml.fromString',
    message: 'given nothing, allowed: exactly one of fromString and fromSecretKeyRef',
  },
  // tool runtimes
  {
    title: 'a misspelt runtime',
    text: mcpServer('  runtime: calculater'),
    at: '5:12 MCPServer tools spec.runtime',
    message:
      'given "calculater", allowed: calculator, echo, files, http-fetch, stdio, typescript, url, python-string, kubernetes, slack, pctx-codemode, fastmcp-codemode, custom, or another runtime of the installation; did you mean "calculator"?',
    nearest: 'calculator',
  },
  {
    title: 'stdio without a command',
    text: mcpServer('  runtime: stdio'),
    at: '4:1 MCPServer tools spec.params',
    message: 'given nothing, allowed: a command line such as "npx -y my-mcp-server", or YAML with command and args',
  },
  {
    title: 'stdio with a pipe',
    text: mcpServer('  runtime: stdio\n  params: node server.js --token abc | tee log'),
    at: '6:11 MCPServer tools spec.params',
    message: `given "node …", allowed: a plain command line: no shell reads it, so put | in single quotes, or run "sh -c '…'"`,
  },
  {
    title: 'stdio with an open quote',
    text: mcpServer(`  runtime: stdio\n  params: node 'server.js`),
    at: '6:11 MCPServer tools spec.params',
    message: `given "node …", allowed: a command line in which each ' is closed`,
  },
  {
    title: 'stdio with an unknown field',
    text: mcpServer('  runtime: stdio\n  params: |\n    command: node\n    arguments: [server.js]'),
    at: '6:11 MCPServer tools spec.params',
    message: 'given "command: …", allowed: YAML with command, args, env, passEnv (Unrecognized key: "arguments")',
  },
  {
    title: 'params as a mapping',
    text: mcpServer('  runtime: stdio\n  params: { command: node }'),
    at: '6:11 MCPServer tools spec.params',
    message: 'given a mapping with command, allowed: text; write a mapping as text too, below "params: |"',
  },
  {
    title: 'a url that is none, whose password is not repeated',
    text: mcpServer('  runtime: url\n  params: htps://me:secret@tools.example/mcp?key=1'),
    at: '6:11 MCPServer tools spec.params',
    message:
      'given "htps://tools.example/mcp …", allowed: a URL that begins with http:// or https://, or YAML with url and headersFromEnv',
  },
  // references
  {
    title: 'a ModelAPI that is not there',
    text: agent('  modelAPI: model\n  model: gpt-4o'),
    at: '13:13 Agent boss spec.modelAPI',
    message: 'given "model", allowed: ModelAPIs of namespace default: models; did you mean "models"?',
    nearest: 'models',
  },
  {
    title: 'a ModelAPI of another namespace',
    text: agent('  modelAPI: models\n  model: gpt-4o', '{ name: boss, namespace: team }'),
    at: '13:13 Agent boss spec.modelAPI',
    message:
      'given "models", allowed: ModelAPIs of namespace team: there is none; the one in namespace default cannot be referred to from here',
  },
  {
    title: 'a model that is not offered',
    text: agent('  modelAPI: models\n  model: gpt-4'),
    at: '14:10 Agent boss spec.model',
    message: 'given "gpt-4", allowed: what ModelAPI models offers: gpt-4o, gemini/*; did you mean "gpt-4o"?',
    nearest: 'gpt-4o',
  },
  {
    title: 'a model that is not the hosted one',
    text: `${modelApi('  mode: Hosted\n  hostedConfig: { model: "smollm2:135m" }')}---\n${agent('  modelAPI: models\n  model: smollm2').slice(models.length)}`,
    at: '13:10 Agent boss spec.model',
    message:
      'given "smollm2", allowed: what ModelAPI models offers: smollm2:135m, ollama/smollm2:135m; did you mean "smollm2:135m"?',
    nearest: 'smollm2:135m',
  },
  {
    title: 'an MCPServer that is not there',
    text: working('  mcpServers:\n    - tolls', `\n---\n${mcpServer('  runtime: echo')}`),
    at: '16:7 Agent boss spec.mcpServers[0]',
    message: 'given "tolls", allowed: MCPServers of namespace default: tools; did you mean "tools"?',
    nearest: 'tools',
  },
  {
    title: 'an MCPServer named twice',
    text: working('  mcpServers: [tools, tools]', `\n---\n${mcpServer('  runtime: echo')}`),
    at: '15:23 Agent boss spec.mcpServers[1]',
    message: 'given "tools", allowed: each name once',
  },
  {
    title: 'a peer that is not there',
    text: working('  agentNetwork:\n    access: [worker]'),
    at: '16:14 Agent boss spec.agentNetwork.access[0]',
    message: 'given "worker", allowed: Agents of namespace default: there is none',
  },
  {
    title: 'an agent in its own access list',
    text: working('  agentNetwork: { access: [boss] }'),
    at: '15:28 Agent boss spec.agentNetwork.access[0]',
    message: 'given "boss", allowed: names of other agents, not its own',
  },
  {
    title: 'a peer named twice, which would be two tools of one name',
    text: working(
      '  agentNetwork: { access: [boss-2, boss-2] }',
      `\n---\n${working('').slice(models.length).replace('boss', 'boss-2')}`,
    ),
    at: '15:36 Agent boss spec.agentNetwork.access[1]',
    message: 'given "boss-2", allowed: each name once',
  },
]

test.each(cases)('refuses $title', ({ text, at, message, nearest }) => {
  const problems = problemsOf(text)

  expect(problems.map(placeOf)).toEqual([at])
  expect(problems[0]).toMatchObject({ file: 'team.yaml', message })
  expect(problems[0]?.nearest).toBe(nearest)
})

test('reports every mistake at once, in reading order, as text for people', () => {
  const text = agent('  modelAPI: modles\n  model: gpt-4o\n  confg: {}\n  config: { reasoningLoopMaxSteps: 50 }\n')

  const error = errorOf(`${text}---\n${mcpServer('  params: 1')}`)

  expect(error.code).toBe('manifest_invalid')
  expect(error.message).toBe(`5 mistakes in the manifests
team.yaml:13:13  Agent boss spec.modelAPI
    given "modles", allowed: ModelAPIs of namespace default: models; did you mean "models"?
team.yaml:15:3  Agent boss spec.confg
    unknown field, allowed: ${agentFields}; did you mean "config"?
team.yaml:16:36  Agent boss spec.config.reasoningLoopMaxSteps
    given 50, allowed: a whole number from 1 to 20
team.yaml:21:1  MCPServer tools spec.runtime
    given nothing, allowed: text that is not empty
team.yaml:22:11  MCPServer tools spec.params
    given 1, allowed: text; write a mapping as text too, below "params: |"`)
})

test('checks rules between fields although other fields of the same object are wrong', () => {
  const problems = problemsOf(working('  config: { memory: { type: remote, contextLimit: 0, typo: 1 } }'))

  expect(problems.map(({ path }) => path)).toEqual([
    'spec.config.memory.type',
    'spec.config.memory.contextLimit',
    'spec.config.memory.typo',
  ])
})

test('says nothing of a missing name that may stand in a document that cannot be read', () => {
  const problems = problemsOf(`${working('  mcpServers: [tools]')}\n---\nkind: MCPServer\nmetadata: [\n`)

  expect(problems.map(({ message }) => message.split(':')[0])).toEqual(['not YAML'])
})

test('finds the line of a value behind an anchor and a merge key', () => {
  const text = working('  config: &shared { reasoningLoopMaxSteps: 99 }')
  const second = working('  config: *shared').slice(models.length).replace('boss', 'other')

  // Anchors end with their document, so the second cannot see it; within one document they count.
  expect(problemsOf(`${text}\n---\n${second}`).map(placeOf)).toEqual([
    '15:44 Agent boss spec.config.reasoningLoopMaxSteps',
    '17:1',
  ])
  expect(
    problemsOf(working('  podSpec: { x: &limits { timeout: never } }\n  gatewayRoute: { <<: *limits }')).map(({ line, path }) => [
      line,
      path,
    ]),
  ).toEqual([[16, 'spec.gatewayRoute.timeout']])
})

function placeOf({ line, column, resource, path }: Problem): string {
  return [`${line}:${column}`, resource, path].filter(Boolean).join(' ')
}

function problemsOf(text: string): readonly Problem[] {
  return errorOf(text).problems
}

function errorOf(text: string): ManifestError {
  try {
    parseManifests([{ file: 'team.yaml', text }])
  } catch (error) {
    if (error instanceof ManifestError) return error
    throw error
  }
  throw new Error('expected the manifests to be refused')
}
