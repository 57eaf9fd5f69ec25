/** An agent that is a machine of one's own, as its manifest would declare it. */
import type { AnyStateMachine } from 'xstate'
import type { ModelClient } from '../../actors/effects/endpoint.ts'
import type { ModelPlace } from '../../actors/effects/model.ts'
import { registerOwnMachine } from '../../actors/own/register.ts'
import { ownRuntime } from '../../actors/own/runtime.ts'
import { systemClock } from '../../bus/contracts.ts'
import { parseManifests } from '../../manifests/load.ts'
import type { ServiceTelemetry } from '../../telemetry/telemetry.ts'
import type { Place } from './places.ts'
import type { Hosted } from './system.ts'

/** It may call the tool server `echo` and the agent `other`. */
export function ownAgent(
  place: Place,
  name: string,
  logic: AnyStateMachine,
  model: { readonly client: ModelClient; readonly place: ModelPlace | undefined },
  telemetry?: ServiceTelemetry,
): Hosted {
  const text = `
apiVersion: kaos.tools/v1alpha1
kind: ModelAPI
metadata: { name: models }
spec: { mode: Proxy, proxyConfig: { models: ["*"] } }
---
apiVersion: kaos.tools/v1alpha1
kind: MCPServer
metadata: { name: echo }
spec: { runtime: echo }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: other }
spec: { modelAPI: models, model: m }
---
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: ${name} }
spec:
  machineRef: { path: ./machine.ts }
  modelAPI: models
  model: m
  mcpServers: [echo]
  agentNetwork: { access: [other] }`
  const agent = parseManifests([{ file: 'test.yaml', text }]).agents.find(({ metadata }) => metadata.name === name)!
  const own = registerOwnMachine(name, logic)
  const runtime = () =>
    ownRuntime({
      agent,
      peers: [{ name: 'other', description: '' }],
      own,
      subjects: place.subjects,
      ...model,
      clock: systemClock,
      telemetry,
    })
  return { name, runtime }
}
