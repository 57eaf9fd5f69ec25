/** Carries out a walk: a namespace with operators as processes, a broker and pods that pretend, and all that can be done to them. */
import { rm } from 'node:fs/promises'
import { connectBroker } from '../../../bus/connection.ts'
import { REGISTRY_CONFIG_MAP, REGISTRY_KEY } from '../../../operator/desired/runtimes.ts'
import { LEASE_NAME } from '../../../operator/process/operator.ts'
import { silentLog } from '../../../telemetry/log.ts'
import { registryText } from '../../operator/desired/cluster.ts'
import { type AnyObject, objectPath } from '../../testplane/api.ts'
import { startFakePods } from '../../testplane/fake-kubelet.ts'
import type { Plane } from '../../testplane/plane.ts'
import { type OperatorProcess, OperatorStand } from '../stand/stand.ts'
import { type Declared, missingFor } from './declared.ts'
import { Sight } from './sight.ts'
import { spoiled } from './spoiling.ts'
import { type Child, childrenOf, type Spoiling, type Step, type Walk } from './steps.ts'

const POD_MS = 50
const ANSWER_MS = 3_000
const WATCH_MS = 1_000
const LEFT_MS = 60_000
/** Of operators that are started while the API server is away. */
const START_TRIES_MAX = 10
/** Nothing is there, or another one, or the server is away: that may happen to whoever meddles. */
const HARMLESS = [404, 409, 429, 500, 503, 504]
const NOBODY = 0
/** What can be done while the API server is away. */
const WITHOUT_API: readonly Step['do'][] = ['mail', 'purge', 'dropStream', 'dropConsumer', 'watch']

const PATCHES = { apply: 'application/apply-patch+yaml', merge: 'application/merge-patch+json' } as const

type Outage = Extract<Step, { do: 'outage' }>

export class ChaosWorld {
  readonly stand: OperatorStand
  readonly sight: Sight
  /** Children that may stay without an owner, and owners whose mail may stay: somebody has taken away what would make them go. */
  readonly strays = new Set<string>()
  readonly mailLeft = new Set<string>()
  /** Of all operators that there were. */
  readonly logs: (() => string)[] = []
  /** A stream whose loss is seen only at the next connection, or within minutes. */
  private isStreamGone = false
  private readonly kubeconfig: string
  private readonly operators: OperatorProcess[] = []
  private readonly count: Walk['operators']

  private constructor(stand: OperatorStand, sight: Sight, kubeconfig: string, count: Walk['operators']) {
    this.stand = stand
    this.sight = sight
    this.kubeconfig = kubeconfig
    this.count = count
  }

  static async create(plane: Plane, { seed, operators }: Walk): Promise<ChaosWorld> {
    const { stand, sight } = await standWithPods(plane, `chaos-${seed}`)
    const world = new ChaosWorld(stand, sight, await stand.ownIdentity('operator'), operators)
    await world.startMissing()
    return world
  }

  async take(step: Step): Promise<void> {
    const { stand } = this
    switch (step.do) {
      case 'declare':
        return this.declare(step)
      case 'delete': {
        if (step.isOrphaning) this.noteStrays(step)
        await this.ask('DELETE', stand.path(step.kind, step.name), step.isOrphaning && { propagationPolicy: 'Orphan' })
        return
      }
      case 'pause':
        return this.merge(stand.path(step.kind, step.name), { metadata: { annotations: { 'kaos.tools/paused': 'true' } } })
      case 'resume':
        return this.merge(stand.path(step.kind, step.name), { metadata: { annotations: { 'kaos.tools/paused': null } } })
      case 'spoilStatus':
        return this.merge(`${stand.path(step.kind, step.name)}/status`, { status: { phase: 'Failed', conditions: [] } })
      case 'dropFinalizers':
        this.mailLeft.add(`${step.kind} ${step.name}`)
        return this.merge(stand.path(step.kind, step.name), { metadata: { finalizers: null } })
      case 'scale':
        return this.merge(`${stand.path('Agent', step.name)}/scale`, { spec: { replicas: step.replicas } })
      case 'spoil':
        return this.spoil(step.child, step.how)
      case 'deletePod': {
        const pods = this.sight.of('Pod')
        const pod = pods[Math.floor(step.place * pods.length)]
        if (pod) await this.ask('DELETE', stand.path('Pod', pod.metadata.name))
        return
      }
      case 'mail':
        return this.sendMail(step.name, step.count)
      case 'purge':
        return this.askBroker(`$JS.API.STREAM.PURGE.${this.stream(`agent_${step.name}_mail`)}`)
      case 'dropStream':
        this.isStreamGone = true
        return this.askBroker(`$JS.API.STREAM.DELETE.${this.stream(step.stream)}`)
      case 'dropConsumer':
        this.isStreamGone = true
        for (const consumer of ['task', 'mail', 'call'])
          await this.askBroker(`$JS.API.CONSUMER.DELETE.${this.stream(step.stream)}.${consumer}`)
        return
      case 'register':
        return this.register(step.tag)
      case 'watch':
        return this.sight.untilChanged(step.changes, WATCH_MS)
      case 'outage':
        return this.outage(step)
    }
  }

