import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { AnyObject } from '../testplane/api.ts'
import { planeBinary } from '../testplane/build.ts'
import { startFakePods } from '../testplane/fake-kubelet.ts'
import { helmPath, kubectlPath } from '../testplane/kubectl.ts'
import { sharedPlane } from '../testplane/shared.ts'

const run = promisify(execFile)
const GUARD = join(import.meta.dirname, '../testplane/guard.ts')

describe('the control plane for tests', () => {
  const plane = sharedPlane()
  const { api } = plane
  let namespace: string

  beforeAll(async () => {
    namespace = await plane.newNamespace('plane')
    const pods = startFakePods(plane, { namespace })
    return () => pods.stop()
  })

  it('is the Kubernetes that go.mod names', async () => {
    const { body } = await api.request('GET', '/version')

    expect(body.gitVersion).toBe('v1.35.4')
  })

  it('makes the pods of a Deployment ready, and takes them along with it', async () => {
    const owner = await api.create(deployment(namespace, 'web', 3))
    const ready = await api.waitFor(
      pathOf(namespace, 'deployments', 'web'),
      ([found]) => found?.status?.readyReplicas === 3 && found,
      { what: 'three ready pods' },
    )
    const { name, uid } = owner.metadata
    const ownerReferences = [{ apiVersion: 'apps/v1', kind: 'Deployment', name, uid: uid! }]
    await api.create({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'child', namespace, ownerReferences } })

    await api.delete(pathOf(namespace, 'deployments', 'web'), { propagation: 'Background' })

    const isGone = (found: readonly AnyObject[]) => found.length === 0
    await api.waitFor(`/api/v1/namespaces/${namespace}/pods?labelSelector=app%3Dweb`, isGone, { what: 'no pods' })
    await api.waitFor(`/api/v1/namespaces/${namespace}/configmaps/child`, isGone, { what: 'no ConfigMap' })
    expect(ready.status.conditions).toContainEqual(expect.objectContaining({ type: 'Available', status: 'True' }))
  })

  it('shows a pod whose image is nowhere, and one that crashes, as a kubelet does', async () => {
    const other = await plane.newNamespace('fates')
    const fates = { broken: 'crash-loop', absent: 'image-missing', slow: 'unready' } as const
    await using _pods = startFakePods(plane, {
      namespace: other,
      fate: ({ metadata }) => fates[metadata.labels!.app as keyof typeof fates],
    })
    await Promise.all(Object.keys(fates).map((name) => api.create(deployment(other, name, 1))))

    const pods = await api.waitFor(
      `/api/v1/namespaces/${other}/pods`,
      (found) => found.length === 3 && found.every(({ status }) => status.containerStatuses) && found,
      { what: 'three pods with a status' },
    )

    const seen = pods.map(({ metadata, status }) => [
      metadata.labels!.app,
      status.phase,
      status.containerStatuses[0].state.waiting?.reason,
      status.conditions.find(({ type }: { type: string }) => type === 'Ready').status,
    ])
    expect(seen.sort()).toEqual([
      ['absent', 'Pending', 'ImagePullBackOff', 'False'],
      ['broken', 'Running', 'CrashLoopBackOff', 'False'],
      ['slow', 'Running', undefined, 'False'],
    ])
  })

  it('keeps its objects when the API server is killed and started again, and watches go on', async () => {
    await api.create(configMap(namespace, 'kept'))
    const changed = api.waitFor(
      `/api/v1/namespaces/${namespace}/configmaps/kept`,
      ([found]) => found?.data?.at === 'after' && found,
      { what: 'the change after the restart' },
    )

    await plane.kill('kube-apiserver')
    await expect(api.request('GET', '/readyz')).rejects.toThrow()
    await plane.start('kube-apiserver')
    await api.patch(`/api/v1/namespaces/${namespace}/configmaps/kept`, { data: { at: 'after' } })

    expect((await changed).metadata.name).toBe('kept')
  })

  it('answers nothing while the API server is frozen', async () => {
    await plane.freeze('kube-apiserver')
    onTestFinished(() => plane.thaw('kube-apiserver').catch(() => {}))

    const unanswered = api.request('GET', '/version', undefined, { signal: AbortSignal.timeout(500) })
    await expect(unanswered).rejects.toThrow('timeout')
    await plane.thaw('kube-apiserver')

    expect((await api.request('GET', '/version')).code).toBe(200)
  })

  it('refuses a version from before a compaction, once the API server has forgotten it', async () => {
    const old = (await api.create(configMap(namespace, 'old'))).metadata.resourceVersion
    await api.patch(`/api/v1/namespaces/${namespace}/configmaps/old`, { data: { at: 'later' } })

    await plane.compact()
    await plane.restart('kube-apiserver')

    const path = `/api/v1/namespaces/${namespace}/configmaps?resourceVersion=${old}&resourceVersionMatch=Exact`
    expect((await api.request('GET', path)).code).toBe(410)
  })

  it('lets a ServiceAccount do what its Role says, and writes both answers down', async () => {
    const metadata = { name: 'reader', namespace }
    await api.create({ apiVersion: 'v1', kind: 'ServiceAccount', metadata })
    const rules = [{ apiGroups: [''], resources: ['configmaps'], verbs: ['list'] }]
    await api.create({ apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'Role', metadata, rules })
    await api.create({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reader' },
      subjects: [{ kind: 'ServiceAccount', name: 'reader', namespace }],
    })
    const token = await plane.tokenOf({ namespace, serviceAccount: 'reader' })
    const reader = plane.clientFor(token)
    onTestFinished(() => reader.close())
    const since = await plane.auditPosition()

    const path = `/api/v1/namespaces/${namespace}/configmaps`
    await expect.poll(async () => (await reader.request('GET', path)).code).toBe(200)
    const refused = await reader.request('DELETE', `${path}/kube-root-ca.crt`)

    const lines = await plane.audit({ since, user: `system:serviceaccount:${namespace}:reader` })
    const seen = lines.map(({ verb, objectRef, responseStatus }) => [verb, objectRef?.resource, responseStatus?.code])
    expect(refused.code).toBe(403)
    expect(seen).toContainEqual(['list', 'configmaps', 200])
    expect(seen).toContainEqual(['delete', 'configmaps', 403])
  })

  it('leaves the requests of its own parts out of the audit log', async () => {
    await api.create(deployment(namespace, 'quiet', 1))
    await api.waitFor(pathOf(namespace, 'deployments', 'quiet'), ([found]) => found?.status?.readyReplicas === 1, {
      what: 'a ready pod',
    })

    const lines = await plane.audit({ namespace })

    const accounts = /^(admin|system:serviceaccount:.*)$/
    expect(lines.length).toBeGreaterThan(0)
    expect(lines.filter(({ user }) => !accounts.test(user.username))).toEqual([])
  })

  it('is used by kubectl and helm', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'kaos-chart-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    await mkdir(join(folder, 'templates'))
    await writeFile(join(folder, 'Chart.yaml'), 'apiVersion: v2\nname: small\nversion: 0.1.0\nkubeVersion: ">=1.30.0"\n')
    await writeFile(join(folder, 'templates/web.yaml'), JSON.stringify(deployment(namespace, 'charted', 1)))
    const config = ['--kubeconfig', plane.address.kubeconfig, '--namespace', namespace]
    // Both keep caches in the home folder.
    const options = { env: { PATH: process.env.PATH, HOME: folder } }

    await run(await helmPath(), [...config, 'install', 'small', folder, '--wait', '--timeout', '30s'], options)
    const { stdout } = await run(
      await kubectlPath(),
      [...config, 'get', 'deployment', 'charted', '-o', 'jsonpath={.status.readyReplicas}'],
      options,
    )

    expect(stdout).toBe('1')
  })

  it('says what to install where there is no Go', async () => {
    const cache = await mkdtemp(join(tmpdir(), 'kaos-cache-'))
    onTestFinished(() => rm(cache, { recursive: true, force: true }))

    const built = planeBinary({ env: { PATH: cache, XDG_CACHE_HOME: cache } })

    await expect(built).rejects.toThrow('there is no go on PATH; install Go 1.25 or newer (https://go.dev/dl)')
  })

  it('takes its processes and its folder along when its owner is killed', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'kaos-guarded-'))
    const program = `
      import { spawn } from 'node:child_process'
      import { startGuard } from ${JSON.stringify(GUARD)}
      const guard = startGuard(${JSON.stringify(folder)})
      guard.watch(spawn('sleep', ['1000'], { detached: true, stdio: 'inherit' }).pid)
      console.log('watched')
      setInterval(() => {}, 1000)`
    const owner = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(owner.stdout, 'data')

    owner.kill('SIGKILL')

    // The sleep holds the other end of the pipe, so this comes only when it is gone too.
    await once(owner.stdout, 'close')
    await expect
      .poll(() =>
        access(folder).then(
          () => 'there',
          (error: NodeJS.ErrnoException) => error.code,
        ),
      )
      .toBe('ENOENT')
  })
})

function deployment(namespace: string, name: string, replicas: number) {
  const labels = { app: name }
  const template = { metadata: { labels }, spec: { containers: [{ name: 'main', image: 'kaos.test/nothing' }] } }
  const spec = { replicas, selector: { matchLabels: labels }, template }
  return { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name, namespace }, spec }
}

function configMap(namespace: string, name: string) {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { at: 'first' } }
}

function pathOf(namespace: string, plural: string, name: string): string {
  return `/apis/apps/v1/namespaces/${namespace}/${plural}/${name}`
}
