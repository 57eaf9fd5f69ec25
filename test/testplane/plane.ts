/**
 * A Kubernetes control plane as plain processes on free ports of the loopback, for tests and for trying things out: API server, etcd,
 * controllers and scheduler are real; pods run only where `fake-kubelet.ts` pretends or starts processes. Up in 4 s, gone in 0.2 s.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { isPortTaken, randomPort } from '../../bus/server/port.ts'
import { type AnyObject, ApiClient } from './api.ts'
import { type AuditFilter, type AuditLine, auditPosition, readAudit } from './audit.ts'
import { planeBinary } from './build.ts'
import { type ControlServer, listenForControl, sendControl } from './control.ts'
import { type Guard, startGuard } from './guard.ts'
import {
  certificateFile,
  kubeconfig,
  logFile,
  type Part,
  type PlaneLayout,
  partArguments,
  partNames,
  serverUrl,
  writePlaneFiles,
} from './parts.ts'

const READY_MS = 120_000
const POLL_MS = 50
const PORT_TRIES_MAX = 100
const LOG_CHARS_SHOWN = 2_000
const FOLDER_PREFIX = 'kaos-testplane-'

/** Plain data, enough to reach the plane from another process. */
export interface PlaneAddress extends PlaneLayout {
  readonly server: string
  /** File for kubectl, helm and client-node, with every right. */
  readonly kubeconfig: string
  /** PEM. */
  readonly ca: string
  /** Unix socket on which the owner starts and stops parts. */
  readonly control: string
}

export interface TokenOptions {
  readonly namespace: string
  /** Must exist. */
  readonly serviceAccount: string
  /** Default: the API server. */
  readonly audiences?: readonly string[]
  /** At least 600, the default 3600. */
  readonly seconds?: number
}

export interface StartOptions {
  readonly env?: NodeJS.ProcessEnv
  /** Gets a line for each step. */
  readonly say?: (line: string) => void
}

/** A plane that somebody runs; all of it works from any process. */
export class Plane {
  readonly address: PlaneAddress
  /** With every right. */
  readonly api: ApiClient
  private wasHurt = false

  constructor(address: PlaneAddress) {
    this.address = address
    this.api = this.clientFor(address.tokens.admin)
  }

  clientFor(token: string): ApiClient {
    return new ApiClient({ server: this.address.server, ca: this.address.ca, token })
  }

