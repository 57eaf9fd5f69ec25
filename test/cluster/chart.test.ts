/** The chart on an API server: everything that it renders is taken, under the strictest Pod Security; installed, upgraded, taken away. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import { customResourceDefinitions } from '../../manifests/crd/definitions.ts'
import type { KubeObject } from '../../operator/kube/object.ts'
import { valuesWith } from '../manifests/chart-values.ts'
import { chartFolder, helm, type Rendered, renderChart, withValues } from '../support/chart.ts'
import { type AnyObject, objectPath } from '../testplane/api.ts'
import { kubectlPath } from '../testplane/kubectl.ts'
import { sharedPlane } from '../testplane/shared.ts'

const run = promisify(execFile)
const plane = sharedPlane()
const RESTRICTED = { 'pod-security.kubernetes.io/enforce': 'restricted', 'pod-security.kubernetes.io/warn': 'restricted' }
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
const AGENT_CRD = `${CRDS}/agents.kaos.tools`
/** Of the Prometheus operator, whose definitions are not there. */
const isForeign = ({ apiVersion }: Rendered) => apiVersion.startsWith('monitoring.coreos.com/')

let namespace: string
beforeAll(async () => {
  namespace = await plane.newNamespace('chart', RESTRICTED)
})

describe('what the chart renders', () => {
  const existing = { nats: { enabled: false }, broker: { url: 'nats://other:4222' } }
  it.each([
    ['with defaults', {}],
    ['with three servers', { controllerManager: { replicas: 2 }, nats: { durability: 'ThreeServersSynced' } }],
    ['with a password', { broker: { credentials: { secretName: 's', form: 'user' } } }],
    ['without a volume', { nats: { storage: { persistent: false } } }],
    ['with a broker that exists', existing],
    [
      'with its credentials and authorities',
      { ...existing, broker: { ...existing.broker, credentials: { secretName: 's' }, ca: { configMapName: 'ca' } } },
    ],
    [
      'with network policies',
      {
        networkPolicy: { enabled: true },
        metrics: { allowFrom: [{ podSelector: {} }] },
        nats: { networkPolicy: { monitorFrom: [{ podSelector: {} }] } },
      },
    ],
    [
      'for a cluster that gives users to pods',
      valuesWith('nats.podSecurityContext.runAsUser', null, valuesWith('pods.podSecurityContext.runAsUser', null)),
    ],
    [
      'with metrics for the Prometheus operator',
      { metrics: { serviceMonitor: { enabled: true }, prometheusRule: { enabled: true } } },
    ],
    ['with images by digest', valuesWith('controllerManager.manager.image.digest', `sha256:${'0'.repeat(64)}`)],
  ])('is taken by the server without a warning: %s', async (_title, values) => {
    const objects = (await renderChart(values, { namespace })).filter((object) => !isForeign(object))

    for (const object of objects)
      expect(await tryApply(object)).toEqual({ what: nameOf(object), code: expect.any(Number), warnings: [] })
    expect(objects.length).toBeGreaterThan(10)
  })

  it('is taken in each of the namespaces that it is limited to', async () => {
    const watched = [await plane.newNamespace('watched'), await plane.newNamespace('watched')]

    const objects = await renderChart({ watchNamespaces: watched }, { namespace })

    for (const object of objects) expect(await tryApply(object)).toMatchObject({ warnings: [] })
    expect(objects.filter(({ kind }) => kind === 'Role').map(({ metadata }) => metadata.namespace)).toEqual(
      expect.arrayContaining([...watched, namespace]),
    )
  })

  it('makes pods that a restricted namespace takes', async () => {
    const objects = await renderChart({ nats: { durability: 'ThreeServers' } }, { namespace })
    const workloads = objects.filter(({ kind }) => kind === 'Deployment' || kind === 'StatefulSet')
    const account = objects.find(({ kind }) => kind === 'ServiceAccount')!
    await plane.api.apply(account)

    for (const { spec, metadata } of workloads) {
      const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: metadata.name, namespace }, spec: spec.template.spec }
      // The controller of a StatefulSet adds its claims.
      const claims = (spec.volumeClaimTemplates ?? []).map((claim: Rendered) => ({ name: claim.metadata.name, emptyDir: {} }))
      const whole = { ...pod, spec: { ...pod.spec, volumes: [...pod.spec.volumes, ...claims] } }

      const { code, body } = await plane.api.request('POST', `/api/v1/namespaces/${namespace}/pods?dryRun=All`, whole)

      expect({ code, message: body.message }).toEqual({ code: 201, message: undefined })
    }
    expect(workloads).toHaveLength(2)
  })
})

