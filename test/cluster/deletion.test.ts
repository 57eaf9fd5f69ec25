/** How resources go: pods first, then streams, then the resource itself; and nothing waits for ever. */
import { expect, it, onTestFinished } from 'vitest'
import { renderChart } from '../support/chart.ts'
import type { AnyObject } from '../testplane/api.ts'
import { type FakePodsOptions, startFakePods } from '../testplane/fake-kubelet.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const ROLES = ['ServiceAccount', 'Role', 'RoleBinding']
/** Longer than a test. */
const NEVER_MS = 3_600_000

const TEAM = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: tool }
spec: { runtime: echo }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: a }
spec: { modelAPI: models, model: m, scaling: { minReplicas: 1 }, podSpec: { terminationGracePeriodSeconds: 1 } }
`

async function start(prefix: string, pods: FakePodsOptions = {}): Promise<OperatorStand> {
  const stand = await OperatorStand.create(plane, prefix)
  onTestFinished(() => stand[Symbol.asyncDispose]())
  const kubelet = startFakePods(plane, { namespace: stand.namespace, ...pods })
  stand.add(() => kubelet.stop())
  return stand
}

/** The team, each with a pod that works. */
async function untilTeamWorks(stand: OperatorStand): Promise<void> {
  await stand.apply(TEAM)
  const works = ({ status }: AnyObject) => status?.deployment?.readyReplicas === 1
  await Promise.all([stand.until('Agent', 'a', works), stand.until('MCPServer', 'tool', works)])
}

const deleteAll = ({ namespace }: OperatorStand, plural: string) =>
  api.delete(`/apis/kaos.tools/v1alpha1/namespaces/${namespace}/${plural}`)

/** Of those with streams, which end when they are told to. */
function untilPodsEnd(stand: OperatorStand): Promise<readonly AnyObject[]> {
  const ending = (pods: readonly AnyObject[]) => {
    const found = pods.filter(({ metadata }) => metadata.labels?.app !== 'modelapi')
    return found.every(({ metadata }) => metadata.deletionTimestamp) && found
  }
  return api.waitFor(stand.path('Pod'), ending, { what: 'pods that are to end' })
}

async function mailStreams(stand: OperatorStand): Promise<readonly string[]> {
  const all = await stand.streams()
  return all.filter((name) => name.endsWith('_mail')).map((name) => name.replace(`kaos_${stand.namespace}_`, ''))
}

const noteOf = (stand: OperatorStand, reason: string): Promise<string> =>
  api.waitFor(
    `/apis/events.k8s.io/v1/namespaces/${stand.namespace}/events`,
    (events) =>
      (events as readonly (AnyObject & { reason: string; note: string })[]).find((event) => event.reason === reason)?.note,
    { what: `an Event ${reason}` },
  )

it('ends the pods of what is deleted before its mail goes', async () => {
  const stand = await start('ordered', { stopDelayMs: NEVER_MS })
  await stand.operator()
  await untilTeamWorks(stand)

  await Promise.all([deleteAll(stand, 'agents'), deleteAll(stand, 'mcpservers')])
  const pods = await untilPodsEnd(stand)
  const meanwhile = await mailStreams(stand)
  for (const { metadata } of pods) await api.delete(stand.path('Pod', metadata.name), { graceSeconds: 0 })
  await Promise.all([stand.untilGone('Agent', 'a'), stand.untilGone('MCPServer', 'tool')])

  expect(pods).toHaveLength(2)
  expect(meanwhile).toEqual(['agent_a_mail', 'tool_tool_mail'])
  expect(await mailStreams(stand)).toEqual([])
})

it('lets a deleted agent go with a warning when its pods do not end', async () => {
  const stand = await start('endless', { stopDelayMs: NEVER_MS })
  await stand.operator({ departureLimits: { podsEndMs: 1 } })
  await untilTeamWorks(stand)

  await api.delete(stand.path('Agent', 'a'))
  await stand.untilGone('Agent', 'a')

  expect(await noteOf(stand, 'PodsLeft')).toBe('1 of its pods did not end in time; its streams go all the same')
  expect(await mailStreams(stand)).toEqual(['tool_tool_mail'])
})

it('leaves pods and mail to whoever deletes an agent and keeps its children', async () => {
  const stand = await start('orphans')
  await stand.operator()
  await untilTeamWorks(stand)

  await api.delete(stand.path('Agent', 'a'), { propagation: 'Orphan' })
  const isLetGo = ([agent]: readonly AnyObject[]) => !agent?.metadata.finalizers?.includes('kaos.tools/streams')
  await api.waitFor(stand.path('Agent', 'a'), isLetGo, { what: 'the agent to be let go' })
  const { metadata, spec } = await api.get(stand.path('Deployment', 'agent-a'))

  expect([metadata.deletionTimestamp, spec.replicas]).toEqual([undefined, 1])
  expect(await mailStreams(stand)).toEqual(['agent_a_mail', 'tool_tool_mail'])
})

it('takes up what was left of an agent that is declared anew', async () => {
  const stand = await start('adopted')
  const labels = { 'app.kubernetes.io/managed-by': 'kaos-operator', app: 'agent', agent: 'a' }
  const left = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'agent-a', labels }, data: { 'kaos.yaml': 'old' } }
  await api.apply(stand.placed(left), 'kaos-operator')
  await stand.operator()

  await untilTeamWorks(stand)
  const [agent, config] = await Promise.all([api.get(stand.path('Agent', 'a')), api.get(stand.path('ConfigMap', 'agent-a'))])

  expect(config.metadata.ownerReferences).toMatchObject([{ uid: agent.metadata.uid, controller: true }])
  expect(config.data['kaos.yaml']).toContain('kind: Agent')
})

it('lets a namespace go that takes the rights of an operator with it which is limited to it', { timeout: 120_000 }, async () => {
  const stand = await start('limited')
  const home = await plane.newNamespace('home')
  const rendered = await renderChart({ watchNamespaces: [stand.namespace] }, { namespace: home, release: 'kaos' })
  for (const object of rendered.filter(({ kind }) => ROLES.includes(kind))) await api.apply(object)
  const token = await plane.tokenOf({ namespace: home, serviceAccount: 'kaos-operator' })
  await stand.operator({ kubeconfig: await plane.kubeconfigFor(token, home), settings: { namespace: home } })
  await untilTeamWorks(stand)

  const path = `/api/v1/namespaces/${stand.namespace}`
  await api.delete(path)
  await api.waitFor(path, (found) => found.length === 0, { what: 'the namespace to go' })

  expect(await mailStreams(stand)).toEqual([])
})
