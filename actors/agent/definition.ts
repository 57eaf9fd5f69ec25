/** What an agent is, as a task takes it along: its manifest and the tools of that moment. Stored with entry 0, so that a deploy in the middle changes nothing. */

import { type OfferedTool, offerTools, type ServerTools } from '../../bus/wire/catalog.ts'
import type { Failure } from '../../bus/wire/errors.ts'
import { hashOf, type Json } from '../../bus/wire/json.ts'

export interface ModelSettings {
  readonly temperature?: number | undefined
  readonly seed?: number | undefined
  readonly maxTokens?: number | undefined
  /** Of one model call with its retries. Default MODEL_TIMEOUT_SECONDS, where calls are texts TEXT_MODEL_TIMEOUT_SECONDS. */
  readonly timeoutSeconds?: number | undefined
}

export interface Peer {
  readonly name: string
  readonly description: string
  /** A program of its own answers: it keeps no journal, all that is known of its work is the answer in the journal of who asked. */
  readonly external?: true
}

export interface AgentDefinition {
  readonly name: string
  readonly description: string
  readonly instructions: string
  /** Unlike the instructions it stays in the conversation. */
  readonly systemPrompt: string
  readonly model: string
  readonly settings: ModelSettings
  /** `auto` begins native, and goes on in texts when the endpoint refuses tools. */
  readonly toolCallMode: 'auto' | 'native' | 'string'
  readonly peers: readonly Peer[]
  readonly tools: readonly OfferedTool[]
  /** Hash of all tool lists as they were announced. */
  readonly toolsHash: string
  readonly steps: number
  /** Messages of what was said before that go into a prompt. */
  readonly contextLimit: number
  /** 0 = no limit. */
  readonly toolCalls: number
  /** 0 = no limit. */
  readonly runtimeSeconds: number
  /** Why the task cannot begin at all. */
  readonly failure?: Failure
}

export const MODEL_TIMEOUT_SECONDS = 60
/** A model that is asked in texts is mostly a small one on a small machine. */
export const TEXT_MODEL_TIMEOUT_SECONDS = 120

export function delegateName(peer: string): string {
  return `delegate_to_${peer}`
}

/** Puts what the manifest says and what the servers announce together. */
export function defineAgent(
  declared: Omit<AgentDefinition, 'tools' | 'toolsHash' | 'failure'>,
  servers: readonly ServerTools[],
): AgentDefinition {
  const taken = declared.peers.map((peer) => delegateName(peer.name))
  return { ...declared, tools: offerTools(servers, taken), toolsHash: hashOf(servers) }
}

export function asJson(definition: AgentDefinition): Json {
  return definition as unknown as Json
}
