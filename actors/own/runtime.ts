/** From an agent with a machine of its own to one that runs: the effects that the machine names, carried out by those of the host. */
import type { Clock } from '../../bus/contracts.ts'
import { localEffectName } from '../../bus/wire/entry.ts'
import { KaosError, messageOf } from '../../bus/wire/errors.ts'
import { spanIdOf } from '../../bus/wire/ids.ts'
import { copyJson, type Json, jsonMistake } from '../../bus/wire/json.ts'
import type { Subjects } from '../../bus/wire/subjects.ts'
import { checkSpanName, formatTraceparent } from '../../bus/wire/trace.ts'
import type { Agent } from '../../manifests/kinds/agent.ts'
import { KEYS } from '../../telemetry/names.ts'
import { noService, type ServiceTelemetry } from '../../telemetry/telemetry.ts'
import { abortedAsUserCode, runUserCode } from '../../telemetry/user/code.ts'
import type { DelegateInput, ToolInput } from '../agent/calls.ts'
import type { Peer } from '../agent/definition.ts'
import type { ModelInput } from '../agent/machine.ts'
import { traceBoundaryOf } from '../agent/runtime.ts'
import { delegateEffect } from '../effects/delegation.ts'
import type { Effect, LocalEffect, MailEffect } from '../effects/effect.ts'
import type { ModelClient } from '../effects/endpoint.ts'
import { type ModelPlace, modelEffect } from '../effects/model.ts'
import { toolEffect } from '../effects/tool.ts'
import type { AgentRuntime } from '../runtime.ts'
import { checkAllowed, shareOfCall } from './allowance.ts'
import type { EffectDeclaration, LocalContext } from './effects.ts'
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
  /** Where spans of its functions go. Default: nowhere. */
  readonly telemetry?: ServiceTelemetry | undefined
}): AgentRuntime {
  const { agent, peers, own, subjects, client, place, clock, telemetry = noService } = options
  const { spec } = agent
  checkDeclared(own, { servers: spec.mcpServers, agents: spec.agentNetwork.access, hasModel: place !== undefined })
  const locals = [...own.declarations].flatMap(([source, declaration]) =>
    declaration.kind === 'local' ? [[localEffectName(source), localEffect(declaration, clock, telemetry)] as const] : [],
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
    traceBoundary: traceBoundaryOf(agent),
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
      const input: DelegateInput = { peer, task, context: [], limits: shareOfCall(call), path: [...call.path, call.agent] }
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
    ...base,
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

/**
 * Never waits longer than the time it has, whatever the function does with its signal. What goes in and what comes out are copies: a list that
 * the function sorts, or keeps and changes later, must not change the state of a task behind its journal.
 */
function localEffect(
  { run, timeoutSeconds }: Extract<EffectDeclaration, { readonly kind: 'local' }>,
  clock: Clock,
  telemetry: ServiceTelemetry,
): LocalEffect {
  return {
    kind: 'local',
    async run({ id, agent, task, input, trace, limits, signal }) {
      const leftMs = (limits.deadlineAt ?? Number.POSITIVE_INFINITY) - clock.now()
      const timeoutMs = Math.min(timeoutSeconds * 1_000, Math.max(0, leftMs))
      const code = { agent, task, effect: id }
      const own = abortedAsUserCode(code, signal)
      const sent = {
        traceparent: formatTraceparent(trace.traceId, spanIdOf(trace.traceId, id), trace.flags),
        ...(trace.tracestate && { tracestate: trace.tracestate }),
      }
      const parent = { ...sent, attributes: { [KEYS.task]: task, [KEYS.effect]: id } }
      const context: LocalContext<Json> = {
        input: copyJson(input),
        idempotencyKey: id,
        signal: own.signal,
        ...sent,
        span: (name, work) => telemetry.span(checkSpanName(name), parent, work),
      }
      const late = Promise.withResolvers<never>()
      const timer = setTimeout(() => {
        const error =
          leftMs < timeoutSeconds * 1_000
            ? new KaosError('time_limit', `the task's time ended at ${new Date(limits.deadlineAt!).toISOString()}`)
            : new KaosError('effect_timeout', `it did not end within ${timeoutSeconds} s`)
        late.reject(error)
        runUserCode(code, () => own.abort(error))
      }, timeoutMs)
      try {
        const value = await Promise.race([guarded(() => runUserCode(code, () => run(context as never))), late.promise])
        return { value: value as Json }
      } finally {
        clearTimeout(timer)
      }
    },
  }
}

/** Whatever a function of the user throws keeps its message, and its own code in the details. */
async function guarded(run: () => unknown): Promise<Json> {
  try {
    const value = await run()
    const mistake = jsonMistake(value, 'its result')
    if (mistake === undefined) return copyJson(value ?? null)
    throw new Error(`${mistake}, and must be JSON: plain objects, lists, texts, numbers, true, false and null`)
  } catch (error) {
    const code = codeOf(error)
    throw new KaosError('effect_failed', messageOf(error), { cause: error, ...(code !== undefined && { details: { code } }) })
  }
}

/** Also of what throws when it is looked at. */
function codeOf(thrown: unknown): string | undefined {
  try {
    const { code } = (thrown ?? {}) as { readonly code?: unknown }
    return typeof code === 'string' ? code.slice(0, CODE_CHARS_MAX) : undefined
  } catch {
    return undefined
  }
}

const CODE_CHARS_MAX = 256
