/** An operator of some namespaces: however many they are it keeps its lease, and one that it may not read holds up no other. */
import { expect, it } from 'vitest'
import { renderChart } from '../../support/chart.ts'
import { type AnyObject, objectPath } from '../../testplane/api.ts'
import { sharedPlane } from '../../testplane/shared.ts'
import { startSettling, TOOL, untilSettled } from '../stand/settling.ts'
import type { OperatorStand } from '../stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const LEASE = 'kaos-operator'
const ROLES = ['ServiceAccount', 'Role', 'RoleBinding']

/** A tool server there, without a pod. */
async function declareIn(namespace: string): Promise<void> {
  const spec = { runtime: 'echo' }
  await api.apply({ apiVersion: 'kaos.tools/v1alpha1', kind: 'MCPServer', metadata: { name: 'tool', namespace }, spec })
}

const deploymentIn = (namespace: string) =>
  objectPath({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'mcpserver-tool', namespace } })

async function untilMadeIn(namespace: string): Promise<void> {
  await api.waitFor(deploymentIn(namespace), ([found]) => found, { what: `the Deployment in "${namespace}"` })
}

async function untilRenewed(stand: OperatorStand): Promise<AnyObject> {
  const { metadata } = await api.get(stand.path('Lease', LEASE))
  return await stand.until('Lease', LEASE, (lease) => lease.metadata.resourceVersion !== metadata.resourceVersion)
}

it('looks after seven namespaces and keeps its lease', async () => {
  const stand = await startSettling(plane, 'seven')
  const others = await Promise.all(Array.from({ length: 6 }, () => plane.newNamespace('seven')))
  const namespaces = [stand.namespace, ...others]

  const operator = await stand.operator({ namespaces, lease: { name: LEASE, limits: { renewEveryMs: 200 } } })
  await stand.untilLooked(operator)
  await Promise.all(others.map(declareIn))
  await Promise.all(others.map(untilMadeIn))
  const first = await untilRenewed(stand)
  const second = await untilRenewed(stand)

  expect(second.spec.holderIdentity).toBe(first.spec.holderIdentity)
  expect(operator.isLeading).toBe(true)
})

it('does what it may where it may, and begins in a namespace once its whole Role is there', async () => {
  const stand = await startSettling(plane, 'denied')
  const other = await plane.newNamespace('denied')
  const namespaces = [stand.namespace, other]
  const rendered = await renderChart({ watchNamespaces: namespaces }, { namespace: stand.namespace, release: 'kaos' })
  const roles = rendered.filter(({ kind }) => ROLES.includes(kind))
  const isOfOther = ({ metadata }: { metadata: { namespace?: string } }) => metadata.namespace === other
  for (const object of roles) if (!isOfOther(object)) await api.apply(object)
  const token = await plane.tokenOf({ namespace: stand.namespace, serviceAccount: 'kaos-operator' })
  const kubeconfig = await plane.kubeconfigFor(token, stand.namespace)
  await declareIn(other)

  const watchLimits = { deniedBackOffMaxMs: 500 }
  const operator = await stand.operator({ kubeconfig, namespaces, lease: { name: LEASE }, watchLimits })
  const deniedIn = (namespace: string) =>
    Number(
      new RegExp(`^kaos_operator_kinds_denied\\{namespace="${namespace}"\\} (\\d+)$`, 'm').exec(
        operator.health.metricsText(),
      )![1],
    )
  const untilDenied = async (kinds: number) => {
    while (deniedIn(other) !== kinds) await new Promise((resolve) => setImmediate(resolve))
  }
  await stand.untilLooked(operator)
  await untilSettled(stand, await stand.apply(TOOL))
  const first = { here: deniedIn(stand.namespace), other: deniedIn(other), notReady: operator.health.notReady() }
  for (const object of roles.filter(isOfOther)) await api.apply(withoutPods(object))
  await untilDenied(1)
  await stand.untilLooked(operator)
  const madeTooEarly = await api.find(deploymentIn(other))
  for (const object of roles.filter(isOfOther)) await api.apply(object)
  await untilMadeIn(other)

  expect(first).toEqual({ here: 0, other: expect.any(Number), notReady: undefined })
  expect(first.other).toBeGreaterThan(1)
  expect(madeTooEarly).toBeUndefined()
  expect(deniedIn(other)).toBe(0)
  const warnings = stand.logLines.filter((line) => line.includes('may not read a namespace'))
  expect(warnings.every((line) => line.includes(other))).toBe(true)
  expect(warnings).toHaveLength(first.other)
})

/** A Role that somebody has cut. */
function withoutPods<T extends { readonly kind: string; readonly rules?: unknown }>(object: T): T {
  const rules = object.rules as readonly { readonly resources: readonly string[] }[] | undefined
  return object.kind === 'Role' ? { ...object, rules: rules!.filter(({ resources }) => !resources.includes('pods')) } : object
}
