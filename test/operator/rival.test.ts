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
  return {
    server,
    look: (namespaces?: readonly string[], lease: string | undefined = 'kaos-operator') =>
      refuseRival(server.client(), { namespaces, own: { namespace: 'kaos-system', lease } }),
  }
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
    for (let i = 0; i < 3; i++)
      server.once(
        () => true,
        (response) => refuse(response, 403, 'Forbidden'),
      )

    await expect(look()).resolves.toBeUndefined()
  })
})

/** As our chart makes it. */
const operator = (namespace: string, args: readonly string[], creationTimestamp: string, readyReplicas = 1) => ({
  metadata: { namespace, name: 'kaos-operator', creationTimestamp, labels: { 'app.kubernetes.io/name': 'kaos-operator' } },
  spec: { template: { spec: { containers: [{ name: 'manager', args: ['operator', '--lease=kaos-operator', ...args] }] } } },
  status: { readyReplicas },
})
const EARLIER = '2026-11-01T00:00:00Z'
const NOW = '2026-11-02T00:00:00Z'
const LATER = '2026-11-03T00:00:00Z'

describe('an operator of another release', () => {
  it.each([
    ['all namespaces', undefined, [], 'keeps all namespaces too'],
    ['some where ours keeps all', undefined, ['--namespace=a', '--namespace', 'b'], 'keeps namespace "a", "b" too'],
    ['all where ours keeps some', ['other', 'c'], [], 'keeps namespace "other", "c" too'],
    ['one of the same', ['other', 'c'], ['--namespace=c'], 'keeps namespace "c" too'],
  ] as const)('that was there before keeps ours from starting, with what to do: %s', async (_title, namespaces, args, told) => {
    const { server, look } = await start()
    server.put(DEPLOYMENTS, operator('other', args, EARLIER))
    server.put(DEPLOYMENTS, operator('kaos-system', [], NOW))

    const refused = look(namespaces)

    await expect(refused).rejects.toMatchObject({ code: 'rival_operator' })
    await expect(refused).rejects.toThrow(told)
    await expect(refused).rejects.toThrow('"kubectl -n other scale deployment kaos-operator --replicas=0"')
  })

  it('keeps one from starting that runs outside of the cluster', async () => {
    const { server, look } = await start()
    server.put(DEPLOYMENTS, operator('kaos-system', [], NOW))

    await expect(look(undefined, 'kaos-actors-operator')).rejects.toThrow('"kaos-system/kaos-operator" keeps all namespaces too')
  })

  it.each([
    ['came later', [], LATER, 1],
    ['keeps other namespaces', ['--namespace=b'], EARLIER, 1],
    ['does not work', [], EARLIER, 0],
  ] as const)('does not when it %s', async (_title, args, since, ready) => {
    const { server, look } = await start()
    server.put(DEPLOYMENTS, operator('other', args, since, ready))
    server.put(DEPLOYMENTS, operator('kaos-system', ['--namespace=a'], NOW))

    await expect(look(args.length > 0 ? ['a', 'other'] : undefined)).resolves.toBeUndefined()
  })

  it('is none where another replica or version of ours works, or one of KAOS has the label', async () => {
    const { server, look } = await start()
    server.put(DEPLOYMENTS, operator('kaos-system', [], EARLIER, 2))
    const { spec: _ours, ...labelled } = operator('elsewhere', [], EARLIER)
    server.put(DEPLOYMENTS, { ...labelled, spec: rival(1, 'other-config').spec })

    await expect(look()).resolves.toBeUndefined()
  })
})
