/** The agents that a gateway opens a door to, and which of them a request means. */
import { KaosError } from '../bus/wire/errors.ts'
import type { Agent } from '../manifests/kinds/agent.ts'
import { nearestTo } from '../manifests/loading/nearest.ts'
import { HTTP_LIMITS } from './limits.ts'
import { badRequest } from './problem.ts'

export interface DoorAgent {
  readonly name: string
  readonly description: string
  /** Names of the tool servers and of the agents that it may call. */
  readonly toolServers: readonly string[]
  readonly peers: readonly string[]
  /**
   * Every reply of its model is the answer, since there is nothing to call and nobody else who decides: its text may be streamed while it
   * grows. Any other reply may turn out to be a word before a call, which cannot be taken back.
   */
  readonly isPlain: boolean
}

export function doorAgent({ metadata, spec }: Agent): DoorAgent {
  const toolServers = spec.mcpServers
  const peers = spec.agentNetwork.access
  const isOurs = !spec.machineRef && !spec.external
  const hasCalls = toolServers.length > 0 || peers.length > 0 || spec.config.toolCallMode === 'string'
  return {
    name: metadata.name,
    description: spec.config.description ?? '',
    toolServers,
    peers,
    isPlain: isOurs && !hasCalls,
  }
}

export class Agents {
  readonly all: readonly DoorAgent[]
  private readonly byName: ReadonlyMap<string, DoorAgent>

  constructor(all: readonly DoorAgent[]) {
    this.all = all
    this.byName = new Map(all.map((agent) => [agent.name, agent]))
  }

  /** The agent of a path that names it. Throws `unknown_agent`. */
  named(name: string): DoorAgent {
    const agent = this.byName.get(name)
    if (agent) return agent
    const nearest = nearestTo(name.slice(0, HTTP_LIMITS.nameCharsMax), [...this.byName.keys()])
    const hint = nearest === undefined ? this.names() : `; did you mean "${nearest}"?`
    throw new KaosError('unknown_agent', `there is no agent "${name.slice(0, HTTP_LIMITS.nameCharsMax)}" here${hint}`)
  }

  /** Where there is one agent it answers, whatever model is asked for; of several the model names one. */
  asked(model: string | undefined): DoorAgent {
    const [first, second] = this.all
    if (first && !second) return first
    if (model !== undefined) return this.named(model)
    throw badRequest(`the field "model" is missing: it names the agent${this.names()}`, 'model')
  }

  private names(): string {
    const names = [...this.byName.keys()].toSorted()
    const more = names.length > HTTP_LIMITS.namesShownMax ? ', …' : ''
    return names.length === 0 ? '' : `; there are: ${names.slice(0, HTTP_LIMITS.namesShownMax).join(', ')}${more}`
  }
}
