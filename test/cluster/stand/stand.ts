/** An operator on the control plane of the tests, with a real broker, in a namespace of its own. Pods are pretended, or processes of this machine. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { parseAllDocuments, stringify } from 'yaml'
import { connectBroker, type NatsConnection } from '../../../bus/connection.ts'
import { customResourceDefinitions } from '../../../manifests/crd/definitions.ts'
import { readInstallation } from '../../../operator/desired/installation.ts'
import { kubeconfigCluster } from '../../../operator/kube/access.ts'
import type { KubeObject } from '../../../operator/kube/object.ts'
import { Operator, type OperatorOptions } from '../../../operator/process/operator.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { startTestBroker, type TestBroker } from '../../support/broker.ts'
import { KAOS } from '../../support/host-process.ts'
import { type AnyObject, objectPath } from '../../testplane/api.ts'
import { type LocalImage, type ProcessPods, startProcessPods } from '../../testplane/fake-kubelet.ts'
import type { Plane } from '../../testplane/plane.ts'

const LOOKED_MS = 60_000
const LOOK_EVERY_MS = 5
const root = join(import.meta.dirname, '..', '..', '..')
const LOG_LINES_MAX = 100
const HOST_IMAGE = 'kaos.test/kaos:1'
const PROXY_IMAGE = 'kaos.test/litellm:1'
export const OLLAMA_IMAGE = 'kaos.test/ollama:1'
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
/** Of the lease: an API server that was killed comes back sooner. */
const DIES_WITH_US = 'process.stdin.once("end", () => process.kill(process.pid, "SIGKILL")).resume().unref()'

export async function installCrds(plane: Plane): Promise<void> {
  for (const definition of customResourceDefinitions().values()) {
    await plane.api.apply(definition as unknown as KubeObject)
    const isServed = ([crd]: readonly AnyObject[]) =>
      crd?.status?.conditions?.some(
        ({ type, status }: { type: string; status: string }) => type === 'Established' && status === 'True',
      )
    await plane.api.waitFor(`${CRDS}/${definition.metadata.name}`, isServed, { what: `CRD ${definition.metadata.name}` })
  }
}

/** What stands for the images of an installation. */
export function imageOf(image: string): LocalImage | undefined {
  const shared = { paths: { '/app': root }, workingDir: '/app' }
  if (image === HOST_IMAGE) return shared
  if (image === PROXY_IMAGE) return { ...shared, entrypoint: ['node', '/app/test/cluster/stand/model-proxy.ts'] }
  return undefined
}

/** With its resources, whose finalizers nobody answers for when there is no operator. */
async function removeNamespace({ api }: Plane, namespace: string): Promise<void> {
  const path = `/api/v1/namespaces/${namespace}`
  if (!(await api.find(path))) return
  for (const plural of ['agents', 'mcpservers']) {
    const collection = `/apis/kaos.tools/v1alpha1/namespaces/${namespace}/${plural}`
    // Not served at once where the definitions have just been made.
    for (const { metadata } of await api.waitFor(collection, (all) => all, { what: plural }))
      await api.patch(`${collection}/${metadata.name}`, { metadata: { finalizers: null } })
  }
  await api.delete(path)
  await api.waitFor(path, (found) => found.length === 0, { what: `namespace "${namespace}" to go` })
}

export interface OperatorProcess {
  readonly pid: number
  /** Where `/metrics` is served. */
  readonly health: string
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
  /** What it has written. */
  log(): string
  kill(signal?: NodeJS.Signals): void
}

export class OperatorStand implements AsyncDisposable {
  readonly plane: Plane
  readonly namespace: string
  readonly broker: TestBroker
  readonly connection: NatsConnection
  /** The last lines of operators in this process: worth a look when a test has failed. */
  readonly logLines: string[] = []
  private readonly folder: string
  private readonly parts: (() => Promise<unknown>)[] = []

  private constructor(plane: Plane, namespace: string, broker: TestBroker, connection: NatsConnection, folder: string) {
    this.plane = plane
    this.namespace = namespace
    this.broker = broker
    this.connection = connection
    this.folder = folder
  }

  /** In a new namespace whose name begins with `prefix`. */
  static async create(plane: Plane, prefix: string): Promise<OperatorStand> {
    await installCrds(plane)
    return OperatorStand.of(plane, await plane.newNamespace(prefix))
  }

  /** In a namespace of exactly this name; what an earlier try has left in it goes. */
  static async inNamespace(plane: Plane, namespace: string): Promise<OperatorStand> {
    await installCrds(plane)
    await removeNamespace(plane, namespace)
    await plane.api.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
    await plane.api.waitFor(`/api/v1/namespaces/${namespace}/serviceaccounts/default`, ([found]) => found, { what: 'an account' })
    return OperatorStand.of(plane, namespace)
  }

