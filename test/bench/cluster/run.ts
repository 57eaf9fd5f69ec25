/**
 * `npm run bench:cluster`: what the operator costs and how fast it wakes an agent, on the control plane of the tests. Takes about 20 minutes, writes
 * `results/cluster.json` and makes the tables of docs/speed.md from it.
 *
 *   --table    only rewrites the tables
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { updateClusterTables } from './table.ts'

if (!process.argv.includes('--table')) for (const bench of ['thousand.ts', 'wake.ts']) await run(bench)
await updateClusterTables()

async function run(bench: string): Promise<void> {
  const child = spawn(process.execPath, [join(import.meta.dirname, bench)], { stdio: 'inherit' })
  const [code, signal] = await once(child, 'close')
  if (code !== 0) throw new Error(`${bench} ended with ${code ?? signal}`)
}
