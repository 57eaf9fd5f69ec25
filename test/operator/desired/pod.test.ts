import { describe, expect, it } from 'vitest'
import { mergePodSpec } from '../../../operator/desired/pod/merge.ts'
import {
  agent,
  container,
  deployment,
  env,
  hosted,
  installation,
  mcpServer,
  planAgent,
  planApi,
  planServer,
  pod,
  proxy,
} from './cluster.ts'

const override = {
  image: 'mine:1',
  args: ['--mine'],
  resources: { limits: { memory: '1Gi' } },
  workingDir: '/srv',
  securityContext: { readOnlyRootFilesystem: false },
  volumeMounts: [{ name: 'data', mountPath: '/data' }],
}
const podSpec = {
  tolerations: [{ key: 'gpu', operator: 'Exists' }],
  nodeSelector: { disk: 'ssd' },
  volumes: [{ name: 'data', emptyDir: {} }],
  containers: [{ name: 'side', image: 'side:1' }],
}

describe('what a resource changes in its pod', () => {
  it.each([
    ['Agent', (spec: object) => planAgent(agent('writer', { ...spec }))],
    ['MCPServer', (spec: object) => planServer(mcpServer('notes', { ...spec }))],
    ['MCPServer with an image', (spec: object) => planServer(mcpServer('notes', { runtime: 'python-string', ...spec }))],
    ['ModelAPI as a proxy', (spec: object) => planApi(proxy({}, { ...spec }))],
    ['ModelAPI that is hosted', (spec: object) => planApi(hosted('m', { ...spec }))],
  ])('counts for the container of an %s, and podSpec for the pod', (_kind, planOf) => {
    const plan = planOf({ container: override, podSpec })

    const main = container(plan)
    expect(main).toMatchObject({
      image: 'mine:1',
      args: ['--mine'],
      resources: { limits: { memory: '1Gi' } },
      workingDir: '/srv',
    })
    expect(main.securityContext).toMatchObject({ readOnlyRootFilesystem: false, allowPrivilegeEscalation: false })
    expect(main.volumeMounts.map(({ mountPath }) => mountPath)).toEqual(expect.arrayContaining(['/tmp', '/data']))
    expect(pod(plan).containers.at(-1)).toEqual({ name: 'side', image: 'side:1' })
    expect(pod(plan).volumes).toContainEqual({ name: 'data', emptyDir: {} })
    expect(pod(plan)).toMatchObject({ tolerations: podSpec.tolerations, nodeSelector: podSpec.nodeSelector })
  })

  it('takes our arguments away with a command of its own, and keeps them with a new image only', () => {
    const withCommand = container(planAgent(agent('writer', { container: { command: ['node', 'main.js'] } })))
    const withImage = container(planAgent(agent('writer', { container: { image: 'mine:1' } })))

    expect(withCommand).toMatchObject({ command: ['node', 'main.js'] })
    expect(withCommand).not.toHaveProperty('args')
    expect(withImage).toMatchObject({
      command: ['kaos'],
      args: ['host', '--file', '/etc/kaos/manifest/kaos.yaml', '--only', 'writer'],
    })
  })

  it('cannot take away the container that does the work', () => {
    const containers = [{ name: 'agent', $patch: 'delete' }]

    expect(planAgent(agent('writer', { podSpec: { containers } }))).toMatchObject({ is: 'refused', reason: 'SpecInvalid' })
  })

  it.each([
    ['serviceAccountName', { podSpec: { serviceAccountName: 'admin' } }, 'spec.podSpec.serviceAccountName'],
    ['hostPath', { podSpec: { volumes: [{ name: 'root', hostPath: { path: '/' } }] } }, 'spec.podSpec.volumes[0].hostPath'],
    ['hostNamespaces', { podSpec: { hostNetwork: true } }, 'spec.podSpec.hostNetwork'],
    [
      'hostNamespaces',
      { podSpec: { containers: [{ name: 'agent', ports: [{ containerPort: 1, hostPort: 1 }] }] } },
      'spec.podSpec.containers[0].ports[0].hostPort',
    ],
    ['privileged', { container: { securityContext: { privileged: true } } }, 'spec.container.securityContext'],
    [
      'privileged',
      { podSpec: { initContainers: [{ name: 'i', securityContext: { allowPrivilegeEscalation: true } }] } },
      'spec.podSpec.initContainers[0].securityContext',
    ],
  ])('is refused where the installation forbids %s', (prohibition, spec, field) => {
    const free = planAgent(agent('writer', spec))
    const strict = planAgent(agent('writer', spec), {}, { installation: installation({ forbidden: [prohibition] }) })

    expect(free.is).toBe('children')
    expect(strict).toMatchObject({ is: 'refused', reason: 'ForbiddenByPolicy', message: expect.stringContaining(field) })
  })

  it('is refused a ServiceAccount of a tool server too', () => {
    const plan = planServer(mcpServer('cluster', { runtime: 'kubernetes', serviceAccountName: 'admin' }), {
      forbidden: ['serviceAccountName'],
    })

    expect(plan).toMatchObject({ is: 'refused', message: expect.stringContaining('spec.serviceAccountName') })
  })

  it.each([
    [120, '110'],
    [5, '0'],
    [100_000, '86400'],
  ])('may take %i s to end, and its host knows', (terminationGracePeriodSeconds, expected) => {
    const podSpec = { terminationGracePeriodSeconds }

    expect(env(planAgent(agent('writer', { podSpec }))).KAOS_GRACE_SECONDS).toBe(expected)
    expect(env(planServer(mcpServer('notes', { podSpec }))).KAOS_GRACE_SECONDS).toBe(expected)
    expect(env(planAgent(agent('writer')))).not.toHaveProperty('KAOS_GRACE_SECONDS')
  })

  it('pulls with the policy and the secrets of the installation', () => {
    const plan = planAgent(
      agent('writer'),
      {},
      {
        installation: installation({ imagePullPolicy: 'Never', imagePullSecrets: ['regcred'], hostCommand: ['node', 'kaos.js'] }),
      },
    )

    expect(pod(plan)).toMatchObject({
      imagePullSecrets: [{ name: 'regcred' }],
      containers: [{ imagePullPolicy: 'Never', command: ['node', 'kaos.js'] }],
    })
    expect(deployment(plan).replicas).toBe(1)
  })
})

