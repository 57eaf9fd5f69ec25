/** One pod: its folder, its init containers one after the other, then its main containers together, and what is reported of them. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { ApiClient } from '../api.ts'
import type { Guard } from '../guard.ts'
import { Container, type Launch } from './container.ts'
import { type ContainerSpec, type EnvironmentSources, expand, resolveEnvironment } from './environment.ts'
import type { PodNetwork } from './network.ts'
import { type Pod, StatusWriter } from './pods.ts'
import type { LocalImage, RunningPod } from './process-pods.ts'
import { kubeTime, PodStatus } from './status.ts'
import { pathTranslator, writeVolumes } from './volumes.ts'

const VOLUMES_RETRY_MS = 500
const GRACE_SECONDS = 30

export interface ProcessPodPlace {
  readonly api: ApiClient
  /** Of all pods. */
  readonly folder: string
  readonly guard: Guard
  readonly network: PodNetwork
  readonly imageOf: (image: string) => LocalImage | undefined
  readonly variables: Readonly<Record<string, string>>
  readonly backoffMs: number
}

export class ProcessPod {
  readonly name: string
  private readonly pod: Pod
  private readonly place: ProcessPodPlace
  private readonly ip: string
  private readonly folder: string
  private readonly startedAt = kubeTime()
  private readonly status: PodStatus
  private readonly writer: StatusWriter
  private readonly init: readonly Container[]
  private readonly main: readonly Container[]
  private readonly ending = new AbortController()
  private isReady = false

  constructor(pod: Pod, place: ProcessPodPlace) {
    this.pod = pod
    this.place = place
    this.name = pod.metadata.name
    this.ip = place.network.join(pod)
    this.folder = join(place.folder, `${pod.metadata.namespace}_${this.name}_${pod.metadata.uid}`)
    this.status = new PodStatus(pod)
    this.writer = new StatusWriter(place.api, pod)
    const { initContainers = [], containers, restartPolicy } = pod.spec
    const initPolicy = restartPolicy === 'Never' ? 'Never' : 'OnFailure'
    this.init = initContainers.map((spec: ContainerSpec) => this.container(spec, initPolicy))
    this.main = containers.map((spec: ContainerSpec) => this.container(spec, restartPolicy))
  }

  get logFiles(): readonly string[] {
    return [...this.init, ...this.main].map(({ logFile }) => logFile)
  }

  /** Resolves when nothing of it will start again. */
  async run(): Promise<void> {
    this.report()
    if (!(await this.hasVolumes())) return
    for (const container of this.init) {
      const code = await container.run()
      if (code !== 0 || this.ending.signal.aborted) return
    }
    await Promise.all(this.main.map((container) => container.run()))
  }

  /** Gives every process the grace period of the deletion. Resolves when all are gone and the last status is written. */
  async end(deleted: Pod): Promise<void> {
    const seconds = deleted.metadata.deletionGracePeriodSeconds ?? deleted.spec.terminationGracePeriodSeconds ?? GRACE_SECONDS
    await this.stopAll(seconds * 1_000)
    await this.writer.written()
  }

  /** kill -9 at once. */
  async kill(): Promise<void> {
    await this.stopAll(0)
  }

  /** Whether a process got it. */
  signal(signal: NodeJS.Signals): boolean {
    return this.main.filter((container) => container.kill(signal)).length > 0
  }

  seen(): RunningPod {
    const { namespace, name, uid } = this.pod.metadata
    const containers = this.main.map((container) => ({
      name: container.spec.name as string,
      pid: container.pid,
      restarts: container.report().restartCount,
      logFile: container.logFile,
    }))
    return { namespace: namespace!, name, uid: uid!, ip: this.ip, isReady: this.isReady, containers }
  }

  private async stopAll(graceMs: number): Promise<void> {
    this.ending.abort()
    await Promise.all([...this.main, ...this.init].map((container) => container.stop(graceMs)))
    this.place.network.leave(this.pod.metadata.uid!)
  }

  /** False if the pod ended while something that its volumes name was missing. */
  private async hasVolumes(): Promise<boolean> {
    while (!this.ending.signal.aborted) {
      try {
        await mkdir(this.folder, { recursive: true })
        await writeVolumes(join(this.folder, 'volumes'), this.sources())
        return true
      } catch {
        // As with a kubelet the containers stay at ContainerCreating.
        await delay(VOLUMES_RETRY_MS, undefined, { signal: this.ending.signal }).catch(() => {})
      }
    }
    return false
  }

  private container(spec: ContainerSpec, restartPolicy: 'Always' | 'OnFailure' | 'Never'): Container {
    return new Container(spec, {
      podIp: this.ip,
      logFile: join(this.folder, 'logs', `${spec.name}.log`),
      guard: this.place.guard,
      restartPolicy,
      graceMs: (this.pod.spec.terminationGracePeriodSeconds ?? GRACE_SECONDS) * 1_000,
      backoffMs: this.place.backoffMs,
      prepare: () => this.prepare(spec),
      onChange: () => this.report(),
    })
  }

  private async prepare(spec: ContainerSpec): Promise<Launch | undefined> {
    const image = this.place.imageOf(spec.image)
    if (!image) return undefined
    const translate = pathTranslator(spec, join(this.folder, 'volumes'), image.paths ?? {})
    const declared = { ...image.environment, ...(await resolveEnvironment(spec, this.sources())) }
    const environment = Object.fromEntries(Object.entries(declared).map(([name, value]) => [name, translate(value)]))
    const program = spec.command ?? image.entrypoint ?? []
    const workingDir = spec.workingDir ?? image.workingDir
    const rest = spec.args ?? (spec.command ? [] : (image.command ?? []))
    return {
      command: [...program, ...rest].map((word: string) => translate(expand(word, declared))),
      environment: { ...this.processVariables(translate), ...environment, ...this.networkVariables(environment.NODE_OPTIONS) },
      workingDir: workingDir === undefined ? this.folder : translate(workingDir),
    }
  }

  /** What a container has without being asked. A program that writes to /tmp does so under its mount, if that is one. */
  private processVariables(translate: (text: string) => string): Record<string, string> {
    const tmp = translate('/tmp')
    return { ...this.place.variables, HOSTNAME: this.name, HOME: this.folder, ...(tmp === '/tmp' ? {} : { TMPDIR: tmp }) }
  }

  private networkVariables(nodeOptions = ''): Record<string, string> {
    const variables = this.place.network.variables(this.ip, this.pod.metadata.namespace!)
    return { ...variables, NODE_OPTIONS: `${variables.NODE_OPTIONS} ${nodeOptions}`.trim() }
  }

  private sources(): EnvironmentSources {
    return { api: this.place.api, pod: this.pod, podIp: this.ip, hostIp: this.place.network.hostIp }
  }

  private report(): void {
    const status = this.status.of({
      startedAt: this.startedAt,
      ip: this.ip,
      hostIp: this.place.network.hostIp,
      init: this.init.map((container) => container.report()),
      main: this.main.map((container) => container.report()),
    })
    const conditions = status.conditions as readonly { readonly type: string; readonly status: string }[]
    this.isReady = conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True')
    this.place.network.setReady(this.pod.metadata.uid!, this.isReady)
    this.writer.set(status)
  }
}
