/**
 * `npm run bench`: runs every load and writes `results/<commit>.json`, then says what it found. Takes about seven minutes.
 *
 *   --quick          one short round of a few loads, which proves that the bench works
 *   --rounds N       default 3; --window MS: of each, default 2,500
 *   --only A,B       these workloads; --in-flight 1,32; --model-ms 0: these loads only
 *   --out FOLDER     where the results go
 *   --profile FOLDER CPU profiles of the processes that are measured, by name
 *   --table          only rewrites the tables of docs/speed.md from the newest results
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, loadavg, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { findTestServer } from '../support/broker.ts'
import type { Sample } from './closed-loop.ts'
import { newestResults, type Results, writeResults } from './results.ts'
import { Rig, WORKLOADS, type Workload } from './rig.ts'
import { measureStartup } from './startup.ts'
import { TRACED } from './system.ts'
import { tablesOf, updatePage } from './table.ts'

const { values: given } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    window: { type: 'string', default: '2500' },
    only: { type: 'string' },
    'in-flight': { type: 'string' },
    'model-ms': { type: 'string' },
    out: { type: 'string' },
    profile: { type: 'string' },
    table: { type: 'boolean', default: false },
  },
})
const WARM_UP_MS = 8_000
const numbers = (text: string | undefined) => text?.split(',').map(Number)

if (given.table) await makeTable()
else await bench()

async function makeTable(): Promise<void> {
  const results = await newestResults()
  if (!results) throw new Error('there are no results yet: run the bench first')
  await updatePage(results)
}

async function bench(): Promise<void> {
  const { quick } = given
  const loadAverage = loadavg()
  const rounds = quick ? 1 : Number(given.rounds)
  const windowMs = quick ? 300 : Number(given.window)
  const rampMs = quick ? 100 : 300
  const slowMs = 50
  const workloads = (given.only?.split(',') as Workload[] | undefined) ?? (Object.keys(WORKLOADS) as Workload[])
  const inFlights = numbers(given['in-flight']) ?? (quick ? [8] : [1, 32, 256])
  const delays = numbers(given['model-ms']) ?? (quick ? [0] : [0, slowMs])
  const loads = delays.flatMap((modelMs) =>
    workloads
      // Nothing of a raw publish waits for a model, and telemetry costs the same whether a model is slow.
      .filter((workload) => modelMs === delays[0] || !(workload.startsWith('publish') || workload in TRACED))
      .flatMap((workload) => inFlights.map((inFlight) => ({ workload, modelMs, inFlight, rounds: [] as Sample[] }))),
  )

  // The first start fills the caches of the kernel and of Node, and does not count.
  const startups = []
  for (let i = 0; i < (quick || given.only ? 1 : rounds + 1); i++) startups.push(await measureStartup())
  const counted = startups.slice(startups.length > 1 ? 1 : 0)
  tell(
    `up in ${counted.map(({ upMs }) => Math.round(upMs))} ms, answered in ${counted.map((one) => Math.round(one.firstAnswerMs))} ms`,
  )

  await using rig = await Rig.start({ slowMs, settleMs: quick ? 0 : 3_000, profileTo: given.profile })
  // Code that ran a few thousand times costs two thirds of what it costs at first.
  for (const workload of workloads) {
    const isRaw = workload.startsWith('publish')
    await rig.run({ workload, modelMs: 0, inFlight: quick ? 8 : 32, rampMs: 0, windowMs: quick ? 200 : isRaw ? 500 : WARM_UP_MS })
  }
  for (let round = 1; round <= rounds; round++) {
    for (const load of loads) {
      const sample = await rig.run({ ...load, rampMs, windowMs })
      load.rounds.push(sample)
      tell(`${round} ${lineOf(load, sample)}`)
    }
  }
  const replays: number[] = []
  const replayedAgents = workloads.some((workload) => !['plain', 'publish-1', 'publish-all'].includes(workload))
  for (let i = 0; i < rounds && replayedAgents; i++) {
    const replayed = await rig.replay(quick ? 20 : 300)
    replays.push(replayed.entriesPerSecond)
    tell(`replayed ${replayed.entries} entries of ${replayed.traces} traces: ${Math.round(replayed.entriesPerSecond)}/s`)
  }

  const results: Results = {
    at: new Date().toISOString(),
    ...commitOf(),
    versions: await versions(),
    machine: { cpus: cpus().length, memoryGb: Math.round(totalmem() / 1e9), loadAverage },
    windowMs,
    loads,
    idleHostMb: rig.idleHostMb,
    upMs: counted.map(({ upMs }) => upMs),
    firstAnswerMs: counted.map(({ firstAnswerMs }) => firstAnswerMs),
    replayEntriesPerSecond: replays,
  }
  const file = await writeResults(results, given.out)
  console.log(tablesOf(results))
  console.log(`\nwritten to ${file}`)
}

function lineOf(load: { workload: string; modelMs: number; inFlight: number }, sample: Sample): string {
  const cpu = Object.entries(sample.cpuPer1000)
  const sum = cpu.reduce((total, [, seconds]) => total + seconds, 0)
  return [
    load.workload.padEnd(11),
    `model ${load.modelMs} ms`.padEnd(12),
    `${load.inFlight} in flight`.padEnd(14),
    `${Math.round(sample.tasksPerSecond)}/s`.padStart(8),
    `p50 ${sample.p50Ms.toFixed(2)} p99 ${sample.p99Ms.toFixed(2)} ms`.padEnd(26),
    `CPU ${sum.toFixed(2)} = ${cpu.map(([name, seconds]) => `${name} ${seconds.toFixed(2)}`).join(', ')}`,
  ].join(' ')
}

function commitOf(): Pick<Results, 'commit' | 'isChanged'> {
  const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8' }).trim()
  try {
    return {
      commit: git('rev-parse', '--short=10', 'HEAD'),
      isChanged: git('status', '--porcelain', '--untracked-files=no') !== '',
    }
  } catch {
    return { commit: 'unknown', isChanged: true }
  }
}

async function versions(): Promise<Record<string, string>> {
  const of = (name: string) => {
    const file = fileURLToPath(new URL(`../../node_modules/${name}/package.json`, import.meta.url))
    return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
  }
  const packages = [
    'xstate',
    '@nats-io/transport-node',
    '@nats-io/jetstream',
    'undici',
    '@modelcontextprotocol/sdk',
    'pino',
    '@opentelemetry/sdk-trace',
  ]
  return {
    node: process.versions.node,
    'nats-server': (await findTestServer()).version,
    ...Object.fromEntries(packages.map((name) => [name, of(name)])),
  }
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`)
}
