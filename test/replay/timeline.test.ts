import { afterEach, describe, expect, it } from 'vitest'
import { spanIdOf } from '../../bus/wire/ids.ts'
import { loadTrace } from '../../replay/load.ts'
import { type ActorNode, buildTimeline, type TraceTree } from '../../replay/timeline.ts'
import { type AgentSpec, MemorySystem, type Reply, type ScriptedModel } from '../support/memory-system.ts'
import { memorySource, subjectOf } from '../support/recorded-trace.ts'

const agents: readonly AgentSpec[] = [
  { name: 'coordinator', tools: ['echo'], peers: ['worker'] },
  { name: 'worker', tools: ['echo'] },
]

/** The coordinator asks a tool and the worker at once, then answers; the worker asks a tool whose name is wrong and answers. */
const model: ScriptedModel = ({ agent, messages }): Reply => {
  if (messages.at(-1)!.role === 'tool') return { text: `${agent} is done` }
  const wrong = { calls: [{ name: 'echo', arguments: { text: 'no' } }] }
  return agent === 'worker'
    ? wrong
    : { calls: [...wrong.calls, { name: 'delegate_to_worker', arguments: { task: 'help' } }], delayMs: 20 }
}

let system: MemorySystem
afterEach(() => system.close())

async function timeline(trace: string): Promise<TraceTree> {
  return buildTimeline(await loadTrace(memorySource(system), trace))
}

async function result(): Promise<string> {
  const { trace } = await system.waitForResult('coordinator', 'k1')
  await system.waitForQuiet()
  return trace
}

const summary = (node: ActorNode): unknown[] =>
  node.effects.map(({ name, state, child }) => (child ? [name, state, summary(child)] : [name, state]))

describe('a timeline', () => {
  it('shows who asked whom, and what it took', async () => {
    system = new MemorySystem({ agents, tools: ['echo'], model })
    system.startHost()
    system.startTools('echo', {
      run: async (_text, effect) => {
        if (effect.startsWith('coordinator_k1_1-1')) throw new Error('the tool is broken')
        return 'fine'
      },
    })
    system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1' })

    const tree = await timeline(await result())

    const [root] = tree.roots
    expect(summary(root!)).toEqual([
      ['scripted', 'completed'],
      ['echo@echo', 'completed'],
      [
        'worker',
        'completed',
        [
          ['scripted', 'completed'],
          ['echo@echo', 'failed'],
          ['scripted', 'completed'],
        ],
      ],
      ['scripted', 'completed'],
    ])
    const worker = root!.effects[2]!.child!
    expect(worker.effects[1]!.failure).toMatchObject({ message: expect.stringContaining('the tool is broken') })
    expect(root!.effects[0]!.ms).toBeGreaterThanOrEqual(15)
    expect(worker.usage).toEqual({ inputTokens: 20, outputTokens: 10, modelCalls: 2, toolCalls: 1 })
    expect(tree).toMatchObject({
      state: 'completed',
      actors: 2,
      entries: 5 + 4,
      takeovers: 0,
      missing: [],
      usage: { inputTokens: 40, outputTokens: 20, modelCalls: 4, toolCalls: 2 },
    })
    expect(tree.usage).toEqual(system.result('coordinator', 'k1')!.usage)
    expect(JSON.parse(JSON.stringify(tree))).toEqual(tree)
  })

  it('says where everything stands in a tracing backend, below the span of whoever sent the task', async () => {
    system = new MemorySystem({ agents, tools: ['echo'], model })
    system.startHost()
    system.startTools('echo')
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1', traceparent })
    const trace = await result()

    const [root] = (await timeline(trace)).roots

    const [thought, call, delegation] = root!.effects
    expect(root).toMatchObject({ spanId: spanIdOf(trace, 'coordinator_k1_0'), parentSpanId: '00f067aa0ba902b7' })
    expect(thought).toMatchObject({ spanId: spanIdOf(trace, 'coordinator_k1_0-0'), parentSpanId: root!.spanId })
    expect(call!.executeSpanId).toBe(spanIdOf(trace, `${call!.id}/execute`))
    expect(delegation!.child!.parentSpanId).toBe(delegation!.spanId)
    expect([thought!.executeSpanId, delegation!.executeSpanId]).toEqual([undefined, undefined])
  })

  it('shows when a host took over, from which, and how long nothing happened', async () => {
    system = new MemorySystem({ agents, tools: ['echo'], model })
    let hits = 0
    system.startHost({ crash: (die) => (at) => (at === 'effect-in-flight' && ++hits === 1 ? die() : undefined) })
    system.startTools('echo')
    system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1' })
    await new Promise((resolve) => setTimeout(resolve, 20))
    system.startHost()

    const tree = await timeline(await result())

    const [takeover] = tree.roots[0]!.takeovers
    expect(tree.takeovers).toBe(1)
    expect(takeover!.n).toBe(1)
    expect(takeover!.from).not.toBe(takeover!.to)
    expect(takeover!.to).toBe(system.modelRuns[0]!.host)
    expect(takeover!.afterMs).toBeGreaterThanOrEqual(20)
    expect(tree.roots[0]!.effects[0]!.waitMs).toBeGreaterThanOrEqual(20)
  })

  it('shows what is under way, and how long an actor has waited for mail', async () => {
    system = new MemorySystem({ agents, tools: ['echo'], model })
    system.startHost()
    system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1' })
    await new Promise((resolve) => setTimeout(resolve, 100))
    const trace = subjectOf(system, 'trace', 'coordinator_k1').split('.')[3]!

    const early = await timeline(trace)
    system.startTools('echo')
    const late = await timeline(await result())

    expect(early.state).toBe('working')
    expect(summary(early.roots[0]!)).toEqual([
      ['scripted', 'completed'],
      ['echo@echo', 'open'],
      [
        'worker',
        'open',
        [
          ['scripted', 'completed'],
          ['echo@echo', 'open'],
        ],
      ],
    ])
    expect(late.state).toBe('completed')
    expect(late.roots[0]!.parkedMs).toBeGreaterThanOrEqual(50)
  })

  it('shows what is left when a journal is gone', async () => {
    system = new MemorySystem({ agents, tools: ['echo'], model })
    system.startHost()
    system.startTools('echo')
    system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1' })
    const trace = await result()
    system.broker.records.delete(subjectOf(system, 'journal', '.worker.'))

    const tree = await timeline(trace)

    expect(tree.missing).toEqual([expect.stringContaining('"coordinator_k1_1-1"')])
    expect(tree.roots[0]!.effects[2]!.child).toMatchObject({ state: 'unknown', entries: 0, effects: [] })
    expect(tree.state).toBe('completed')
  })
})
