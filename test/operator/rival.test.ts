import { describe, expect, it, onTestFinished } from 'vitest'
import { LEASES, microTime } from '../../operator/kube/lease.ts'
import type { Resource } from '../../operator/kube/object.ts'
import { refuseRival } from '../../operator/rival.ts'
import { refuse, ScriptedApiServer } from './kube/api-server.ts'

const DEPLOYMENTS: Resource = { apiVersion: 'apps/v1', kind: 'Deployment', plural: 'deployments', namespaced: true }

/** As KAOS's chart makes it. */
const rival = (replicas: number, config = 'kaos-operator-config') => ({
  metadata: { namespace: 'kaos-system', name: 'kaos-controller-manager', labels: { 'control-plane': 'controller-manager' } },
  spec: { replicas, template: { spec: { containers: [{ name: 'manager', envFrom: [{ configMapRef: { name: config } }] }] } } },
})
const lease = (renewTime: string, holderIdentity = 'kaos_1') => ({
  metadata: { namespace: 'kaos-system', name: 'kaos-operator.kaos.tools' },
  spec: { holderIdentity, renewTime },
})

async function start() {
  const server = await ScriptedApiServer.start()
  onTestFinished(() => server[Symbol.asyncDispose]())
  return { server, look: () => refuseRival(server.client(), { leaseNamespaces: ['kaos-system'] }) }
}

describe("KAOS's own operator", () => {
  it('keeps ours from starting, with what to do', async () => {
    const { server, look } = await start()
    server.put(DEPLOYMENTS, rival(1))

    const refused = look()

    await expect(refused).rejects.toMatchObject({ code: 'rival_operator' })
    await expect(refused).rejects.toThrow('"kubectl -n kaos-system scale deployment kaos-controller-manager --replicas=0"')
    expect(server.asked[0]!.query.get('labelSelector')).toBe('control-plane=controller-manager')
  })

  it('keeps ours from starting when it runs outside the cluster', async () => {
    const { server, look } = await start()
    server.put(LEASES, lease(microTime()))

    await expect(look()).rejects.toThrow('runs as "kaos_1", which holds the lease "kaos-system/kaos-operator.kaos.tools"')
  })

  it('does not when it is scaled to zero, has left a lease, or is another controller manager', async () => {
    const { server, look } = await start()
    server.put(DEPLOYMENTS, rival(0))
    server.put(DEPLOYMENTS, { ...rival(1, 'other-config'), metadata: { namespace: 'other', name: 'other-controller-manager' } })
    server.put(LEASES, lease('2026-01-01T00:00:00.000000Z'))

    await expect(look()).resolves.toBeUndefined()
  })

  it('is not looked for where this identity may not look', async () => {
    const { server, look } = await start()
    for (let i = 0; i < 2; i++)
      server.once(
        () => true,
        (response) => refuse(response, 403, 'Forbidden'),
      )

    await expect(look()).resolves.toBeUndefined()
  })
})
