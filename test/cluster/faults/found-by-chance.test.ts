/** What walks by chance (test/cluster/chaos.test.ts) have found, each as a test of its own. */
import { expect, it } from 'vitest'
import { MANAGED_BY_LABEL, masterKeySecretName } from '../../../operator/desired/names.ts'
import type { KubeObject } from '../../../operator/kube/object.ts'
import type { AnyObject } from '../../testplane/api.ts'
import { sharedPlane } from '../../testplane/shared.ts'
import { agentText, PROXY, startSettling, untilSettled } from '../stand/settling.ts'
import { conditionOf } from '../stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const CONVERGED_MS = 10_000
/** Whoever takes the first for its last word tries once more for its own status, and then not for a minute. */
const DENIALS = 5
/** Statuses and the lease can be written, children cannot. */
const WITHOUT_CHILDREN = [
  { apiGroups: ['*'], resources: ['*'], verbs: ['get', 'list', 'watch'] },
  { apiGroups: ['kaos.tools', 'coordination.k8s.io', 'events.k8s.io'], resources: ['*'], verbs: ['*'] },
]

it('leaves pods and mail of an agent that was deleted without its children while no operator was there', async () => {
  const stand = await startSettling(plane, 'left-behind')
  const first = await stand.operator()
  await untilSettled(stand, await stand.apply([PROXY, agentText('a', 'scaling: { minReplicas: 1 }')].join('---')))
  await first.stop()

  await api.delete(stand.path('Agent', 'a'), { propagation: 'Orphan' })
  const isOrphaned = ([agent]: readonly AnyObject[]) => agent && !agent.metadata.finalizers?.includes('orphan')
  await api.waitFor(stand.path('Agent', 'a'), isOrphaned, { what: 'the garbage collector' })
  await stand.operator()
  await stand.untilGone('Agent', 'a', CONVERGED_MS)

  expect((await api.get(stand.path('Deployment', 'agent-a'))).spec.replicas).toBe(1)
  expect(await stand.streams()).toContain(`kaos_${stand.namespace}_agent_a_mail`)
})

it('finds the key of a ModelAPI again that has lost the label by which it is seen', async () => {
  const stand = await startSettling(plane, 'unlabelled')
  await stand.operator()
  const [models, agent] = await stand.apply([PROXY, agentText('a', 'scaling: { minReplicas: 1 }')].join('---'))
  await untilSettled(stand, [models!, agent!])
  const path = stand.path('Secret', masterKeySecretName('models'))
  const { data } = await api.get(path)

  await api.patch(path, { metadata: { labels: { [MANAGED_BY_LABEL]: null } } })
  const found = await stand.until(
    'Secret',
    masterKeySecretName('models'),
    ({ metadata }) => metadata.labels?.[MANAGED_BY_LABEL],
    CONVERGED_MS,
  )
  await untilSettled(stand, [agent!], CONVERGED_MS)

  expect(found.data).toEqual(data)
})

it('takes no refusal of an API server for its last word that has not read its roles yet', async () => {
  const stand = await startSettling(plane, 'denied')
  await stand.operator({ kubeconfig: await stand.ownIdentity('operator') })
  const resources = await stand.apply([PROXY, agentText('a')].join('---'))
  await untilSettled(stand, resources)
  const version = 'rbac.authorization.k8s.io/v1'
  const binding = `/apis/${version}/namespaces/${stand.namespace}/rolebindings/operator`
  const { kind, metadata, ...rights } = await api.get(binding)
  const fewer = stand.placed({ apiVersion: version, kind: 'Role', metadata: { name: 'fewer' }, rules: WITHOUT_CHILDREN })
  await api.create(fewer)
  const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'fewer' }
  await api.create(stand.placed({ kind, ...rights, metadata: { name: 'fewer' }, roleRef } as KubeObject))

  const since = await plane.auditPosition()
  await api.delete(binding)
  await api.delete(stand.path('ConfigMap', 'agent-a'))
  const denials = async () => {
    const lines = await plane.audit({ since, user: `system:serviceaccount:${stand.namespace}:operator` })
    return lines.filter(({ verb, objectRef, responseStatus }) => {
      return verb === 'patch' && objectRef?.resource === 'configmaps' && responseStatus?.code === 403
    })
  }
  while ((await denials()).length < DENIALS) await api.get(stand.path('Agent', 'a'))
  await api.create(stand.placed({ kind, ...rights, metadata: { name: metadata.name } } as KubeObject))

  await stand.until('ConfigMap', 'agent-a', () => true, CONVERGED_MS)
  const [, agent] = await untilSettled(stand, resources, CONVERGED_MS)
  expect(conditionOf(agent, 'Stalled')).toBeUndefined()
})
