import { afterEach, describe, expect, it } from 'vitest'
import { Bodies } from '../../bus/wire/bodies.ts'
import type { Entry } from '../../bus/wire/entry.ts'
import { spanIdOf } from '../../bus/wire/ids.ts'
import { agentParty, userParty } from '../../bus/wire/subjects.ts'
import { type LoadedTrace, loadTrace } from '../../replay/load.ts'
import { type MemoryEvent, memoryEvents } from '../../replay/memory-events.ts'
import { buildTimeline } from '../../replay/timeline.ts'
import { type AgentSpec, MemorySystem, type Reply, type ScriptedModel } from '../support/memory-system.ts'
import { memorySource, subjectOf } from '../support/recorded-trace.ts'

const agents: readonly AgentSpec[] = [
  { name: 'coordinator', tools: ['echo'], peers: ['worker'] },
  { name: 'worker', tools: ['echo'] },
]

const workerModel = ({ messages }: Parameters<ScriptedModel>[0]): Reply =>
  messages.at(-1)!.role === 'tool' ? { text: 'worker is done' } : { calls: [{ name: 'echo', arguments: { text: 'hi' } }] }

/** The coordinator asks a tool, then the worker, then answers. */
const model: ScriptedModel = (asked): Reply => {
  if (asked.agent === 'worker') return workerModel(asked)
  if (asked.turn === 0) return { calls: [{ name: 'echo', arguments: { text: 'one', password: 'correct-horse' } }] }
  return asked.turn === 1 ? { calls: [{ name: 'delegate_to_worker', arguments: { task: 'help' } }] } : { text: 'all is done' }
}

let system: MemorySystem
afterEach(() => system.close())

async function run(
  options: { readonly model?: ScriptedModel; readonly tool?: (text: string, effect: string) => Promise<string> } = {},
): Promise<string> {
  system = new MemorySystem({ agents, tools: ['echo'], model: options.model ?? model })
  system.startHost()
  system.startTools('echo', options.tool ? { run: options.tool } : {})
  system.send('coordinator', 'a task', { 'Nats-Msg-Id': 'k1' })
  const { trace } = await system.waitForResult('coordinator', 'k1')
  await system.waitForQuiet()
  return trace
}

const eventsOf = async (trace: string, agent?: string) => memoryEvents(await loadTrace(memorySource(system), trace), { agent })
const brief = (events: readonly MemoryEvent[]) => events.map((event) => [event.agent, event.event_type, event.content])

