/**
 * What stands behind resources, as an API server takes it: every field known, nothing that Pod Security "restricted" warns of,
 * and the same again no write.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '../../operator/desired/plan.ts'
import type { KubeObject } from '../../operator/kube/object.ts'
import {
  agent,
  type Cluster,
  childrenOf,
  hosted,
  installation,
  mcpServer,
  planAgent,
  planApi,
  planServer,
  proxy,
  sample,
} from '../operator/desired/cluster.ts'
import { objectPath } from '../testplane/api.ts'
import { sharedPlane } from '../testplane/shared.ts'

const plane = sharedPlane()
let namespace: string

beforeAll(async () => {
  namespace = await plane.newNamespace('children', {
    'pod-security.kubernetes.io/enforce': 'restricted',
    'pod-security.kubernetes.io/warn': 'restricted',
  })
})

const everything = {
  telemetry: { endpoint: 'collector.obs:4318' },
  broker: { url: 'tls://nats:4222', credentials: { secretName: 'broker' }, ca: { configMapName: 'broker-ca' } },
  networkPolicy: { enabled: true },
  imagePullSecrets: ['pull'],
  logLevel: 'TRACE',
}
const container = { env: [{ name: 'MODEL_NAME', value: 'other' }], resources: { limits: { memory: '1Gi' } } }
const podSpec = {
  tolerations: [{ key: 'gpu', operator: 'Exists' }],
  volumes: [{ name: 'models', emptyDir: { sizeLimit: '1Gi' } }],
}

const plansOf = ({ modelApis, mcpServers, agents }: Cluster): readonly Plan[] => [
  ...modelApis.map((api) => planApi(api)),
  ...mcpServers.map((server) => planServer(server)),
  ...agents.map((each) => planAgent(each, { modelApis, mcpServers, agents })),
]

const cases: readonly (readonly [string, () => readonly Plan[]])[] = [
  ...['1-echo.yaml', '2-workers.yaml', '3-hierarchy.yaml', '4-proxy.yaml'].map(
    (file) => [file, () => plansOf(sample(file))] as const,
  ),
  [
    'an agent with everything',
    () => {
      const circumstances = { installation: installation(everything), replicas: 3 }
      return [planAgent(agent('full', { container, podSpec }), {}, circumstances)]
    },
  ],
  [
    'tool servers with everything',
    () => [
      planServer(mcpServer('own', { container, podSpec }), everything),
      planServer(mcpServer('python', { runtime: 'python-string', params: 'def f(): return "$(x)"' }), everything),
      planServer(mcpServer('cluster', { runtime: 'kubernetes', serviceAccountName: 'viewer' }), everything),
    ],
  ],
  [
    'a proxy with everything',
    () => [planApi(proxy({ apiBase: 'https://models.test', apiKey: { value: 'sk-plain' } }, { container, podSpec }), everything)],
  ],
  ['a hosted model with everything', () => [planApi(hosted('m', { podSpec }), everything)]],
  ['a configuration in a Secret', () => [planApi(proxy({ configYaml: { fromSecretKeyRef: { name: 'litellm', key: 'conf' } } }))]],
]

/** In the namespace of this test, and without its owner, which is not there: it would be collected. */
function placed(object: KubeObject): KubeObject {
  const { ownerReferences: _owner, ...metadata } = object.metadata
  return { ...object, metadata: { ...metadata, namespace } }
}

async function apply(object: KubeObject) {
  const path = `${objectPath(object)}?fieldManager=kaos-operator&force=true&fieldValidation=Strict`
  const { code, body, warnings } = await plane.api.request('PATCH', path, object, { contentType: 'application/apply-patch+yaml' })
  return { code, message: body.message, warnings, version: body.metadata?.resourceVersion }
}

describe('what stands behind a resource', () => {
  it.each(cases)('is taken by the API server, and changes nothing when it is applied again: %s', async (_what, plans) => {
    const objects = plans().flatMap(childrenOf).map(placed)

    for (const object of objects) {
      const first = await apply(object)
      const second = await apply(object)

      const name = `${object.kind} ${object.metadata.name}`
      expect({ name, code: second.code, message: first.message, warnings: first.warnings }).toEqual({
        name,
        code: 200,
        message: undefined,
        warnings: [],
      })
      // A Deployment's status may have moved between the two.
      if (object.kind !== 'Deployment' && object.kind !== 'PodDisruptionBudget') expect(second.version).toBe(first.version)
    }
  })
})
