/** Names of the tools of tool servers, as these announce them in the catalog: asked for once on each connection, then heard as they are written. */
import { guarded, type NatsConnection } from '../../bus/connection.ts'
import { parseToolList } from '../../bus/wire/catalog.ts'
import { messageOf } from '../../bus/wire/errors.ts'
import { streamNames, subjectsOf, toolParty } from '../../bus/wire/subjects.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { BrokerLink } from './link.ts'
import { type ResourceRef, refKey } from './owner.ts'

const BUCKET = `$KV.${streamNames.catalogBucket}.`
const READ_MS = 2_000

export interface ToolNamesOptions {
  readonly link: BrokerLink
  readonly log: Logger
  /** A tool server has announced another list. */
  readonly onChange: (server: ResourceRef) => void
}

export class ToolNames {
  private readonly options: ToolNamesOptions
  /** `undefined`: it has announced nothing yet. */
  private readonly known = new Map<string, readonly string[] | undefined>()
  private connection: NatsConnection | undefined
  private readonly endConnect: () => void
  private endListening: () => void = () => {}

  constructor(options: ToolNamesOptions) {
    this.options = options
    this.endConnect = options.link.onConnect(() => this.begin())
  }

  /** Never rejects: what cannot be read is not known, and asked for again at the next call. */
  async of(server: ResourceRef): Promise<readonly string[] | undefined> {
    const key = refKey(server)
    if (this.known.has(key)) return this.known.get(key)
    try {
      const names = await this.read(server)
      // Heard meanwhile is newer.
      if (!this.known.has(key)) this.known.set(key, names)
      return this.known.get(key)
    } catch (error) {
      this.options.log.debug({ ...server, reason: messageOf(error) }, 'the tools of a server cannot be looked up')
      return undefined
    }
  }

  forget(server: ResourceRef): void {
    this.known.delete(refKey(server))
  }

  close(): void {
    this.endConnect()
    this.endListening()
  }

  /** What was written while nobody listened is not known. */
  private begin(): void {
    this.known.clear()
    const { connection } = this.options.link
    if (connection === this.connection) return
    this.connection = connection
    const subscription = connection.subscribe(`${BUCKET}*.tool.*`, {
      callback: guarded((_error, message) => this.hear(message.subject, message.string()), this.options.log),
    })
    this.endListening = () => subscription.unsubscribe()
  }

  private hear(subject: string, text: string): void {
    const [namespace = '', , name = ''] = subject.slice(BUCKET.length).split('.')
    const server = { namespace, name }
    this.known.set(refKey(server), namesIn(text))
    this.options.onChange(server)
  }

  private async read({ namespace, name }: ResourceRef): Promise<readonly string[] | undefined> {
    const subject = `${BUCKET}${subjectsOf(namespace).catalogKey(toolParty(name))}`
    const { connection } = this.options.link
    const answer = await connection.request(`$JS.API.DIRECT.GET.${streamNames.catalog}.${subject}`, '', { timeout: READ_MS })
    return answer.headers?.code === 404 ? undefined : namesIn(answer.string())
  }
}

/** A record that is deleted is empty. */
function namesIn(text: string): readonly string[] | undefined {
  if (text === '') return undefined
  return parseToolList(JSON.parse(text)).tools.map(({ name }) => name)
}