  /** All parts run, nothing is paused, no mail waits, and whatever is named is there. Resolves with the resources. */
  async heal(): Promise<void> {
    const { plane } = this.stand
    await plane.untilReady(LEFT_MS)
    // They come back by themselves too, after more than a minute.
    for (const part of ['kube-controller-manager', 'kube-scheduler'] as const) await plane.restart(part)
    await this.startMissing()
    if (this.isStreamGone) await this.stand.broker.restart()
    await this.purgeAll()
    await this.register(1)
    await this.sight.caughtUp(LEFT_MS)
    for (const { kind, metadata } of this.sight.resources()) {
      await this.take({ do: 'resume', kind: kind as Declared['kind'], name: metadata.name })
    }
    const going = () => this.sight.resources().filter(({ metadata }) => metadata.deletionTimestamp !== undefined)
    await this.sight.until(() => going().length === 0, {
      what: () =>
        `for what is deleted to go: ${JSON.stringify(going().map(({ kind, metadata: { name, finalizers } }) => ({ kind, name, finalizers })))}`,
      withinMs: LEFT_MS,
    })
    for (const each of missingFor(this.sight.resources())) await this.declare(each)
    await this.sight.caughtUp(LEFT_MS)
  }

  /** Tells all operators to end. Resolves with how they did. */
  async stopOperators() {
    const ended = await this.exited()
    const running = this.operators.filter((operator) => !ended.includes(operator))
    for (const operator of running) operator.kill('SIGTERM')
    this.operators.length = 0
    return Promise.all(running.map(({ exited }) => exited))
  }

  /** One in this process, with the same rights and the same name in the audit log. */
  async lookAgain(): Promise<void> {
    const operator = await this.stand.operator({ kubeconfig: this.kubeconfig, lease: { name: LEASE_NAME } })
    await this.stand.untilLooked(operator)
  }

  /** The connection that there is may be on its way back. */
  private async purgeAll(): Promise<void> {
    const connection = await connectBroker(this.stand.broker.settings, { name: 'purge', log: silentLog() })
    const ask = (subject: string) => connection.request(subject, '', { timeout: LEFT_MS })
    const { streams } = (await ask('$JS.API.STREAM.NAMES')).json<{ streams: readonly string[] | null }>()
    for (const stream of streams ?? []) if (stream.endsWith('_mail')) await ask(`$JS.API.STREAM.PURGE.${stream}`)
    await connection.close()
  }

  private async declare({ kind, name, spec }: Declared): Promise<void> {
    const object = this.stand.placed({ apiVersion: 'kaos.tools/v1alpha1', kind, metadata: { name }, spec })
    await this.ask('PATCH', `${objectPath(object)}?fieldManager=test&force=true`, object, PATCHES.apply)
  }

  private async register(tag: number): Promise<void> {
    const text = registryText.replace('mcp-python-string:1', `mcp-python-string:${tag}`)
    await this.merge(this.stand.path('ConfigMap', REGISTRY_CONFIG_MAP), { data: { [REGISTRY_KEY]: text } })
  }

  private async spoil(child: Child, how: Spoiling): Promise<void> {
    const path = objectPath({
      apiVersion: { Deployment: 'apps/v1', PodDisruptionBudget: 'policy/v1' }[child.kind as string] ?? 'v1',
      kind: child.kind,
      metadata: { name: child.name, namespace: this.stand.namespace },
    })
    if (how === 'owner') this.noteStray(child)
    if (how === 'gone') await this.ask('DELETE', path)
    else await this.merge(path, spoiled(child, how))
  }

  private noteStrays({ kind, name }: Pick<Declared, 'kind' | 'name'>): void {
    for (const child of childrenOf(kind, name)) this.noteStray(child)
  }

  /** Whoever takes the Deployment away takes the pods, which go on with their mail. */
  private noteStray({ kind, name }: Child): void {
    this.strays.add(`${kind} ${name}`)
    if (kind === 'Deployment') this.mailLeft.add(name.replace(/^agent-/, 'Agent ').replace(/^mcpserver-/, 'MCPServer '))
  }

  private async sendMail(name: string, count: number): Promise<void> {
    const { connection, namespace } = this.stand
    for (let n = 0; n < count; n++) connection.publish(`kaos.${namespace}.agent.${name}.task`, 'a task')
    await this.askBroker(`$JS.API.STREAM.INFO.${this.stream(`agent_${name}_mail`)}`)
  }

  private async outage(outage: Outage): Promise<void> {
    const end = await this.begin(outage)
    for (const step of outage.meanwhile) {
      // It would be refused, or wait for its deadline: there is nothing to see.
      if (['kube-apiserver', 'etcd'].includes(outage.of) && !WITHOUT_API.includes(step.do)) continue
      await this.take(step)
    }
    await end()
    await this.startMissing()
  }