describe('what the installation says of pods', () => {
  it.each([
    ['Agent', (values: object) => planAgent(agent('writer'), {}, { installation: installation({ ...values }) })],
    ['MCPServer', (values: object) => planServer(mcpServer('notes'), { ...values })],
    ['ModelAPI', (values: object) => planApi(hosted(), { ...values })],
  ])('is the security context of each %s, as a whole', (_kind, planOf) => {
    const podSecurityContext = { runAsNonRoot: true }

    expect(pod(planOf({}))).toMatchObject({ securityContext: { runAsUser: 65_532, fsGroup: 65_532 } })
    expect(pod(planOf({ podSecurityContext })).securityContext).toEqual(podSecurityContext)
  })

  it.each([
    ['agent', 'agent', (values: object) => planAgent(agent('writer'), {}, { installation: installation({ ...values }) })],
    ['toolServer', 'mcp-server', (values: object) => planServer(mcpServer('notes'), { ...values })],
    [
      'toolServer',
      'tool-server',
      (values: object) => planServer(mcpServer('notes', { runtime: 'python-string' }), { ...values }),
    ],
    [
      'toolRuntime',
      'mcp-server',
      (values: object) => planServer(mcpServer('notes', { runtime: 'python-string' }), { ...values }),
    ],
    ['modelProxy', 'model-api', (values: object) => planApi(proxy(), { ...values })],
    ['hostedModel', 'model-api', (values: object) => planApi(hosted(), { ...values })],
    ['hostedModel', 'pull-model', (values: object) => planApi(hosted(), { ...values })],
  ])('is what a container may use: %s, %s', (of, name, planOf) => {
    const these = { limits: { cpu: '1', memory: '3Gi' } }

    const plan = planOf({ resources: { [of]: these } })

    expect(container(plan, name).resources).toEqual(these)
  })

  it('is nothing about models and images of others, unless it is said', () => {
    const plans = [planApi(proxy()), planApi(hosted()), planServer(mcpServer('notes', { runtime: 'python-string' }))]

    for (const plan of plans) expect(container(plan).resources).toEqual({})
  })
})

describe('a podSpec over another', () => {
  it.each([
    ['fields of maps', { a: { b: 1, c: 2 } }, { a: { c: 3 } }, { a: { b: 1, c: 3 } }],
    ['null, which removes', { a: { b: 1, c: 2 } }, { a: { b: null } }, { a: { c: 2 } }],
    ['null within something new', {}, { a: { b: null, c: 1 } }, { a: { c: 1 } }],
    [
      'containers by name, in their order',
      { containers: [{ name: 'x', image: '1' }, { name: 'y' }] },
      { containers: [{ name: 'y', image: '2' }, { name: 'z' }] },
      { containers: [{ name: 'x', image: '1' }, { name: 'y', image: '2' }, { name: 'z' }] },
    ],
    [
      'variables by name, whole',
      { env: [{ name: 'A', value: '1' }] },
      { env: [{ name: 'A', valueFrom: { x: 1 } }] },
      { env: [{ name: 'A', valueFrom: { x: 1 } }] },
    ],
    [
      'volumes by name, whole',
      { volumes: [{ name: 'models', emptyDir: {} }] },
      { volumes: [{ name: 'models', persistentVolumeClaim: { claimName: 'm' } }] },
      { volumes: [{ name: 'models', persistentVolumeClaim: { claimName: 'm' } }] },
    ],
    [
      'mounts by path',
      { volumeMounts: [{ name: 'a', mountPath: '/x' }] },
      { volumeMounts: [{ name: 'b', mountPath: '/x' }] },
      { volumeMounts: [{ name: 'b', mountPath: '/x' }] },
    ],
    ['other lists as a whole', { tolerations: [{ key: 'a' }] }, { tolerations: [{ key: 'b' }] }, { tolerations: [{ key: 'b' }] }],
    [
      '$patch: delete',
      { containers: [{ name: 'x' }, { name: 'y' }] },
      { containers: [{ name: 'y', $patch: 'delete' }] },
      { containers: [{ name: 'x' }] },
    ],
    [
      '$patch: replace of a map',
      { securityContext: { a: 1 } },
      { securityContext: { $patch: 'replace', b: 2 } },
      { securityContext: { b: 2 } },
    ],
    [
      '$patch: replace of a list',
      { env: [{ name: 'A' }] },
      { env: [{ $patch: 'replace' }, { name: 'B' }] },
      { env: [{ name: 'B' }] },
    ],
  ])('merges %s', (_what, base, above, expected) => {
    expect(mergePodSpec(base, above)).toEqual(expected)
  })
})
