import { describe, expect, it } from 'vitest'
import type { AgentStatus, Condition } from '../../../manifests/crd/status.ts'
import { nextConditions, type Statements } from '../../../operator/status/conditions.ts'
import { eventReasons, type Reason, reasons } from '../../../operator/status/reasons.ts'
import { transitions } from '../../../operator/status/transitions.ts'

const moment = { generation: 1, now: '2026-01-01T00:00:00Z' }
const conditions = (statements: Statements): readonly Condition[] => nextConditions([], statements, moment)
const ready = (status: boolean, reason: Reason): Statements => ({ Ready: { status, reason, message: `because of ${reason}` } })
const status = (statements: Statements, more: Partial<AgentStatus> = {}): AgentStatus => ({
  observedGeneration: 1,
  conditions: conditions(statements),
  ...more,
})
const told = (before: AgentStatus | undefined, after: AgentStatus) =>
  transitions(before, after).map(({ type, reason, note }) => `${type} ${reason}: ${note}`)

describe('Events', () => {
  it('are none while nothing changes but a message', () => {
    const before = status({ Ready: { status: true, reason: 'Available', message: '1/2 pods are ready' } })
    const after = status({ Ready: { status: true, reason: 'Available', message: '2/2 pods are ready' } })

    expect(told(before, after)).toEqual([])
  })

  it.each([
    ['the first status', undefined, status(ready(false, 'Starting')), ['Normal Starting: because of Starting']],
    ['ready', status(ready(false, 'Starting')), status(ready(true, 'Available')), ['Normal Available: because of Available']],
    [
      'failed',
      status(ready(false, 'Starting')),
      status(ready(false, 'ImagePullFailed')),
      ['Warning ImagePullFailed: because of ImagePullFailed'],
    ],
    [
      'no longer ready',
      status(ready(true, 'Available')),
      status(ready(false, 'Starting')),
      ['Warning Starting: because of Starting'],
    ],
    [
      'asleep, which scaling tells',
      status(ready(true, 'Available'), { desiredReplicas: 1 }),
      status(ready(true, 'ScaledToZero'), { desiredReplicas: 0, backlog: 0 }),
      ['Normal ScaledToZero: from 1 to 0 pods; 0 messages wait or are in hand'],
    ],
    [
      'woken',
      status(ready(true, 'ScaledToZero'), { desiredReplicas: 0 }),
      status(ready(true, 'WakingUp'), { desiredReplicas: 2, backlog: 40 }),
      ['Normal WokenUp: from 0 to 2 pods; 40 messages wait or are in hand'],
    ],
    ['more pods', status({}, { desiredReplicas: 1 }), status({}, { desiredReplicas: 3 }), ['Normal ScaledUp: from 1 to 3 pods']],
    [
      'fewer pods',
      status({}, { desiredReplicas: 3 }),
      status({}, { desiredReplicas: 1 }),
      ['Normal ScaledDown: from 3 to 1 pods'],
    ],
    ['a new generation', status({}), status({}, { observedGeneration: 2 }), ['Normal Updated: generation 2 is carried out']],
    ['a generation that is the first to be looked at', status({}, { observedGeneration: -1 }), status({}), []],
    [
      'a pause',
      status(ready(true, 'Available')),
      status({ ...ready(true, 'Available'), Paused: { status: true, reason: 'Paused', message: 'until later' } }),
      ['Normal Paused: until later'],
    ],
    [
      'the end of a pause',
      status({ Paused: { status: true, reason: 'Paused', message: 'until later' } }),
      status({}),
      ['Normal Resumed: it is not paused any more'],
    ],
    [
      'a peer that is missing',
      status({}),
      status({ DependenciesReady: { status: false, reason: 'PeerNotFound', message: 'no Agent "x"' } }),
      ['Warning PeerNotFound: no Agent "x"'],
    ],
    [
      'a dependency that is there again',
      status({ DependenciesReady: { status: false, reason: 'PeerNotFound', message: 'no Agent "x"' } }),
      status({ DependenciesReady: { status: true, reason: 'DependenciesMet', message: 'all is there' } }),
      ['Normal DependenciesMet: all is there'],
    ],
    [
      'telemetry that cannot be exported',
      status({}),
      status({ Degraded: { status: true, reason: 'TelemetryEndpointMissing', message: 'no endpoint' } }),
      ['Warning TelemetryEndpointMissing: no endpoint'],
    ],
  ] as const)('tell of %s', (_what, before, after, expected) => {
    expect(told(before, after)).toEqual(expected)
  })

  it('tell once what two conditions say', () => {
    const statement = { status: false, reason: 'ModelAPINotFound', message: 'no ModelAPI "m"' } as const

    expect(told(undefined, status({ Ready: statement, DependenciesReady: statement }))).toEqual([
      'Normal ModelAPINotFound: no ModelAPI "m"',
    ])
  })
})

describe('reasons', () => {
  it('are one word each, as the API wants it, with a sentence that says what they mean', () => {
    const all = [
      ...Object.entries(reasons).map(([name, { meaning }]) => [name, meaning] as const),
      ...Object.entries(eventReasons),
    ]

    expect(all.filter(([name]) => !/^[A-Z][A-Za-z]+$/.test(name))).toEqual([])
    expect(all.filter(([, meaning]) => !/^[A-Zs].*[.)]$/.test(meaning))).toEqual([])
  })

  it('stop for good only what is failed', () => {
    const stalled = Object.values(reasons).filter((row) => 'isStalled' in row)

    expect(stalled.map(({ phase }) => phase)).toEqual(stalled.map(() => 'Failed'))
  })
})
