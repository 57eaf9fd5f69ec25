/** The catalog: what agents and tool servers announce, in one KV bucket that hosts read with one request every few seconds. */
import type { Logger } from '../telemetry/log.ts'
import type { Catalog } from './contracts.ts'
import type { Publisher } from './publish/publish.ts'
import type { Reader } from './read.ts'
import { type AgentCard, parseAgentCard, parseToolList, type ToolList } from './wire/catalog.ts'
import { HOST_LIMITS } from './wire/limits.ts'
import { agentParty, type Subjects, streamNames, toolParty } from './wire/subjects.ts'

const ROOT = `$KV.${streamNames.catalogBucket}.`
const STREAM = streamNames.catalog

interface View {
  readonly tools: ReadonlyMap<string, ToolList>
  readonly agents: readonly AgentCard[]
}

export function createCatalog(publisher: Publisher, reader: Reader, subjects: Subjects, log: Logger): Catalog {
  let view: Promise<View> | undefined
  let readAt = 0

  async function read(): Promise<View> {
    const messages = await reader.get(STREAM, { multi_last: [`${ROOT}${subjects.namespace}.>`] })
    const tools = new Map<string, ToolList>()
    const agents: AgentCard[] = []
    for (const message of messages) {
      const [, kind] = message.subject.slice(ROOT.length).split('.')
      if (message.header('KV-Operation')) continue
      try {
        const record: unknown = JSON.parse(message.text)
        if (kind === 'agent') agents.push(parseAgentCard(record))
        else {
          const list = parseToolList(record)
          tools.set(list.server, list)
        }
      } catch (error) {
        log.warn({ subject: message.subject, err: error }, 'a catalog record cannot be read')
      }
    }
    return { tools, agents }
  }

  function current(fresh = false): Promise<View> {
    if (!view || fresh || Date.now() - readAt > HOST_LIMITS.catalogEveryMs) {
      readAt = Date.now()
      view = read()
      view.catch(() => {
        view = undefined
      })
    }
    return view
  }

  async function announce(key: string, record: object): Promise<void> {
    const subject = ROOT + key
    await publisher.persist(subject, () => publisher.publish(subject, JSON.stringify(record), []))
  }

  return {
    async tools(server, options) {
      const known = (await current(options?.fresh)).tools.get(server)
      return known ?? (options?.fresh ? undefined : (await current(true)).tools.get(server))
    },
    agents: async () => (await current()).agents,
    announceTools: (list) => announce(subjects.catalogKey(toolParty(list.server)), list),
    announceAgent: (card) => announce(subjects.catalogKey(agentParty(card.name)), card),
  }
}