describe('a release', () => {
  it('is installed over definitions that are there, upgraded, refused another number of servers, and leaves agents when it goes', {
    timeout: 120_000,
  }, async () => {
    const place = await plane.newNamespace('release', RESTRICTED)
    const cluster = ['--kubeconfig', plane.address.kubeconfig, '--namespace', place]
    const statefulSet = `/apis/apps/v1/namespaces/${place}/statefulsets/kaos-nats`
    const deployment = `/apis/apps/v1/namespaces/${place}/deployments/kaos-operator`
    const upgrade = (values: object) =>
      withValues(values, (file) =>
        helm('upgrade', 'kaos', chartFolder, ...cluster, '--reset-then-reuse-values', '--values', file),
      )

    for (const definition of customResourceDefinitions().values()) await plane.api.apply(definition as unknown as KubeObject)
    const notes = await helm('install', 'kaos', chartFolder, ...cluster, '--take-ownership')
    const before = await plane.api.get(statefulSet)
    await plane.api.waitFor(AGENT_CRD, ([crd]) => crd?.status?.acceptedNames?.kind === 'Agent', {
      what: 'the definition of Agent',
    })
    await plane.api.create({
      apiVersion: 'kaos.tools/v1alpha1',
      kind: 'Agent',
      metadata: { name: 'kept', namespace: place },
      spec: { external: true },
    } as never)
    await upgrade({ logLevel: 'DEBUG', controllerManager: { replicas: 2 } })
    const upgraded = await plane.api.get(deployment)

    expect(notes).toContain(`installed in namespace ${place}, for all namespaces`)
    expect(notes).toContain('The broker asks nobody who they are')
    expect(upgraded.spec.replicas).toBe(2)
    expect((await plane.api.get(statefulSet)).metadata.generation).toBe(before.metadata.generation)
    await expect(upgrade({ nats: { durability: 'ThreeServers' } })).rejects.toThrow(/there are 1 NATS servers and it asks for 3/)

    await helm('uninstall', 'kaos', ...cluster)

    expect(await plane.api.find(deployment)).toBeUndefined()
    expect(await plane.api.find(`/apis/kaos.tools/v1alpha1/namespaces/${place}/agents/kept`)).toBeDefined()

    await helm('install', 'kaos', chartFolder, ...cluster)
    await helm('uninstall', 'kaos', ...cluster)
  })

  it('is refused what a StatefulSet cannot change, and gives its broker larger volumes once that is out of the way', {
    timeout: 120_000,
  }, async () => {
    const place = await plane.newNamespace('disk', RESTRICTED)
    const cluster = ['--kubeconfig', plane.address.kubeconfig, '--namespace', place]
    const statefulSet = `/apis/apps/v1/namespaces/${place}/statefulsets/kaos-nats`
    const pod = `/api/v1/namespaces/${place}/pods/kaos-nats-0`
    const upgrade = (storage: object) =>
      withValues({ nats: { storage } }, (file) =>
        helm('upgrade', 'kaos', chartFolder, ...cluster, '--reset-then-reuse-values', '--values', file),
      )
    const isMade = { what: 'the pod of the broker' }
    await helm('install', 'kaos', chartFolder, ...cluster, '--take-ownership', '--set', 'nats.storage.size=2048Mi')
    const before = await plane.api.waitFor(pod, ([found]) => found, isMade)

    await upgrade({ size: '2Gi' })
    await expect(upgrade({ size: '20Gi' })).rejects.toThrow(/nats\.storage\.size: it is 2Gi there and 20Gi here/)
    await expect(upgrade({ className: 'fast' })).rejects.toThrow(/nats\.storage\.className: it is "" there/)
    await expect(upgrade({ persistent: false })).rejects.toThrow(/nats\.storage\.persistent: it is true there/)
    await plane.api.request('DELETE', `${statefulSet}?propagationPolicy=Orphan`)
    await plane.api.waitFor(statefulSet, (found) => found.length === 0, { what: 'the end of the StatefulSet' })
    await upgrade({ size: '20Gi' })
    const after = await plane.api.waitFor(pod, ([found]) => found?.metadata.ownerReferences?.length === 1 && found, isMade)

    const { spec } = await plane.api.get(statefulSet)
    expect(spec.volumeClaimTemplates[0].spec.resources.requests.storage).toBe('20Gi')
    expect(after.metadata.uid).toBe(before.metadata.uid)
    await helm('uninstall', 'kaos', ...cluster)
  })

  it('stands beside another one, each with namespaces of its own', { timeout: 120_000 }, async () => {
    const [first, second] = [await plane.newNamespace('first', RESTRICTED), await plane.newNamespace('second', RESTRICTED)]
    const [team, other] = [await plane.newNamespace('team'), await plane.newNamespace('team')]
    const cluster = (namespace: string) => ['--kubeconfig', plane.address.kubeconfig, '--namespace', namespace]
    const limitedTo = (namespace: string) => ['--set', `watchNamespaces={${namespace}}`]
    const argsIn = async (namespace: string, name: string) => {
      const { spec } = await plane.api.get(`/apis/apps/v1/namespaces/${namespace}/deployments/${name}`)
      return spec.template.spec.containers[0].args as readonly string[]
    }
    await helm('install', 'kaos', chartFolder, ...cluster(first), '--take-ownership')

    await helm('upgrade', 'kaos', chartFolder, ...cluster(first), '--reset-then-reuse-values', ...limitedTo(team))
    const three = ['--set', 'crds.enabled=false', '--set', 'nats.durability=ThreeServers']
    await helm('install', 'kaos-three', chartFolder, ...cluster(second), ...limitedTo(other), ...three)

    expect(await argsIn(first, 'kaos-operator')).toContain(`--namespace=${team}`)
    expect(await argsIn(second, 'kaos-three-operator')).toContain(`--namespace=${other}`)
    expect(await plane.api.find(`/apis/rbac.authorization.k8s.io/v1/clusterroles/${first}-kaos-operator`)).toBeUndefined()
    await helm('uninstall', 'kaos-three', ...cluster(second))
    await helm('uninstall', 'kaos', ...cluster(first))
  })

  it('is the same as plain YAML, by kubectl', { timeout: 120_000 }, async () => {
    const kubectl = async (...args: readonly string[]) =>
      (await run(await kubectlPath(), ['--kubeconfig', plane.address.kubeconfig, ...args])).stdout
    const folder = join(chartFolder, '..', 'install')
    const deployment = '/apis/apps/v1/namespaces/kaos-system/deployments/kaos-operator'
    const statefulSet = '/apis/apps/v1/namespaces/kaos-system/statefulsets/kaos-nats'
    const versions = ({ metadata }: AnyObject) => [metadata.uid, metadata.generation]

    const applied = await kubectl('apply', '-k', folder)
    const first = { deployment: await plane.api.get(deployment), statefulSet: await plane.api.get(statefulSet) }
    await kubectl('apply', '-k', folder)

    expect(applied).toContain('deployment.apps/kaos-operator created')
    expect(versions(await plane.api.get(deployment))).toEqual(versions(first.deployment))
    expect(versions(await plane.api.get(statefulSet))).toEqual(versions(first.statefulSet))
    const rest = (await kubectl('kustomize', folder))
      .split(/^---$/m)
      .filter((text) => !/kind: CustomResourceDefinition/.test(text))
    await kubectlWithInput(rest.join('---'), 'delete', '--wait=false', '--filename', '-')
  })
})

async function kubectlWithInput(input: string, ...args: readonly string[]): Promise<void> {
  const running = run(await kubectlPath(), ['--kubeconfig', plane.address.kubeconfig, ...args])
  running.child.stdin!.end(input)
  await running
}

async function tryApply(object: Rendered) {
  const path = `${objectPath(object)}?fieldManager=test&force=true&dryRun=All&fieldValidation=Strict`
  const { code, body, warnings } = await plane.api.request('PATCH', path, object, { contentType: 'application/apply-patch+yaml' })
  return { what: nameOf(object), code: code > 299 ? `${code}: ${body.message}` : code, warnings }
}

const nameOf = ({ kind, metadata }: Rendered) => `${kind} ${metadata.name}`
