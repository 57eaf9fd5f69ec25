/**
 * What the benches of the operator share: a control plane, a broker and a namespace of their own, `kaos operator` as a process with the flags
 * of the chart, and what the audit log says that it asked.
 */
import { execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { cpus, loadavg, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseAllDocuments, stringify } from 'yaml'
import { OperatorStand } from '../../cluster/stand/stand.ts'
import { KAOS } from '../../support/host-process.ts'
import type { AuditLine } from '../../testplane/audit.ts'
import { addNodes } from '../../testplane/nodes.ts'
import { type OwnedPlane, startPlane } from '../../testplane/plane.ts'
import { cpuSeconds } from '../process.ts'
import { CLUSTER_RESULTS, RESULTS_FOLDER, textOf } from '../results.ts'

const root = join(import.meta.dirname, '..', '..', '..')
const USER = 'operator'
const READY_MS = 60_000
const END_MS = 20_000
const POLL_MS = 250
/** Runs in the operator before anything else: it ends when the bench does, however that ends. */
const DIES_WITH_US = 'process.stdin.once("end", () => process.kill(process.pid, "SIGKILL")).resume().unref()'

/** Where the audit log ended, and when. */
export interface Moment {
  readonly position: number
  readonly at: number
}

export interface Memory {
  /** Resident, in MB of 10^6 bytes. */
  readonly residentMb: number
  /** The most that was ever resident. */
  readonly peakMb: number
  /** Of the resident: what is not a page of a file, which other processes may share. */
  readonly anonymousMb: number
}

export class OperatorProcess {
  readonly pid: number
  readonly startedAt: number
  private readonly exited: Promise<unknown>
  private readonly terminate: (signal: NodeJS.Signals) => void

  constructor(pid: number, startedAt: number, exited: Promise<unknown>, terminate: (signal: NodeJS.Signals) => void) {
    this.pid = pid
    this.startedAt = startedAt
    this.exited = exited
    this.terminate = terminate
  }

  memory(): Memory {
    const text = readFileSync(`/proc/${this.pid}/status`, 'utf8')
    const mb = (name: string) => (Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1_024) / 1e6
    return { residentMb: mb('VmRSS'), peakMb: mb('VmHWM'), anonymousMb: mb('RssAnon') }
  }

  /** User and system, so far. */
  cpuSeconds(): number {
    return cpuSeconds(this.pid)
  }

  signal(signal: NodeJS.Signals): void {
    this.terminate(signal)
  }

  /** As a kubelet does it. */
  async stop(): Promise<void> {
    this.terminate('SIGTERM')
    const force = setTimeout(() => this.terminate('SIGKILL'), END_MS)
    await this.exited
    clearTimeout(force)
  }
}

export class ClusterRig implements AsyncDisposable {
  readonly plane: OwnedPlane
  readonly stand: OperatorStand
  private readonly kubeconfig: string
  private readonly folder: string
  /** Of the command that is measured: as in the image, compiled. */
  private kaos = KAOS

  private constructor(plane: OwnedPlane, stand: OperatorStand, kubeconfig: string, folder: string) {
    this.plane = plane
    this.stand = stand
    this.kubeconfig = kubeconfig
    this.folder = folder
  }

  static async start(): Promise<ClusterRig> {
    const plane = await startPlane({ say: tell })
    await addNodes(plane.api)
    const stand = await OperatorStand.create(plane, 'bench')
    const folder = await mkdtemp(join(tmpdir(), 'kaos-bench-cluster-'))
    return new ClusterRig(plane, stand, await stand.ownIdentity(USER), folder)
  }

  /** From now on operators run the package as pods do. Without this they run its source, whose types cost time and memory. */
  async pack(): Promise<void> {
    const dist = join(this.folder, 'package')
    execFileSync(process.execPath, [join(root, 'scripts', 'pack.ts'), dist], { stdio: ['ignore', 'ignore', 'inherit'] })
    await symlink(join(root, 'node_modules'), join(dist, 'node_modules'))
    this.kaos = join(dist, 'cli', 'kaos.js')
  }

  /** Resolves when it leads or waits to lead. */
  async operator(variables = chartVariables()): Promise<OperatorProcess> {
    const file = join(this.folder, 'installation.yaml')
    await writeFile(file, stringify(this.stand.settings()))
    const flags = ['operator', '--config', file, '--namespace', this.stand.namespace, '--health', '127.0.0.1:0', '--json']
    const { PATH = '', HOME = '' } = process.env
    const startedAt = performance.now()
    const child = spawn(process.execPath, ['--import', `data:text/javascript,${DIES_WITH_US}`, this.kaos, ...flags], {
      env: { PATH, HOME, KUBECONFIG: this.kubeconfig, ...variables },
      stdio: 'pipe',
    })
    let output = ''
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    const ready = Promise.withResolvers<void>()
    const late = setTimeout(() => ready.reject(new Error(`kaos operator is not ready after ${READY_MS} ms: ${output}`)), READY_MS)
    void exited.then(() => ready.reject(new Error(`kaos operator ended: ${output}`)))
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        output = (output + chunk.toString()).slice(-20_000)
        if (output.includes('"ready": true')) ready.resolve()
      })
    }
    try {
      await ready.promise
    } finally {
      clearTimeout(late)
    }
    return new OperatorProcess(child.pid!, startedAt, exited, (signal) => void child.kill(signal))
  }

  async moment(): Promise<Moment> {
    return { position: await this.plane.auditPosition(), at: performance.now() }
  }

  /** What the operator has asked since then. */
  async asked({ position }: Moment): Promise<readonly AuditLine[]> {
    const lines = await this.plane.audit({ since: position })
    return lines.filter(({ user }) => user.username.endsWith(`:${USER}`))
  }

  /** Resolves when it has written nothing but its lease for so long; `lastWriteAt` is the epoch ms of the last that it did write. */
  async untilQuiet(since: Moment, quietMs: number): Promise<{ readonly lastWriteAt: number | undefined }> {
    let last: number | undefined
    let next = since
    let quietSince = performance.now()
    while (performance.now() - quietSince < quietMs) {
      const from = next
      next = await this.moment()
      const writes = (await this.asked(from)).filter(isWrite)
      for (const { requestReceivedTimestamp } of writes) last = Math.max(last ?? 0, Date.parse(requestReceivedTimestamp))
      if (writes.length > 0) quietSince = performance.now()
      await delay(POLL_MS)
    }
    return { lastWriteAt: last }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stand[Symbol.asyncDispose]()
    await this.plane.stop()
    await rm(this.folder, { recursive: true, force: true })
  }
}

