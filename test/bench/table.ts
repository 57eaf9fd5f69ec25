/** The tables of docs/speed.md, made from the results of a run. */
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { type LoadResult, type Results, type Spread, spreadOf } from './results.ts'
import { WORKLOADS, type Workload } from './rig.ts'
import { TRACED } from './system.ts'

export const SPEED_PAGE = fileURLToPath(new URL('../../docs/speed.md', import.meta.url))
const BEGIN = '<!-- begin: npm run bench -- --table -->'
const END = '<!-- end -->'

/** What the project wants to reach, with the tools over NATS unless said otherwise. */
const AIMS = {
  p50MsAtOne: 4,
  tasksPerSecondAt32: 1_500,
  cpuPer1000At32: 1,
  idleHostMb: 90,
  firstAnswerMs: 2_000,
  replayEntriesPerSecond: 2_000,
  /** More CPU than without telemetry, in percent. */
  telemetryPercent: { traced: 15, sampled: 3 },
} as const

export function tablesOf(results: Results): string {
  const delays = [...new Set(results.loads.map(({ modelMs }) => modelMs))]
  const parts = [summary(results), ...delays.map((modelMs) => loadTable(results, modelMs)), telemetryTable(results)]
  return [...parts.filter((part) => part !== ''), conditions(results)].join('\n\n')
}

/** The page with the tables of these results in place of those in it. Throws when the page has no place for them. */
export function withTables(page: string, results: Results): string {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END, begin)
  if (begin < 0 || end < 0) throw new Error(`the page has no "${BEGIN}" with "${END}" after it`)
  return `${page.slice(0, begin)}${BEGIN}\n\n${tablesOf(results)}\n\n${page.slice(end)}`
}

export async function updatePage(results: Results): Promise<void> {
  await writeFile(SPEED_PAGE, withTables(await readFile(SPEED_PAGE, 'utf8'), results))
}

function summary(results: Results): string {
  const at = (workload: Workload, inFlight: number, pick: (load: LoadResult) => Spread) => {
    const load = results.loads.find((one) => one.workload === workload && one.modelMs === 0 && one.inFlight === inFlight)
    return load && pick(load)
  }
  const rows = [
    row('p50 at 1 in flight, tools over NATS', at('remote', 1, p50), 'ms', `at most ${AIMS.p50MsAtOne}`),
    row('p50 at 1 in flight, local tools', at('local', 1, p50), 'ms', `at most ${AIMS.p50MsAtOne / 2}`),
    row('tasks/s at 32, tools over NATS', at('remote', 32, rate), '', `at least ${whole(AIMS.tasksPerSecondAt32)}`),
    row('CPU-s per 1,000 tasks at 32, tools over NATS', at('remote', 32, cpu), 's', `at most ${AIMS.cpuPer1000At32}`),
    row('CPU-s per 1,000 tasks at 32, local tools', at('local', 32, cpu), 's', `at most ${AIMS.cpuPer1000At32 / 2}`),
    row('memory of an idle host', spreadOf([results.idleHostMb]), 'MB', `at most ${AIMS.idleHostMb}`),
    row('`kaos up` until it is up', spreadOf(results.upMs), 'ms', ''),
    row('`kaos up` to the first answer', spreadOf(results.firstAnswerMs), 'ms', `at most ${whole(AIMS.firstAnswerMs)}`),
    row('replay, entries/s', spreadOf(results.replayEntriesPerSecond), '', `at least ${whole(AIMS.replayEntriesPerSecond)}`),
  ]
  return ['| | median | of rounds | aim |', '| --- | --- | --- | --- |', ...rows.filter(Boolean)].join('\n')
}

function row(what: string, spread: Spread | undefined, unit: string, aim: string): string {
  if (!spread) return ''
  const withUnit = unit === '' ? '' : ` ${unit}`
  return `| ${what} | ${short(spread.median)}${withUnit} | ${short(spread.min)} – ${short(spread.max)} | ${aim} |`
}

function loadTable(results: Results, modelMs: number): string {
  const loads = results.loads.filter((load) => load.modelMs === modelMs && !(load.workload in TRACED))
  const lines = loads.map((load) => {
    const tasks = rate(load)
    const plain = loads.find(({ workload, inFlight }) => workload === 'plain' && inFlight === load.inFlight)
    const ratios = load.rounds.map((round, i) => round.tasksPerSecond / (plain?.rounds[i]?.tasksPerSecond ?? Number.NaN))
    const ofPlain = plain && !load.workload.startsWith('publish') ? short(spreadOf(ratios).median) : ''
    const cells = [
      WORKLOADS[load.workload],
      whole(load.inFlight),
      short(tasks.median),
      `${short(tasks.min)} – ${short(tasks.max)}`,
      short(p50(load).median),
      short(spreadOf(load.rounds.map(({ p99Ms }) => p99Ms)).median),
      short(cpu(load).median),
      partsOf(load),
      ofPlain,
    ]
    return `| ${cells.join(' | ')} |`
  })
  return [
    `**The model answers after ${modelMs} ms**`,
    '',
    '| | in flight | tasks/s | of rounds | p50 ms | p99 ms | CPU-s per 1,000 | of which | tasks/s ÷ plain |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n')
}

