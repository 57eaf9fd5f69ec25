import { describe, expect, it } from 'vitest'
import {
  type AgentStatus,
  agentStatusSchema,
  type Condition,
  mcpServerStatusSchema,
  modelApiStatusSchema,
  UNSEEN_GENERATION,
} from '../../../manifests/crd/status.ts'
import type { Plan } from '../../../operator/desired/plan.ts'
import type { KubeObject } from '../../../operator/kube/object.ts'
import { type AgentSeen, agentStatus } from '../../../operator/status/agent.ts'
import { mcpServerStatus } from '../../../operator/status/mcp-server.ts'
import { modelApiStatus } from '../../../operator/status/model-api.ts'
import { pausedStatus } from '../../../operator/status/paused.ts'
import { unreadableStatus } from '../../../operator/status/ready.ts'
import { readWorkload, type WorkloadView } from '../../../operator/status/workload.ts'
import { agent, hosted, mcpServer, planAgent, planApi, planServer, proxy } from '../desired/cluster.ts'

const at = (second: number) => ({ generation: 3, now: `2026-01-01T00:00:0${second}Z` })
const clusterDomain = 'cluster.local'
const created = { is: 'created' } as const
const lost = { is: 'unknown', message: 'no NATS server answers' } as const

function workload(figures: Partial<WorkloadView> = {}): WorkloadView {
  const ready = figures.ready ?? 1
  return {
    exists: true,
    wanted: 1,
    total: 1,
    ready,
    available: ready,
    updated: 1,
    isObserved: true,
    isRolledOut: true,
    isOverdue: false,
    conditions: [],
    ...figures,
  }
}

const none = readWorkload(undefined)
const writer = agent('writer')
const go = planAgent(writer)

/** After another, second by second. */
function follow(...steps: readonly Partial<AgentSeen>[]) {
  return steps.reduce<ReturnType<typeof agentStatus> | undefined>(
    (status, step, second) =>
      agentStatus(writer, { plan: go, workload: workload(), streams: created, clusterDomain, status, ...step }, at(second)),
    undefined,
  )!
}

/** `Ready=True Available`, in order. */
function spoken(conditions: readonly Condition[] | undefined): readonly string[] {
  return (conditions ?? []).map(({ type, status, reason }) => `${type}=${status} ${reason}`)
}

