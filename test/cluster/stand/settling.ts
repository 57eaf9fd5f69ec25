/** What tests of the whole operator begin with and wait for: a namespace with runtimes and pods that pretend, and resources that have settled. */
import { onTestFailed, onTestFinished } from 'vitest'
import { REGISTRY_CONFIG_MAP, REGISTRY_KEY } from '../../../operator/desired/runtimes.ts'
import { registryText } from '../../operator/desired/cluster.ts'
import type { AnyObject } from '../../testplane/api.ts'
import type { AuditLine } from '../../testplane/audit.ts'
import { type FakePodsOptions, startFakePods } from '../../testplane/fake-kubelet.ts'
import type { Plane } from '../../testplane/plane.ts'
import { conditionOf, OperatorStand } from './stand.ts'

export const CHILDREN = ['Deployment', 'Service', 'ConfigMap', 'ServiceAccount', 'Secret'] as const
const WRITES = ['create', 'update', 'patch', 'delete']

export const PROXY = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
`
export const TOOL = `
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: tool }
spec: { runtime: echo }
`
/** `spec`: fields beside model and ModelAPI. */
export const agentText = (name: string, spec = '') => `
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: ${name} }
spec: { modelAPI: models, model: m, ${spec} }
`

export async function startSettling(plane: Plane, prefix: string, pods: FakePodsOptions = {}): Promise<OperatorStand> {
  const stand = await OperatorStand.create(plane, prefix)
  onTestFinished(() => stand[Symbol.asyncDispose]())
  onTestFailed(() => void process.stderr.write(stand.logLines.join('')))
  const pretended = startFakePods(plane, { namespace: stand.namespace, ...pods })
  stand.add(() => pretended.stop())
  await plane.api.apply(
    stand.placed({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: REGISTRY_CONFIG_MAP },
      data: { [REGISTRY_KEY]: registryText },
    }),
  )
  return stand
}

/** Resolves with the resources once each is ready and nothing is under way. */
export async function untilSettled(
  stand: OperatorStand,
  resources: readonly AnyObject[],
  withinMs?: number,
): Promise<readonly AnyObject[]> {
  return Promise.all(resources.map(({ kind, metadata }) => stand.until(kind, metadata.name, isSettled, withinMs)))
}

export function isSettled(object: AnyObject): boolean {
  const { generation } = object.metadata
  const isReady = conditionOf(object, 'Ready')?.status === 'True' && !conditionOf(object, 'Reconciling')
  const isScaled =
    object.kind === 'ModelAPI' ||
    (object.status.backlog === 0 && (object.kind !== 'Agent' || conditionOf(object, 'ScalingActive')?.status === 'True'))
  return isReady && isScaled && object.status.observedGeneration === generation && isRolledOut(object.status.deployment)
}

function isRolledOut({ conditions = [], replicas, availableReplicas }: AnyObject['status']): boolean {
  return (
    replicas === availableReplicas && conditions.some(({ reason }: { reason: string }) => reason === 'NewReplicaSetAvailable')
  )
}

/** All that carries the operator's label, of the kinds that every resource has. */
export async function managed(stand: OperatorStand): Promise<readonly AnyObject[]> {
  const lists = await Promise.all(CHILDREN.map((kind) => stand.plane.api.list(stand.path(kind))))
  return lists.flatMap((list, i) =>
    list
      .filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/managed-by'] === 'kaos-operator')
      .map((object) => ({ ...object, kind: CHILDREN[i]! })),
  )
}

/** Requests that change something; `user` is a ServiceAccount of the stand, as `ownIdentity` made it. */
export async function writesOf(
  { plane, namespace }: OperatorStand,
  user: string,
  since = 0,
): Promise<readonly (AuditLine & { readonly what: string })[]> {
  const lines = await plane.audit({ since, user: `system:serviceaccount:${namespace}:${user}` })
  return lines
    .filter(({ verb }) => WRITES.includes(verb))
    .map((line) => ({ ...line, what: `${line.verb} ${line.requestURI.replace(/\?.*/, '')}` }))
}
