/**
 * The prompt is a pure function of what the agent knows, so that a replay can compare it. Its order is that of KAOS: who the agent is and its
 * instructions, its peers, the system prompt; then what was said before, the task, and what was said and found out since.
 */
import type { Json } from '../../bus/wire/json.ts'
import type { ChatRequest } from '../effects/chat.ts'
import type { ChatMessage } from './conversation.ts'
import { type AgentDefinition, delegateName } from './definition.ts'
import { asTexts, describeTools, type Offer } from './text-form.ts'

/** How tools are offered and called: as fields of the protocol, or in the texts. */
export type CallForm = 'native' | 'string'

/** The request for the next model call. Fields that are not set are left out, so that the endpoint's own defaults hold. */
export function buildRequest(
  definition: AgentDefinition,
  form: CallForm,
  history: readonly ChatMessage[],
  messages: readonly ChatMessage[],
): ChatRequest {
  const { settings } = definition
  const offers = offersOf(definition)
  const said = [...history, ...messages]
  // Endpoints exist that take no results of tools in a request that offers none; what a caller handed over may hold some.
  const isText = form === 'string' || (definition.toolCallMode === 'auto' && offers.length === 0)
  return {
    model: definition.model,
    messages: [{ role: 'system', content: systemMessage(definition, form) }, ...(isText ? asTexts(said) : said)],
    ...(form === 'native' && offers.length > 0 && { tools: offers.map((offer) => ({ type: 'function', function: offer })) }),
    ...(settings.temperature !== undefined && { temperature: settings.temperature }),
    ...(settings.seed !== undefined && { seed: settings.seed }),
    ...(settings.maxTokens !== undefined && { max_tokens: settings.maxTokens }),
  } as unknown as ChatRequest
}

/** The first line names the agent; scripted models match on it. */
function systemMessage(definition: AgentDefinition, form: CallForm): string {
  const parts = [`You are ${definition.name}.${definition.description ? ` ${definition.description}` : ''}`]
  if (definition.instructions) parts.push(definition.instructions)
  if (definition.peers.length > 0) {
    const lines = definition.peers.map((peer) => `- ${delegateName(peer.name)}${peer.description ? `: ${peer.description}` : ''}`)
    parts.push(
      `You can hand work to these agents; several at once if their work does not depend on each other:\n${lines.join('\n')}`,
    )
  }
  const offers = form === 'string' ? offersOf(definition) : []
  if (offers.length > 0) parts.push(describeTools(offers))
  if (definition.systemPrompt) parts.push(definition.systemPrompt)
  return parts.join('\n\n')
}

/** The task as the model reads it. */
export function taskText(input: Json): string {
  return typeof input === 'string' ? input : JSON.stringify(input)
}

/** All that the model may call: the tools, and a tool for each peer. */
export function offersOf(definition: AgentDefinition): readonly Offer[] {
  return [...definition.tools.map(toolOffer), ...definition.peers.map(peerOffer)]
}

function toolOffer({ name, description, inputSchema }: AgentDefinition['tools'][number]): Offer {
  return { name, description, parameters: inputSchema }
}

function peerOffer({ name, description }: AgentDefinition['peers'][number]): Offer {
  return {
    name: delegateName(name),
    description: `Hand a task to the agent ${name} and get its answer.${description ? ` ${description}` : ''}`,
    parameters: {
      type: 'object',
      properties: { task: { type: 'string', description: 'What to do, with all that is needed to do it.' } },
      required: ['task'],
    },
  }
}
