/**
 * `node test/bench/cluster/thousand.ts`: what an operator costs with many agents that sleep. Writes `results/cluster.json`. Takes about four
 * minutes.
 *
 *   --agents N    default 1,000
 *   --idle MS     how long it is watched while nothing happens, default 60,000
 *   --flags TEXT  NODE_OPTIONS instead of those of the chart, with nothing else that it sets
 *   --dry         writes no file
 *   --snapshot    a heap snapshot of the settled operator in the working folder
 */
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { conditionOf } from '../../cluster/stand/stand.ts'
import { startFakePods } from '../../testplane/fake-kubelet.ts'
import { ClusterRig, chartVariables, countsOf, isWrite, machine, type OperatorProcess, tell, writeClusterResult } from './rig.ts'

const { values: given } = parseArgs({
  options: {
    agents: { type: 'string', default: '1000' },
    idle: { type: 'string', default: '60000' },
    flags: { type: 'string' },
    dry: { type: 'boolean', default: false },
    snapshot: { type: 'boolean', default: false },
  },
})
/** Without a write for so long it has settled: longer than any of its own delays but the resync, 15 s for a backlog that was told before. */
const QUIET_MS = 20_000
const APPLIES_MAX = 16

const agents = Number(given.agents)
const variables = given.flags === undefined ? chartVariables() : { NODE_OPTIONS: given.flags }
const load = machine()

await using rig = await ClusterRig.start()
await rig.pack()
const { stand } = rig
const pods = startFakePods(rig.plane, { namespace: stand.namespace })
stand.add(() => pods.stop())
const none = await startSettled(3_000)
const emptyMb = none.operator.memory()
tell(`without agents: ${words(none.operator)}`)
await none.operator.stop()

await stand.apply(`
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
`)
await applyAgents()
tell(`${agents} agents are declared`)

const cold = await startSettled(QUIET_MS)
await checkAll()
tell(`cold: ${cold.seconds.toFixed(1)} s, ${words(cold.operator)}, ${JSON.stringify({ ...cold.writes, ...cold.reads })}`)
const idleFrom = await rig.moment()
await delay(Number(given.idle))
const idle = await rig.asked(idleFrom)
const settled = cold.operator.memory()
tell(`idle: ${words(cold.operator)}, ${JSON.stringify(countsOf(idle))}`)
if (given.snapshot) {
  cold.operator.signal('SIGUSR2')
  await delay(15_000)
}
await cold.operator.stop()

const warm = await startSettled(QUIET_MS)
tell(`warm: ${warm.seconds.toFixed(1)} s, ${words(warm.operator)}, ${JSON.stringify(warm.writes)}`)
const warmMb = warm.operator.memory()
await warm.operator.stop()

const figures = {
  at: new Date().toISOString(),
  machine: load,
  agents,
  variables,
  empty: emptyMb,
  cold: {
    seconds: cold.seconds,
    cpuSeconds: cold.cpuSeconds,
    writesPerAgent: sum(cold.writes) / agents,
    writes: cold.writes,
    reads: cold.reads,
    memory: settled,
  },
  idle: { seconds: Number(given.idle) / 1_000, writes: idle.filter(isWrite).length, asked: countsOf(idle) },
  warm: { seconds: warm.seconds, cpuSeconds: warm.cpuSeconds, writes: warm.writes, reads: warm.reads, memory: warmMb },
}
console.log(JSON.stringify(figures, rounded, 2))
if (!given.dry) tell(`written to ${await writeClusterResult('thousand', JSON.parse(JSON.stringify(figures, rounded)))}`)

/** An operator that has nothing left to write; `seconds` are from its start to its last write, and to its last list where there was none. */
async function startSettled(quietMs: number) {
  const since = await rig.moment()
  const startedAt = Date.now()
  const operator = await rig.operator(
    given.snapshot ? { ...variables, NODE_OPTIONS: `${variables.NODE_OPTIONS ?? ''} --heapsnapshot-signal=SIGUSR2` } : variables,
  )
  const { lastWriteAt } = await rig.untilQuiet(since, quietMs)
  const asked = await rig.asked(since)
  const lists = asked.filter(({ verb }) => verb === 'list').map((line) => Date.parse(line.requestReceivedTimestamp))
  const seconds = ((lastWriteAt ?? Math.max(...lists)) - startedAt) / 1_000
  return { operator, seconds, cpuSeconds: operator.cpuSeconds(), writes: countsOf(asked.filter(isWrite)), reads: readsIn(asked) }
}

function readsIn(lines: Parameters<typeof countsOf>[0]): Readonly<Record<string, number>> {
  return countsOf(lines.filter(({ verb }) => ['get', 'list', 'watch'].includes(verb)))
}

async function applyAgents(): Promise<void> {
  const names = Array.from({ length: agents }, (_, i) => `agent-${i}`)
  const worker = async () => {
    for (let name = names.pop(); name; name = names.pop()) {
      await rig.plane.api.apply(
        stand.placed({
          apiVersion: 'kaos.tools/v1alpha1',
          kind: 'Agent',
          metadata: { name },
          spec: { modelAPI: 'models', model: 'm', config: { description: `Agent ${name}`, instructions: 'Answer briefly.' } },
        }),
      )
    }
  }
  await Promise.all(Array.from({ length: APPLIES_MAX }, worker))
}

async function checkAll(): Promise<void> {
  const list = await rig.plane.api.list(stand.path('Agent'))
  const asleep = list.filter((agent) => conditionOf(agent, 'Ready')?.reason === 'ScaledToZero')
  if (asleep.length !== agents) throw new Error(`${asleep.length} of ${agents} agents sleep`)
}

function words(operator: OperatorProcess): string {
  const { residentMb, peakMb, anonymousMb } = operator.memory()
  return `${Math.round(residentMb)} MB resident (${Math.round(anonymousMb)} anonymous, peak ${Math.round(peakMb)})`
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0)
}

/** Four digits are more than the spread allows. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value
}