  /** Makes a namespace of a new name that begins with `prefix`, and waits for its default ServiceAccount, without which no pod is made. */
  async newNamespace(prefix: string, labels: Readonly<Record<string, string>> = {}, withinMs?: number): Promise<string> {
    const name = `${prefix}-${randomUUID().slice(0, 8)}`
    await this.api.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } })
    const path = `/api/v1/namespaces/${name}/serviceaccounts`
    await this.api.waitFor(path, (accounts) => accounts.some(({ metadata }) => metadata.name === 'default'), {
      what: `the default ServiceAccount of "${name}"`,
      ...(withinMs !== undefined && { withinMs }),
    })
    return name
  }

  /** A token as a pod of that ServiceAccount would have it. */
  async tokenOf({ namespace, serviceAccount, audiences, seconds = 3_600 }: TokenOptions): Promise<string> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`
    const spec = { expirationSeconds: seconds, ...(audiences ? { audiences } : {}) }
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec }
    const answer = await this.api.request('POST', path, body)
    if (answer.code > 299) throw new Error(`could not get a token of "${namespace}/${serviceAccount}": ${answer.body.message}`)
    return answer.body.status.token
  }

  /** Path of a kubeconfig with this token; it goes with the plane. */
  async kubeconfigFor(token: string, namespace?: string): Promise<string> {
    const path = join(this.address.folder, `${randomUUID()}.kubeconfig`)
    await writeFile(path, kubeconfig(this.address, token, namespace), { mode: 0o600 })
    return path
  }

  /** Where the audit log ends now, for `audit`. */
  auditPosition(): Promise<number> {
    return auditPosition(this.address.folder)
  }

  /** What was asked of the API server, oldest first, by others than the plane's own parts. Complete for every answered request. */
  audit(filter: AuditFilter = {}): Promise<readonly AuditLine[]> {
    return readAudit(this.address.folder, filter)
  }

  /** Resolves when the process is gone. It does not start again by itself. */
  async kill(part: Part, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.wasHurt = true
    await sendControl(this.address.control, { do: 'kill', part, signal })
  }

  /** Same flags, port and data. Resolves when the API server says that it is ready. */
  async start(part: Part): Promise<void> {
    await sendControl(this.address.control, { do: 'start', part })
    await this.untilReady(READY_MS)
  }

  /** kill -9 and start. */
  async restart(part: Part): Promise<void> {
    await this.kill(part)
    await this.start(part)
  }

  /** SIGSTOP: it accepts connections and answers nothing. */
  async freeze(part: Part): Promise<void> {
    this.wasHurt = true
    await sendControl(this.address.control, { do: 'signal', part, signal: 'SIGSTOP' })
  }

  /**
   * After a part was killed or frozen: resolves when the controllers make pods again. They come back one by one, each after a pause that grows while the
   * API server is away, up to most of a minute.
   */
  async untilHealed(): Promise<void> {
    if (!this.wasHurt) return
    this.wasHurt = false
    await this.untilReady(READY_MS)
    const namespace = await this.newNamespace('healed', {}, READY_MS)
    const labels = { app: 'healed' }
    const container = { name: 'main', image: 'any.test/any:1' }
    await this.api.create({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'healed', namespace },
      spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec: { containers: [container] } } },
    })
    const what = 'the controllers to make pods again'
    await this.api.waitFor(`/api/v1/namespaces/${namespace}/pods`, (pods) => pods.length > 0, { what, withinMs: READY_MS })
    await this.api.delete(`/api/v1/namespaces/${namespace}`)
  }

  async thaw(part: Part): Promise<void> {
    await sendControl(this.address.control, { do: 'signal', part, signal: 'SIGCONT' })
  }

  /**
   * Drops all old revisions in etcd. The API server still answers old versions from its own cache; after its restart a watch or a list
   * page at an old version gets 410.
   */
  async compact(): Promise<void> {
    const ask = async (what: string, body: unknown): Promise<{ header: { revision: string } }> => {
      const answer = await fetch(`http://127.0.0.1:${this.address.ports.etcd}/v3/kv/${what}`, {
        method: 'POST',
        body: JSON.stringify(body),
      })
      if (!answer.ok) throw new Error(`etcd answered "${what}" with ${answer.status}: ${await answer.text()}`)
      return (await answer.json()) as { header: { revision: string } }
    }
    const { header } = await ask('range', { key: 'AA==' })
    await ask('compaction', { revision: header.revision, physical: true })
  }

  /** Rejects when the API server does not say that it is ready. */
  async untilReady(withinMs: number): Promise<void> {
    const deadline = Date.now() + withinMs
    for (;;) {
      const last = await this.api.request('GET', '/readyz').catch((error: Error) => ({ code: 0, body: error.message }))
      if (last.code === 200) return
      if (Date.now() > deadline)
        throw new Error(`the API server is not ready after ${withinMs} ms: ${JSON.stringify(last.body).slice(0, 500)}`)
      await delay(POLL_MS)
    }
  }

  /** Closes this handle's connections; the plane goes on. */
  async close(): Promise<void> {
    await this.api.close()
  }
}

/** The plane in the process that started it, and that it ends with, however that ends. */
export class OwnedPlane extends Plane implements AsyncDisposable {
  private readonly parts: PartProcesses
  private readonly guard: Guard
  private readonly controlServer: ControlServer

  constructor(address: PlaneAddress, parts: PartProcesses, guard: Guard, controlServer: ControlServer) {
    super(address)
    this.parts = parts
    this.guard = guard
    this.controlServer = controlServer
  }

