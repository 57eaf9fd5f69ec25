import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { clusterResults, withClusterTables } from './bench/cluster/table.ts'
import { newestResults } from './bench/results.ts'
import { SPEED_PAGE, tablesOf, withTables } from './bench/table.ts'

const BENCH = fileURLToPath(new URL('./bench/run.ts', import.meta.url))
const BENCH_MS = 60_000

describe('the page about speed', () => {
  it('has the tables of the newest results (npm run bench -- --table makes them)', async () => {
    const page = await readFile(SPEED_PAGE, 'utf8')

    const results = await newestResults()

    expect(results).toBeDefined()
    expect(withTables(page, results!)).toBe(page)
  })

  it('has the tables about the operator (npm run bench:cluster -- --table makes them)', async () => {
    const page = await readFile(SPEED_PAGE, 'utf8')

    expect(withClusterTables(page, await clusterResults())).toBe(page)
  })
})

describe('the bench', () => {
  it('measures every load and writes what it found', { timeout: BENCH_MS }, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'kaos-test-bench-'))

    await promisify(execFile)(process.execPath, [BENCH, '--quick', '--out', folder], { timeout: BENCH_MS })
    const results = await newestResults(folder)
    await rm(folder, { recursive: true })

    const measured = results!.loads.map(({ workload, rounds }) => [workload, rounds.every(({ tasks }) => tasks > 0)])
    expect(Object.fromEntries(measured)).toEqual({
      remote: true,
      traced: true,
      sampled: true,
      local: true,
      workers: true,
      plain: true,
      'publish-1': true,
      'publish-all': true,
    })
    expect(tablesOf(results!)).toContain('on, 100 % of the traces')
    expect(results!.firstAnswerMs.length).toBeGreaterThan(0)
    expect(results!.replayEntriesPerSecond.length).toBeGreaterThan(0)
  })
})
