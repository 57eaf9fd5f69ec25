/** From an agent with a machine of its own to one that runs: the effects that the machine names, carried out by those of the host. */
import type { Clock } from '../../bus/contracts.ts'
import { localEffectName } from '../../bus/wire/entry.ts'
import { KaosError } from '../../bus/wire/errors.ts'
import { spanIdOf } from '../../bus/wire/ids.ts'
import { type Json, jsonMistake } from '../../bus/wire/json.ts'
import type { Subjects } from '../../bus/wire/subjects.ts'
import { formatTraceparent } from '../../bus/wire/trace.ts'
import type { Agent } from '../../manifests/agent.ts'
import type { DelegateInput, ToolInput } from '../agent/calls.ts'
import type { Peer } from '../agent/definition.ts'
import type { ModelInput } from '../agent/machine.ts'
import { delegateEffect } from '../effects/delegation.ts'
import type { Effect, LocalEffect, MailEffect } from '../effects/effect.ts'
import type { ModelClient } from '../effects/endpoint.ts'
import { type ModelPlace, modelEffect } from '../effects/model.ts'
import { toolEffect } from '../effects/tool.ts'
import type { AgentRuntime } from '../runtime.ts'
import { checkAllowed, shareOf } from './allowance.ts'
import type { EffectDeclaration } from './effects.ts'
import { checkDeclared, type OwnMachine } from './register.ts'

/** What a task of such an agent takes along: its peers alone, for replay needs to know whose answers have no journal. */
export function ownDefinition(agent: Agent, peers: readonly Peer[]): Json {
  return { name: agent.metadata.name, peers: peers as unknown as Json }
}

/** Throws `machine_contract` when the machine asks for what the manifest does not grant. */
export function ownRuntime(options: {
  readonly agent: Agent
  readonly peers: readonly Peer[]
  readonly own: OwnMachine
  readonly subjects: Subjects
  readonly client: ModelClient
  /** Absent: the agent declares no model. */
  readonly place: ModelPlace | undefined
  readonly clock: Clock
}): AgentRuntime {
  const { agent, peers, own, subjects, client, place, clock } = options
  const { spec } = agent
  checkDeclared(own, { servers: spec.mcpServers, agents: spec.agentNetwork.access, hasModel: place !== undefined })
  const locals = [...own.declarations].flatMap(([source, declaration]) =>
    declaration.kind === 'local' ? [[localEffectName(source), localEffect(declaration)] as const] : [],
  )
  const definition = ownDefinition(agent, peers)
  return {
    name: agent.metadata.name,
    machine: own.machine,
    effects: {
      ...Object.fromEntries<Effect>(locals),
      tool: ownTool(subjects),
      delegate: ownDelegate(subjects),
      ...(place && { model: ownModel(agent, modelEffect(client, place, clock)) }),
    },
    definition: async () => definition,
    withoutTools: () => definition,
  }
}

function ownTool(subjects: Subjects): MailEffect {
  const base = toolEffect(subjects)
  return {
    ...base,
    message(call) {
      checkAllowed(call, undefined)
      const { deadlineAt } = call.limits
      const input: ToolInput = { ...(call.input as unknown as ToolInput), ...(deadlineAt !== undefined && { deadlineAt }) }
      return base.message({ ...call, input: input as unknown as Json })
    },
  }
}

function ownDelegate(subjects: Subjects): MailEffect {
  const base = delegateEffect(subjects)
  return {
    ...base,
    message(call) {
      const { peer, task } = call.input as unknown as Pick<DelegateInput, 'peer' | 'task'>
      checkAllowed(call, peer)
      const input: DelegateInput = { peer, task, context: [], limits: shareOf(call), path: [...call.path, call.agent] }
      return base.message({ ...call, input: input as unknown as Json })
    },
  }
}

/** The machine says what to ask; which model answers, and how, its agent's manifest says. */
function ownModel({ spec }: Agent, base: LocalEffect): LocalEffect {
  const { temperature, seed, maxTokens, timeoutSeconds } = spec.config.modelSettings
  const settings = {
    ...(temperature !== undefined && { temperature }),
    ...(seed !== undefined && { seed }),
    ...(maxTokens !== undefined && { max_tokens: maxTokens }),
  }
  return {
    kind: 'local',
    run(call) {
      const { request } = call.input as unknown as { readonly request: Omit<ModelInput['request'], 'model'> }
      const { deadlineAt } = call.limits
      const input = {
        request: { model: spec.model, ...settings, ...request },
        timeoutSeconds,
        ...(deadlineAt !== undefined && { deadlineAt }),
      }
      return base.run({ ...call, input: input as unknown as Json })
    },
  }
}

/** Never waits longer than the time it has, whatever the function does with its signal. */
function localEffect({ run, timeoutSeconds }: Extract<EffectDeclaration, { readonly kind: 'local' }>): LocalEffect {
  return {
    kind: 'local',
    async run({ id, input, trace, signal }) {
      const timeout = AbortSignal.timeout(timeoutSeconds * 1_000)
      const context = {
        input,
        idempotencyKey: id,
        signal: AbortSignal.any([signal, timeout]),
        traceparent: formatTraceparent(trace.traceId, spanIdOf(trace.traceId, id), trace.flags),
        ...(trace.tracestate && { tracestate: trace.tracestate }),
      }
      const late = Promise.withResolvers<never>()
      timeout.addEventListener('abort', () =>
        late.reject(new KaosError('effect_timeout', `it did not end within ${timeoutSeconds} s`)),
      )
      const value = await Promise.race([guarded(() => run(context as never)), late.promise])
      const mistake = jsonMistake(value, 'its result')
      if (mistake !== undefined) throw new KaosError('effect_failed', `${mistake}, and must be JSON`)
      return { value: (value ?? null) as Json }
    },
  }
}

/** Whatever a function of the user throws keeps its message, and its own code in the details. */
async function guarded(run: () => unknown): Promise<unknown> {
  try {
    return await run()
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    const { code } = (error ?? {}) as { readonly code?: unknown }
    throw new KaosError('effect_failed', message, { cause: error, ...(typeof code === 'string' && { details: { code } }) })
  }
}
