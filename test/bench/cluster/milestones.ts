/** What of a wake can be seen from outside: objects of the cluster, messages on the broker, and what the agent's process wrote of its start. */
import type { OperatorStand } from '../../cluster/stand/stand.ts'
import type { AnyObject } from '../../testplane/api.ts'
import type { ProcessPods } from '../../testplane/fake-kubelet.ts'

/** In their order; each is counted from the one before, the first from the publish. */
export const STAGES = {
  deployment: 'operator: hears of the mail, writes the Deployment',
  pod: 'controllers: make the pod',
  bound: 'scheduler: binds it',
  started: 'kubelet of the test plane: starts the process',
  nodeUp: 'Node: starts',
  loaded: 'kaos host: loads its modules, reads its manifest, dials the broker',
  asked: 'kaos host: is connected and asks for mail',
  entry: 'kaos host: decides and journals the first entry',
} as const

export type Stage = keyof typeof STAGES
export type Milestone = Stage | 'result'

const STEP_MS = 60_000

/** As `pod-start.mjs` writes it; epoch ms. */
type Start = Readonly<Record<'started' | 'nodeUp' | 'loaded', number>>
const START_LINE = /^start of a pod (\{.*\})$/m

/** Epoch ms with fractions, as processes of one machine can compare it. */
export function epochMs(): number {
  return performance.timeOrigin + performance.now()
}

export class Milestones {
  private readonly agent: string
  private readonly pods: Pick<ProcessPods, 'logs'>
  private readonly stopping = new AbortController()
  private at = new Map<Milestone, number>()
  private pod = ''
  private isAsleep = false
  private areGone = false
  private look: () => void = () => {}

  constructor(stand: OperatorStand, pods: Pick<ProcessPods, 'logs'>, agent: string) {
    this.agent = agent
    this.pods = pods
    const { api } = stand.plane
    const { signal } = this.stopping
    const following = [
      api.follow(stand.path('Deployment'), (all) => this.onDeployments([...all.values()]), signal),
      api.follow(stand.path('Pod'), (all) => this.onPods([...all.values()]), signal),
    ]
    stand.add(async () => {
      this.stopping.abort()
      await Promise.all(following)
    })
    const { namespace, connection } = stand
    const note = (milestone: Milestone) => ({ callback: () => this.reach(milestone) })
    // Requests of clients are messages like any other: whoever subscribes sees them too.
    connection.subscribe(`$JS.API.CONSUMER.MSG.NEXT.kaos_${namespace}_agent_${agent}_mail.>`, note('asked'))
    connection.subscribe(`kaos.${namespace}.agent.${agent}.journal.>`, note('entry'))
    connection.subscribe(`kaos.${namespace}.result.${agent}.>`, note('result'))
  }

  /** No pod is left, and none is wanted. */
  async asleep(): Promise<void> {
    await this.until(() => this.isAsleep && this.areGone, 'the agent to sleep')
  }

  /** From the publish of a task on; what was seen before is forgotten. */
  begin(): void {
    this.at = new Map()
    this.pod = ''
  }

  /** Epoch ms of each. Rejects when the task has not ended in time. */
  async all(): Promise<Readonly<Record<Milestone, number>>> {
    await this.until(() => this.at.has('result'), 'the result')
    const log = await this.pods.logs(this.pod)
    const line = START_LINE.exec(log)?.[1]
    if (line === undefined) throw new Error(`could not find the start of pod "${this.pod}" in its log:\n${log}`)
    return { ...Object.fromEntries(this.at), ...(JSON.parse(line) as Start) } as Record<Milestone, number>
  }

  private onDeployments(deployments: readonly AnyObject[]): void {
    const found = deployments.find(({ metadata }) => metadata.name === `agent-${this.agent}`)
    if (!found) return
    this.isAsleep = found.spec.replicas === 0 && !found.status?.replicas
    if (found.spec.replicas > 0) this.reach('deployment')
    this.look()
  }

  private onPods(pods: readonly AnyObject[]): void {
    const own = pods.filter(({ metadata }) => metadata.name.startsWith(`agent-${this.agent}-`))
    this.areGone = own.length === 0
    const [found] = own
    if (found) {
      this.pod = found.metadata.name
      this.reach('pod')
      if (found.spec.nodeName) this.reach('bound')
    }
    this.look()
  }

  private reach(milestone: Milestone): void {
    if (!this.at.has(milestone)) this.at.set(milestone, epochMs())
    this.look()
  }

  private async until(isTrue: () => boolean, what: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const timer = setTimeout(
      () => reject(new Error(`waited ${STEP_MS} ms for ${what}; seen: ${[...this.at.keys()].join(', ')}`)),
      STEP_MS,
    )
    this.look = () => isTrue() && resolve()
    this.look()
    await promise.finally(() => clearTimeout(timer))
  }
}
