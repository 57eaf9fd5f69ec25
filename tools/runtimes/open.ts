/** Which runtime answers for an MCPServer. A new runtime is a new file here and a new line in `openChannel`. */
import { calculatorServer } from './calculator.ts'
import type { Channel, ChannelOptions } from './channel.ts'
import { echoServer } from './echo.ts'
import { openInProcess } from './in-process.ts'
import { openStdio } from './stdio.ts'
import { openUrl } from './url.ts'

/** An MCPServer with its references resolved: the shape that manifests/ yields. */
export type ResolvedRuntime = { readonly runtime: 'calculator' } | { readonly runtime: 'echo' } | StdioRuntime | UrlRuntime

export interface StdioRuntime {
  readonly runtime: 'stdio'
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Default: the folder of this process. */
  readonly cwd?: string | undefined
}

export interface UrlRuntime {
  readonly runtime: 'url'
  readonly url: string
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export async function openChannel(runtime: ResolvedRuntime, options: ChannelOptions): Promise<Channel> {
  switch (runtime.runtime) {
    case 'calculator':
      return openInProcess(calculatorServer())
    case 'echo':
      return openInProcess(echoServer())
    case 'stdio':
      return openStdio(runtime, options)
    case 'url':
      return openUrl(runtime, options)
  }
}