  /** Resolves with what ends it. */
  private async begin(outage: Outage): Promise<() => Promise<void>> {
    const { of, how, isPastLost } = outage
    const { plane } = this.stand
    if (of === 'operator') return this.hitOperator(outage)
    if (of === 'broker') return this.hitBroker(outage)
    if (how === 'freeze') {
      await plane.freeze(of)
      return () => plane.thaw(of)
    }
    await plane.kill(of)
    if (isPastLost) await plane.compact()
    return () => plane.start(of)
  }

  private async hitBroker({ how, isPastLost }: Outage): Promise<() => Promise<void>> {
    const { broker } = this.stand
    if (how === 'freeze') {
      const { pid } = broker
      process.kill(pid, 'SIGSTOP')
      return async () => void process.kill(pid, 'SIGCONT')
    }
    await broker.kill()
    if (isPastLost) await rm(broker.storeDir, { recursive: true })
    return () => broker.restart()
  }

  private async hitOperator({ how, isLeaseLost }: Outage): Promise<() => Promise<void>> {
    const [operator] = this.operators
    if (!operator) return async () => {}
    if (how === 'freeze') {
      operator.kill('SIGSTOP')
      return async () => {
        if (isLeaseLost && this.count > 1) await this.untilTakenOver(operator)
        operator.kill('SIGCONT')
      }
    }
    operator.kill('SIGKILL')
    await operator.exited
    return async () => {
      if (!isLeaseLost) await this.dropLeaseOf(operator)
    }
  }

  private async untilTakenOver(operator: OperatorProcess): Promise<void> {
    await this.stand.until('Lease', LEASE_NAME, ({ spec }) => !operator.log().includes(spec.holderIdentity || 'none'), LEFT_MS)
  }

  /** Nobody waits for it to expire then. */
  private async dropLeaseOf(operator: OperatorProcess): Promise<void> {
    const lease = await this.ask('GET', this.stand.path('Lease', LEASE_NAME))
    const holder = lease?.spec?.holderIdentity
    if (holder && operator.log().includes(holder)) await this.ask('DELETE', this.stand.path('Lease', LEASE_NAME))
  }

  /** As a kubelet does: whoever has ended is started again. */
  private async startMissing(): Promise<void> {
    for (const ended of await this.exited()) this.operators.splice(this.operators.indexOf(ended), 1)
    for (let tries = 1; this.operators.length < this.count; tries++) {
      try {
        const operator = await this.stand.operatorProcess(this.kubeconfig)
        this.operators.push(operator)
        this.logs.push(operator.log)
      } catch (error) {
        if (tries === START_TRIES_MAX) throw error
      }
    }
  }

  private async exited(): Promise<readonly OperatorProcess[]> {
    const running = Symbol('running')
    const ends = await Promise.all(
      this.operators.map(async (operator) => ({
        operator,
        end: await Promise.race([operator.exited, Promise.resolve(running)]),
      })),
    )
    return ends.filter(({ end }) => end !== running).map(({ operator }) => operator)
  }

  private stream(rest: string): string {
    return `kaos_${this.stand.namespace}_${rest}`
  }

  private async askBroker(subject: string): Promise<void> {
    await this.stand.connection.request(subject, '', { timeout: ANSWER_MS }).catch(() => {})
  }

  private async merge(path: string, body: unknown): Promise<void> {
    await this.ask('PATCH', path, body, PATCHES.merge)
  }

  /** Undefined where nothing came of it, which is no mistake. */
  private async ask(method: string, path: string, body?: unknown, contentType?: string): Promise<AnyObject | undefined> {
    const { api } = this.stand.plane
    const { code, body: answer } = await api
      .request(method, path, body || undefined, { ...(contentType && { contentType }), signal: AbortSignal.timeout(ANSWER_MS) })
      .catch((error: Error) => ({ code: NOBODY, body: { message: error.message } }))
    if (code === NOBODY || HARMLESS.includes(code)) return undefined
    if (code > 299) throw new Error(`a step was answered with ${code}: ${method} ${path}: ${answer.message}`)
    return answer
  }
}

/** A namespace with a registry of runtimes and pods that become ready, and a view of it. */
export async function standWithPods(
  plane: Plane,
  prefix: string,
): Promise<{ readonly stand: OperatorStand; readonly sight: Sight }> {
  const stand = await OperatorStand.create(plane, prefix)
  const pods = startFakePods(plane, { namespace: stand.namespace, readyDelayMs: POD_MS, stopDelayMs: POD_MS })
  const sight = new Sight(plane, stand.namespace)
  stand.add(() => sight.stop())
  stand.add(() => pods.stop())
  await plane.api.apply(
    stand.placed({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: REGISTRY_CONFIG_MAP },
      data: { [REGISTRY_KEY]: registryText },
    }),
  )
  return { stand, sight }
}