describe('the status of an agent', () => {
  it('is that of one that works', () => {
    const scaling = { active: 'True', why: 'Steady', replicas: 2, backlog: 7 } as const

    const status = follow({ workload: workload({ wanted: 2, total: 2, ready: 1, updated: 2 }), scaling })

    expect(agentStatusSchema.parse(status)).toEqual(status)
    expect(status).toMatchObject({
      observedGeneration: 3,
      phase: 'Ready',
      ready: true,
      message: '1/2 pods are ready',
      endpoint: 'http://agent-writer.team.svc.cluster.local:8000',
      linkedResources: { modelapi: 'models' },
      selector: 'app=agent,agent=writer',
      replicas: 2,
      desiredReplicas: 2,
      backlog: 7,
      deployment: { replicas: 2, readyReplicas: 1, updatedReplicas: 2 },
      telemetry: { enabled: false, enabledFrom: 'Default' },
    })
    expect(spoken(status.conditions)).toEqual([
      'Ready=True Available',
      'DependenciesReady=True DependenciesMet',
      'StreamsReady=True StreamsCreated',
      'WorkloadAvailable=True Available',
      'ScalingActive=True ScaledByBacklog',
    ])
  })

  it.each([
    ['it sleeps', { workload: workload({ wanted: 0, total: 0, ready: 0, updated: 0 }) }, 'Ready', ['Ready=True ScaledToZero']],
    ['it starts', { workload: workload({ ready: 0 }) }, 'Pending', ['Ready=False Starting', 'Reconciling=True Starting']],
    ['there is no Deployment yet', { workload: none }, 'Pending', ['Ready=False Starting', 'Reconciling=True Starting']],
    [
      'pods of before work while new ones start',
      { workload: workload({ wanted: 2, total: 3, ready: 2, updated: 1, isRolledOut: false }) },
      'Ready',
      ['Ready=True Available', 'Reconciling=True RollingOut'],
    ],
    [
      'a pod cannot start',
      { workload: workload({ ready: 0, problem: { reason: 'ImagePullFailed', message: 'no' } }) },
      'Failed',
      ['Ready=False ImagePullFailed'],
    ],
    [
      'a pod cannot start and time is up',
      { workload: workload({ ready: 0, isOverdue: true, problem: { reason: 'CrashLooping', message: 'no' } }) },
      'Failed',
      ['Ready=False CrashLooping', 'Stalled=True ProgressDeadlineExceeded'],
    ],
    [
      'a pod of the new version cannot start beside one of before',
      { workload: workload({ total: 2, isRolledOut: false, problem: { reason: 'CrashLooping', message: 'no' } }) },
      'Ready',
      ['Ready=True Available', 'Reconciling=True RollingOut', 'Degraded=True CrashLooping'],
    ],
    [
      'the new version was given up',
      {
        workload: workload({ total: 2, isRolledOut: false, isOverdue: true, problem: { reason: 'CrashLooping', message: 'no' } }),
      },
      'Ready',
      ['Ready=True Available', 'Stalled=True ProgressDeadlineExceeded', 'Degraded=True CrashLooping'],
    ],
    [
      'one pod of several cannot start',
      { workload: workload({ wanted: 2, problem: { reason: 'CrashLooping', message: 'no' } }) },
      'Ready',
      ['Ready=True Available', 'Degraded=True CrashLooping'],
    ],
    [
      'the broker was never there',
      { streams: lost },
      'Pending',
      ['Ready=False BrokerUnavailable', 'Reconciling=True BrokerUnavailable'],
    ],
    [
      'it waits',
      { plan: planAgent(writer, { modelApis: [] }), workload: none },
      'Waiting',
      ['Ready=False ModelAPINotFound', 'Reconciling=True ModelAPINotFound'],
    ],
    [
      'its model is not offered',
      { plan: planAgent(writer, { modelApis: [proxy({ models: ['a'] })] }), workload: none },
      'Failed',
      ['Ready=False ModelNotOffered', 'Stalled=True ModelNotOffered'],
    ],
  ] as const)('says in its phase and its first conditions that %s', (_what, step, phase, expected) => {
    const status = follow(step)

    expect(status).toMatchObject({ phase, ready: phase === 'Ready' })
    expect(spoken(status.conditions).slice(0, expected.length)).toEqual(expected)
    expect(spoken(status.conditions).filter((line) => /^(Reconciling|Stalled|Degraded)/.test(line))).toEqual(expected.slice(1))
  })

  const asleep = { workload: workload({ wanted: 0, total: 0, ready: 0, updated: 0 }) }
  const starting = { workload: workload({ ready: 0, isRolledOut: true }) }

  it('stays ready while it wakes, until something goes wrong', () => {
    const failing = { workload: workload({ ready: 0, problem: { reason: 'CrashLooping', message: 'exit code 1' } as const }) }

    expect(spoken(follow(asleep, starting).conditions)[0]).toBe('Ready=True WakingUp')
    expect(spoken(follow(asleep, starting, starting).conditions)[0]).toBe('Ready=True WakingUp')
    expect(spoken(follow(asleep, starting, {}).conditions)[0]).toBe('Ready=True Available')
    expect(spoken(follow(asleep, starting, failing).conditions)[0]).toBe('Ready=False CrashLooping')
    expect(spoken(follow({}, starting).conditions)[0]).toBe('Ready=False Starting')
    expect(spoken(follow(asleep, starting).conditions).join()).not.toContain('Reconciling')
  })

  it('is no longer ready when nothing has come of waking for ten minutes', () => {
    const woken = follow(asleep, starting)
    const later = { generation: 3, now: '2026-01-01T00:10:02Z' }

    const status = agentStatus(writer, { plan: go, streams: created, clusterDomain, status: woken, ...starting }, later)

    expect(spoken(status.conditions).slice(0, 2)).toEqual(['Ready=False Starting', 'Reconciling=True Starting'])
  })

  it.each([
    ['of its own accord', 'ManualOverride', 'ReplicasOverridden'],
    ['by who scales it', 'External', 'ScaledExternally'],
  ] as const)('says that no task wakes it when it was stopped %s, and is ready again without a failure', (_who, why, reason) => {
    const scaling = { active: 'False', why, replicas: 0, backlog: 3 } as const

    const stopped = follow({ ...asleep, scaling })
    const woken = follow({ ...asleep, scaling }, starting)

    expect(spoken(stopped.conditions)[0]).toBe(`Ready=True ${reason}`)
    expect(stopped.message).toContain('what is sent to it waits')
    expect(spoken(woken.conditions)[0]).toBe('Ready=True WakingUp')
  })

  it('is rolling out before the Deployment was looked at when it was changed, and not when it was scaled', () => {
    const unseen = { workload: workload({ isObserved: false }) }
    const changed = { generation: 4, now: at(1).now }

    const scaled = follow({}, unseen)
    const rolled = agentStatus(writer, { plan: go, streams: created, clusterDomain, status: follow({}), ...unseen }, changed)

    expect(spoken(scaled.conditions).join()).not.toContain('Reconciling')
    expect(spoken(rolled.conditions)).toContain('Reconciling=True RollingOut')
  })

  it('stays ready when the broker is lost later', () => {
    const scaling = { active: 'Unknown', why: 'BrokerUnavailable', replicas: 1, backlog: undefined } as const

    const status = follow({}, { streams: lost, scaling }, { streams: lost, scaling })

    expect(spoken(status.conditions)).toEqual([
      'Ready=True Available',
      'DependenciesReady=True DependenciesMet',
      'StreamsReady=Unknown BrokerUnavailable',
      'WorkloadAvailable=True Available',
      'ScalingActive=Unknown BrokerUnavailable',
    ])
    expect(status).not.toHaveProperty('backlog')
  })

  it('dates a condition from when its status changed, not its reason', () => {
    const status = follow(asleep, starting, {}, starting)

    const since = Object.fromEntries(status.conditions!.map(({ type, lastTransitionTime }) => [type, lastTransitionTime]))
    expect(since).toMatchObject({
      Ready: at(3).now,
      DependenciesReady: at(0).now,
      StreamsReady: at(0).now,
      WorkloadAvailable: at(3).now,
    })
    expect(follow(asleep, starting, {}).conditions![0]!.lastTransitionTime).toBe(at(0).now)
  })

  it('is the same text for the same facts, whenever it is written', () => {
    const step = { plan: planAgent(agent('writer', { agentNetwork: { access: ['ghost'] } })) }

    expect(JSON.stringify(follow(step, step))).toBe(JSON.stringify(follow(step)))
  })

  it('names a peer that is missing and is ready all the same', () => {
    const status = follow({ plan: planAgent(agent('writer', { agentNetwork: { access: ['ghost'] } })) })

    expect(status).toMatchObject({ ready: true })
    expect(spoken(status.conditions)).toContain('DependenciesReady=False PeerNotFound')
  })

  it.each([
    [{ active: 'False', why: 'External', replicas: undefined, backlog: 3 }, 'ScalingActive=False ScaledExternally'],
    [{ active: 'False', why: 'ManualOverride', replicas: 5, backlog: 3 }, 'ScalingActive=False ReplicasOverridden'],
    [{ active: 'False', why: 'WorkloadMissing', replicas: undefined, backlog: 3 }, 'ScalingActive=False Starting'],
    [{ active: 'Unknown', why: 'StreamMissing', replicas: 1, backlog: undefined }, 'ScalingActive=Unknown BrokerUnavailable'],
  ] as const)('says who scales it: %j', (scaling, expected) => {
    expect(spoken(follow({ scaling }).conditions)).toContain(expected)
  })

  it('is ready where a program of the user answers for it, without pods', () => {
    const external = agent('writer', { external: true })

    const status = agentStatus(external, { plan: planAgent(external), workload: none, streams: created, clusterDomain }, at(0))

    expect(status).toMatchObject({ phase: 'Ready', replicas: 0 })
    expect(status).not.toHaveProperty('endpoint')
    expect(spoken(status.conditions)).toEqual([
      'Ready=True External',
      'DependenciesReady=True DependenciesMet',
      'StreamsReady=True StreamsCreated',
    ])
  })

  it('has no endpoint where there is no Service', () => {
    const hidden = agent('writer', { agentNetwork: { expose: false } })

    expect(agentStatus(hidden, { plan: planAgent(hidden), workload: workload(), clusterDomain }, at(0))).not.toHaveProperty(
      'endpoint',
    )
  })

  it.each([
    [{ enabled: true }, 'TelemetryEndpointMissing', { enabled: false, enabledFrom: 'Resource' }],
    [
      { enabled: true, endpoint: 'http://collector:4317' },
      undefined,
      { enabled: true, endpoint: 'http://collector:4317', endpointFrom: 'Resource' },
    ],
  ])('shows the telemetry in effect for %j', (telemetry, reason, expected) => {
    const status = follow({ plan: planAgent(agent('writer', { telemetry })) })

    expect(status).toMatchObject({ ready: true, telemetry: expected })
    expect(spoken(status.conditions).filter((line) => line.startsWith('Degraded'))).toEqual(
      reason ? [`Degraded=True ${reason}`] : [],
    )
  })

  it('says of one that its definition refuses what is wrong, and waits for a change', () => {
    const status = unreadableStatus('spec.model: too long', follow({}), at(1))

    expect(agentStatusSchema.parse(status)).toEqual(status)
    expect(status).toMatchObject({ phase: 'Failed', ready: false, message: 'spec.model: too long' })
    expect(status.selector).toBe('app=agent,agent=writer')
    expect(spoken(status.conditions)).toEqual(['Ready=False SpecInvalid', 'Stalled=True SpecInvalid'])
  })
})

