/**
 * How long `kaos up` takes in an empty folder: until it says that it is up, and until a task that was sent at that moment is answered, two
 * model calls and two tool calls later. The offline model answers at once: the samples let it write slowly, for people to see.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { openBus } from '../../bus/open.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { sendTask } from '../../cli/client/sending.ts'
import { silentLog } from '../../telemetry/log.ts'
import { BenchProcess } from './process.ts'
import { manifestText, NAMESPACE, REMOTE, scriptOf, textOf } from './system.ts'

const KAOS = fileURLToPath(new URL('../../cli/kaos.js', import.meta.url))
const ANSWER_MS = 30_000

export interface Startup {
  readonly upMs: number
  readonly firstAnswerMs: number
}

export async function measureStartup(): Promise<Startup> {
  const folder = await mkdtemp(join(tmpdir(), 'kaos-bench-up-'))
  const manifest = join(folder, 'bench.yaml')
  await writeFile(manifest, manifestText())
  await writeFile(join(folder, 'bench.script.yaml'), stringify(scriptOf(0)))
  const startedAt = performance.now()
  const up = new BenchProcess('up', { args: [KAOS, 'up', '-f', manifest, '--port', '0'], cwd: folder })
  try {
    const url = await up.untilSaid(/^\s*NATS\s+(nats:\/\/\S+)/)
    const upMs = performance.now() - startedAt
    const settings = { servers: [url], source: 'embedded' as const, identity: { kind: 'none' as const } }
    const bus = await openBus(settings, { namespace: NAMESPACE, as: userParty('bench'), log: silentLog() })
    try {
      const { agent, key } = await sendTask(bus, REMOTE, textOf('first', 0))
      const result = await bus.results.wait(agent, key, { deadlineMs: ANSWER_MS })
      const firstAnswerMs = performance.now() - startedAt
      if (!result?.startsWith('{"state":"completed"')) throw new Error(`the first task ended as ${result}`)
      return { upMs, firstAnswerMs }
    } finally {
      await bus.close()
    }
  } finally {
    await up.end()
    await rm(folder, { recursive: true, force: true })
  }
}
