/** The rights of the operator as the API server judges them, with the roles that the chart renders: enough, and not more. */
import { beforeAll, describe, expect, it } from 'vitest'
import { type Rendered, renderChart, rightsIn } from '../support/chart.ts'
import type { ApiClient } from '../testplane/api.ts'
import { sharedPlane } from '../testplane/shared.ts'

const plane = sharedPlane()
const ROLES = ['ServiceAccount', 'ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding']

interface Asked {
  readonly verb: string
  readonly group?: string
  readonly resource: string
  readonly subresource?: string
  readonly namespace?: string
  readonly name?: string
}

/** Namespaces: of the operator, of agents, of others. */
let own: string
let agents: string
let others: string
beforeAll(async () => {
  own = await plane.newNamespace('rbac')
  agents = await plane.newNamespace('rbac')
  others = await plane.newNamespace('rbac')
})

/** The operator under its own name, with nothing else that the cluster gives it. */
async function operatorWith(
  values: object,
  release: string,
): Promise<{ readonly operator: ApiClient; readonly objects: readonly Rendered[] }> {
  const objects = (await renderChart(values, { namespace: own, release })).filter(({ kind }) => ROLES.includes(kind))
  for (const object of objects) await plane.api.apply(object)
  const token = await plane.tokenOf({ namespace: own, serviceAccount: `${release}-operator` })
  return { operator: plane.clientFor(token), objects }
}

async function may(operator: ApiClient, { verb, group = '', resource, subresource, namespace, name }: Asked): Promise<boolean> {
  const resourceAttributes = { verb, group, resource, subresource, namespace, name }
  const review = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec: { resourceAttributes } }
  const { body } = await operator.request('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', review)
  return body.status.allowed
}

const asAsked = (text: string): Pick<Asked, 'resource' | 'subresource'> => {
  const [resource, subresource] = text.split('/') as [string, string?]
  return subresource === undefined ? { resource } : { resource, subresource }
}

describe.each([
  ['all namespaces', 'kaos-all', () => ({})],
  ['some namespaces', 'kaos-some', () => ({ watchNamespaces: [agents] })],
])('an operator of %s', (_title, release, values) => {
  let operator: ApiClient
  let objects: readonly Rendered[]
  beforeAll(async () => {
    const made = await operatorWith(values(), release)
    operator = made.operator
    objects = made.objects
    return () => operator.close()
  })

  it('may do all that its roles say', async () => {
    for (const { group, resource, verb, names, namespace } of rightsIn(objects)) {
      const asked = { verb, group, ...asAsked(resource), namespace: namespace ?? agents, ...(names && { name: names[0]! }) }
      expect(await may(operator, asked), JSON.stringify(asked)).toBe(true)
    }
  })

  it.each<Asked>([
    { verb: 'create', resource: 'pods' },
    { verb: 'delete', resource: 'pods' },
    { verb: 'create', resource: 'pods', subresource: 'exec' },
    { verb: 'get', resource: 'pods', subresource: 'log' },
    { verb: 'create', resource: 'serviceaccounts', subresource: 'token' },
    { verb: 'impersonate', resource: 'serviceaccounts' },
    { verb: 'create', group: 'rbac.authorization.k8s.io', resource: 'roles' },
    { verb: 'bind', group: 'rbac.authorization.k8s.io', resource: 'clusterroles' },
    { verb: 'delete', group: 'kaos.tools', resource: 'agents' },
    { verb: 'create', group: 'kaos.tools', resource: 'agents' },
    { verb: 'update', group: 'coordination.k8s.io', resource: 'leases', name: 'of-somebody-else' },
  ])('may not %o', async (asked) => {
    for (const namespace of [own, agents]) expect(await may(operator, { ...asked, namespace })).toBe(false)
  })

  it.each<Asked>([
    { verb: 'list', resource: 'nodes' },
    { verb: 'list', resource: 'namespaces' },
    { verb: 'patch', group: 'apiextensions.k8s.io', resource: 'customresourcedefinitions' },
  ])('may nothing of the cluster: %o', async (asked) => {
    expect(await may(operator, asked)).toBe(false)
  })

  it('may renew its own lease, and no other', async () => {
    const lease = { verb: 'update', group: 'coordination.k8s.io', resource: 'leases', name: `${release}-operator` }

    expect(await may(operator, { ...lease, namespace: own })).toBe(true)
    expect(await may(operator, { ...lease, namespace: agents })).toBe(false)
  })

  it('may keep agents where it is to, and only there', async () => {
    const elsewhere = release === 'kaos-all'
    for (const { group, resource, verb, namespace } of rightsIn(objects).filter(
      (right) => !right.names && right.resource !== 'leases',
    )) {
      if (namespace === own) continue
      expect(await may(operator, { verb, group, ...asAsked(resource), namespace: others }), `${verb} ${resource}`).toBe(elsewhere)
    }
  })

  it('watches the registry of runtimes by its name', async () => {
    const path = `/api/v1/namespaces/${own}/configmaps`

    const named = await operator.request('GET', `${path}?fieldSelector=metadata.name%3Dkaos-mcp-runtimes`)
    const all = await operator.request('GET', path)

    expect(named.code).toBe(200)
    expect(all.code).toBe(release === 'kaos-all' ? 200 : 403)
  })
})
