import { describe, expect, it } from 'vitest'
import { parseManifests } from '../../../manifests/load.ts'
import { desiredAgent } from '../../../operator/desired/agent.ts'
import {
  agent,
  child,
  childrenOf,
  configText,
  container,
  type dependenciesOf,
  deployment,
  env,
  hosted,
  installation,
  mcpServer,
  planAgent,
  pod,
  proxy,
} from './cluster.ts'

const kindsOf = (plan: Parameters<typeof childrenOf>[0]) => childrenOf(plan).map(({ kind }) => kind)
const hashOf = (plan: Parameters<typeof childrenOf>[0]) =>
  deployment(plan).template.metadata.annotations['kaos.tools/config-hash']
const answer = (plan: Parameters<typeof childrenOf>[0]) =>
  plan.is === 'children' ? { is: plan.is, unmet: plan.unmet.map(({ reason }) => reason) } : { is: plan.is, reason: plan.reason }

describe('what stands behind an agent', () => {
  it('is a ServiceAccount, its manifest, a Deployment and a Service', () => {
    const plan = planAgent(agent('writer'))

    expect(kindsOf(plan)).toEqual(['ServiceAccount', 'ConfigMap', 'Deployment', 'Service'])
    expect(new Set(childrenOf(plan).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`))).toEqual(
      new Set(['team/agent-writer']),
    )
  })

  it('has no Service where it is not exposed', () => {
    expect(kindsOf(planAgent(agent('writer', { agentNetwork: { expose: false } })))).not.toContain('Service')
  })

  it('has a PodDisruptionBudget from two replicas on', () => {
    const kinds = [0, 1, 2].map((replicas) => kindsOf(planAgent(agent('writer'), {}, { replicas })))

    expect(kinds.map((each) => each.includes('PodDisruptionBudget'))).toEqual([false, false, true])
  })

  it('has other pods when the ModelAPI whose key they are given is another one of its name', () => {
    const annotations = (api: ReturnType<typeof proxy>, spec = {}) =>
      deployment(planAgent(agent('writer', spec), { modelApis: [api] })).template.metadata.annotations
    const anew = { ...proxy(), metadata: { ...proxy().metadata, uid: 'another' } }
    const ownKey = { container: { env: [{ name: 'LITELLM_MASTER_KEY', value: 'sk-own' }] } }
    const elsewhere = { container: { env: [{ name: 'MODEL_API_URL', value: 'https://models.test' }] } }

    expect(annotations(anew)).toEqual({ ...annotations(proxy()), 'kaos.tools/model-api-uid': 'another' })
    for (const without of [annotations(hosted('gpt-4o-mini')), annotations(proxy({}, ownKey)), annotations(proxy(), elsewhere)])
      expect(Object.keys(without)).toEqual(['kaos.tools/config-hash'])
  })

  it('has the replicas that it is told', () => {
    const asleep = planAgent(agent('writer'), {}, { replicas: 0 })

    expect(deployment(asleep).replicas).toBe(0)
  })

  it('has no children where a program of the user answers for it', () => {
    expect(planAgent(agent('writer', { external: true }), { modelApis: [] })).toMatchObject({ is: 'children', objects: [] })
  })

  it('is closed by a NetworkPolicy but for what it needs, where the installation wants that', () => {
    const values = { networkPolicy: { enabled: true }, telemetry: { endpoint: 'collector.obs:4317' } }

    const policy = child(planAgent(agent('writer'), {}, { installation: installation(values) }), 'NetworkPolicy')

    expect(child(planAgent(agent('writer')), 'NetworkPolicy')).toBeUndefined()
    expect(policy!.spec).toEqual({
      podSelector: { matchLabels: { app: 'agent', agent: 'writer' } },
      policyTypes: ['Ingress', 'Egress'],
      ingress: [
        {
          from: [
            { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'team' } } },
            { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kaos-system' } } },
          ],
          ports: [{ protocol: 'TCP', port: 8000 }],
        },
      ],
      egress: [
        {
          ports: [
            { protocol: 'UDP', port: 53 },
            { protocol: 'UDP', port: 5353 },
            { protocol: 'TCP', port: 53 },
            { protocol: 'TCP', port: 5353 },
          ],
        },
        { ports: [{ protocol: 'TCP', port: 4222 }] },
        { ports: [{ protocol: 'TCP', port: 4317 }] },
        {
          to: [{ podSelector: { matchLabels: { app: 'modelapi', modelapi: 'models' } } }],
          ports: [{ protocol: 'TCP', port: 8000 }],
        },
      ],
    })
  })

  it('may reach what the installation adds', () => {
    const rule = { to: [{ ipBlock: { cidr: '10.0.0.0/8' } }], ports: [{ protocol: 'TCP', port: 443 }] }
    const values = { networkPolicy: { enabled: true, egress: [rule] } }

    const policy = child(planAgent(agent('writer'), {}, { installation: installation(values) }), 'NetworkPolicy')

    expect((policy!.spec as { egress: unknown[] }).egress.at(-1)).toEqual(rule)
  })

  it('takes paths of its machine from the image', () => {
    const relative = planAgent(
      agent('clerk', { modelAPI: undefined, model: undefined, machineRef: { path: './machines/clerk.ts' } }),
    )
    const elsewhere = { machineRef: { path: 'clerk.ts' }, container: { image: 'mine:1', workingDir: '/srv' } }

    expect(configText(relative)).toContain('path: /app/machines/clerk.ts')
    expect(configText(planAgent(agent('clerk', { modelAPI: undefined, model: undefined, ...elsewhere })))).toContain(
      'path: /srv/clerk.ts',
    )
  })

  it('refuses a tool server of its own name, which its pod could not tell from it', () => {
    expect(answer(planAgent(agent('sums', { mcpServers: ['sums'] }), { mcpServers: [mcpServer('sums')] }))).toEqual({
      is: 'refused',
      reason: 'SpecInvalid',
    })
  })
})

describe('the manifest of an agent', () => {
  const team = { agents: [agent('editor', { config: { description: 'Edits.' } }), agent('printer', { external: true })] }

  it('has what it refers to, with the words of its peers, and is loaded', () => {
    const writer = agent('writer', { mcpServers: ['notes'], agentNetwork: { access: ['printer', 'editor'] } })

    const { agents, mcpServers, modelAPIs } = parseManifests([
      { file: 'kaos.yaml', text: configText(planAgent(writer, { ...team, mcpServers: [mcpServer('notes')] })) },
    ])

    expect(agents.map(({ metadata }) => metadata.name)).toEqual(['writer', 'printer', 'editor'])
    expect(agents.map(({ spec }) => [spec.config.description, spec.external])).toEqual([
      [undefined, undefined],
      [undefined, true],
      ['Edits.', undefined],
    ])
    expect([...mcpServers, ...modelAPIs].map(({ metadata }) => metadata.name)).toEqual(['notes', 'models'])
    expect(agents[0]!.spec.agentNetwork.access).toEqual(['printer', 'editor'])
  })

  it('leaves out peers that are not there', () => {
    const writer = agent('writer', { agentNetwork: { access: ['editor', 'ghost'] } })

    const { agents } = parseManifests([{ file: 'kaos.yaml', text: configText(planAgent(writer, team)) }])

    expect(agents[0]!.spec.agentNetwork.access).toEqual(['editor'])
  })

  it('says nothing that is a default, so that a new field with a default rolls no pod', () => {
    expect(
      configText(planAgent(agent('writer', { config: { reasoningLoopMaxSteps: 5, memory: { contextLimit: 7 } } }))),
    ).toContain('config:\n    memory:\n      contextLimit: 7\n')
    expect(configText(planAgent(agent('writer')))).not.toContain('config')
  })

  it('holds neither the keys nor the addresses of models', () => {
    const api = proxy({ apiBase: 'https://models.test/v1', apiKey: { value: 'sk-in-plain-text' } })

    const text = JSON.stringify(childrenOf(planAgent(agent('writer'), { modelApis: [api] })))

    expect(text).not.toMatch(/sk-in-plain-text|models\.test/)
  })

  it('rolls the pods when a peer comes, goes or describes itself in other words, and not when anything else of it changes', () => {
    const writer = agent('writer', { agentNetwork: { access: ['editor'] } })
    const hash = (agents: (typeof team)['agents']) => hashOf(planAgent(writer, { agents }))

    const before = hash(team.agents)

    expect(hash([])).not.toBe(before)
    expect(hash([agent('editor', { config: { description: 'Edits with care.' } })])).not.toBe(before)
    expect(hash([agent('editor', { config: { description: 'Edits.', instructions: 'New.' }, model: 'other' })])).toBe(before)
  })
})

describe('the variables of an agent', () => {
  it('name model, tools and peers as those of KAOS do', () => {
    const writer = agent('writer', {
      mcpServers: ['zoom', 'notes'],
      agentNetwork: { access: ['copy-editor'] },
      config: { systemPrompt: 'Be brief.' },
    })
    const plan = planAgent(writer, { agents: [agent('copy-editor')], mcpServers: [mcpServer('notes'), mcpServer('zoom')] })

    expect(env(plan)).toMatchObject({
      AGENT_NAME: 'writer',
      AGENT_SYSTEM_PROMPT: 'Be brief.',
      MODEL_API_URL: 'http://modelapi-models.team.svc.cluster.local:8000',
      MODEL_NAME: 'gpt-4o-mini',
      MODEL_API_KEY: 'secretKeyRef',
      AGENTIC_LOOP_MAX_STEPS: '5',
      MEMORY_MAX_SESSION_EVENTS: '500',
      MCP_SERVERS: 'notes,zoom',
      MCP_SERVER_zoom_URL: 'http://mcpserver-zoom.team.svc.cluster.local:8000',
      PEER_AGENTS: 'copy-editor',
      PEER_AGENT_COPY_EDITOR_CARD_URL: 'http://agent-copy-editor.team.svc.cluster.local:8000',
      LOG_LEVEL: 'INFO',
      NATS_URL: 'nats://nats.kaos-system:4222',
    })
  })

  it.each([
    { name: 'MODEL_NAME', value: 'another' },
    { name: 'LOG_LEVEL', value: 'DEBUG' },
    { name: 'AGENT_DESCRIPTION', value: 'Mine.' },
    { name: 'NATS_URL', value: 'nats://other:4222' },
    { name: 'OTEL_SERVICE_NAME', value: 'mine' },
  ])('give way to $name of the user', (variable) => {
    const values = { telemetry: { endpoint: 'http://collector:4317' } }
    const subject = agent('writer', {
      config: { description: 'Ours.' },
      container: { env: [variable] },
    })

    const names = container(planAgent(subject, {}, { installation: installation(values) })).env.filter(
      ({ name }) => name === variable.name,
    )

    expect(names).toEqual([variable])
  })

  it('come before those of the user, which may refer to them', () => {
    const plan = planAgent(agent('writer', { container: { env: [{ name: 'GREETING', value: 'I am $(AGENT_NAME)' }] } }))

    expect(container(plan).env.at(-1)).toEqual({ name: 'GREETING', value: 'I am $(AGENT_NAME)' })
  })

  it('hold texts as they were written, though the kubelet replaces what looks like a variable', () => {
    const instructions = 'Cost: $5, run $(AGENT_NAME), double $$ and $$(x)'

    const { AGENT_INSTRUCTIONS: text } = env(planAgent(agent('writer', { config: { instructions } })))

    expect(text).toBe('Cost: $5, run $$(AGENT_NAME), double $$$$ and $$$$(x)')
  })

  it('leave out a text that no process could be started with', () => {
    const plan = planAgent(agent('writer', { config: { instructions: 'x'.repeat(131_072) } }))

    expect(env(plan)).not.toHaveProperty('AGENT_INSTRUCTIONS')
    expect(configText(plan)).toContain('xxxxx')
  })

  it('ask a hosted model by the name that its Ollama has, without a key', () => {
    const plan = planAgent(agent('writer', { model: 'ollama/smollm2:135m' }), { modelApis: [hosted()] })

    expect(env(plan)).toMatchObject({
      MODEL_API_URL: 'http://modelapi-models.team.svc.cluster.local:11434',
      MODEL_NAME: 'smollm2:135m',
    })
    expect(env(plan)).not.toHaveProperty('MODEL_API_KEY')
  })

  it('send our key to no other address', () => {
    const elsewhere = [{ name: 'MODEL_API_URL', value: 'https://elsewhere.test' }]
    const byContainer = planAgent(agent('writer', { container: { env: elsewhere } }))
    const byPod = planAgent(agent('writer', { podSpec: { containers: [{ name: 'agent', env: elsewhere }] } }))

    expect([byContainer, byPod].map((plan) => env(plan).MODEL_API_KEY)).toEqual([undefined, undefined])
  })

  it.each([
    { form: 'creds', expected: { NATS_CREDS: '/etc/kaos/broker/nats.creds' } },
    { form: 'user', expected: { NATS_USER: 'secretKeyRef', NATS_PASSWORD: 'secretKeyRef' } },
    { form: 'token', expected: { NATS_TOKEN: 'secretKeyRef' } },
  ])('name credentials of the broker by reference, as $form', ({ form, expected }) => {
    const broker = { url: 'tls://nats:4222', credentials: { secretName: 'broker', form }, ca: { configMapName: 'broker-ca' } }

    const plan = planAgent(agent('writer'), {}, { installation: installation({ broker }) })

    expect(env(plan)).toMatchObject({ ...expected, NATS_CA: '/etc/kaos/broker/ca.crt' })
    expect(pod(plan).volumes.map(({ name }) => name)).toEqual(['tmp', 'manifest', 'broker'])
  })
})

describe('whether an agent starts', () => {
  const subject = (more = {}) => agent('writer', { mcpServers: ['notes'], agentNetwork: { access: ['editor'] }, ...more })
  const ready = { resource: proxy(), isReady: true }
  const notes = { resource: mcpServer('notes'), isReady: true }
  const decide = (dependencies: Partial<ReturnType<typeof dependenciesOf>>, { more = {}, isRunning = false } = {}) =>
    answer(
      desiredAgent(subject(more), {
        dependencies: { modelApis: [ready], mcpServers: [notes], peers: [agent('editor')], ...dependencies },
        installation: installation(),
        replicas: 1,
        isRunning,
      }),
    )
  const eager = { more: { waitForDependencies: false } }
  const running = { isRunning: true }

  it.each([
    ['all is ready', {}, {}, { is: 'children', unmet: [] }],
    ['the ModelAPI is missing', { modelApis: [] }, {}, { is: 'waiting', reason: 'ModelAPINotFound' }],
    ['the ModelAPI is missing and it does not wait', { modelApis: [] }, eager, { is: 'waiting', reason: 'ModelAPINotFound' }],
    ['the ModelAPI goes while it runs', { modelApis: [] }, running, { is: 'waiting', reason: 'ModelAPINotFound' }],
    [
      'the ModelAPI is not ready',
      { modelApis: [{ ...ready, isReady: false }] },
      {},
      { is: 'waiting', reason: 'WaitingForModelAPI' },
    ],
    [
      'it does not wait for the ModelAPI',
      { modelApis: [{ ...ready, isReady: false }] },
      eager,
      { is: 'children', unmet: ['WaitingForModelAPI'] },
    ],
    [
      'the ModelAPI fails while it runs',
      { modelApis: [{ ...ready, isReady: false }] },
      running,
      { is: 'children', unmet: ['WaitingForModelAPI'] },
    ],
    [
      'the key of the ModelAPI is not made yet while it runs',
      { modelApis: [{ ...ready, isKeyMissing: true }] },
      running,
      { is: 'waiting', reason: 'WaitingForModelAPI' },
    ],
    [
      'the model is not offered',
      { modelApis: [{ ...ready, resource: proxy({ models: ['gemini/*'] }) }] },
      eager,
      { is: 'refused', reason: 'ModelNotOffered' },
    ],
    ['an MCPServer is missing', { mcpServers: [] }, {}, { is: 'waiting', reason: 'MCPServerNotFound' }],
    [
      'an MCPServer is not ready',
      { mcpServers: [{ ...notes, isReady: false }] },
      {},
      { is: 'waiting', reason: 'MCPServerNotReady' },
    ],
    ['it does not wait for an MCPServer', { mcpServers: [] }, eager, { is: 'children', unmet: ['MCPServerNotFound'] }],
    ['a peer is missing', { peers: [] }, {}, { is: 'children', unmet: ['PeerNotFound'] }],
  ] as const)('is decided when %s', (_when, dependencies, circumstances, expected) => {
    expect(decide(dependencies as never, circumstances as never)).toEqual(expected)
  })

  it('names everything that it waits for', () => {
    const plan = desiredAgent(subject(), {
      dependencies: { modelApis: [{ ...ready, isReady: false }], mcpServers: [], peers: [] },
      installation: installation(),
      replicas: 1,
      isRunning: false,
    })

    expect(plan).toMatchObject({
      message: 'ModelAPI "models" is not ready; no MCPServer "notes" in namespace "team": create it, or correct spec.mcpServers',
    })
  })

  it.each([
    ['*', true],
    ['gpt-4o-mini', true],
    ['gpt-4o', false],
    ['openai/*', false],
  ])('is told by what the ModelAPI offers: %s', (offered, isOffered) => {
    expect(planAgent(agent('writer'), { modelApis: [proxy({ models: [offered] })] }).is).toBe(isOffered ? 'children' : 'refused')
  })

  it('looks at resources of its own namespace only', () => {
    const elsewhere = { ...proxy(), metadata: { ...proxy().metadata, namespace: 'other' } }

    expect(answer(planAgent(agent('writer'), { modelApis: [elsewhere] }))).toEqual({ is: 'waiting', reason: 'ModelAPINotFound' })
  })
})
