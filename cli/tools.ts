/** `kaos tools serve`: a file of tools as a standard MCP server, for any other program. */
import { basename, extname } from 'node:path'
import { KaosError } from '../bus/wire/errors.ts'
import { namespaceDefault } from '../manifests/metadata.ts'
import { createLog } from '../telemetry/log.ts'
import type { ServiceIdentity } from '../telemetry/telemetry.ts'
import { loadToolModule } from '../tools/own/module.ts'
import { serveOverHttp } from '../tools/own/serve-http.ts'
import { claimStdout, serveOverStdio } from '../tools/own/serve-stdio.ts'
import { type ListenAddress, parseListenAddress } from './process/address.ts'
import { EXIT } from './process/exit-codes.ts'
import { interrupted } from './process/interrupt.ts'
import { withTelemetry } from './process/telemetry.ts'
import { print, printJson, say } from './view/terminal.ts'

export async function toolsServe(file: string, options: { readonly http?: string; readonly json?: boolean }): Promise<number> {
  const name = basename(file, extname(file))
  if (options.http !== undefined) await overHttp(file, name, addressOf(options.http), options.json === true)
  else await overStdio(file, name)
  return EXIT.ok
}

function addressOf(text: string): ListenAddress {
  const address = parseListenAddress(text)
  if (address) return address
  throw new KaosError(
    'usage',
    `could not understand --http "${text}": expected a port, or a host and a port such as "localhost:8080"`,
  )
}

async function overStdio(file: string, name: string): Promise<void> {
  const stdout = claimStdout()
  const log = await createLog()
  await withTelemetry(serviceOf(name), log, async (telemetry) => {
    const { tools } = await loadToolModule(file)
    const serving = await serveOverStdio({ name, tools, log, telemetry, stdin: process.stdin, stdout })
    say(`serving ${names(tools)} on stdin and stdout`)
    await Promise.race([serving.ended, interrupted()])
    await serving.close()
  })
}

async function overHttp(file: string, name: string, address: ListenAddress, isJson: boolean): Promise<void> {
  const log = await createLog()
  await withTelemetry(serviceOf(name), log, async (telemetry) => {
    const { tools } = await loadToolModule(file)
    const serving = await serveOverHttp({ name, tools, log, telemetry, ...address })
    if (isJson) printJson({ url: serving.url, tools: tools.map((tool) => tool.name) })
    else print(`serving ${names(tools)} at ${serving.url}`)
    await interrupted()
    await serving.close()
  })
}

function serviceOf(name: string): ServiceIdentity {
  return { name, namespace: namespaceDefault, kind: 'tool-server' }
}

function names(tools: readonly { readonly name: string }[]): string {
  return tools.map((tool) => tool.name).join(', ')
}
