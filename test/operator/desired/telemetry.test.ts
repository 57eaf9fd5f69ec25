import { describe, expect, it } from 'vitest'
import { effectiveTelemetry } from '../../../operator/desired/pod/telemetry.ts'
import { agent, env, hosted, installation, mcpServer, planAgent, planApi, planServer, proxy } from './cluster.ts'

const ours = 'http://ours:4317'
const theirs = 'http://theirs:4317'
const named = (plan: Parameters<typeof env>[0], container?: string) =>
  Object.fromEntries(Object.entries(env(plan, container)).filter(([name]) => /OTEL|K8S/.test(name)))

describe('telemetry of a resource', () => {
  it.each([
    ['nobody says anything', {}, {}, { enabled: false, enabledFrom: 'Default' }],
    ['the installation has an endpoint', {}, { endpoint: ours }, { enabled: true, enabledFrom: 'Installation', url: ours }],
    [
      'the installation is on',
      {},
      { enabled: true, endpoint: ours },
      { enabled: true, enabledFrom: 'Installation', endpointFrom: 'Installation', url: ours },
    ],
    ['the installation is off', {}, { enabled: false, endpoint: ours }, { enabled: false, enabledFrom: 'Installation' }],
    [
      'the resource says no',
      { enabled: false },
      { enabled: true, endpoint: ours },
      { enabled: false, enabledFrom: 'Resource', endpointFrom: 'Installation' },
    ],
    [
      'the resource says yes',
      { enabled: true },
      { enabled: false, endpoint: ours },
      { enabled: true, enabledFrom: 'Resource', url: ours },
    ],
    [
      'the resource has only an endpoint and the installation is on',
      { endpoint: theirs },
      { enabled: true, endpoint: ours },
      { enabled: true, enabledFrom: 'Installation', endpointFrom: 'Resource', url: theirs },
    ],
    [
      'the resource has only an endpoint and the installation says nothing',
      { endpoint: theirs },
      {},
      { enabled: true, enabledFrom: 'Resource', url: theirs },
    ],
    [
      'the resource has only an endpoint and the installation is off',
      { endpoint: theirs },
      { enabled: false },
      { enabled: false, enabledFrom: 'Installation' },
    ],
    [
      'the resource says all',
      { enabled: true, endpoint: theirs },
      { enabled: false, endpoint: ours },
      { enabled: true, enabledFrom: 'Resource', endpointFrom: 'Resource', url: theirs },
    ],
    [
      'Helm has an empty endpoint',
      { enabled: true },
      { endpoint: '' },
      { enabled: true, problem: { reason: 'TelemetryEndpointMissing' } },
    ],
  ] as const)('is merged field by field when %s', (_when, resource, telemetry, expected) => {
    const effective = effectiveTelemetry(resource, installation({ telemetry }))

    expect(effective).toMatchObject(expected)
    expect(effective.url === undefined).toBe(!('url' in expected))
  })

  it.each([
    ['collector.obs:4317', 'http://collector.obs:4317'],
    ['[::1]:4317', 'http://[::1]:4317'],
    ['http://collector:4318/', 'http://collector:4318'],
    ['https://otlp.example.org/tenant', 'https://otlp.example.org/tenant'],
    ['grpc://collector:4317', 'http://collector:4317'],
    ['grpcs://collector:4317', 'https://collector:4317'],
  ])('goes to %s', (endpoint, url) => {
    expect(effectiveTelemetry(undefined, installation({ telemetry: { endpoint } }))).toMatchObject({ url, endpoint })
  })

  it.each(['collector', 'ftp://collector:21', 'http://', 'not an address', 'http://user:secret@collector:4317'])(
    'goes nowhere for "%s", and says what is expected',
    (endpoint) => {
      const effective = effectiveTelemetry(undefined, installation({ telemetry: { endpoint } }))

      expect(effective.url).toBeUndefined()
      expect(effective.problem).toMatchObject({
        reason: 'TelemetryEndpointInvalid',
        message: expect.stringContaining('telemetry.endpoint of the installation'),
      })
      expect(effective.problem?.message).not.toContain('secret')
    },
  )

  it('is told to agents and tool servers', () => {
    const values = { telemetry: { endpoint: 'collector.obs:4317' } }
    const expected = (kind: string, name: string, container: string) => ({
      OTEL_SDK_DISABLED: 'false',
      OTEL_SERVICE_NAME: name,
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector.obs:4317',
      OTEL_PYTHON_FASTAPI_EXCLUDED_URLS: '/health,/ready',
      K8S_POD_NAME: 'fieldRef',
      K8S_POD_UID: 'fieldRef',
      K8S_NODE_NAME: 'fieldRef',
      OTEL_RESOURCE_ATTRIBUTES: `service.namespace=team,kaos.resource.name=${name},k8s.namespace.name=team,k8s.deployment.name=${kind}-${name},k8s.container.name=${container},k8s.pod.name=$(K8S_POD_NAME),k8s.pod.uid=$(K8S_POD_UID),k8s.node.name=$(K8S_NODE_NAME)`,
    })

    expect(named(planAgent(agent('writer'), {}, { installation: installation(values) }))).toEqual(
      expected('agent', 'writer', 'agent'),
    )
    const python = planServer(mcpServer('notes', { runtime: 'python-string' }), values)
    expect(named(python)).toEqual(expected('mcpserver', 'notes', 'mcp-server'))
    expect(named(python, 'tool-server')).toEqual(expected('mcpserver', 'notes', 'tool-server'))
    expect(named(planServer(mcpServer('notes'), values))).toEqual(expected('mcpserver', 'notes', 'mcp-server'))
  })

  it('is told to LiteLLM in its own words', () => {
    const plan = planApi(proxy(), { telemetry: { endpoint: 'collector.obs:4317' } })

    expect(named(plan)).toMatchObject({
      OTEL_EXPORTER: 'otlp_grpc',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector.obs:4317',
      OTEL_SERVICE_NAME: 'models',
      OTEL_PYTHON_EXCLUDED_URLS: '/health',
    })
    expect(named(planApi(proxy(), { telemetry: { endpoint: 'http://collector:4318' } }))).toMatchObject({
      OTEL_EXPORTER: 'otlp_http',
    })
    expect(named(planApi(proxy()))).toEqual({})
  })

  it('is not told to an Ollama, which has none', () => {
    expect(named(planApi(hosted(), { telemetry: { endpoint: ours } }))).toEqual({})
  })

  it('is switched off where somebody says so, and left to the variables of the user where nobody does', () => {
    const off = planAgent(
      agent('writer', { telemetry: { enabled: false } }),
      {},
      { installation: installation({ telemetry: { endpoint: ours } }) },
    )

    expect(named(off)).toEqual({ OTEL_SDK_DISABLED: 'true' })
    expect(named(planAgent(agent('writer')))).toEqual({})
  })

  it('is read from spec.config.telemetry too, where earlier versions have it', () => {
    expect(named(planAgent(agent('writer', { config: { telemetry: { endpoint: theirs } } })))).toMatchObject({
      OTEL_EXPORTER_OTLP_ENDPOINT: theirs,
    })
  })
})