describe('memory events of a trace', () => {
  it('are what agents remember, over all of them, in the order in which one led to another', async () => {
    const trace = await run({ tool: async (text) => `echo of ${text}` })

    expect(brief(await eventsOf(trace))).toEqual([
      ['coordinator', 'user_message', 'a task'],
      ['coordinator', 'tool_call', { tool: 'echo', arguments: { text: 'one', password: '[redacted]' } }],
      ['coordinator', 'tool_result', { tool: 'echo', result: 'echo of one' }],
      ['coordinator', 'delegation_request', { agent: 'worker', task: 'help' }],
      ['worker', 'task_delegation_received', 'help'],
      ['worker', 'tool_call', { tool: 'echo', arguments: { text: 'hi' } }],
      ['worker', 'tool_result', { tool: 'echo', result: 'echo of hi' }],
      ['worker', 'agent_response', 'worker is done'],
      ['coordinator', 'delegation_response', { agent: 'worker', response: 'worker is done' }],
      ['coordinator', 'agent_response', 'all is done'],
    ])
  })

  it('have the ids of the trace and of the spans that are exported for it, and ids that stay', async () => {
    const trace = await run()

    const events = await eventsOf(trace)

    const [root] = buildTimeline(await loadTrace(memorySource(system), trace)).roots
    const call = root!.effects.find(({ effect }) => effect === 'tool')!
    const delegation = root!.effects.find(({ effect }) => effect === 'delegate')!
    expect(events.map(({ metadata }) => metadata.span_id)).toEqual([
      root!.spanId,
      call.spanId,
      call.spanId,
      delegation.spanId,
      delegation.child!.spanId,
      ...delegation.child!.effects.filter(({ effect }) => effect === 'tool').flatMap(({ spanId }) => [spanId, spanId]),
      delegation.child!.spanId,
      delegation.spanId,
      root!.spanId,
    ])
    expect(root!.spanId).toBe(spanIdOf(trace, 'coordinator_k1_0'))
    expect(new Set(events.map(({ metadata }) => metadata.trace_id))).toEqual(new Set([trace]))
    expect(events[1]!.metadata).toEqual({
      trace_id: trace,
      span_id: spanIdOf(trace, 'coordinator_k1_1-0'),
      task: 'coordinator_k1',
      entry: 'coordinator_k1_1',
      effect: 'coordinator_k1_1-0',
      server: 'echo',
    })
    expect(events.every(({ event_id: id }) => /^event_[0-9a-f]{8}$/.test(id))).toBe(true)
    expect(new Set(events.map(({ event_id: id }) => id)).size).toBe(events.length)
    expect(events[0]!.timestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    expect(await eventsOf(trace)).toEqual(events)
  })

  it('are those of one agent where one is asked for', async () => {
    const trace = await run()

    const types = (await eventsOf(trace, 'worker')).map(({ event_type: type }) => type)

    expect(types).toEqual(['task_delegation_received', 'tool_call', 'tool_result', 'agent_response'])
    expect(await eventsOf(trace, 'nobody')).toEqual([])
  })

  it('tell a tool that failed, a delegation that failed, and how the task ended, each with its code', async () => {
    const failing: ScriptedModel = (asked) => {
      if (asked.agent === 'worker') throw new Error('the model is gone')
      if (asked.turn === 2) throw new Error('and now here too')
      return model(asked)
    }

    const trace = await run({
      model: failing,
      tool: async () => {
        throw new Error('the tool is broken')
      },
    })

    const failed = (await eventsOf(trace)).filter(({ event_type: type }) => type.includes('error'))
    const code = expect.stringMatching(/^\w+$/)
    expect(brief(failed)).toEqual([
      ['coordinator', 'error', { tool: 'echo', error: { code, message: expect.stringContaining('the tool is broken') } }],
      ['worker', 'error', { code, message: expect.stringContaining('the model is gone') }],
      [
        'coordinator',
        'delegation_error',
        { agent: 'worker', error: { code, message: expect.stringContaining('the model is gone') } },
      ],
      ['coordinator', 'error', { code, message: expect.stringContaining('and now here too') }],
    ])
  })

  it('are there for a task that is under way, and for what is left of a damaged record', async () => {
    const trace = await run()
    system.broker.records.delete(subjectOf(system, 'journal', '.worker.'))

    const types = (await eventsOf(trace)).map(({ agent, event_type: type }) => `${agent} ${type}`)

    expect(types).toContain('coordinator delegation_response')
    expect(types.filter((text) => text.startsWith('worker'))).toEqual([])
  })

  it('tell functions of a machine as its tools, and what a person says to a task as a message; what the parent says is told by the end', () => {
    system = new MemorySystem({ agents: [], model })
    const start = { kind: 'start', input: 'order', definition: null, limits: { depth: 1, fanOut: 1 }, path: [], session: 's1' }
    const weigh = { kind: 'start', as: 'w', effect: 'local.weigh', input: { grams: 3 } }
    const failure = { code: 'canceled', message: 'the task was canceled' }
    const trace = traceOf([
      { input: start, commands: [weigh] },
      { input: { kind: 'result', effect: 'desk_k1_0-0', value: 'light' } },
      { input: { kind: 'resumed', delivery: 'd' } },
      { from: userParty('cli'), input: { kind: 'signal', id: 's', name: 'approve', data: { cents: 5 } } },
      {
        from: agentParty('boss'),
        input: { kind: 'signal', id: 't', name: 'cancel', data: null },
        outcome: { state: 'canceled', failure },
      },
    ])

    const events = memoryEvents(trace)

    expect(brief(events)).toEqual([
      ['desk', 'user_message', 'order'],
      ['desk', 'tool_call', { tool: 'weigh', arguments: { grams: 3 } }],
      ['desk', 'tool_result', { tool: 'weigh', result: 'light' }],
      ['desk', 'user_message', { event: 'approve', data: { cents: 5 } }],
      ['desk', 'error', failure],
    ])
    expect(events.every(({ metadata }) => metadata.session === 's1')).toBe(true)
  })
})

/** One actor with these entries, as they would be read. */
function traceOf(entries: readonly object[]): LoadedTrace {
  const task = 'desk_k1'
  const recorded = entries.map((part, n) => {
    const entry = {
      n,
      at: 1_000 + n,
      cause: `c${n}`,
      delivery: 'd',
      commands: [],
      machine: 'm',
      state: `s${n}`,
      ...part,
    } as unknown as Entry
    return { id: `${task}_${n}`, entry, stored: entry, seal: '', writer: 'h.1' }
  })
  const actor = { agent: 'desk', task, entries: recorded, proven: recorded.length, bodies: new Bodies(), missing: [] }
  return { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', actors: [actor] }
}
