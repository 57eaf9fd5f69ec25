/** What the API server refuses, after the resource was taken: told in the status, harmless to all others, and over when its cause is. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { customResourceDefinitions } from '../../manifests/crd/definitions.ts'
import type { KubeObject } from '../../operator/kube/object.ts'
import { type AnyObject, collectionPath } from '../testplane/api.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { agentText, PROXY, startSettling, TOOL, untilSettled } from './stand/settling.ts'
import { conditionOf, installCrds, type OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const KINDS = ['Agent', 'MCPServer', 'ModelAPI'] as const
const RESTRICTED = { 'pod-security.kubernetes.io/enforce': 'restricted', 'pod-security.kubernetes.io/warn': 'restricted' }

const readyReason = (object: AnyObject) => conditionOf(object, 'Ready')?.reason

/** The definitions as a version without any rule would have them. */
async function loosenCrds(): Promise<void> {
  for (const definition of customResourceDefinitions().values()) {
    const crd = JSON.parse(JSON.stringify(definition)) as AnyObject
    const [version] = crd.spec.versions
    const schema = version.schema.openAPIV3Schema
    // Both name fields that are not declared any more.
    delete version.selectableFields
    delete schema['x-kubernetes-validations']
    schema.properties.spec = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
    await api.apply(crd)
  }
}

/** Resolves when the API server takes, or refuses, such objects. */
async function untilTaken(stand: OperatorStand, objects: readonly KubeObject[], isTaken: boolean): Promise<void> {
  for (const object of objects) {
    const path = `${collectionPath(stand.placed(object))}?dryRun=All`
    const dry = { ...object, metadata: { name: `${object.metadata.name}-dry` } }
    const tried = async () => (await api.request('POST', path, stand.placed(dry))).code === 201
    while ((await tried()) !== isTaken) await new Promise((resolve) => setImmediate(resolve))
  }
}

describe('a resource that its definition refuses now', () => {
  const resource = (kind: string, name: string, spec: object): KubeObject => ({
    apiVersion: 'kaos.tools/v1alpha1',
    kind,
    metadata: { name },
    spec,
  })
  const bad = [
    resource('Agent', 'bad', { modelAPI: 'models', model: 'm', scaling: { minReplicas: 5, maxReplicas: 2 } }),
    resource('MCPServer', 'bad', { runtime: 'typescript' }),
    resource('ModelAPI', 'bad', { mode: 'Elsewhere' }),
  ] as const
  const cures = [{ scaling: null }, { runtime: 'echo' }, { mode: 'Proxy', proxyConfig: { models: ['*'] } }]
  const fields = ['spec.scaling', 'spec.params', 'spec.mode']

  it('is told which field it is, disturbs no other, works when it is corrected, and can be deleted', async () => {
    const stand = await startSettling(plane, 'refused')
    onTestFinished(() => installCrds(plane))
    await loosenCrds()
    await untilTaken(stand, bad, true)
    for (const object of bad) await api.create(stand.placed(object))
    await installCrds(plane)
    await untilTaken(stand, bad, false)

    const operator = await stand.operator()
    const others = await stand.apply([PROXY, TOOL, agentText('a', 'mcpServers: [tool]')].join('---'))
    const seen = await Promise.all(KINDS.map((kind) => stand.until(kind, 'bad', readyReason)))
    await untilSettled(stand, others)
    for (const [i, kind] of KINDS.entries()) await api.patch(stand.path(kind, 'bad'), { spec: cures[i] })
    await Promise.all(KINDS.map((kind) => stand.untilReady(kind, 'bad')))

    for (const [i, object] of seen.entries()) {
      expect(conditionOf(object, 'Ready')).toMatchObject({ status: 'False', reason: 'SpecInvalid' })
      expect(conditionOf(object, 'Stalled')).toMatchObject({ status: 'True', reason: 'SpecInvalid' })
      expect(object.status.message).toContain(fields[i])
    }
    expect(operator.isLeading).toBe(true)
    for (const kind of KINDS) {
      await api.delete(stand.path(kind, 'bad'))
      await stand.untilGone(kind, 'bad')
    }
  })

  it('keeps the pods that it has, and can be deleted with its streams', async () => {
    const stand = await startSettling(plane, 'refused-later')
    await stand.operator()
    const resources = await stand.apply(`${PROXY}---${agentText('a', 'scaling: { minReplicas: 1 }')}`)
    await untilSettled(stand, resources)
    onTestFinished(() => installCrds(plane))
    const agent = bad[0]

    await loosenCrds()
    await untilTaken(stand, [agent], true)
    await api.patch(stand.path('Agent', 'a'), { spec: agent.spec })
    await installCrds(plane)
    await untilTaken(stand, [agent], false)
    await stand.until('Agent', 'a', (object) => readyReason(object) === 'SpecInvalid')
    const kept = await api.get(stand.path('Deployment', 'agent-a'))
    await api.delete(stand.path('Agent', 'a'))
    await stand.untilGone('Agent', 'a')

    expect(kept.spec.replicas).toBe(1)
    expect((await stand.streams()).filter((name) => name.endsWith('_mail'))).toEqual([])
  })
})