  private static async of(plane: Plane, namespace: string): Promise<OperatorStand> {
    const broker = await startTestBroker()
    const connection = await connectBroker(broker.settings, { name: 'test', log: silentLog() })
    const folder = await mkdtemp(join(tmpdir(), 'kaos-test-operator-'))
    return new OperatorStand(plane, namespace, broker, connection, folder)
  }

  settings(more: Record<string, unknown> = {}): Record<string, unknown> {
    return {
      namespace: this.namespace,
      images: { host: HOST_IMAGE, litellm: PROXY_IMAGE, ollama: OLLAMA_IMAGE },
      hostCommand: ['node', '/app/cli/kaos.js'],
      broker: { url: this.broker.url },
      ...more,
    }
  }

  /** In this process. */
  async operator(
    more: Partial<Omit<OperatorOptions, 'installation'>> & {
      readonly settings?: Record<string, unknown>
      kubeconfig?: string
    } = {},
  ): Promise<Operator> {
    const { settings, kubeconfig = this.plane.address.kubeconfig, ...options } = more
    const operator = await Operator.start({
      installation: readInstallation(this.settings(settings)),
      cluster: await kubeconfigCluster(kubeconfig),
      broker: this.broker.settings,
      streamReplicas: 1,
      namespaces: [this.namespace],
      log: pino({ level: 'info' }, { write: (line: string) => this.noteLog(line) }),
      ...options,
    })
    operator.failed.catch((error: Error) => this.noteLog(`the operator has ended: ${error.stack}\n`))
    this.parts.push(() => operator.stop())
    return operator
  }

