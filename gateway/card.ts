/** The card of an agent in the words of A2A: who it is, where it answers, and what it can do. Pure. */
import type { ToolList } from '../bus/wire/catalog.ts'
import type { JsonObject } from '../bus/wire/json.ts'
import type { DoorAgent } from './agents.ts'

/** Of the A2A specification whose fields these are. */
const PROTOCOL_VERSION = '0.3.0'
/** Not one of A2A's own transports: a client learns that before it calls. */
const TRANSPORT = 'OPENAI-CHAT-COMPLETIONS'

export interface CardOptions {
  /** Where the agent answers, without a slash at the end: `/v1/chat/completions` lies below. */
  readonly url: string
  /** Of this program. */
  readonly version: string
  /** Of the agent's tool servers that have announced theirs. */
  readonly tools: readonly ToolList[]
  /** Cards of the agents that it may ask; one that is not known here has its name alone. */
  readonly peers: readonly { readonly name: string; readonly description: string }[]
}

interface Skill {
  readonly id: string
  readonly name: string
  readonly description: string
  readonly tags: readonly string[]
  /** As in KAOS; not a field of A2A. */
  readonly inputSchema?: JsonObject
}

export function agentCard({ name, description }: DoorAgent, { url, version, tools, peers }: CardOptions) {
  const ofTools = tools.flatMap(({ server, tools: all }) =>
    all.map(
      (tool): Skill => ({
        id: `${server}.${tool.name}`,
        name: tool.name,
        description: tool.description,
        tags: ['tool', server],
        inputSchema: tool.inputSchema,
      }),
    ),
  )
  const ofPeers = peers.map(
    (peer): Skill => ({
      id: `delegate_to_${peer.name}`,
      name: `delegate_to_${peer.name}`,
      description: peer.description || `Hands work to the agent ${peer.name}.`,
      tags: ['delegation', peer.name],
    }),
  )
  return {
    protocolVersion: PROTOCOL_VERSION,
    name,
    description: description || `The agent ${name}.`,
    url,
    preferredTransport: TRANSPORT,
    version,
    capabilities: { streaming: true, pushNotifications: false, stateTransitionHistory: false },
    defaultInputModes: ['text/plain'],
    defaultOutputModes: ['text/plain'],
    skills: [...ofTools, ...ofPeers],
  }
}
