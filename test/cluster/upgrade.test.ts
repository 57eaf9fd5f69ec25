/**
 * An operator of this version in the place of one before: it takes over what that one made, and no pod is restarted.
 *
 * `fixtures/children-<version>.yaml` is what a released version was given and what it made of it, field by field; it stays as it is. When this test
 * finds that pods restart, either the change of their template can be avoided (a field that is left out where it says the default, a variable that only
 * those get who ask for it), or it is meant: then the Deployment goes into `restarted` with the reason, and the same sentence into CHANGELOG.md. At a
 * release `node test/cluster/fixtures/record.ts` writes a file for the new version, the one before is removed, and `restarted` begins anew.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { REGISTRY_CONFIG_MAP, REGISTRY_KEY } from '../../operator/desired/runtimes.ts'
import { FIELD_MANAGER } from '../../operator/kube/apply.ts'
import type { KubeObject } from '../../operator/kube/object.ts'
import { registryText } from '../operator/desired/cluster.ts'
import type { AnyObject } from '../testplane/api.ts'
import { startFakePods } from '../testplane/fake-kubelet.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { recordedInstallation, recordedNamespace, uidOf } from './fixtures/recorded.ts'
import { isSettled } from './stand/settling.ts'
import { OperatorStand } from './stand/stand.ts'

/** Deployments whose pods this version replaces on purpose, and why. */
const restarted: Readonly<Record<string, string>> = {}

const plane = sharedPlane()
const { api } = plane
const folder = join(import.meta.dirname, 'fixtures')
const versions = readdirSync(folder).flatMap((file) => /^children-(.*)\.yaml$/.exec(file)?.[1] ?? [])
const isOurs = ({ apiVersion }: KubeObject) => apiVersion === 'kaos.tools/v1alpha1'

/** As the version before has left it: resources, their children under the name of the operator, and pods that are ready. */
async function recorded(version: string): Promise<{ readonly stand: OperatorStand; readonly resources: readonly AnyObject[] }> {
  const stand = await OperatorStand.inNamespace(plane, recordedNamespace)
  onTestFinished(() => stand[Symbol.asyncDispose]())
  const pods = startFakePods(plane, { namespace: recordedNamespace })
  stand.add(() => pods.stop())
  const registry = { name: REGISTRY_CONFIG_MAP, namespace: recordedNamespace }
  await api.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: registry, data: { [REGISTRY_KEY]: registryText } })
  const text = readFileSync(join(folder, `children-${version}.yaml`), 'utf8')
  const documents = parseAllDocuments(text).map((document) => document.toJS() as KubeObject)
  const resources: AnyObject[] = []
  for (const object of documents.filter(isOurs)) resources.push(await api.apply(stand.placed(object)))
  const uids = new Map(resources.map((object) => [uidOf(object), object.metadata.uid]))
  for (const object of documents.filter((each) => !isOurs(each))) {
    const actual = JSON.stringify(object).replaceAll(/"(uid-\w+-[\w-]+)"/g, (_all, name: string) => `"${uids.get(name)}"`)
    await api.apply(JSON.parse(actual) as KubeObject, FIELD_MANAGER)
  }
  await api.waitFor(stand.path('Deployment'), (all) => all.every(isRolledOut), { what: 'the pods of before' })
  return { stand, resources }
}

function isRolledOut({ metadata, spec, status }: AnyObject): boolean {
  if (status?.observedGeneration !== metadata.generation) return false
  return [status.replicas, status.updatedReplicas, status.availableReplicas].every((count = 0) => count === spec.replicas)
}

/** By the Deployment that they are of: its ReplicaSets and pods, by uid. */
async function runningIn(stand: OperatorStand): Promise<Readonly<Record<string, readonly string[]>>> {
  const sets = await api.list(`/apis/apps/v1/namespaces/${recordedNamespace}/replicasets`)
  const pods = await api.list(stand.path('Pod'))
  const ownerOf = ({ metadata }: AnyObject) => metadata.ownerReferences![0]!.name
  const owners = new Map(sets.map((set) => [set.metadata.name, ownerOf(set)]))
  const found = [...sets, ...pods].map((each) => [owners.get(ownerOf(each)) ?? ownerOf(each), each.metadata.uid!] as const)
  return Object.fromEntries(
    [...new Set(owners.values())].map((name) => [name, found.flatMap(([of, uid]) => (of === name ? [uid] : [])).toSorted()]),
  )
}

/** Of pods that are not meant to restart. */
async function templatesIn(stand: OperatorStand): Promise<Readonly<Record<string, unknown>>> {
  const kept = (await api.list(stand.path('Deployment'))).filter(({ metadata }) => !(metadata.name in restarted))
  return Object.fromEntries(kept.map(({ metadata, spec }) => [metadata.name, spec.template]))
}

describe('an upgrade', () => {
  it('is tried from one version, and only from that', () => {
    expect(versions).toHaveLength(1)
  })

  it.each(versions)('restarts no pod of version %s but those that are meant', { timeout: 120_000 }, async (version) => {
    const { stand, resources } = await recorded(version)
    const [before, templatesBefore] = [await runningIn(stand), await templatesIn(stand)]

    const operator = await stand.operator({ settings: recordedInstallation })
    for (const { kind, metadata } of resources) await stand.until(kind, metadata.name, isSettled)
    await stand.untilLooked(operator)
    await api.waitFor(stand.path('Deployment'), (all) => all.every(isRolledOut), { what: 'the pods of now' })
    const [after, templatesAfter] = [await runningIn(stand), await templatesIn(stand)]

    expect(templatesAfter).toEqual(templatesBefore)
    const names = Object.keys(before).toSorted()
    const isOther = (name: string) => JSON.stringify(before[name]) !== JSON.stringify(after[name])
    expect(Object.keys(after).toSorted()).toEqual(names)
    expect(names.filter(isOther)).toEqual(Object.keys(restarted).toSorted())
    expect(names.flatMap((name) => before[name]!).length).toBeGreaterThan(2 * names.length - 1)
  })
})