describe('the log level', () => {
  it.each([
    ['TRACE', 'DEBUG', '2'],
    ['DEBUG', 'DEBUG', '1'],
    ['INFO', 'INFO', undefined],
    ['WARNING', 'WARNING', undefined],
    ['ERROR', 'ERROR', undefined],
  ])('%s of the installation is told to all pods', (logLevel, litellm, ollama) => {
    const values = { logLevel }

    expect(env(planAgent(agent('writer'), {}, { installation: installation(values) })).LOG_LEVEL).toBe(logLevel)
    expect(env(planServer(mcpServer('notes'), values)).LOG_LEVEL).toBe(logLevel)
    expect(
      env(
        planServer(
          mcpServer('notes', { runtime: 'slack', container: { env: [{ name: 'SLACK_BOT_TOKEN' }, { name: 'SLACK_TEAM_ID' }] } }),
          values,
        ),
      ).LOG_LEVEL,
    ).toBe(logLevel)
    expect(env(planApi(proxy(), values)).LITELLM_LOG).toBe(litellm)
    expect(env(planApi(hosted(), values)).OLLAMA_DEBUG).toBe(ollama)
  })

  it('gives way to that of the resource', () => {
    expect(
      env(planApi(proxy({}, { container: { env: [{ name: 'LITELLM_LOG', value: 'ERROR' }] } }), { logLevel: 'TRACE' }))
        .LITELLM_LOG,
    ).toBe('ERROR')
    expect(
      env(planApi(hosted('m', { container: { env: [{ name: 'OLLAMA_DEBUG', value: 'false' }] } }), { logLevel: 'TRACE' }))
        .OLLAMA_DEBUG,
    ).toBe('false')
  })
})