  /** `kaos operator`, as it is started in a pod; by default with every right. */
  async operatorProcess(kubeconfig = this.plane.address.kubeconfig): Promise<OperatorProcess> {
    const file = join(this.folder, 'installation.yaml')
    await writeFile(file, stringify(this.settings()))
    const flags = ['operator', '--config', file, '--namespace', this.namespace, '--health', '127.0.0.1:0', '--json']
    const { PATH = '', HOME = '' } = process.env
    const child = spawn(process.execPath, ['--import', `data:text/javascript,${DIES_WITH_US}`, KAOS, ...flags], {
      env: { PATH, HOME, KUBECONFIG: kubeconfig },
      stdio: 'pipe',
    })
    let output = ''
    child.stderr.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    const exited = new Promise<Awaited<OperatorProcess['exited']>>((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }))
    })
    this.parts.push(async () => {
      child.kill('SIGKILL')
      await exited
    })
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    const told = jsonFrom(child.stdout) as Promise<{ readonly health: string }>
    const ended = exited.then(({ code, signal }) => {
      throw new Error(`kaos operator ended with ${code ?? signal}: ${output}`)
    })
    ended.catch(() => {})
    const { health } = await Promise.race([told, ended])
    return { pid: child.pid!, health, exited, log: () => output, kill: (signal = 'SIGKILL') => void child.kill(signal) }
  }

  private noteLog(line: string): void {
    this.logLines.push(line)
    if (this.logLines.length > LOG_LINES_MAX) this.logLines.shift()
  }

  async processPods(): Promise<ProcessPods> {
    const pods = await startProcessPods(this.plane, { namespace: this.namespace, imageOf })
    this.parts.push(() => pods.stop())
    return pods
  }

  /** Before it is stopped, with whatever else was started here. */
  add(stop: () => Promise<unknown>): void {
    this.parts.push(stop)
  }

  /** Applies resources of a manifest in this namespace; `change` may alter each. */
  async apply(text: string, change: (object: KubeObject) => KubeObject = (object) => object): Promise<readonly AnyObject[]> {
    const objects = parseAllDocuments(text, { merge: true }).map((document) => document.toJS() as KubeObject)
    const applied: AnyObject[] = []
    for (const object of objects.filter((each) => each !== null && each.kind !== 'Namespace'))
      applied.push(await this.plane.api.apply(change(this.placed(object))))
    return applied
  }

  placed(object: KubeObject): KubeObject {
    return { ...object, metadata: { ...object.metadata, namespace: this.namespace } }
  }

  path(kind: string, name?: string): string {
    const version = ['Agent', 'MCPServer', 'ModelAPI'].includes(kind)
      ? 'kaos.tools/v1alpha1'
      : ({ Deployment: 'apps/v1', NetworkPolicy: 'networking.k8s.io/v1', Lease: 'coordination.k8s.io/v1' }[kind] ?? 'v1')
    const path = objectPath({ apiVersion: version, kind, metadata: { name: name ?? '', namespace: this.namespace } })
    return name === undefined ? path.replace(/\/$/, '') : path
  }

  /** Resolves with the object once `check` holds. */
  until(kind: string, name: string, check: (object: AnyObject) => unknown, withinMs = 30_000): Promise<AnyObject> {
    return this.plane.api.waitFor(
      this.path(kind, name),
      ([object]) => (object !== undefined && check(object) ? object : undefined),
      { what: `${kind} "${name}"`, withinMs },
    )
  }

  untilReady(kind: string, name: string, withinMs?: number): Promise<AnyObject> {
    return this.until(kind, name, (object) => conditionOf(object, 'Ready')?.status === 'True', withinMs)
  }

  untilGone(kind: string, name: string, withinMs = 30_000): Promise<true> {
    const what = `${kind} "${name}" to go`
    return this.plane.api.waitFor(this.path(kind, name), (objects) => objects.length === 0, { what, withinMs })
  }

  async messagesIn(stream: string): Promise<number> {
    const answer = await this.connection.request(`$JS.API.STREAM.INFO.${stream}`, '')
    return answer.json<{ state: { messages: number } }>().state.messages
  }

  /** A kubeconfig of a ServiceAccount of that name with every right in this namespace: what it asks can be told apart in the audit log. */
  async ownIdentity(name: string): Promise<string> {
    const { api } = this.plane
    const { namespace } = this
    const version = 'rbac.authorization.k8s.io/v1'
    const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' }
    const subjects = [{ kind: 'ServiceAccount', name, namespace }]
    await api.create(this.placed({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } }))
    await api.create(this.placed({ apiVersion: version, kind: 'RoleBinding', metadata: { name }, roleRef, subjects }))
    return this.plane.kubeconfigFor(await this.plane.tokenOf({ namespace, serviceAccount: name }), namespace)
  }

  /** What the operator has made, without what differs from namespace to namespace. */
  async shapes(kinds: readonly string[]): Promise<readonly unknown[]> {
    const lists = await Promise.all(kinds.map((kind) => this.plane.api.list(this.path(kind))))
    const made = lists.flatMap((list, i) =>
      list
        .filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/managed-by'] === 'kaos-operator')
        .map(({ metadata, spec, data }) => ({ kind: kinds[i], name: metadata.name, labels: metadata.labels, spec, data })),
    )
    const text = JSON.stringify(made.filter(({ kind }) => kind !== 'Secret'))
      .replaceAll(this.namespace, 'NAMESPACE')
      .replaceAll(this.broker.url, 'BROKER')
      .replaceAll(/"clusterIPs?":("[^"]*"|\[[^\]]*\])/g, '"clusterIP":""')
      .replaceAll(/"kaos.tools\/config-hash":"[^"]*"/g, '"hash":""')
    return JSON.parse(text) as readonly unknown[]
  }

  /** Of all resources, by kind and name. */
  async statuses(): Promise<Readonly<Record<string, unknown>>> {
    const lists = await Promise.all(['Agent', 'MCPServer', 'ModelAPI'].map((kind) => this.plane.api.list(this.path(kind))))
    return Object.fromEntries(lists.flat().map(({ kind, metadata, status }) => [`${kind} ${metadata.name}`, status]))
  }

  async streams(): Promise<readonly string[]> {
    const answer = await this.connection.request('$JS.API.STREAM.NAMES', '')
    return ((answer.json<{ streams: string[] | null }>().streams ?? []) as string[]).toSorted()
  }

  /** Resolves when a leading operator has looked at everything and waits. */
  async untilLooked(operator: Operator): Promise<void> {
    const isIdle = () => {
      const text = operator.health.metricsText()
      const depths = [...text.matchAll(/^kaos_operator_queue_(?:depth|running)\{kind="\w+"\} (\d+)$/gm)]
      return operator.isLeading && depths.length === 6 && depths.every(([, depth]) => depth === '0')
    }
    const deadline = performance.now() + LOOKED_MS
    while (!isIdle()) {
      if (performance.now() > deadline) throw new Error(`the operator still looks after ${LOOKED_MS} ms`)
      await delay(LOOK_EVERY_MS)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (let stop = this.parts.pop(); stop; stop = this.parts.pop()) await stop()
    await this.connection.close()
    await this.broker.stop()
    await rm(this.folder, { recursive: true, force: true })
  }
}

export function conditionOf(
  object: AnyObject | undefined,
  type: string,
): { readonly status: string; readonly reason: string; readonly message: string } | undefined {
  return object?.status?.conditions?.find((condition: { type: string }) => condition.type === type)
}

/** The first JSON document of a stream, which goes on. */
function jsonFrom(stream: Readable): Promise<unknown> {
  let text = ''
  return new Promise((resolve) => {
    const take = (chunk: Buffer) => {
      text += chunk.toString()
      if (!text.endsWith('\n}\n')) return
      stream.off('data', take)
      resolve(JSON.parse(text))
    }
    stream.on('data', take)
  })
}
