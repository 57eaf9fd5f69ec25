/** Hosts the agent of the bench whose tools are functions in this process: nothing of them travels, and their answers are journaled all the same. */

import type { ToolInput } from '../../../actors/agent/calls.ts'
import { agentMachine } from '../../../actors/agent/machine.ts'
import { agentRuntime, peersOf } from '../../../actors/agent/runtime.ts'
import type { LocalEffect } from '../../../actors/effects/effect.ts'
import { createModelClient } from '../../../actors/effects/endpoint.ts'
import { serveAgent } from '../../../actors/service.ts'
import { requiredBrokerSettings } from '../../../bus/access/settings.ts'
import { systemClock } from '../../../bus/contracts.ts'
import { openBus } from '../../../bus/open.ts'
import { agentParty } from '../../../bus/wire/subjects.ts'
import { loadSystem } from '../../../cli/running/declared.ts'
import { createLog } from '../../../telemetry/log.ts'
import { LOCAL, NAMESPACE } from '../system.ts'

const [manifest = ''] = process.argv.slice(2)
const log = await createLog()
const system = loadSystem([manifest])
const agent = system.agents.find(({ metadata }) => metadata.name === LOCAL)!
const bus = await openBus(requiredBrokerSettings(process.env), { namespace: NAMESPACE, as: agentParty(LOCAL), log })
const client = createModelClient({ log })
const runtime = agentRuntime({
  agent,
  peers: peersOf(agent, system.agents),
  machine: agentMachine(),
  catalog: bus.catalog,
  subjects: bus.subjects,
  client,
  place: { url: process.env.MODEL_API_URL ?? '' },
  clock: systemClock,
})
const tool: LocalEffect = {
  kind: 'local',
  async run({ input }) {
    const { text } = (input as unknown as ToolInput).arguments as { readonly text: string }
    return { value: text, usage: { inputTokens: 0, outputTokens: 0, modelCalls: 0, toolCalls: 1 } }
  },
}
const id = `h${process.pid}`
let appends = 0
const service = serveAgent({
  bus,
  agent: { ...runtime, effects: { ...runtime.effects, tool } },
  identity: { id, nextWriter: () => `${id}.${++appends}` },
  clock: systemClock,
  log,
  crash: () => undefined,
})
process.on('SIGTERM', () => void service.stop(1_000).then(() => process.exit(0)))
console.log('ready')