/** All but the renewals of the lease. */
export function isWrite({ verb, objectRef }: AuditLine): boolean {
  return !['get', 'list', 'watch'].includes(verb) && objectRef?.resource !== 'leases'
}

/** `patch agents/status`: how often. */
export function countsOf(lines: readonly AuditLine[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>()
  for (const { verb, objectRef } of lines) {
    const what = `${verb} ${objectRef?.resource ?? 'other'}${objectRef?.subresource ? `/${objectRef.subresource}` : ''}`
    counts.set(what, (counts.get(what) ?? 0) + 1)
  }
  return Object.fromEntries([...counts].toSorted(([a], [b]) => a.localeCompare(b)))
}

/** What the chart sets for Node and its memory. */
export function chartVariables(): Readonly<Record<string, string>> {
  const documents = parseAllDocuments(readFileSync(join(root, 'manifests', 'install', 'kaos.yaml'), 'utf8'))
  const objects = documents.map((document) => document.toJS()).filter((object) => object?.kind === 'Deployment')
  const operator = objects.find(({ metadata }) => metadata.name === 'kaos-operator')
  const env: readonly { readonly name: string; readonly value?: string }[] = operator.spec.template.spec.containers[0].env
  const told = env.filter(({ name }) => name === 'NODE_OPTIONS' || name.startsWith('MALLOC_'))
  return Object.fromEntries(told.map(({ name, value = '' }) => [name, value]))
}

export function machine(): object {
  return {
    cpus: cpus().length,
    memoryGb: Math.round(totalmem() / 1e9),
    loadAverage: loadavg().map((load) => Number(load.toFixed(2))),
  }
}

/** Stores the figures of one bench beside those of the others. */
export async function writeClusterResult(name: string, figures: object): Promise<string> {
  const file = join(RESULTS_FOLDER, CLUSTER_RESULTS)
  await mkdir(RESULTS_FOLDER, { recursive: true })
  const others = JSON.parse(await readFile(file, 'utf8').catch(() => '{}')) as object
  await writeFile(file, textOf({ ...others, [name]: figures }))
  return file
}

export function tell(line: string): void {
  process.stderr.write(`${line}\n`)
}
