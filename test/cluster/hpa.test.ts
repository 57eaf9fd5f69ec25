/** Kubernetes' own HorizontalPodAutoscaler, which reads no metric here: its bounds alone make it scale an agent, through the scale subresource. */
import { expect, it, onTestFinished } from 'vitest'
import type { AnyObject } from '../testplane/api.ts'
import { startFakePods } from '../testplane/fake-kubelet.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { conditionOf, OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const { api } = plane

const RESOURCES = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: analyst }
spec: { modelAPI: models, model: m, scaling: { scaler: External } }
`

const autoscaler = (minReplicas: number, maxReplicas: number) => ({
  apiVersion: 'autoscaling/v2',
  kind: 'HorizontalPodAutoscaler',
  metadata: { name: 'analyst' },
  spec: {
    scaleTargetRef: { apiVersion: 'kaos.tools/v1alpha1', kind: 'Agent', name: 'analyst' },
    minReplicas,
    maxReplicas,
    metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 70 } } }],
    behavior: { scaleDown: { stabilizationWindowSeconds: 0 } },
  },
})

const hasReplicas =
  (count: number) =>
  ({ spec, status }: AnyObject) =>
    spec.replicas === count && status?.readyReplicas === count

it('lets an autoscaler scale an agent up and down, and writes no count against it', { timeout: 180_000 }, async () => {
  const stand = await OperatorStand.create(plane, 'hpa')
  onTestFinished(() => stand[Symbol.asyncDispose]())
  const pods = startFakePods(plane, { namespace: stand.namespace })
  stand.add(() => pods.stop())
  await stand.operator({ kubeconfig: await stand.ownIdentity('operator') })
  await stand.apply(RESOURCES)
  await stand.until('Deployment', 'agent-analyst', hasReplicas(1))
  const since = await plane.auditPosition()

  await api.apply(stand.placed(autoscaler(3, 5)))
  await stand.until('Deployment', 'agent-analyst', hasReplicas(3), 60_000)
  await api.apply(stand.placed(autoscaler(1, 2)))
  await stand.until('Deployment', 'agent-analyst', hasReplicas(2), 60_000)
  const agent = await stand.until('Agent', 'analyst', ({ status }) => status?.replicas === 2)

  const scales = (await plane.audit({ since, namespace: stand.namespace })).filter(
    ({ verb, user, objectRef }) =>
      verb === 'patch' &&
      user.username.endsWith(':operator') &&
      (objectRef?.subresource === 'scale' || objectRef?.resource === 'deployments'),
  )
  expect(agent.spec.replicas).toBe(2)
  expect(conditionOf(agent, 'ScalingActive')).toMatchObject({ status: 'False', reason: 'ScaledExternally' })
  // One apply of the Deployment for each count of the autoscaler.
  expect(scales.map(({ requestURI }) => new URL(requestURI, 'http://any').pathname)).toEqual(
    Array(2).fill(stand.path('Deployment', 'agent-analyst')),
  )
})
