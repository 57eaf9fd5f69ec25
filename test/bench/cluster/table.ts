/** The tables of docs/speed.md about the operator, made from `results/cluster.json`. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CLUSTER_RESULTS, RESULTS_FOLDER } from '../results.ts'
import { SPEED_PAGE } from '../table.ts'

const BEGIN = '<!-- begin: npm run bench:cluster -- --table -->'
const END = '<!-- end -->'

/** What the project wants to reach. */
const AIMS = { firstEntryMs: 1_000, residentMb: 150, idleWrites: 0 } as const

interface Times {
  readonly min: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

interface Memory {
  readonly residentMb: number
  readonly peakMb: number
}

interface Machine {
  readonly cpus: number
  readonly memoryGb: number
  readonly loadAverage: readonly number[]
}

export interface ClusterResults {
  readonly wake: {
    readonly at: string
    readonly machine: Machine
    readonly runs: number
    readonly pods: string
    readonly firstEntryMs: Times
    readonly resultMs: Times
    readonly stagesMs: Readonly<Record<string, Times & { readonly what: string }>>
  }
  readonly thousand: {
    readonly at: string
    readonly machine: Machine
    readonly agents: number
    readonly empty: Memory
    readonly cold: { readonly seconds: number; readonly writesPerAgent: number; readonly memory: Memory }
    readonly idle: { readonly seconds: number; readonly writes: number; readonly asked: Readonly<Record<string, number>> }
    readonly warm: { readonly seconds: number; readonly writes: Readonly<Record<string, number>>; readonly memory: Memory }
  }
}

export async function clusterResults(): Promise<ClusterResults> {
  return JSON.parse(await readFile(join(RESULTS_FOLDER, CLUSTER_RESULTS), 'utf8')) as ClusterResults
}

/** The page with the tables of these results in place of those in it. Throws when the page has no place for them. */
export function withClusterTables(page: string, { wake, thousand }: ClusterResults): string {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END, begin)
  if (begin < 0 || end < 0) throw new Error(`the page has no "${BEGIN}" with "${END}" after it`)
  const tables = [wakeTable(wake), thousandTable(thousand)].join('\n\n')
  return `${page.slice(0, begin)}${BEGIN}\n\n${tables}\n\n${page.slice(end)}`
}

export async function updateClusterTables(): Promise<void> {
  await writeFile(SPEED_PAGE, withClusterTables(await readFile(SPEED_PAGE, 'utf8'), await clusterResults()))
}

function wakeTable({ at, machine, runs, pods, firstEntryMs, resultMs, stagesMs }: ClusterResults['wake']): string {
  const line = (what: string, { min, p50, p99, max }: Times, aim = '') => `| ${[what, min, p50, p99, max, aim].join(' | ')} |`
  return [
    '| ms from the publish, of an agent that sleeps | min | p50 | p99 | max | aim |',
    '| --- | --- | --- | --- | --- | --- |',
    line('to the first entry of its journal', firstEntryMs, `at most ${AIMS.firstEntryMs.toLocaleString('en')}`),
    line('to the result (one model call)', resultMs),
    '',
    '| of which, one after the other | min | p50 | p99 | max | |',
    '| --- | --- | --- | --- | --- | --- |',
    ...Object.values(stagesMs).map(({ what, ...times }) => line(what, times)),
    '',
    `${runs} runs${runs < 100 ? ' (p99 is the slowest)' : ''}, pods from ${pods}; ${conditions(at, machine)}`,
  ].join('\n')
}

function thousandTable({ at, machine, agents, empty, cold, idle, warm }: ClusterResults['thousand']): string {
  const mb = ({ residentMb, peakMb }: Memory) => `${Math.round(residentMb)} MB, at most ${Math.round(peakMb)}`
  const asked = Object.entries(idle.asked).map(([what, count]) => `${count} × ${what}`)
  const written = Object.values(warm.writes).reduce((total, count) => total + count, 0)
  const rows = [
    ['memory without agents', mb(empty), ''],
    [`memory with ${agents.toLocaleString('en')} agents`, mb(cold.memory), `at most ${AIMS.residentMb} MB`],
    ['the same, started again', mb(warm.memory), ''],
    [
      'until all of them are there and asleep',
      `${Math.round(cold.seconds)} s, ${cold.writesPerAgent.toFixed(1)} writes each`,
      '',
    ],
    ['started again, until all is looked at', `${warm.seconds.toFixed(1)} s, ${written} writes`, ''],
    [
      `asked of the API server in ${idle.seconds} idle seconds`,
      `${idle.writes} writes; ${asked.join(', ') || 'nothing'}`,
      `${AIMS.idleWrites} writes`,
    ],
  ]
  return [
    '| the operator | | aim |',
    '| --- | --- | --- |',
    ...rows.map((row) => `| ${row.join(' | ')} |`),
    '',
    conditions(at, machine),
  ].join('\n')
}

function conditions(at: string, { cpus, memoryGb, loadAverage }: Machine): string {
  return `${at.slice(0, 10)}; ${cpus} CPUs, ${memoryGb} GB, load average at the start ${loadAverage.map((load) => load.toFixed(2)).join(' ')}.`
}
