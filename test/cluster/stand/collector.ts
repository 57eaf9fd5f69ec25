/** The garbage collector of the plane, which learns of our kinds late. */
import { type AnyObject, objectPath } from '../../testplane/api.ts'
import type { Plane } from '../../testplane/plane.ts'
import { installCrds } from './stand.ts'

const SPECS = {
  Agent: { modelAPI: 'm', model: 'm' },
  MCPServer: { runtime: 'echo' },
  ModelAPI: { mode: 'Hosted', hostedConfig: { model: 'm' } },
} as const

/** It looks for new definitions every 30 s; an owner of a kind that it does not know yet is not missed when it is gone. */
export async function untilCollectorKnows(plane: Plane): Promise<void> {
  const { api } = plane
  await installCrds(plane)
  const namespace = await plane.newNamespace('collected')
  for (const [kind, spec] of Object.entries(SPECS)) {
    const owner = await api.create({ apiVersion: 'kaos.tools/v1alpha1', kind, metadata: { name: 'owner', namespace }, spec })
    const ownerReferences = [{ apiVersion: owner.apiVersion, kind, name: 'owner', uid: owner.metadata.uid!, controller: true }]
    await api.create({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: `of-${kind.toLowerCase()}`, namespace, ownerReferences },
    })
    await api.delete(objectPath(owner))
  }
  const isGone = (found: readonly AnyObject[]) => !found.some(({ metadata }) => metadata.name.startsWith('of-'))
  await api.waitFor(`/api/v1/namespaces/${namespace}/configmaps`, isGone, { what: 'the garbage collector', withinMs: 100_000 })
}