describe('the status of what is paused', () => {
  const later = { generation: 4, now: at(5).now }

  it('is what it was, and says so', () => {
    const before = follow({ workload: workload({ wanted: 2, total: 2 }) })

    const status = pausedStatus(before, later)

    expect(agentStatusSchema.parse(status)).toEqual(status)
    expect({ ...status, conditions: status.conditions!.filter(({ type }) => type !== 'Paused') }).toEqual(before)
    expect(status.conditions!.find(({ type }) => type === 'Paused')).toMatchObject({
      status: 'True',
      reason: 'Paused',
      observedGeneration: 4,
      lastTransitionTime: later.now,
    })
    expect(pausedStatus(status, { ...later, now: at(9).now })).toEqual(status)
  })

  it('is gone when it is looked at again', () => {
    const status = follow({ status: pausedStatus(follow({}), later) })

    expect(spoken(status.conditions)).toEqual(spoken(follow({}).conditions))
  })

  it('is that of one that is not ready where nothing was made of it yet', () => {
    const unseen: AgentStatus = { observedGeneration: UNSEEN_GENERATION }

    const status = pausedStatus(unseen, later)

    expect(status).toMatchObject({ observedGeneration: -1, phase: 'Pending', ready: false })
    expect(spoken(status.conditions)).toEqual(['Ready=False Paused', 'Paused=True Paused'])
  })
})

