/** An agent's machine, driven by hand: what it asks for, what it is answered. */
import { expect, vi } from 'vitest'
import type { DelegateInput } from '../../actors/agent/calls.ts'
import type { ChatMessage } from '../../actors/agent/conversation.ts'
import { type AgentDefinition, asJson } from '../../actors/agent/definition.ts'
import { agentMachine, type ModelInput, type ModelValue } from '../../actors/agent/machine.ts'
import { advance, begin, comparable, type Decision, type MachineEvent, prune } from '../../actors/machine.ts'
import type { StartInput, Usage } from '../../bus/wire/entry.ts'
import type { Failure } from '../../bus/wire/errors.ts'
import type { Json } from '../../bus/wire/json.ts'
import { definitionOf } from './memory-system.ts'

/** When every task begins. */
export const AT = 1_700_000_000_000
const machine = agentMachine()
export const NOTHING: Usage = { inputTokens: 0, outputTokens: 0, modelCalls: 0, toolCalls: 0 }

export interface Asked {
  readonly messages: readonly ChatMessage[]
  readonly tools?: readonly { readonly function: { readonly name: string } }[]
}

export interface Call {
  readonly id?: string
  readonly name: string
  readonly arguments?: string
}

export const echo = (text: string): Call => ({ name: 'echo', arguments: JSON.stringify({ text }) })
export const ask = (peer: string, task = 'help'): Call => ({ name: `delegate_to_${peer}`, arguments: JSON.stringify({ task }) })

/** Every input is decided twice, with another clock and other dice, and must give the same. */
export class Agent {
  readonly pending = new Map<string, { readonly effect: string; readonly input: Json }>()
  at = AT
  private decision: Decision

  constructor(definition: Partial<AgentDefinition> = {}, start: Partial<StartInput> = {}) {
    const input: StartInput = {
      kind: 'start',
      input: 'the task',
      definition: asJson({ ...definitionOf({ name: 'boss', tools: ['echo'], peers: ['one', 'two', 'three'] }), ...definition }),
      limits: { depth: 8, fanOut: 16 },
      path: [],
      ...start,
    }
    this.decision = this.take(twice(() => begin(machine, input, this.at)))
  }

  get outcome() {
    return this.decision.outcome
  }

  /** What the last model call was asked. */
  get request(): Asked {
    return (this.pending.get('model')!.input as unknown as ModelInput).request as unknown as Asked
  }

  get delegations(): readonly DelegateInput[] {
    return [...this.pending.values()]
      .filter(({ effect }) => effect === 'delegate')
      .map(({ input }) => input as unknown as DelegateInput)
  }

  /** The model answers: with text, or with calls. */
  says(answer: string | readonly Call[], usage: Partial<Usage> = {}): this {
    const calls = typeof answer === 'string' ? [] : answer
    const value: ModelValue = {
      text: typeof answer === 'string' ? answer : '',
      toolCalls: calls.map((call, k) => ({ id: call.id ?? `call_${k}`, name: call.name, arguments: call.arguments ?? '{}' })),
      finishReason: 'stop',
      model: 'm',
    }
    return this.event({
      kind: 'result',
      as: 'model',
      value: value as unknown as Json,
      usage: { ...NOTHING, modelCalls: 1, ...usage },
    })
  }

  /** The k-th call of the last reply is answered. */
  answer(k: number, value: Json, usage?: Usage): this {
    return this.event({ kind: 'result', as: this.name(k), value, usage })
  }

  fail(k: number, failure: Failure, usage?: Usage): this {
    return this.event({ kind: 'error', as: this.name(k), failure, usage })
  }

  event(event: MachineEvent): this {
    if (event.kind !== 'signal') this.pending.delete(event.as)
    const open = new Set(this.pending.keys())
    this.decision = this.take(twice(() => advance(machine, this.decision.snapshot!, event, this.at, open)))
    return this
  }

  private name(k: number): string {
    const name = [...this.pending.keys()].find((as) => as.endsWith(`-${k}`))
    if (!name) throw new Error(`call ${k} is not under way`)
    return name
  }

  private take(decision: Decision): Decision {
    for (const command of decision.commands) {
      if (command.kind === 'start') this.pending.set(command.as, command)
      else if (command.kind === 'stop') this.pending.delete(command.as)
    }
    if (decision.outcome) this.pending.clear()
    if (decision.snapshot) prune(decision.snapshot, new Set(this.pending.keys()))
    return decision
  }
}

function twice(decide: () => Decision): Decision {
  const [first, second] = [1, 2].map((skew) => {
    vi.spyOn(Date, 'now').mockReturnValue(skew * 1_000_000_000)
    vi.spyOn(Math, 'random').mockReturnValue(skew / 10)
    vi.spyOn(performance, 'now').mockReturnValue(skew * 7)
    try {
      return decide()
    } finally {
      vi.restoreAllMocks()
    }
  })
  expect(second!.commands).toEqual(first!.commands)
  expect(second!.outcome).toEqual(first!.outcome)
  expect(comparable(second!.snapshot)).toEqual(comparable(first!.snapshot))
  return first!
}
