/** Two operators, of which one leads: whoever follows writes nothing until the leader has ended or lost the lease, and that one nothing ever after. */
import { describe, expect, it } from 'vitest'
import type { AnyObject } from '../../testplane/api.ts'
import type { AuditLine } from '../../testplane/audit.ts'
import { sharedPlane } from '../../testplane/shared.ts'
import { agentText, PROXY, startSettling, untilSettled, writesOf } from '../stand/settling.ts'
import type { OperatorProcess, OperatorStand } from '../stand/stand.ts'

const plane = sharedPlane()
const { api } = plane
const LEASE = 'kaos-actors-operator'
/** Of a lease that nobody renews: 15 s, looked at every 2 s and a bit. */
const TAKEOVER_MS = 20_000
const AGENTS = 20

/** A leader and a follower with identities of their own, and two agents. */
async function startTwo(prefix: string) {
  const stand = await startSettling(plane, prefix)
  const [one, other] = [await stand.ownIdentity('leader'), await stand.ownIdentity('follower')]
  const leader = await stand.operatorProcess(one)
  const first = holderOf(await stand.until('Lease', LEASE, holderOf))
  const follower = await stand.operatorProcess(other)
  await untilSettled(stand, await stand.apply([PROXY, agentText('a'), agentText('b')].join('---')))
  return { stand, leader, follower, first }
}

function holderOf({ spec }: AnyObject): string {
  return spec.holderIdentity
}

/** Work for whoever leads, so much that it does not end at once; resolves when some of it is done. */
async function declareMore(stand: OperatorStand): Promise<readonly AnyObject[]> {
  await api.delete(stand.path('Agent', 'b'))
  const isBegun = (all: readonly AnyObject[]) => all.some(({ metadata }) => metadata.name.startsWith('agent-more-'))
  const begun = api.waitFor(stand.path('Deployment'), isBegun, { what: 'the first of many' })
  const declared = await Promise.all(Array.from({ length: AGENTS }, (_, i) => stand.apply(agentText(`more-${i}`))))
  await begun
  return declared.flat()
}

async function untilTakenOver(stand: OperatorStand, first: string): Promise<void> {
  await stand.until('Lease', LEASE, (lease) => ![first, ''].includes(holderOf(lease)), TAKEOVER_MS)
}

/** The leader's last write and the follower's first, and what the latter is: the lease has to be first. */
async function handover(stand: OperatorStand) {
  const moment = ({ requestReceivedTimestamp }: AuditLine) => requestReceivedTimestamp
  const [last, firsts] = [(await writesOf(stand, 'leader')).map(moment).toSorted().at(-1)!, await writesOf(stand, 'follower')]
  const [begun] = firsts.toSorted((a, b) => (moment(a) < moment(b) ? -1 : 1))
  return { last, begun: moment(begun!), begins: begun!.objectRef?.resource, count: firsts.length }
}

async function untilDone(stand: OperatorStand, resources: readonly AnyObject[]): Promise<void> {
  await untilSettled(stand, resources)
  await stand.untilGone('Agent', 'b')
}

async function replicaSeriesOf({ health }: OperatorProcess): Promise<number> {
  const text = await (await fetch(`${health}/metrics`)).text()
  return [...text.matchAll(/^kaos_agent_replicas\{/gm)].length
}

async function untilExited({ exited }: OperatorProcess) {
  return await exited
}

describe('of two operators', { timeout: 120_000 }, () => {
  it('the follower goes on where a leader was killed, and wrote nothing before', async () => {
    const { stand, leader, follower, first } = await startTwo('killed')
    const series = await Promise.all([leader, follower].map(replicaSeriesOf))

    const more = await declareMore(stand)
    leader.kill()
    await untilTakenOver(stand, first)
    await untilDone(stand, more)

    const { last, begun, begins, count } = await handover(stand)
    expect(begins).toBe('leases')
    expect(begun > last, `${begun} > ${last}`).toBe(true)
    expect(count).toBeGreaterThan(1)
    // Two agents, desired and ready: a sum over both processes counts no pod twice.
    expect(series).toEqual([4, 0])
    follower.kill('SIGTERM')
    expect(await untilExited(follower)).toEqual({ code: 0, signal: null })
  })

  it('a leader whose event loop stood still writes nothing when it goes on, and ends', async () => {
    const { stand, leader, first } = await startTwo('stood-still')

    const more = await declareMore(stand)
    leader.kill('SIGSTOP')
    // It is in the middle of that, and has this in its sockets when it goes on.
    await api.patch(stand.path('Deployment', 'agent-a'), { spec: { template: { spec: { terminationGracePeriodSeconds: 1 } } } })
    await untilTakenOver(stand, first)
    await untilDone(stand, more)
    await stand.connection.request(`kaos.${stand.namespace}.agent.a.task`, 'a task')
    leader.kill('SIGCONT')
    const end = await untilExited(leader)

    const { last, begun, begins } = await handover(stand)
    expect(end).toEqual({ code: 1, signal: null })
    expect(leader.log()).toContain('lease_lost')
    expect(begins).toBe('leases')
    expect(begun > last, `${begun} > ${last}`).toBe(true)
    await stand.until('Deployment', 'agent-a', ({ spec }) => spec.replicas === 1)
    expect(holderOf(await api.get(stand.path('Lease', LEASE)))).not.toBe(first)
  })
})
