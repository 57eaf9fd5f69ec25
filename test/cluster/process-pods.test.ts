import { beforeAll, describe, expect, it } from 'vitest'
import type { AnyObject } from '../testplane/api.ts'
import { type ProcessPods, startProcessPods } from '../testplane/fake-kubelet.ts'
import { sharedPlane } from '../testplane/shared.ts'

/** Answers with what the process sees of itself; says why it ends. */
const SERVER = `
  const http = require('node:http')
  const { readFileSync } = require('node:fs')
  const [, file] = process.argv
  http.createServer((request, response) => {
    if (request.url === '/fail') process.exit(3)
    response.end(JSON.stringify({ env: process.env, cwd: process.cwd(), file: file && readFileSync(file, 'utf8') }))
  }).listen(8000, () => console.log('listening'))
  process.on('SIGTERM', () => { console.log('asked to end'); process.exit(0) })`
const ASKER = `
  fetch(process.env.ASK).then((answer) => answer.json()).then(
    ({ env }) => console.log('answered by', env.HOSTNAME),
    (error) => { console.log(error.cause.code); process.exit(1) })`

describe('pods as processes', () => {
  const plane = sharedPlane()
  const { api } = plane
  let namespace: string
  let pods: ProcessPods

  beforeAll(async () => {
    namespace = await plane.newNamespace('processes')
    pods = await startProcessPods(plane, { namespace, backoffMs: 100, imageOf })
    return () => pods.stop()
  })

  it('resolve environment and volumes', async () => {
    await api.create({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'settings', namespace },
      data: { who: 'me', note: 'hello' },
    })
    await api.create({ apiVersion: 'v1', kind: 'Secret', metadata: { name: 'keys', namespace }, stringData: { KEY: 'secret' } })
    const container = {
      ...server(['/etc/settings/note']),
      envFrom: [{ secretRef: { name: 'keys' }, prefix: 'THE_' }],
      env: [
        { name: 'WHO', valueFrom: { configMapKeyRef: { name: 'settings', key: 'who' } } },
        { name: 'GREETING', value: 'hello $(WHO), not $$(WHO)' },
        { name: 'MEMORY', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } } },
        { name: 'ADDRESS', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      ],
      resources: { limits: { memory: '128Mi' } },
      volumeMounts: [{ name: 'settings', mountPath: '/etc/settings' }],
    }
    await api.create(pod('sees', container, { volumes: [{ name: 'settings', configMap: { name: 'settings' } }] }))

    const { status } = await untilReady('sees')
    const { env, file } = await ask(status.podIP)

    expect(env).toMatchObject({
      WHO: 'me',
      THE_KEY: 'secret',
      GREETING: 'hello me, not $(WHO)',
      MEMORY: '128',
      ADDRESS: status.podIP,
    })
    expect(file).toBe('hello')
  })

  it('listen on the same port side by side, and are found by the name of their Service once they are ready', async () => {
    const ports = [{ port: 8000 }]
    await api.create({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'twins', namespace },
      spec: { selector: { app: 'twins' }, ports },
    })
    const asker = (name: string) => {
      const env = [{ name: 'ASK', value: `http://twins.${namespace}.svc.cluster.local:8000` }]
      return pod(name, { image: 'kaos.test/node', command: ['node', '-e', ASKER], env }, { restartPolicy: 'Never' })
    }
    await api.create(asker('early'))
    const early = await untilPhase('early', 'Failed')
    await Promise.all(['twin-a', 'twin-b'].map((name) => api.create(pod(name, server(), {}, { app: 'twins' }))))
    await Promise.all(['twin-a', 'twin-b'].map(untilReady))

    await api.create(asker('late'))
    await untilPhase('late', 'Succeeded')

    expect(await pods.logs('early')).toBe('ECONNREFUSED\n')
    expect(early.status.containerStatuses[0].state.terminated.exitCode).toBe(1)
    expect(await pods.logs('late')).toMatch(/^answered by twin-[ab]\n$/)
  })

  it('end by SIGTERM when they are deleted', async () => {
    await api.create(pod('polite', server()))
    await untilReady('polite')

    await api.delete(path('polite'))
    await untilGone('polite')

    expect(await pods.logs('polite')).toBe('listening\nasked to end\n')
    expect(pods.list().map(({ name }) => name)).not.toContain('polite')
  })

  it('are killed when their grace period is over', async () => {
    const stubborn = {
      ...server(),
      command: ['node', '-e', `process.on('SIGTERM', () => console.log('no'));${SERVER.replace('process.on', 'void ')}`],
    }
    await api.create(pod('stubborn', stubborn))
    await untilReady('stubborn')

    await api.delete(path('stubborn'), { graceSeconds: 1 })
    await untilGone('stubborn')

    expect(await pods.logs('stubborn')).toBe('listening\nno\n')
  })

  it('start again when their process is killed', async () => {
    await api.create(pod('mortal', server()))
    await untilReady('mortal')

    pods.kill('mortal')
    const { status } = await untilStatus('mortal', (container) => container.restartCount === 1 && container.ready)

    expect(status.phase).toBe('Running')
    expect(status.containerStatuses[0].lastState.terminated).toMatchObject({ exitCode: 137, signal: 9 })
  })

  it('wait longer and longer when they crash', async () => {
    await api.create(pod('crashing', { image: 'kaos.test/node', command: ['node', '-e', 'process.exit(7)'] }))

    const { status } = await untilStatus('crashing', ({ restartCount, state }) => restartCount >= 2 && state.waiting)

    expect(status.containerStatuses[0]).toMatchObject({
      ready: false,
      state: { waiting: { reason: 'CrashLoopBackOff' } },
      lastState: { terminated: { exitCode: 7, reason: 'Error' } },
    })
  })

  it('are started again when their liveness probe fails', async () => {
    const livenessProbe = { exec: { command: ['false'] }, periodSeconds: 1, failureThreshold: 1 }
    const { readinessProbe: startupProbe, ...container } = server()
    await api.create(pod('ailing', { ...container, startupProbe, livenessProbe }))

    await untilStatus('ailing', ({ restartCount }) => restartCount >= 1)

    expect(await pods.logs('ailing')).toContain('asked to end')
  })

  it('wait for what their environment names, and for an image that is nowhere', async () => {
    const env = [{ name: 'LATE', valueFrom: { configMapKeyRef: { name: 'late', key: 'value' } } }]
    await api.create(pod('waiting', { ...server(), env }))
    await api.create(pod('imageless', { image: 'kaos.test/nowhere' }))
    const waiting = await untilStatus('waiting', ({ state }) => state.waiting?.reason === 'CreateContainerConfigError')
    await untilStatus('imageless', ({ state }) => state.waiting?.reason === 'ImagePullBackOff')

    await api.create({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'late', namespace }, data: { value: 'now' } })
    const { status } = await untilReady('waiting')

    expect(waiting.status.containerStatuses[0].state.waiting.message).toBe('configmap "late" not found')
    expect((await ask(status.podIP)).env.LATE).toBe('now')
  })

  it('run the command of an image where the container names none, after their init containers', async () => {
    const initContainers = [{ name: 'first', image: 'kaos.test/node', command: ['node', '-e', 'console.log("first")'] }]
    await api.create(pod('whole', { image: 'kaos.test/server', readinessProbe: server().readinessProbe }, { initContainers }))

    const { status } = await untilReady('whole')

    expect(status.initContainerStatuses[0].state.terminated.reason).toBe('Completed')
    expect(await ask(status.podIP)).toMatchObject({ env: { FROM_IMAGE: 'yes' }, cwd: import.meta.dirname })
    expect(await pods.logs('whole')).toBe('first\nlistening\n')
  })

  it('start in a folder of their own where nobody names one, also with a /tmp of their own', async () => {
    const volumeMounts = [{ name: 'tmp', mountPath: '/tmp' }]
    await api.create(pod('homely', { ...server(), volumeMounts }, { volumes: [{ name: 'tmp', emptyDir: {} }] }))

    const { metadata, status } = await untilReady('homely')

    expect((await ask(status.podIP)).cwd).toContain(`homely_${metadata.uid}`)
  })

  function imageOf(image: string) {
    if (image === 'kaos.test/nowhere') return undefined
    if (image !== 'kaos.test/server') return {}
    return {
      entrypoint: ['node', '-e', SERVER],
      workingDir: '/app',
      environment: { FROM_IMAGE: 'yes' },
      paths: { '/app': import.meta.dirname },
    }
  }

  function server(args: readonly string[] = []) {
    const readinessProbe = { httpGet: { path: '/', port: 8000 }, periodSeconds: 1 }
    return { image: 'kaos.test/node', command: ['node', '-e', SERVER], args, readinessProbe }
  }

  function pod(name: string, container: object, more: object = {}, labels: Readonly<Record<string, string>> = {}) {
    const spec = { ...more, containers: [{ name: 'main', ...container }] }
    return { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace, labels }, spec }
  }

  const path = (name: string) => `/api/v1/namespaces/${namespace}/pods/${name}`

  function untilPod(name: string, what: string, check: (found: AnyObject) => unknown): Promise<AnyObject> {
    return api.waitFor(path(name), ([found]) => (found && check(found) ? found : undefined), { what: `"${name}" ${what}` })
  }

  const untilReady = (name: string) =>
    untilPod(name, 'ready', ({ status }) =>
      status.conditions?.some(({ type, status: is }: Record<string, string>) => type === 'Ready' && is === 'True'),
    )
  const untilPhase = (name: string, phase: string) => untilPod(name, phase, ({ status }) => status.phase === phase)
  // biome-ignore lint/suspicious/noExplicitAny: a ContainerStatus
  const untilStatus = (name: string, check: (container: any) => unknown) =>
    untilPod(name, 'with that container', ({ status }) => status.containerStatuses?.some(check))
  const untilGone = (name: string) => api.waitFor(path(name), (found) => found.length === 0, { what: `"${name}" gone` })

  async function ask(ip: string) {
    return (await (await fetch(`http://${ip}:8000/`)).json()) as { env: Record<string, string>; cwd: string; file?: string }
  }
})