/** With and without telemetry, side by side: rounds of one number ran within the same half minute. Empty where it was not measured. */
function telemetryTable({ loads }: Results): string {
  const rows = loads.flatMap((load) => {
    const { workload, inFlight, modelMs } = load
    if (workload !== 'remote' && !(workload in TRACED)) return []
    const off = loads.find((one) => one.workload === 'remote' && one.inFlight === inFlight && one.modelMs === modelMs)
    const isMeasured = loads.some((one) => one.workload in TRACED && one.inFlight === inFlight && one.modelMs === modelMs)
    if (!off || !isMeasured) return []
    const kind = workload as 'remote' | keyof typeof TRACED
    const tasks = rate(load)
    const cells = [
      kind === 'remote' ? 'off' : `on, ${TRACED[kind] * 100} % of the traces`,
      whole(inFlight),
      short(tasks.median),
      `${short(tasks.min)} – ${short(tasks.max)}`,
      short(cpu(load).median),
      partsOf(load),
      kind === 'remote' ? '' : percent(spreadOf(moreCpu(load, off)).median),
      kind === 'remote' ? '' : `at most ${AIMS.telemetryPercent[kind]} %`,
    ]
    return [{ inFlight, line: `| ${cells.join(' | ')} |` }]
  })
  if (rows.length === 0) return ''
  return [
    '**Telemetry: model → 2 tools over NATS → model, traces, metrics and logs sent to a backend over gRPC**',
    '',
    '| telemetry | in flight | tasks/s | of rounds | CPU-s per 1,000 | of which | more CPU than off | aim |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...rows.toSorted((a, b) => a.inFlight - b.inFlight).map(({ line }) => line),
  ].join('\n')
}

/** Of each round, against the same round without telemetry, in percent. */
function moreCpu(load: LoadResult, off: LoadResult): readonly number[] {
  const sumOf = ({ cpuPer1000 }: LoadResult['rounds'][number]) =>
    Object.values(cpuPer1000).reduce((sum, seconds) => sum + seconds, 0)
  return load.rounds.map((round, i) => (sumOf(round) / sumOf(off.rounds[i]!) - 1) * 100)
}

function percent(value: number): string {
  return `${Math.round(value)} %`
}

function conditions({ at, commit, isChanged, versions, machine, windowMs, loads }: Results): string {
  const rounds = loads[0]?.rounds.length ?? 0
  const parts = Object.entries(versions).map(([name, version]) => `${name} ${version}`)
  const changed = isChanged ? ' with changes' : ''
  const load = machine.loadAverage.map((value) => value.toFixed(2)).join(' ')
  return [
    `${at.slice(0, 10)}, commit ${commit}${changed}; ${rounds} rounds of ${windowMs / 1_000} s;`,
    `${machine.cpus} CPUs, ${machine.memoryGb} GB, load average at the start ${load};`,
    `${parts.join(', ')}.`,
  ].join(' ')
}

function rate({ rounds }: LoadResult): Spread {
  return spreadOf(rounds.map(({ tasksPerSecond }) => tasksPerSecond))
}

function p50({ rounds }: LoadResult): Spread {
  return spreadOf(rounds.map(({ p50Ms }) => p50Ms))
}

function cpu({ rounds }: LoadResult): Spread {
  return spreadOf(rounds.map(({ cpuPer1000 }) => Object.values(cpuPer1000).reduce((sum, seconds) => sum + seconds, 0)))
}

/** Median of each process, largest first; what rounds to nothing is left out. */
function partsOf({ rounds }: LoadResult): string {
  return Object.keys(rounds[0]!.cpuPer1000)
    .map((name) => ({ name, seconds: spreadOf(rounds.map(({ cpuPer1000 }) => cpuPer1000[name]!)).median }))
    .filter(({ seconds }) => seconds >= 0.005)
    .sort((a, b) => b.seconds - a.seconds)
    .map(({ name, seconds }) => `${name} ${short(seconds)}`)
    .join(', ')
}

function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}

/** Three digits. */
function short(value: number): string {
  return value >= 100 ? whole(value) : String(Number(value.toPrecision(value >= 10 ? 3 : 2)))
}
