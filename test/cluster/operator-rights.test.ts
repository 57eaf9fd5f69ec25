/** The operator with exactly the rights that the chart gives it: none is missing, none is left over. */
import { expect, it, onTestFinished } from 'vitest'
import { REGISTRY_CONFIG_MAP, REGISTRY_KEY } from '../../operator/desired/runtimes.ts'
import { registryText } from '../operator/desired/cluster.ts'
import { renderChart, rightsIn } from '../support/chart.ts'
import type { AuditLine } from '../testplane/audit.ts'
import { startFakePods } from '../testplane/fake-kubelet.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { conditionOf, OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const ROLES = ['ServiceAccount', 'Role', 'RoleBinding']

const EVERYTHING = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"], apiKey: { value: sk-plain } } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: tool }
spec: { runtime: echo }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: a }
spec:
  modelAPI: models
  model: m
  mcpServers: [tool]
  scaling: { minReplicas: 2 }
  agentNetwork: { access: [late] }
`
const LATE = `
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: late }
spec: { modelAPI: models, model: m, scaling: { scaler: External } }
`

/** The right that a request needed. A server-side apply of what is not there yet is a patch that needs create as well. */
function rightsUsed({ verb, objectRef, responseStatus }: AuditLine): readonly string[] {
  const { apiGroup = '', resource = '', subresource } = objectRef ?? {}
  const what = `${apiGroup}/${subresource === undefined ? resource : `${resource}/${subresource}`}`
  return [`${verb} ${what}`, ...(verb === 'patch' && responseStatus?.code === 201 ? [`create ${what}`] : [])]
}

it('uses every right of its roles and asks for no other', async () => {
  const stand = await OperatorStand.create(plane, 'rights')
  onTestFinished(() => stand[Symbol.asyncDispose]())
  const { namespace } = stand
  const pods = startFakePods(plane, { namespace })
  stand.add(() => pods.stop())
  const registry = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: REGISTRY_CONFIG_MAP },
    data: { [REGISTRY_KEY]: registryText },
  }
  await api.apply(stand.placed(registry))
  const rendered = await renderChart({ watchNamespaces: [namespace] }, { namespace, release: 'kaos' })
  for (const object of rendered.filter(({ kind }) => ROLES.includes(kind))) await api.apply(object)
  const kubeconfig = await plane.kubeconfigFor(await plane.tokenOf({ namespace, serviceAccount: 'kaos-operator' }), namespace)

  const operator = await stand.operator({
    kubeconfig,
    lease: { name: 'kaos-operator', limits: { renewEveryMs: 100 } },
    settings: { networkPolicy: { enabled: true } },
  })
  await stand.apply(EVERYTHING)
  await stand.untilReady('Agent', 'a')
  const peerIs = (reason: string) =>
    stand.until('Agent', 'a', (agent) => conditionOf(agent, 'DependenciesReady')?.reason === reason)
  // The same Event twice: the second is counted in the first.
  await peerIs('PeerNotFound')
  await stand.apply(LATE)
  await peerIs('DependenciesMet')
  await api.delete(stand.path('Agent', 'late'))
  await peerIs('PeerNotFound')
  await stand.untilGone('Agent', 'late')
  // All that can be removed: an agent that others answer for has no children, and a key that is elsewhere needs no Secret.
  await api.patch(stand.path('Agent', 'a'), { spec: { external: true } })
  const fromSecret = { valueFrom: { secretKeyRef: { name: 'elsewhere', key: 'key' } } }
  await api.patch(stand.path('ModelAPI', 'models'), { spec: { proxyConfig: { apiKey: { value: null, ...fromSecret } } } })
  for (const kind of ['Deployment', 'ConfigMap', 'ServiceAccount', 'Service', 'NetworkPolicy'])
    await stand.untilGone(kind, 'agent-a')
  await stand.untilGone('Secret', 'modelapi-models-api-key')
  await api.delete(stand.path('MCPServer', 'tool'))
  await stand.untilGone('MCPServer', 'tool')
  await operator.stop()

  const asked = await plane.audit({ user: `system:serviceaccount:${namespace}:kaos-operator`, namespace })
  const used = new Set(asked.flatMap(rightsUsed))
  const refused = asked.filter(({ responseStatus }) => responseStatus?.code === 403)
  const given = rightsIn(rendered).map(({ verb, group, resource }) => `${verb} ${group}/${resource}`)
  // Looked at by an admission plugin alone, which this API server does not run.
  const unused = given.filter((right) => !used.has(right) && !right.endsWith('/finalizers'))
  expect(refused.map(({ verb, requestURI }) => `${verb} ${requestURI}`)).toEqual([])
  expect([...new Set(unused)]).toEqual([])
})