describe('the status of an MCPServer', () => {
  const notes = mcpServer('notes')

  it('has its tools, each once and in order', () => {
    const status = mcpServerStatus(
      notes,
      { plan: planServer(notes), workload: workload(), streams: created, tools: ['b', 'a', 'b'], backlog: 2, clusterDomain },
      at(0),
    )

    expect(mcpServerStatusSchema.parse(status)).toEqual(status)
    expect(status).toMatchObject({
      phase: 'Ready',
      availableTools: ['a', 'b'],
      backlog: 2,
      endpoint: 'http://mcpserver-notes.team.svc.cluster.local:8000',
    })
  })

  it('names what its runtime needs', () => {
    const chat = mcpServer('chat', { runtime: 'slack' })

    const status = mcpServerStatus(chat, { plan: planServer(chat), workload: none, clusterDomain }, at(0))

    expect(status).toMatchObject({ phase: 'Failed', message: expect.stringContaining('SLACK_BOT_TOKEN') })
    expect(spoken(status.conditions)).toEqual([
      'Ready=False RequiredEnvMissing',
      'Stalled=True RequiredEnvMissing',
      'WorkloadAvailable=False Starting',
    ])
  })
})

describe('the status of a ModelAPI', () => {
  const statusOf = (api: ReturnType<typeof proxy>, plan: Plan) =>
    modelApiStatus(api, { plan, workload: workload(), clusterDomain }, at(0))
  const telemetry = { enabled: true, endpoint: 'http://collector:4317' }

  it('has the endpoint of its mode', () => {
    const status = statusOf(proxy(), planApi(proxy()))

    expect(modelApiStatusSchema.parse(status)).toEqual(status)
    expect(status.endpoint).toBe('http://modelapi-models.team.svc.cluster.local:8000')
    expect(statusOf(hosted(), planApi(hosted())).endpoint).toBe('http://modelapi-models.team.svc.cluster.local:11434')
  })

  it.each([
    ['of the installation', hosted(), { telemetry }],
    ['of its own', hosted('m', { telemetry }), {}],
    ['that has no endpoint', hosted('m', { telemetry: { enabled: true } }), {}],
  ])('says that an Ollama has no telemetry where it is enabled, with settings %s', (_whose, api, values) => {
    const status = statusOf(api, planApi(api, values))

    expect(status).toMatchObject({ ready: true, telemetry: { enabled: false } })
    expect(spoken(status.conditions)).toEqual([
      'Ready=True Available',
      'WorkloadAvailable=True Available',
      'TelemetryUnsupported=True HostedModel',
    ])
  })

  it('says nothing of it where it is off, or a proxy exports it', () => {
    expect(spoken(statusOf(hosted(), planApi(hosted())).conditions).join()).not.toContain('Telemetry')
    expect(spoken(statusOf(proxy(), planApi(proxy(), { telemetry })).conditions).join()).not.toContain('Telemetry')
  })
})

