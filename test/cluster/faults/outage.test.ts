/** The whole operator when the API server, or the way to it, fails in ways that no error tells of: it is as declared again within seconds. */
import { expect, it, onTestFinished } from 'vitest'
import type { AnyObject } from '../../testplane/api.ts'
import { sharedPlane } from '../../testplane/shared.ts'
import { ApiProxy } from '../stand/api-proxy.ts'
import { agentText, PROXY, startSettling, untilSettled } from '../stand/settling.ts'
import type { OperatorStand } from '../stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
/** From the moment at which the API server can be asked again. */
const CONVERGED_MS = 10_000
const FROZEN_MS = 3_000

async function throughProxy(): Promise<ApiProxy> {
  const proxy = await ApiProxy.start(plane)
  onTestFinished(() => proxy.stop())
  return proxy
}

/** One change of each sort: a child gone, one altered, a resource altered, one gone, one new. */
async function changeEverything(stand: OperatorStand): Promise<void> {
  await api.delete(stand.path('ConfigMap', 'agent-a'))
  await api.patch(stand.path('Deployment', 'agent-a'), { spec: { template: { spec: { terminationGracePeriodSeconds: 1 } } } })
  await api.patch(stand.path('Agent', 'b'), { spec: { agentNetwork: { expose: false } } })
  await api.delete(stand.path('Agent', 'c'))
  await stand.apply(agentText('d'))
}

async function untilAsDeclared(stand: OperatorStand): Promise<void> {
  const grace = ({ spec }: AnyObject) => spec.template.spec.terminationGracePeriodSeconds
  await Promise.all([
    stand.until('ConfigMap', 'agent-a', () => true, CONVERGED_MS),
    stand.until('Deployment', 'agent-a', (live) => grace(live) !== 1, CONVERGED_MS),
    stand.untilGone('Service', 'agent-b', CONVERGED_MS),
    stand.untilGone('Agent', 'c', CONVERGED_MS),
    stand.untilReady('Agent', 'd', CONVERGED_MS),
  ])
}

const agents = ['a', 'b', 'c'].map((name) => agentText(name))
const mailOf = (stand: OperatorStand, name: string) => `kaos_${stand.namespace}_agent_${name}_mail`

it('finds what changed while it was cut off', async () => {
  const stand = await startSettling(plane, 'cut-off')
  const proxy = await throughProxy()
  await stand.operator({ kubeconfig: proxy.kubeconfig })
  await untilSettled(stand, await stand.apply([PROXY, ...agents].join('---')))

  proxy.cut()
  await changeEverything(stand)
  proxy.mend()
  await untilAsDeclared(stand)

  expect(await stand.streams()).not.toContain(mailOf(stand, 'c'))
})

it('finds what its watches missed when the API server was killed and the history of it is compacted', async () => {
  const stand = await startSettling(plane, 'compacted')
  const proxy = await throughProxy()
  const operator = await stand.operator({ kubeconfig: proxy.kubeconfig })
  await untilSettled(stand, await stand.apply([PROXY, ...agents].join('---')))

  proxy.freezeWatches()
  await changeEverything(stand)
  await plane.kill('kube-apiserver')
  await plane.compact()
  await plane.start('kube-apiserver')
  proxy.cut()
  proxy.mend()
  await untilAsDeclared(stand)

  expect(operator.health.metricsText()).toMatch(/kaos_operator_watch_restarts_total\{kind="Agent",why="expired"\} [1-9]/)
  expect(await stand.streams()).not.toContain(mailOf(stand, 'c'))
})

it('goes on after the API server froze, and wakes who got mail meanwhile', async () => {
  const stand = await startSettling(plane, 'frozen')
  await stand.operator()
  await untilSettled(stand, await stand.apply([PROXY, ...agents].join('---')))

  await plane.freeze('kube-apiserver')
  onTestFinished(() => plane.thaw('kube-apiserver').catch(() => {}))
  const unanswered = api.request('GET', '/version', undefined, { signal: AbortSignal.timeout(FROZEN_MS) })
  await stand.connection.request(`kaos.${stand.namespace}.agent.a.task`, 'a task')
  await expect(unanswered).rejects.toThrow('timeout')
  await plane.thaw('kube-apiserver')
  await changeEverything(stand)

  await Promise.all([
    untilAsDeclared(stand),
    stand.until('Deployment', 'agent-a', ({ spec }) => spec.replicas === 1, CONVERGED_MS),
  ])
  expect(await stand.streams()).not.toContain(mailOf(stand, 'c'))
})

it('goes on when its watches freeze without an end', async () => {
  const stand = await startSettling(plane, 'silent')
  const proxy = await throughProxy()
  await stand.operator({ kubeconfig: proxy.kubeconfig, watchLimits: { idleMs: 2_000 } })
  await untilSettled(stand, await stand.apply([PROXY, ...agents].join('---')))

  const frozen = proxy.freezeWatches()
  await changeEverything(stand)
  await untilAsDeclared(stand)

  expect(frozen.some((path) => path.includes('/agents?'))).toBe(true)
  expect(await stand.streams()).not.toContain(mailOf(stand, 'c'))
})
