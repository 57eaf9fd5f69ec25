/** What a run of the bench found, as it is kept: one file per commit, with all rounds. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Sample } from './closed-loop.ts'
import type { Workload } from './rig.ts'

export const RESULTS_FOLDER = fileURLToPath(new URL('./results', import.meta.url))
/** In that folder: what the benches of the operator found, of other fields than a run of this bench. */
export const CLUSTER_RESULTS = 'cluster.json'

export interface LoadResult {
  readonly workload: Workload
  readonly modelMs: number
  readonly inFlight: number
  /** In order; round i of one load ran beside round i of the others. */
  readonly rounds: readonly Sample[]
}

export interface Results {
  /** ISO 8601. */
  readonly at: string
  readonly commit: string
  /** Whether files differed from the commit. */
  readonly isChanged: boolean
  readonly versions: Readonly<Record<string, string>>
  readonly machine: { readonly cpus: number; readonly memoryGb: number; readonly loadAverage: readonly number[] }
  readonly windowMs: number
  readonly loads: readonly LoadResult[]
  readonly idleHostMb: number
  readonly upMs: readonly number[]
  readonly firstAnswerMs: readonly number[]
  readonly replayEntriesPerSecond: readonly number[]
}

/** Stores a run as `<commit>.json` and gives the file's path. */
export async function writeResults(results: Results, folder = RESULTS_FOLDER): Promise<string> {
  await mkdir(folder, { recursive: true })
  const file = join(folder, `${results.commit}.json`)
  await writeFile(file, textOf(results))
  return file
}

/** The run that ended last; undefined while there is none. */
export async function newestResults(folder = RESULTS_FOLDER): Promise<Results | undefined> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json') && name !== CLUSTER_RESULTS)
  const all = await Promise.all(names.map(async (name) => JSON.parse(await readFile(join(folder, name), 'utf8')) as Results))
  return all.sort((a, b) => a.at.localeCompare(b.at)).at(-1)
}

export interface Spread {
  readonly min: number
  readonly median: number
  readonly max: number
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  return { min: sorted[0]!, median: sorted[Math.floor(sorted.length / 2)]!, max: sorted.at(-1)! }
}

/** As it is kept: lists of numbers on one line. */
export function textOf(results: object): string {
  return `${JSON.stringify(results, rounded, 2).replaceAll(NUMBER_LIST, onOneLine)}\n`
}

const NUMBER_LIST = /\[\s+[-\d.,\s]+\]/g

/** As the formatter of this project writes a short list. */
function onOneLine(list: string): string {
  return JSON.stringify(JSON.parse(list)).replaceAll(',', ', ')
}

/** Four digits are more than the spread allows. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value
}
