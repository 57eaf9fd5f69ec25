/** What an operator asks of the API server while nothing happens: nothing but its lease. `test/bench/cluster/thousand.ts` measures more agents. */
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { AuditLine } from '../testplane/audit.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { agentText, isSettled, PROXY, startSettling } from './stand/settling.ts'
import type { OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const AGENTS = 150
const IDLE_MS = 20_000
const POLL_MS = 500
const READS = ['get', 'list', 'watch']

it('writes nothing but its lease, and reads nothing, for 150 agents that sleep', { timeout: 240_000 }, async () => {
  const stand = await startSettling(plane, 'idle')
  const kubeconfig = await stand.ownIdentity('operator')
  const operator = await stand.operator({ kubeconfig, lease: { name: 'idle' } })

  await stand.apply([PROXY, ...Array.from({ length: AGENTS }, (_, i) => agentText(`idle-${i}`))].join('---\n'))
  await allSettled(stand)
  await stand.untilLooked(operator)
  const asked = await untilIdle()
  const known = /^kaos_operator_resources\{kind="Agent"\} (\d+)$/m.exec(operator.health.metricsText())?.[1]

  expect(known).toBe(String(AGENTS))
  expect(asked).toContain('update leases')
  expect(asked.filter((what) => what !== 'update leases' && !what.startsWith('watch '))).toEqual([])
})

function allSettled(stand: OperatorStand): Promise<boolean> {
  return plane.api.waitFor(
    stand.path('Agent'),
    (agents) => agents.length === AGENTS && agents.every((agent) => agent.status && isSettled(agent)),
    {
      what: `${AGENTS} agents to settle`,
      withinMs: 150_000,
    },
  )
}

/** What it asked in the first time of that length in which it wrote no object: what was told before, such as Events, may still be on its way. */
async function untilIdle(): Promise<readonly string[]> {
  let since = await plane.auditPosition()
  let asked: readonly AuditLine[] = []
  for (let begun = performance.now(); performance.now() - begun < IDLE_MS; ) {
    await delay(POLL_MS)
    asked = (await plane.audit({ since })).filter(({ user }) => user.username.endsWith(':operator'))
    if (!asked.some(isWriteOfAnObject)) continue
    since = await plane.auditPosition()
    begun = performance.now()
  }
  return asked.map(({ verb, objectRef }) => `${verb} ${objectRef?.resource}`)
}

function isWriteOfAnObject({ verb, objectRef }: AuditLine): boolean {
  return !READS.includes(verb) && objectRef?.resource !== 'leases'
}
