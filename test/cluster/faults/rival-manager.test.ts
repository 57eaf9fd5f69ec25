/** Somebody else who writes the same fields again and again: the operator does not join in a storm, and has the last word. */
import { expect, it } from 'vitest'
import { QUEUE_LIMITS } from '../../../operator/queue.ts'
import { sharedPlane } from '../../testplane/shared.ts'
import { agentText, PROXY, startSettling, untilSettled, writesOf } from '../stand/settling.ts'

const plane = sharedPlane()
const { api } = plane
const ROUNDS = 150
/** Another image replaces pods, which takes the control plane longer than all the rest. */
const ROUNDS_PER_IMAGE = 30

it('repairs what a rival forces again and again, at its own pace, and wins when the rival ends', {
  timeout: 120_000,
}, async () => {
  const stand = await startSettling(plane, 'rival')
  const { namespace } = stand
  const operator = await stand.operator({ kubeconfig: await stand.ownIdentity('operator') })
  const resources = await stand.apply(`${PROXY}---${agentText('a', 'scaling: { minReplicas: 1 }')}`)
  const [, { status: before }] = (await untilSettled(stand, resources)) as [unknown, { status: Record<string, unknown> }]
  await stand.untilLooked(operator)
  const shapesBefore = await stand.shapes(['Deployment', 'ConfigMap'])
  const since = await plane.auditPosition()
  const startedAt = performance.now()

  const path = stand.path('Deployment', 'agent-a')
  // Without the label the operator does not even see its Deployment.
  const labels = { app: 'rival', 'app.kubernetes.io/managed-by': 'rival' }
  const metadata = { name: 'agent-a', namespace, labels }
  const deployment = { apiVersion: 'apps/v1', kind: 'Deployment', metadata, spec: { replicas: 3 } }
  const configMap = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'agent-a', namespace } }
  const status = { phase: 'Failed', ready: false, message: 'lost', backlog: 7, replicas: 3 }
  const agent = { apiVersion: 'kaos.tools/v1alpha1', kind: 'Agent', metadata: { name: 'a', namespace }, status }
  for (let round = 1; round <= ROUNDS; round++) {
    const containers = [{ name: 'agent', image: `rival.test/other:${round}` }]
    if (round % ROUNDS_PER_IMAGE === 0) await api.patch(path, { spec: { template: { spec: { containers } } } }, 'strategic')
    await api.apply(deployment, 'rival')
    await api.apply({ ...configMap, data: { 'kaos.yaml': `rival: ${round}` } }, 'rival')
    await api.patch(`${stand.path('Agent', 'a')}/status?fieldManager=rival&force=true`, agent, 'apply')
  }
  const seconds = (performance.now() - startedAt) / 1_000
  const during = await writesOf(stand, 'operator', since)
  const [, { status: after }] = (await untilSettled(stand, resources)) as [unknown, { status: Record<string, unknown> }]
  await stand.until('Deployment', 'agent-a', ({ metadata, spec }) => metadata.labels!.app === 'agent' && spec.replicas === 1)
  await stand.untilLooked(operator)

  const runsMax = QUEUE_LIMITS.runsBurst + QUEUE_LIMITS.runsPerSecond * seconds + 1
  const writesTo = (kind: string) => during.filter(({ what }) => what.includes(`/${kind}/`)).length
  for (const kind of ['deployments', 'configmaps', 'agents']) {
    expect(writesTo(kind), kind).toBeGreaterThan(0)
    expect(writesTo(kind), kind).toBeLessThan(runsMax)
  }
  expect(await stand.shapes(['Deployment', 'ConfigMap'])).toEqual(shapesBefore)
  expect(after).toMatchObject({ phase: before.phase, message: before.message, backlog: 0, replicas: 1 })
})
