/** Which machine each agent is: the one of this project, or the file that its manifest names. */
import { asJson } from '../../actors/agent/definition.ts'
import { agentMachine } from '../../actors/agent/machine.ts'
import { definitionOf, peersOf } from '../../actors/agent/runtime.ts'
import type { Machine } from '../../actors/machine.ts'
import { loadMachine } from '../../actors/own/load.ts'
import type { OwnMachine } from '../../actors/own/register.ts'
import { ownDefinition } from '../../actors/own/runtime.ts'
import type { Catalog } from '../../bus/contracts.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import type { Json } from '../../bus/wire/json.ts'
import type { System } from '../../manifests/load.ts'
import { resolveMachine } from '../../manifests/local.ts'
import type { Today } from '../../replay/replay.ts'

/** By the agent's name; agents with the machine of this project are not in it. Throws before anything runs when one cannot be loaded. */
export async function loadMachines(
  system: Pick<System, 'agents'>,
  isWanted: (agent: string) => boolean = () => true,
): Promise<ReadonlyMap<string, OwnMachine>> {
  const machines = new Map<string, OwnMachine>()
  for (const agent of system.agents) {
    const { name } = agent.metadata
    const file = isWanted(name) ? resolveMachine(agent) : undefined
    if (file !== undefined) machines.set(name, await loadMachine(name, file))
  }
  return machines
}

/** The system as it is now, for a replay. An agent whose tool lists nobody announced is left out: the verdict says so if it is needed. */
export async function describeToday(system: System, catalog: Pick<Catalog, 'tools'>): Promise<Today> {
  const own = await loadMachines(system)
  const builtIn = agentMachine()
  const machines = new Map<string, Machine>()
  const definitions = new Map<string, Json>()
  for (const agent of system.agents) {
    const { name } = agent.metadata
    const peers = peersOf(agent, system.agents)
    const machine = own.get(name)?.machine
    machines.set(name, machine ?? builtIn)
    const definition = machine
      ? ownDefinition(agent, peers)
      : await definitionOf(agent, peers, catalog).then(asJson, (error: unknown) => {
          if (error instanceof KaosError && error.code === 'tool_list_missing') return undefined
          throw error
        })
    if (definition) definitions.set(name, definition)
  }
  return { machine: (agent) => machines.get(agent) ?? builtIn, definition: (agent) => definitions.get(agent) }
}