describe('a quota', () => {
  const quota = (hard: Readonly<Record<string, string>>) => ({
    apiVersion: 'v1',
    kind: 'ResourceQuota',
    metadata: { name: 'quota' },
    spec: { hard },
  })
  const allow = async (stand: OperatorStand, hard: Readonly<Record<string, string>>) => {
    await api.apply(stand.placed(quota(hard)))
    const isCounted = ([found]: readonly AnyObject[]) =>
      Object.entries(hard).every(([what, count]) => found?.status?.hard?.[what] === count)
    await api.waitFor(stand.path('ResourceQuota', 'quota'), isCounted, { what: 'the quota' })
  }

  it('of pods is told, and all goes on by itself when it is raised', async () => {
    const stand = await startSettling(plane, 'quota')
    await allow(stand, { pods: '1' })
    await stand.operator()
    const resources = await stand.apply(`${PROXY}---${agentText('a', 'scaling: { minReplicas: 1 }')}`)

    const refused = await stand.until('Agent', 'a', (object) => readyReason(object) === 'QuotaExceeded')
    await allow(stand, { pods: '10' })
    await untilSettled(stand, resources)

    expect(refused.status.message).toContain('exceeded quota: quota')
    // Another one at each try, which would be another status each time.
    expect(refused.status.message).not.toContain('agent-a-')
    expect(conditionOf(refused, 'Stalled')).toBeUndefined()
  })

  it('of objects is told, and all goes on by itself when it is raised', async () => {
    const stand = await startSettling(plane, 'quota-objects')
    await allow(stand, { services: '1' })
    const operator = await stand.operator({ childrenLimits: { refusedAgainMs: 1_000 } })
    await untilSettled(stand, await stand.apply(PROXY))
    const resources = await stand.apply(agentText('a'))

    const refused = await stand.until('Agent', 'a', (object) => readyReason(object) === 'QuotaExceeded')
    // Nothing but time brings it back from here on.
    await stand.until('Deployment', 'agent-a', ({ metadata, status }) => status?.observedGeneration === metadata.generation)
    await stand.untilLooked(operator)
    await allow(stand, { services: '10' })
    await untilSettled(stand, resources)

    expect(refused.status.message).toContain('exceeded quota: quota')
  })
})

describe('in a namespace with Pod Security "restricted"', () => {
  it('a pod that asks for more is told, and comes when it asks for less; all others come at once', async () => {
    const stand = await startSettling(plane, 'restricted')
    await api.patch(`/api/v1/namespaces/${stand.namespace}`, { metadata: { labels: RESTRICTED } })
    await stand.operator()
    const privileged = { containers: [{ name: 'agent', securityContext: { privileged: true, allowPrivilegeEscalation: true } }] }
    const scaling = 'scaling: { minReplicas: 1 }'
    const hosted = PROXY.replace('models }', 'hosted }').replace(/spec: .*/, 'spec: { mode: Hosted, hostedConfig: { model: m } }')
    const python = TOOL.replace('tool }', 'python }').replace('echo }', 'python-string, params: "def f(): pass" }')

    const others = await stand.apply([PROXY, hosted, TOOL, python, agentText('a', scaling)].join('---'))
    const [asking] = await stand.apply(agentText('asking', scaling), (object) => ({
      ...object,
      spec: { ...(object.spec as object), podSpec: privileged },
    }))
    await untilSettled(stand, others)
    const refused = await stand.until('Agent', 'asking', (object) => readyReason(object) === 'ForbiddenByPolicy')
    await api.patch(stand.path('Agent', 'asking'), { spec: { podSpec: null } })
    await untilSettled(stand, [asking!])

    expect(refused.status.message).toMatch(/violates PodSecurity "restricted.*privileged/)
  })
})
