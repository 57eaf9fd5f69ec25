/** The operator with exactly the rights that the chart gives it, in one namespace or in all: none is missing, none is left over. */
import { expect, it, onTestFinished } from 'vitest'
import { REGISTRY_CONFIG_MAP, REGISTRY_KEY } from '../../operator/desired/runtimes.ts'
import { registryText } from '../operator/desired/cluster.ts'
import { renderChart, rightsIn } from '../support/chart.ts'
import { type AnyObject, objectPath } from '../testplane/api.ts'
import type { AuditLine } from '../testplane/audit.ts'
import { startFakePods } from '../testplane/fake-kubelet.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { conditionOf, OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const ROLES = ['ServiceAccount', 'ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding']

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

/** What tests before have left in their namespaces, where nobody works any more: an operator of all namespaces would take it up. */
async function clearPlane(): Promise<void> {
  for (const { metadata, spec } of await api.list('/apis/apiextensions.k8s.io/v1/customresourcedefinitions')) {
    if (spec.group !== 'kaos.tools') continue
    const root = '/apis/kaos.tools/v1alpha1'
    const { plural } = spec.names
    for (const left of await api.waitFor(`${root}/${plural}`, (all) => all, { what: metadata.name })) {
      const path = `${root}/namespaces/${left.metadata.namespace}/${plural}/${left.metadata.name}`
      await api.patch(path, { metadata: { finalizers: null } })
      await api.delete(path)
    }
  }
}

it.each([
  ['of one namespace', (namespace: string) => namespace, true],
  ['of all namespaces', () => plane.newNamespace('system'), false],
])('uses every right of its roles and asks for no other: an operator %s', async (_mode, systemOf, isOfOne) => {
  const stand = await OperatorStand.create(plane, 'rights')
  onTestFinished(() => stand[Symbol.asyncDispose]())
  if (!isOfOne) await clearPlane()
  const system = await systemOf(stand.namespace)
  const other = await plane.newNamespace('rights')
  for (const namespace of [stand.namespace, other]) {
    const pods = startFakePods(plane, { namespace })
    stand.add(() => pods.stop())
  }
  const registry = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: REGISTRY_CONFIG_MAP, namespace: system },
    data: { [REGISTRY_KEY]: registryText },
  }
  await api.apply(registry)
  const values = { watchNamespaces: isOfOne ? [stand.namespace] : [] }
  const rendered = await renderChart(values, { namespace: system, release: 'kaos' })
  for (const object of rendered.filter(({ kind }) => ROLES.includes(kind))) await api.apply(object)
  const token = await plane.tokenOf({ namespace: system, serviceAccount: 'kaos-operator' })
  const kubeconfig = await plane.kubeconfigFor(token, system)

  const operator = await stand.operator({
    kubeconfig,
    namespaces: isOfOne ? [stand.namespace] : undefined,
    lease: { name: 'kaos-operator', limits: { renewEveryMs: 100 } },
    settings: { namespace: system, networkPolicy: { enabled: true } },
  })
  const elsewhere = { apiVersion: 'kaos.tools/v1alpha1', kind: 'MCPServer', metadata: { name: 'elsewhere', namespace: other } }
  const { apiVersion, kind, metadata } = await api.apply({ ...elsewhere, spec: { runtime: 'echo' } })
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
  if (!isOfOne) {
    const isReady = ([server]: readonly AnyObject[]) => conditionOf(server, 'Ready')?.status === 'True'
    await api.waitFor(objectPath({ apiVersion, kind, metadata }), isReady, { what: 'an MCPServer elsewhere' })
  }
  await operator.stop()

  const asked = await plane.audit({ user: `system:serviceaccount:${system}:kaos-operator` })
  const used = new Set(asked.flatMap(rightsUsed))
  const refused = asked.filter(({ responseStatus }) => responseStatus?.code === 403)
  const given = rightsIn(rendered).map(({ verb, group, resource }) => `${verb} ${group}/${resource}`)
  // Looked at by an admission plugin alone, which this API server does not run.
  const unused = given.filter((right) => !used.has(right) && !right.endsWith('/finalizers'))
  expect(refused.map(({ verb, requestURI }) => `${verb} ${requestURI}`)).toEqual([])
  expect([...new Set(unused)]).toEqual([])
})
