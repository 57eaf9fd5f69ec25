/** Values of the chart to try: one for each that has an effect, all of them together, and what has to be refused. */

export interface Sample {
  readonly value: unknown
  /** What else has to be set for it to matter. */
  readonly beside?: object
  /** What has to be set together with it. */
  readonly also?: object
  /** What is then found in the rendered objects. */
  readonly shows?: readonly string[]
}

const existing = { nats: { enabled: false }, broker: { url: 'nats://other:4222' } }
const withCa = { ...existing, broker: { ...existing.broker, ca: { configMapName: 'ca' } } }
const withCredentials = { ...existing, broker: { ...existing.broker, credentials: { secretName: 's' } } }
const withOperator = { ...existing, broker: { ...existing.broker, operatorCredentials: { secretName: 's' } } }
const peers = [{ podSelector: { matchLabels: { role: 'sender' } } }]
const spread = [{ maxSkew: 2, topologyKey: 'zone', whenUnsatisfiable: 'DoNotSchedule', labelSelector: {} }]
const memory = { limits: { memory: '777Mi' } }
const toleration = [{ key: 'dedicated', operator: 'Exists' }]
const nodeAffinity = { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } }
const digest = `sha256:${'a'.repeat(64)}`

/** By path. */
export const effects: Readonly<Record<string, Sample>> = {
  'controllerManager.replicas': { value: 2, shows: ['"maxUnavailable":1'] },
  'controllerManager.manager.args': { value: ['--leader-elect', '--more'], shows: ['"--more"]'] },
  'controllerManager.manager.env': { value: [{ name: 'HTTPS_PROXY', value: 'http://proxy' }], shows: ['HTTPS_PROXY'] },
  'controllerManager.manager.nodeOptions': { value: '--max-old-space-size=512', shows: ['"--max-old-space-size=512"'] },
  'controllerManager.manager.image.repository': { value: 'registry.example/kaos', shows: ['registry.example/kaos:0.1.0'] },
  'controllerManager.manager.image.tag': { value: '7.7', shows: ['kaos-actors:7.7'] },
  'controllerManager.manager.image.digest': { value: digest, shows: [`kaos-actors@${digest}`] },
  'controllerManager.manager.imagePullPolicy': { value: 'Always' },
  'controllerManager.manager.containerSecurityContext': { value: { privileged: false } },
  'controllerManager.manager.resources': { value: memory, shows: ['777Mi'] },
  'controllerManager.podSecurityContext': { value: { supplementalGroups: [7] } },
  'controllerManager.podAnnotations': { value: { team: 'x' } },
  'controllerManager.podLabels': { value: { team: 'x' } },
  'controllerManager.priorityClassName': { value: 'high' },
  'controllerManager.nodeSelector': { value: { disk: 'fast' } },
  'controllerManager.affinity': { value: nodeAffinity },
  'controllerManager.tolerations': { value: toleration },
  'controllerManager.topologySpreadConstraints': { value: spread, shows: ['DoNotSchedule'] },
  'serviceAccount.create': { value: false },
  'serviceAccount.automount': { value: false },
  'serviceAccount.annotations': { value: { role: 'x' } },
  'serviceAccount.name': { value: 'other' },
  'rbac.create': { value: false },
  watchNamespaces: { value: ['a'], shows: ['"--namespace=a"'] },
  'crds.enabled': { value: false },
  'crds.keep': { value: false },
  imagePullSecrets: { value: [{ name: 'pull' }], shows: ['"imagePullSecrets":[{"name":"pull"}]'] },
  logLevel: { value: 'debug', shows: ['logLevel: DEBUG', '"value":"DEBUG"'] },
  'retention.days': { value: 90, shows: ['days: 90'] },
  'telemetry.enabled': { value: false, shows: ['enabled: false'] },
  'telemetry.endpoint': { value: 'collector:4317' },
  kubernetesClusterDomain: { value: 'example.internal', shows: ['svc.example.internal'] },
  'defaultImages.agentRuntime': { value: 'own:1' },
  'defaultImages.litellm': { value: 'own:1' },
  'defaultImages.ollama': { value: 'own:1' },
  'defaultImages.mcpPythonString': { value: '' },
  'defaultImages.mcpPctxCodemode': { value: '' },
  'defaultImages.mcpFastmcpCodemode': { value: '' },
  'defaultImages.mcpKubernetes': { value: '' },
  'defaultImages.mcpSlack': { value: '' },
  'mcpRuntimes.custom': { value: { mine: { image: 'own:1' } } },
  'pods.imagePullPolicy': { value: 'Never' },
  'pods.hostCommand': { value: ['node', 'x.js'] },
  'pods.workingDir': { value: '/work' },
  'pods.resources.agent': { value: memory },
  'pods.resources.toolServer': { value: memory },
  'pods.resources.toolRuntime': { value: memory },
  'pods.resources.modelProxy': { value: memory },
  'pods.resources.hostedModel': { value: memory },
  'pods.podSecurityContext': { value: { runAsUser: null } },
  'pods.forbidden': { value: ['hostPath'] },
  'networkPolicy.enabled': { value: true },
  'networkPolicy.ingressFrom': { value: peers },
  'networkPolicy.egress': { value: [{ to: peers }] },
  'broker.url': { value: 'nats://third:4222', beside: existing },
  'broker.credentials.secretName': { value: 's', beside: existing, shows: ['/etc/kaos/broker/nats.creds'] },
  'broker.credentials.form': { value: 'token', beside: withCredentials, shows: ['NATS_TOKEN'] },
  'broker.operatorCredentials.secretName': { value: 's', beside: existing },
  'broker.operatorCredentials.form': { value: 'user', beside: withOperator, shows: ['NATS_USER'] },
  'broker.ca.configMapName': { value: 'ca', beside: existing, shows: ['NATS_CA'] },
  'broker.ca.key': { value: 'root.pem', beside: withCa },
  'broker.streamReplicas': { value: 5, beside: existing, shows: ['--stream-replicas=5'] },
  'nats.enabled': { value: false, also: { broker: existing.broker } },
  'nats.durability': { value: 'ThreeServers' },
  'nats.image': { value: 'nats:2.16.0' },
  'nats.imagePullPolicy': { value: 'Never' },
  'nats.storage.persistent': { value: false },
  'nats.storage.size': { value: '20Gi' },
  'nats.storage.className': { value: 'fast' },
  'nats.resources': { value: memory },
  'nats.networkPolicy.enabled': { value: false },
  'nats.networkPolicy.allowFrom': { value: peers },
  'nats.networkPolicy.monitorFrom': { value: peers, shows: ['"port":"monitor"'] },
  'nats.podSecurityContext': { value: { fsGroup: null } },
  'nats.podAnnotations': { value: { team: 'x' } },
  'nats.priorityClassName': { value: 'high' },
  'nats.nodeSelector': { value: { disk: 'fast' } },
  'nats.affinity': { value: nodeAffinity },
  'nats.tolerations': { value: toleration },
  'nats.topologySpreadConstraints': { value: spread, shows: ['DoNotSchedule'] },
  'metrics.service.enabled': { value: false },
  'metrics.service.annotations': { value: { team: 'x' } },
  'metrics.serviceMonitor.enabled': { value: true },
  'metrics.serviceMonitor.interval': { value: '10s', beside: { metrics: { serviceMonitor: { enabled: true } } } },
  'metrics.serviceMonitor.labels': { value: { team: 'x' }, beside: { metrics: { serviceMonitor: { enabled: true } } } },
  'metrics.prometheusRule.enabled': { value: true, shows: ['KaosTasksFail', 'KaosOperatorAway'] },
  'metrics.prometheusRule.labels': { value: { team: 'x' }, beside: { metrics: { prometheusRule: { enabled: true } } } },
  'metrics.allowFrom': { value: peers, beside: { networkPolicy: { enabled: true } } },
}

