/** For every rule between fields: what breaks it and nothing else, and what comes as near as it can. */
import type { Kind } from '../../manifests/loading/declaration.ts'
import { type Example, objectOf } from './examples.ts'

interface RuleExamples {
  readonly kind: Kind
  /** Of the field that a mistake is reported at. */
  readonly at: string
  /** As the rule says it; `kind`, `at` and these words together name the rule. */
  readonly allowed: string
  /** Specs, without what each kind needs; a null takes a field away. */
  readonly broken: readonly Spec[]
  readonly sound: readonly Spec[]
}

type Spec = Readonly<Record<string, unknown>>

const memory = (fields: Spec): Spec => ({ config: { memory: fields } })
const proxy = (fields: Spec): Spec => ({ proxyConfig: fields })
const noModel: Spec = { modelAPI: null, model: null }
const secretKeyRef = { name: 'keys', key: 'openai' }

export const ruleExamples: readonly RuleExamples[] = [
  {
    kind: 'Agent',
    at: 'spec.agentNetwork.access',
    allowed: 'names of other agents, not its own',
    broken: [{ agentNetwork: { access: ['example'] } }, { agentNetwork: { access: ['other', 'example'] } }],
    sound: [{ agentNetwork: { access: ['example-2'] } }, { agentNetwork: null }],
  },
  {
    kind: 'Agent',
    at: 'spec.external',
    allowed: 'no external with machineRef: a machine runs here',
    broken: [{ external: true, machineRef: { path: 'boss.ts' } }],
    sound: [{ external: false, machineRef: { path: 'boss.ts' } }, { external: true }, { machineRef: { path: 'boss.ts' } }],
  },
  {
    kind: 'Agent',
    at: 'spec.model',
    allowed: 'text that is not empty: the name of a model of modelAPI',
    broken: [{ model: null }, { model: null, external: true }],
    sound: [{}],
  },
  {
    kind: 'Agent',
    at: 'spec.modelAPI',
    allowed: 'the name of a ModelAPI that offers the model',
    broken: [{ modelAPI: null }, { modelAPI: null, machineRef: { path: 'boss.ts' } }],
    sound: [{}],
  },
  {
    kind: 'Agent',
    at: 'spec.modelAPI',
    allowed: 'modelAPI and model, unless machineRef or external is set',
    broken: [noModel, { ...noModel, external: false }],
    sound: [
      { ...noModel, external: true },
      { ...noModel, machineRef: { path: 'boss.ts' } },
    ],
  },
  {
    kind: 'Agent',
    at: 'spec.telemetry',
    allowed: 'one of spec.telemetry and spec.config.telemetry, or the same in both; they differ',
    broken: [
      { telemetry: { enabled: true }, config: { telemetry: { enabled: false } } },
      { telemetry: { enabled: true }, config: { telemetry: {} } },
      { telemetry: {}, config: { telemetry: { endpoint: 'collector:4317' } } },
      { telemetry: { endpoint: 'collector:4317' }, config: { telemetry: { endpoint: 'collector:4318' } } },
      { telemetry: { traceBoundary: 'activation' }, config: { telemetry: {} } },
    ],
    sound: [
      { telemetry: { enabled: true }, config: { telemetry: { enabled: true } } },
      { telemetry: { enabled: true, endpoint: 'c:1' }, config: { telemetry: { endpoint: 'c:1', enabled: true } } },
      { telemetry: { traceBoundary: 'task' }, config: { telemetry: {} } },
      { telemetry: {}, config: { telemetry: {} } },
      { telemetry: { enabled: true } },
      { config: { telemetry: { enabled: true } } },
    ],
  },
  {
    kind: 'Agent',
    at: 'spec.scaling.minReplicas',
    allowed: 'at most maxReplicas',
    broken: [{ scaling: { minReplicas: 3, maxReplicas: 2 } }, { scaling: { minReplicas: 11 } }],
    sound: [{ scaling: { minReplicas: 2, maxReplicas: 2 } }, { scaling: { minReplicas: 10 } }, { scaling: {} }],
  },
  {
    kind: 'Agent',
    at: 'spec.config.memory.type',
    allowed: '"remote" only with memoryStore',
    broken: [memory({ type: 'remote' })],
    sound: [memory({ type: 'remote', memoryStore: 's' }), memory({ type: 'redis' }), memory({ memoryStore: 's' }), memory({})],
  },
  {
    kind: 'Agent',
    at: 'spec.config.memory.memoryStore',
    allowed: 'no memoryStore with type "local"',
    broken: [memory({ type: 'local', memoryStore: 's' })],
    sound: [memory({ type: 'local' }), memory({ type: 'redis', memoryStore: 's' })],
  },
  {
    kind: 'Agent',
    at: 'spec.config.memory.scope',
    allowed: '"user" and "group" only with memoryStore',
    broken: [memory({ scope: 'user' }), memory({ scope: 'group' })],
    sound: [memory({ scope: 'user', memoryStore: 's' }), memory({ scope: 'session' }), memory({ scope: 'agent' })],
  },
  {
    kind: 'Agent',
    at: 'spec.config.memory.tools',
    allowed: 'memory tools only with memoryStore',
    broken: [memory({ tools: 'write' })],
    sound: [memory({ tools: 'write', memoryStore: 's' })],
  },
  {
    kind: 'Agent',
    at: 'spec.config.memory.defaultReadScope',
    allowed: 'only "session" without memoryStore',
    broken: [memory({ defaultReadScope: 'agent' })],
    sound: [memory({ defaultReadScope: 'session' }), memory({ defaultReadScope: 'agent', memoryStore: 's' })],
  },
  {
    kind: 'Agent',
    at: 'spec.config.memory.readScopes',
    allowed: 'only "session" without memoryStore',
    broken: [memory({ readScopes: ['agent'] })],
    sound: [memory({ readScopes: ['session'] }), memory({ readScopes: [] }), memory({ readScopes: ['agent'], memoryStore: 's' })],
  },
  {
    kind: 'Agent',
    at: 'spec.config.memory.defaultReadScope',
    allowed: 'one of readScopes',
    broken: [memory({ memoryStore: 's', defaultReadScope: 'user', readScopes: ['agent'] })],
    sound: [memory({ memoryStore: 's', defaultReadScope: 'agent', readScopes: ['agent'] })],
  },
  {
    kind: 'Agent',
    at: 'spec.config.memory.readScopes',
    allowed: 'one scope, unless tools is "read" or "all"',
    broken: [
      memory({ memoryStore: 's', readScopes: ['agent', 'user'] }),
      memory({ memoryStore: 's', readScopes: ['agent', 'user'], tools: 'write' }),
    ],
    sound: [
      memory({ memoryStore: 's', readScopes: ['agent', 'user'], tools: 'read' }),
      memory({ memoryStore: 's', readScopes: ['agent', 'user'], tools: 'all' }),
      memory({ memoryStore: 's', readScopes: ['agent'], tools: 'write' }),
    ],
  },
  {
    kind: 'MCPServer',
    at: 'spec.params',
    allowed: 'params, which this runtime cannot do without',
    broken: ['files', 'http-fetch', 'stdio', 'typescript', 'url'].flatMap((runtime) => [
      { runtime },
      { runtime, params: '' },
      { runtime, params: ' \n\t' },
    ]),
    sound: [{ runtime: 'calculator' }, { runtime: 'python-string', params: '' }, { runtime: 'files', params: './notes' }],
  },
  {
    kind: 'ModelAPI',
    at: 'spec.proxyConfig',
    allowed: 'proxyConfig, which mode Proxy needs',
    broken: [{ proxyConfig: null }],
    sound: [{}],
  },
  {
    kind: 'ModelAPI',
    at: 'spec.proxyConfig',
    allowed: 'proxyConfig only with mode Proxy',
    broken: [{ mode: 'Hosted', hostedConfig: { model: 'm' } }],
    sound: [{ mode: 'Hosted', hostedConfig: { model: 'm' }, proxyConfig: null }],
  },
  {
    kind: 'ModelAPI',
    at: 'spec.hostedConfig',
    allowed: 'hostedConfig, which mode Hosted needs',
    broken: [{ mode: 'Hosted', proxyConfig: null }],
    sound: [{ mode: 'Hosted', proxyConfig: null, hostedConfig: { model: 'm' } }],
  },
  {
    kind: 'ModelAPI',
    at: 'spec.hostedConfig',
    allowed: 'hostedConfig only with mode Hosted',
    broken: [{ hostedConfig: { model: 'm' } }],
    sound: [{}],
  },
  {
    kind: 'ModelAPI',
    at: 'spec.proxyConfig.apiKey.value',
    allowed: 'exactly one of value and valueFrom',
    broken: [proxy({ apiKey: {} }), proxy({ apiKey: { value: 'k', valueFrom: { secretKeyRef } } })],
    sound: [proxy({ apiKey: { value: 'k' } }), proxy({ apiKey: { valueFrom: { secretKeyRef } } })],
  },
  {
    kind: 'ModelAPI',
    at: 'spec.proxyConfig.apiKey.valueFrom.secretKeyRef',
    allowed: 'exactly one of secretKeyRef and configMapKeyRef',
    broken: [
      proxy({ apiKey: { valueFrom: {} } }),
      proxy({ apiKey: { valueFrom: { secretKeyRef, configMapKeyRef: secretKeyRef } } }),
    ],
    sound: [proxy({ apiKey: { valueFrom: { configMapKeyRef: secretKeyRef } } })],
  },
  {
    kind: 'ModelAPI',
    at: 'spec.proxyConfig.configYaml.fromString',
    allowed: 'exactly one of fromString and fromSecretKeyRef',
    broken: [proxy({ configYaml: {} }), proxy({ configYaml: { fromString: '{}', fromSecretKeyRef: secretKeyRef } })],
    sound: [proxy({ configYaml: { fromString: '{}' } }), proxy({ configYaml: { fromSecretKeyRef: secretKeyRef } })],
  },
]

/** Each as an object, a broken one with where and how it is refused. */
export const examplesOfRules: readonly Example[] = ruleExamples.flatMap(({ kind, at, allowed, broken, sound }) => [
  ...broken.map((spec) => ({ ...objectWith(kind, spec), refused: { at, message: allowed } })),
  ...sound.map((spec) => objectWith(kind, spec)),
])

function objectWith(kind: Kind, spec: Spec): Example {
  const object = objectOf(kind, '', structuredClone(spec) as Record<string, unknown>)
  const withoutNulls = JSON.parse(JSON.stringify(object, (_key, value) => (value === null ? undefined : value))) as typeof object
  return { title: `${kind} with ${JSON.stringify(spec)}`, kind, object: withoutNulls }
}