  /** Kills all parts and removes the folder. May be called again. */
  async stop(): Promise<void> {
    await this.close()
    await this.controlServer.close()
    await this.parts.killAll()
    this.guard.leave()
    await rm(this.address.folder, { recursive: true, force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

/** Builds the binary when it is missing, which takes minutes. Rejects with the end of the log of the part that does not start. */
export async function startPlane({ env = process.env, say = () => {} }: StartOptions = {}): Promise<OwnedPlane> {
  const binary = await planeBinary({ env, say })
  const folder = await mkdtemp(join(tmpdir(), FOLDER_PREFIX))
  const guard = startGuard(folder)
  const layout = writePlaneFiles(folder, await freePorts())
  const parts = new PartProcesses(binary, layout, guard)
  try {
    parts.start('etcd')
    parts.start('kube-apiserver')
    const ca = await parts.whileAlive(certificateOf(folder))
    const control = join(folder, 'control.sock')
    const controlServer = await listenForControl(control, parts)
    const address = { ...layout, server: serverUrl(layout), kubeconfig: join(folder, 'kubeconfig'), ca, control }
    const plane = new OwnedPlane(address, parts, guard, controlServer)
    await parts.whileAlive(plane.untilReady(READY_MS))
    parts.start('kube-controller-manager')
    parts.start('kube-scheduler')
    await parts.whileAlive(untilControllersWork(plane))
    say(`control plane at ${plane.address.server}, folder ${folder}`)
    return plane
  } catch (error) {
    await parts.killAll()
    guard.leave()
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}

/** The four processes as children of this one. */
export class PartProcesses {
  private readonly binary: string
  private readonly layout: PlaneLayout
  private readonly guard: Guard
  private readonly running = new Map<Part, { readonly child: ChildProcess; readonly exited: Promise<void> }>()
  private readonly deaths = new EventTarget()

  constructor(binary: string, layout: PlaneLayout, guard: Guard) {
    this.binary = binary
    this.layout = layout
    this.guard = guard
  }

  /** Throws if it runs. */
  start(part: Part): void {
    if (this.running.has(part)) throw new Error(`could not start "${part}": it runs already`)
    const log = openSync(logFile(this.layout.folder, part), 'a')
    const { PATH = '' } = process.env
    const child = spawn(this.binary, [part, ...partArguments(part, this.layout)], {
      cwd: this.layout.folder,
      env: { PATH, HOME: this.layout.folder },
      stdio: ['ignore', log, log],
      detached: true,
    })
    closeSync(log)
    const { pid } = child
    if (pid) this.guard.watch(pid)
    const exited = new Promise<void>((resolve) => {
      child.once('error', () => resolve())
      child.once('exit', () => resolve())
    }).then(() => {
      if (pid) this.guard.forget(pid)
      this.running.delete(part)
      this.deaths.dispatchEvent(new CustomEvent('death', { detail: part }))
    })
    this.running.set(part, { child, exited })
  }

  signal(part: Part, signal: NodeJS.Signals): void {
    const found = this.running.get(part)
    if (!found) throw new Error(`could not send ${signal} to "${part}": it does not run`)
    found.child.kill(signal)
  }

  /** Resolves when it is gone, at once if it does not run. */
  async kill(part: Part, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const found = this.running.get(part)
    found?.child.kill(signal)
    await found?.exited
  }

  async killAll(): Promise<void> {
    await Promise.all([...partNames].map((part) => this.kill(part)))
  }

  /** The result of `work`, unless a part ends before that. */
  async whileAlive<T>(work: Promise<T>): Promise<T> {
    const { promise: death, reject } = Promise.withResolvers<never>()
    const onDeath = (event: Event) => {
      const part = (event as CustomEvent<Part>).detail
      void this.logEnd(part).then((end) => reject(new Error(`"${part}" ended while the control plane started:\n${end}`)))
    }
    this.deaths.addEventListener('death', onDeath)
    try {
      return await Promise.race([work, death])
    } finally {
      this.deaths.removeEventListener('death', onDeath)
    }
  }

  private async logEnd(part: Part): Promise<string> {
    return (await readFile(logFile(this.layout.folder, part), 'utf8').catch(() => '')).slice(-LOG_CHARS_SHOWN)
  }
}

/** The API server writes it when it starts; the file holds the certificate and the authority that signed it. */
async function certificateOf(folder: string): Promise<string> {
  const deadline = Date.now() + READY_MS
  for (;;) {
    const text = await readFile(certificateFile(folder), 'utf8').catch(() => '')
    if (text.trimEnd().endsWith('-----END CERTIFICATE-----')) return text
    if (Date.now() > deadline) throw new Error(`the API server made no certificate within ${READY_MS} ms`)
    await delay(POLL_MS)
  }
}

async function untilControllersWork(plane: Plane): Promise<void> {
  const hasDefault = (accounts: readonly AnyObject[]) => accounts.some(({ metadata }) => metadata.name === 'default')
  await plane.api.waitFor('/api/v1/namespaces/default/serviceaccounts', hasDefault, {
    what: 'the controllers',
    withinMs: READY_MS,
  })
}

async function freePorts(): Promise<PlaneLayout['ports']> {
  const found = new Set<number>()
  for (let tries = 0; found.size < 3; tries++) {
    if (tries === PORT_TRIES_MAX) throw new Error(`found no three free ports in ${PORT_TRIES_MAX} tries`)
    const port = randomPort()
    if (!(await isPortTaken('127.0.0.1', port))) found.add(port)
  }
  const [etcd, peer, api] = [...found] as [number, number, number]
  return { etcd, peer, api }
}
