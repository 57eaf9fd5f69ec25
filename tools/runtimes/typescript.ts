/** Runtime `typescript`: tools of the user's own, from a file, in this process. */
import { ownToolServer } from '../own/mcp-server.ts'
import { loadToolModule } from '../own/module.ts'
import type { Channel, ChannelOptions } from './channel.ts'
import { openInProcess } from './in-process.ts'

export interface TypescriptRuntime {
  readonly runtime: 'typescript'
  /** Absolute path of the file that exports the tools. */
  readonly file: string
}

/** Throws `tool_module`. */
export async function openTypescript({ file }: TypescriptRuntime, { log, telemetry }: ChannelOptions): Promise<Channel> {
  const { tools } = await loadToolModule(file)
  return openInProcess(ownToolServer('typescript', tools, { log, telemetry }).server)
}
