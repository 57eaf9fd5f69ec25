/** `kaos model serve`: the offline model as a server of its own. */
import { loadScript } from '../actors/testing/model-script.ts'
import { startModelServer } from '../actors/testing/model-server.ts'
import { createLog } from '../telemetry/log.ts'
import { EXIT } from './process/exit-codes.ts'
import { interrupted } from './process/interrupt.ts'
import { print, printJson } from './view/terminal.ts'

export async function modelServe(options: {
  readonly script?: string
  readonly port: number
  readonly delay?: number
  readonly json?: boolean
}): Promise<number> {
  const script = options.script === undefined ? undefined : await loadScript(options.script)
  const server = await startModelServer({ port: options.port, script, delayMs: options.delay, log: await createLog() })
  if (options.json) printJson({ url: server.url })
  else print(`the offline model answers at ${server.url}\n  MODEL_API_URL=${server.url} npx kaos up -f …`)
  await interrupted()
  await server.stop()
  return EXIT.ok
}