/** Everything set, with a broker that exists. */
export const allSamples = {
  controllerManager: {
    replicas: 2,
    podAnnotations: { team: 'x' },
    podLabels: { team: 'x' },
    priorityClassName: 'high',
    nodeSelector: { disk: 'fast' },
    affinity: nodeAffinity,
    tolerations: toleration,
    topologySpreadConstraints: spread,
    manager: { args: ['--leader-elect'], env: [{ name: 'A', value: 'b' }], image: { digest } },
  },
  serviceAccount: { annotations: { role: 'x' }, name: 'other' },
  watchNamespaces: ['a', 'b'],
  imagePullSecrets: [{ name: 'pull' }],
  logLevel: 'debug',
  retention: { days: 0 },
  telemetry: { enabled: true, endpoint: 'http://collector:4317' },
  kubernetesClusterDomain: 'example.internal',
  defaultImages: {
    agentRuntime: 'registry.example/own:1',
    litellm: 'registry.example/litellm:1',
    ollama: 'registry.example/ollama:1',
  },
  mcpRuntimes: { custom: { mine: { image: 'own:1', args: ['--x'], requiredEnv: ['KEY'] } } },
  pods: {
    imagePullPolicy: 'Always',
    hostCommand: ['node', '/kaos.js'],
    workingDir: '/work',
    resources: {
      agent: { limits: { memory: '1Gi' } },
      toolServer: { requests: { cpu: '10m' } },
      toolRuntime: { limits: { memory: '2Gi' } },
      modelProxy: { limits: { memory: '3Gi' } },
      hostedModel: { limits: { 'nvidia.com/gpu': 1 } },
    },
    podSecurityContext: { runAsUser: null, runAsGroup: null, fsGroup: null },
    forbidden: ['hostPath', 'privileged'],
  },
  networkPolicy: { enabled: true, ingressFrom: [{ namespaceSelector: {} }], egress: [{ ports: [{ port: 443 }] }] },
  nats: { enabled: false },
  broker: {
    url: 'tls://broker.example:4222',
    credentials: { secretName: 'broker', form: 'creds' },
    operatorCredentials: { secretName: 'broker-admin', form: 'creds' },
    ca: { configMapName: 'broker-ca', key: 'root.pem' },
    streamReplicas: 3,
  },
  metrics: {
    service: { annotations: { team: 'x' } },
    serviceMonitor: { enabled: true, labels: { team: 'x' } },
    prometheusRule: { enabled: true, labels: { team: 'x' } },
    allowFrom: peers,
  },
}