describe('what a Deployment and its pods say', () => {
  const deployment = (status: object, spec: object = { replicas: 2 }): KubeObject => ({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'd', generation: 5 },
    spec,
    status,
  })
  const podWith = (status: object, metadata: object = {}): KubeObject => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', ...metadata },
    status,
  })
  const waitingFor = (reason: string, message: string, more: object = {}) =>
    podWith({ containerStatuses: [{ name: 'agent', image: 'x:1', state: { waiting: { reason, message } }, ...more }] })

  it('is counted', () => {
    const status = { observedGeneration: 5, replicas: 3, readyReplicas: 2, availableReplicas: 1, updatedReplicas: 2 }

    expect(readWorkload(deployment(status))).toMatchObject({
      exists: true,
      wanted: 2,
      total: 3,
      ready: 2,
      available: 1,
      updated: 2,
      isRolledOut: false,
    })
    expect(readWorkload(deployment({ ...status, updatedReplicas: 3 }))).toMatchObject({ isRolledOut: true })
    expect(readWorkload(deployment({ ...status, updatedReplicas: 3, observedGeneration: 4 }))).toMatchObject({
      isObserved: false,
    })
    expect(readWorkload(deployment({}, {}))).toMatchObject({ wanted: 1, ready: 0 })
  })

  it.each([
    [
      'an image that cannot be pulled',
      waitingFor('ImagePullBackOff', 'not found'),
      'ImagePullFailed',
      'image "x:1" of container "agent" cannot be pulled: ImagePullBackOff: not found',
    ],
    [
      'a container that ends',
      waitingFor('CrashLoopBackOff', 'back-off 40s', { lastState: { terminated: { exitCode: 137, reason: 'OOMKilled' } } }),
      'CrashLooping',
      'container "agent" ends again and again: exit code 137, OOMKilled',
    ],
    [
      'a Secret that is missing',
      waitingFor('CreateContainerConfigError', 'secret "k" not found'),
      'ContainerNotCreated',
      'container "agent" cannot be created: CreateContainerConfigError: secret "k" not found',
    ],
    [
      'no room',
      podWith({ conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/3 nodes' }] }),
      'Unschedulable',
      'no node takes the pod: 0/3 nodes',
    ],
    [
      'a pull of the model that fails',
      podWith({ initContainerStatuses: [{ name: 'pull-model', state: { waiting: { reason: 'CrashLoopBackOff' } } }] }),
      'CrashLooping',
      'container "pull-model" ends again and again',
    ],
  ])('is told of %s', (_what, pod, reason, message) => {
    expect(readWorkload(deployment({}), [pod]).problem).toEqual({ reason, message })
  })

  it.each([
    ['pods "d-1" is forbidden: exceeded quota: team', 'QuotaExceeded'],
    ['pods "d-1" is forbidden: violates PodSecurity "restricted:latest"', 'ForbiddenByPolicy'],
    ['Internal error occurred: failed calling webhook', 'PodsNotCreated'],
  ])('is told that pods cannot be created: %s', (message, reason) => {
    const conditions = [{ type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message }]

    expect(readWorkload(deployment({ conditions })).problem).toEqual({
      reason,
      // The name is another one at each try.
      message: `pods cannot be created: ${message.replace('pods "d-1" is ', '')}`,
    })
  })

  describe('with a pod on a node', () => {
    const placedAt = Date.parse('2026-01-01T00:00:00Z')
    const later = (seconds: number) => placedAt + seconds * 1_000
    const since = '2026-01-01T00:00:00Z'
    const placed = { type: 'PodScheduled', status: 'True', lastTransitionTime: since }
    const prepared = (status: string) => ({ type: 'PodReadyToStartContainers', status, lastTransitionTime: since })
    const creating = [{ name: 'agent', state: { waiting: { reason: 'ContainerCreating' } } }]
    const pending = (...conditions: readonly object[]) =>
      podWith({ phase: 'Pending', conditions: [placed, ...conditions], containerStatuses: creating })
    const found = (seconds: number, ...pods: readonly KubeObject[]) => {
      const { problem, lookAgainMs } = readWorkload(deployment({}), pods, later(seconds))
      return [problem?.reason, lookAgainMs]
    }

    it.each([
      ['that mounts what is not there', pending(prepared('False'))],
      ['of which the node says nothing', pending()],
    ])('is told of one %s, once that has lasted, and says when to look', (_what, pod) => {
      expect([found(0, pod), found(45, pod), found(60, pod)]).toEqual([
        [undefined, 60_000],
        [undefined, 15_000],
        ['PodNotPrepared', undefined],
      ])
    })

    it('says where to look', () => {
      const labelled = { ...deployment({}, { selector: { matchLabels: { app: 'agent', agent: 'writer' } } }) }
      const ours = { ...labelled, metadata: { ...labelled.metadata, namespace: 'team' } }

      expect(readWorkload(ours, [pending(prepared('False'))], later(60)).problem?.message).toMatch(
        /; see kubectl --namespace team describe pods --selector app=agent,agent=writer$/,
      )
    })

    it.each([
      ['that pulls a large image', pending(prepared('True'))],
      ['that has ended', podWith({ phase: 'Failed', conditions: [placed, prepared('False')] })],
      ['that waits for a node', podWith({ phase: 'Pending', conditions: [{ ...placed, status: 'False' }] })],
      ['that goes', { ...pending(prepared('False')), metadata: { name: 'p', deletionTimestamp: since } }],
    ])('is told nothing of one %s', (_what, pod) => {
      expect(found(600, pod)).toEqual([undefined, undefined])
    })

    it('looks again for the one that comes first', () => {
      const second = { ...placed, lastTransitionTime: '2026-01-01T00:00:20Z' }

      expect(found(30, pending(prepared('False')), podWith({ phase: 'Pending', conditions: [second] }))).toEqual([
        undefined,
        30_000,
      ])
    })
  })

  it('is told the same of the same pods, in whatever order, and nothing of those that go', () => {
    const crash = waitingFor('CrashLoopBackOff', 'x')
    const pull = waitingFor('ErrImagePull', 'x')
    const gone = { ...crash, metadata: { name: 'p', deletionTimestamp: at(0).now } }

    expect(readWorkload(deployment({}), [crash, pull])).toEqual(readWorkload(deployment({}), [pull, crash]))
    expect(readWorkload(deployment({}), [gone]).problem).toBeUndefined()
  })

  it('is overdue', () => {
    const conditions = [{ type: 'Progressing', status: 'False', reason: 'ProgressDeadlineExceeded', message: 'timed out' }]

    expect(readWorkload(deployment({ conditions }))).toMatchObject({
      isOverdue: true,
      problem: { reason: 'ProgressDeadlineExceeded' },
    })
  })
})
