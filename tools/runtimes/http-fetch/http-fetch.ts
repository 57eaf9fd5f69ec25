/** Runtime `http-fetch`: one tool that reads text from the hosts that its manifest allows. */
import { z } from 'zod'
import { defineTool } from '../../own/define.ts'
import { ownToolServer } from '../../own/mcp-server.ts'
import type { Channel, ChannelOptions } from '../channel.ts'
import { openInProcess } from '../in-process.ts'
import { fetchText } from './fetch-text.ts'
import { FETCH_LIMITS } from './limits.ts'
import { fetchAgent, type Lookup } from './public-agent.ts'

export interface HttpFetchRuntime {
  readonly runtime: 'http-fetch'
  /** Lower case: "example.org", "*.example.org", "localhost:8080". */
  readonly hosts: readonly string[]
  /** Whether hosts may have addresses that are not public. */
  readonly allowPrivate: boolean
  /** How names are looked up. Default: as the system does. */
  readonly lookup?: Lookup | undefined
}

export async function openHttpFetch(runtime: HttpFetchRuntime, { log }: ChannelOptions): Promise<Channel> {
  const { hosts, allowPrivate, lookup } = runtime
  const dispatcher = fetchAgent({ allowPrivate, ...(lookup && { lookup }) })
  const tool = defineTool({
    description: `Reads text (pages, JSON, XML) from a URL. Hosts that may be read: ${hosts.join(', ')}.`,
    input: z.strictObject({
      url: z.string().max(FETCH_LIMITS.urlLengthMax).describe('An http or https URL of one of the allowed hosts'),
      method: z.enum(['GET', 'HEAD']).default('GET').describe('HEAD asks for status and content type only'),
    }),
    output: z.object({
      url: z.string().describe('Where the answer came from, after redirects'),
      status: z.number().describe('HTTP status'),
      contentType: z.string(),
      body: z.string(),
      isCut: z.boolean().describe(`Whether the body was longer than ${FETCH_LIMITS.bodyBytesMax} bytes and is cut`),
    }),
    readOnlyHint: true,
    idempotentHint: true,
    run: ({ url, method }, { signal }) => fetchText(url, method, { hosts, allowPrivate, dispatcher }, signal),
  })
  const channel = await openInProcess(ownToolServer('http-fetch', [{ name: 'fetch', tool }], { log }).server)
  return {
    ...channel,
    end: async () => {
      await channel.end()
      await dispatcher.destroy().catch(() => {})
    },
  }
}