/** Title, values, and what is said. */
export const refusals: readonly (readonly [string, object, RegExp])[] = [
  ['two brokers', { broker: { url: 'nats://x:4222' } }, /set nats.enabled to false/],
  ['no broker', { nats: { enabled: false } }, /name a NATS server that exists/],
  [
    'a creds file for the broker of the chart',
    { broker: { credentials: { secretName: 's', form: 'creds' } } },
    /knows user and token/,
  ],
  [
    'a second user for the broker of the chart',
    { broker: { operatorCredentials: { secretName: 's', form: 'user' } } },
    /knows one user/,
  ],
  [
    'three servers that forget',
    { nats: { durability: 'ThreeServers', storage: { persistent: false } } },
    /set persistent to true, or durability to OneServer/,
  ],
  ['a gateway', { gatewayAPI: { enabled: true } }, /routes of the Gateway API are not made yet/],
  [
    'a ServiceMonitor without a Service',
    { metrics: { service: { enabled: false }, serviceMonitor: { enabled: true } } },
    /needs metrics.service.enabled/,
  ],
]

/** Path and value. */
export const nonsense: readonly (readonly [string, unknown])[] = [
  ['controllerManager.replica', 2],
  ['controllerManager.replicas', -1],
  ['controllerManager.replicas', '2'],
  ['controllerManager.manager.image.digest', 'abc'],
  ['controllerManager.manager.image.tag', 'a b'],
  ['controllerManager.manager.nodeOptions', 'max-old-space-size=512'],
  ['controllerManager.manager.resources', { limit: { memory: '1Gi' } }],
  ['watchNamespaces', ['Upper']],
  ['watchNamespaces', ['a', 'a']],
  ['watchNamespaces', 'a'],
  ['imagePullSecrets', ['pull']],
  ['logLevel', 'VERBOSE'],
  ['retention.days', 3],
  ['retention.days', '30'],
  ['retention.hours', 3],
  ['telemetry.enabled', 'sometimes'],
  ['telemetry.endpoint', 'http://user:password@collector:4317'],
  ['telemetry.endpoint', 'ftp://collector'],
  ['defaultImages.litellm', ''],
  ['mcpRuntimes.custom', { mine: { description: 'no image' } }],
  ['mcpRuntimes.custom', { mine: { image: 'x:1', transport: 'stdio' } }],
  ['pods.forbidden', ['everything']],
  ['pods.hostCommand', []],
  ['pods.resources', { litellm: { limits: { memory: '1Gi' } } }],
  ['pods.podSecurityContext', []],
  ['networkPolicy.egress', { to: [] }],
  ['broker.url', 'nats://user:password@broker:4222'],
  ['broker.url', 'http://broker'],
  ['broker.streamReplicas', 2],
  ['nats.durability', 'TwoServers'],
  ['nats.storage.size', 'ten'],
  ['metrics.serviceMonitor.interval', '30'],
  ['gateway.defaultTimeouts.agent', 'soon'],
]

/** `values` with one more, at a path with dots. */
export function valuesWith(path: string, value: unknown, values: object = {}): object {
  const [key, ...rest] = path.split('.') as [string, ...string[]]
  const inner = (values as Record<string, unknown>)[key]
  return { ...values, [key]: rest.length === 0 ? value : valuesWith(rest.join('.'), value, (inner as object | undefined) ?? {}) }
}
