/** Which runtime answers for an MCPServer. A new runtime is a new file here and a new line in `openChannel`. */
import { calculatorServer } from './calculator/calculator.ts'
import type { Channel, ChannelOptions } from './channel.ts'
import { echoServer } from './echo.ts'
import { type FilesRuntime, openFiles } from './files/files.ts'
import { type HttpFetchRuntime, openHttpFetch } from './http-fetch/http-fetch.ts'
import { openInProcess } from './in-process.ts'
import { openStdio, type StdioRuntime } from './stdio.ts'
import { openTypescript, type TypescriptRuntime } from './typescript.ts'
import { openUrl, type UrlRuntime } from './url.ts'

/** An MCPServer with its references resolved: the shape that manifests/ yields. */
export type ResolvedRuntime =
  | { readonly runtime: 'calculator' }
  | { readonly runtime: 'echo' }
  | FilesRuntime
  | HttpFetchRuntime
  | StdioRuntime
  | TypescriptRuntime
  | UrlRuntime

export async function openChannel(runtime: ResolvedRuntime, options: ChannelOptions): Promise<Channel> {
  switch (runtime.runtime) {
    case 'calculator':
      return openInProcess(calculatorServer())
    case 'echo':
      return openInProcess(echoServer())
    case 'files':
      return openFiles(runtime, options)
    case 'http-fetch':
      return openHttpFetch(runtime, options)
    case 'stdio':
      return openStdio(runtime, options)
    case 'typescript':
      return openTypescript(runtime, options)
    case 'url':
      return openUrl(runtime, options)
  }
}
