import { afterEach, describe, expect, it } from 'vitest'
import { agentMachine } from '../../actors/agent/machine.ts'
import type { StartInput } from '../../bus/wire/entry.ts'
import { userParty } from '../../bus/wire/subjects.ts'
import { loadTrace } from '../../replay/load.ts'
import { exitCodeOfVerdict, type Verdict, verdictJson, verdictLine } from '../../replay/verdict.ts'
import { type AgentSpec, definitionOf, echoTool, MemorySystem, type ScriptedModel, until } from '../support/memory-system.ts'
import { dropEntry, memorySource, replayed, subjectOf, today } from '../support/recorded-trace.ts'

const agents: readonly AgentSpec[] = [
  { name: 'coordinator', tools: ['echo'], peers: ['worker'], instructions: 'Plan the work.\nThen answer in five sentences.' },
  { name: 'worker', tools: ['echo'], instructions: 'Do the work.' },
]

/** The coordinator asks a tool, then the worker, then answers; the worker asks a tool and answers. */
const model: ScriptedModel = ({ messages, turn, agent }) => {
  const task = messages.findLast(({ role }) => role === 'user')!.content!
  const answers = messages.filter(({ role }) => role === 'tool').map(({ content }) => content)
  if (agent === 'worker') return messages.at(-1)!.role === 'tool' ? { text: `done ${answers.at(-1)}` } : echo(`${task}.w`)
  if (turn === 0) return echo(task)
  if (turn === 1) return { calls: [{ name: 'delegate_to_worker', arguments: { task: `for ${task.slice(0, 20)}` } }] }
  return { text: answers.join('|') }
}
const echo = (text: string) => ({ calls: [{ name: 'echo', arguments: { text } }] })

let system: MemorySystem
afterEach(() => system.close())

function start(options: { readonly model?: ScriptedModel; readonly agents?: readonly AgentSpec[] } = {}): void {
  system = new MemorySystem({ agents: options.agents ?? agents, tools: ['echo'], model: options.model ?? model })
  system.startHost()
  system.startTools('echo')
}

/** Sends a task, waits for its end and gives its trace id. */
async function record(text = 'k1', key = 'k1'): Promise<string> {
  system.send('coordinator', text, { 'Nats-Msg-Id': key })
  const { trace } = await system.waitForResult('coordinator', key)
  await system.waitForQuiet()
  return trace
}

describe('a replay of what did not change', () => {
  it('is identical, over tools and delegations', async () => {
    start()

    const verdict = await replayed(system, await record(), today(agents))

    expect(verdict).toMatchObject({ verdict: 'identical', entries: 6 + 4, actors: 2, calls: 0 })
    expect(exitCodeOfVerdict(verdict)).toBe(0)
    expect(verdictLine(verdict)).toMatch(/^identical: 10 entries, 0 calls, \d+ ms$/)
    expect(verdictJson(verdict)).toMatchObject({ verdict: 'identical', exitCode: 0 })
  })

  it('is identical for each of 32 tasks with one prompt at once', async () => {
    start()
    const keys = Array.from({ length: 32 }, (_, i) => `t${i}`)
    const traces = await Promise.all(keys.map((key) => record('the same', key)))

    const verdicts = await Promise.all(traces.map((trace) => replayed(system, trace, today(agents))))

    expect(new Set(traces).size).toBe(32)
    expect(verdicts.map(({ verdict }) => verdict)).toEqual(keys.map(() => 'identical'))
  })

  it('is identical after a host died and another took over', async () => {
    system = new MemorySystem({ agents, tools: ['echo'], model })
    let hits = 0
    system.startHost({ crash: (die) => (at) => (at === 'effect-in-flight' && ++hits === 3 ? die() : undefined) })
    system.startTools('echo')
    system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1' })
    await new Promise((resolve) => setTimeout(resolve, 20))
    system.startHost()
    const { trace } = await system.waitForResult('coordinator', 'k1')
    await system.waitForQuiet()

    const loaded = await loadTrace(memorySource(system), trace)

    expect(loaded.actors.flatMap(({ entries }) => entries.map(({ entry }) => entry.input.kind))).toContain('resumed')
    expect(await replayed(system, trace, today(agents))).toMatchObject({ verdict: 'identical' })
  })

  it('is identical for a task that failed', async () => {
    start({
      model: () => {
        throw new Error('no model here')
      },
    })

    const verdict = await replayed(system, await record(), today(agents))

    expect(system.result('coordinator', 'k1')).toMatchObject({ state: 'failed' })
    expect(verdict).toMatchObject({ verdict: 'identical', entries: 2 })
  })

  it('is identical with bodies that lie beside the journal', async () => {
    start()

    const verdict = await replayed(system, await record('x'.repeat(70 * 1024)), today(agents))

    expect(subjectOf(system, 'blob', 'coordinator_k1')).toBeDefined()
    expect(verdict).toMatchObject({ verdict: 'identical', actors: 2 })
  })

  it('is identical when other machine code decides the same', async () => {
    start()

    const verdict = await replayed(system, await record(), today(agents, { machine: agentMachine('variant') }))

    expect(verdict).toMatchObject({ verdict: 'identical' })
  })

  it('is identical with other settings that lead to the same decisions', async () => {
    start()
    const define = (spec: AgentSpec) => definitionOf({ ...spec, steps: 12 })

    expect(await replayed(system, await record(), today(agents, { define }))).toMatchObject({ verdict: 'identical' })
  })
})

describe('a replay of unusual tasks', () => {
  it('is identical over snapshots', async () => {
    const long = [{ name: 'coordinator', tools: ['echo'], steps: 40 }]
    start({ agents: long, model: ({ turn }) => (turn < 30 ? echo(`${turn} ${'x'.repeat(300)}`) : { text: 'enough' }) })

    const verdict = await replayed(system, await record(), today(long))

    const journal = system.broker.records.get(subjectOf(system, 'journal', 'coordinator_k1'))!
    expect(journal.some(({ text }) => text.includes('"snapshot":{'))).toBe(true)
    expect(verdict).toMatchObject({ verdict: 'identical', entries: 62 })
  })

  it('is identical for a task that was canceled before it began, whether its agent is declared or not', async () => {
    start()
    const { subjects } = system.broker
    system.broker.publish(subjects.signal('coordinator', 'cancel', userParty('me'), 'coordinator_k1'), '', {})
    const { trace } = await system.waitForResult('coordinator', 'k1')

    expect(await replayed(system, trace, today([]))).toMatchObject({ verdict: 'identical', entries: 1 })
  })

  it('is identical when children were still at work as their parent ended', async () => {
    const hasty = [{ ...agents[0]!, runtimeSeconds: 0.05 }, agents[1]!]
    const calls = [{ name: 'delegate_to_worker', arguments: { task: 'slow' } }, ...echo('quick').calls]
    start({ agents: hasty, model: ({ agent }) => (agent === 'coordinator' ? { calls, delayMs: 60 } : { text: 'late' }) })

    const verdict = await replayed(system, await record(), today(hasty))

    expect(system.result('coordinator', 'k1')).toMatchObject({ state: 'failed', failure: { code: 'time_limit' } })
    expect(verdict).toMatchObject({ verdict: 'identical' })
  })
})

describe('a replay of what changed', () => {
  it('names another tool-call mode as a setting', async () => {
    start()
    const define = (spec: AgentSpec) => definitionOf({ ...spec, toolCallMode: 'string' })

    expect(await replayed(system, await record(), today(agents, { define }))).toMatchObject({
      verdict: 'diverged',
      n: 0,
      cause: 'settings',
      why: 'the settings of agent "coordinator" changed: "toolCallMode" is "string" and was "auto"',
    })
  })

  it('names a changed prompt, at the first entry that used it', async () => {
    start()
    const instructions = 'Plan the work.\nThen answer in three sentences.'
    const define = (spec: AgentSpec) => definitionOf(spec.name === 'coordinator' ? { ...spec, instructions } : spec)

    const verdict = await replayed(system, await record(), today(agents, { define }))

    expect(verdict).toMatchObject({
      verdict: 'diverged',
      agent: 'coordinator',
      task: 'coordinator_k1',
      n: 0,
      entry: 'coordinator_k1_0',
      path: 'commands[0].input.request.messages[0].content',
      recorded: 'Then answer in five sentences.',
      got: 'Then answer in three sentences.',
      cause: 'prompt',
      why: 'the prompt of agent "coordinator" changed in "instructions"',
    })
    expect(exitCodeOfVerdict(verdict)).toBe(1)
    expect(verdictLine(verdict)).toContain('- recorded: Then answer in five sentences.\n  + got:      Then answer in three')
  })

  it('names a changed prompt of an agent further down', async () => {
    start()
    const define = (spec: AgentSpec) => definitionOf(spec.name === 'worker' ? { ...spec, instructions: 'Rest.' } : spec)

    const verdict = await replayed(system, await record(), today(agents, { define }))

    expect(verdict).toMatchObject({ verdict: 'diverged', agent: 'worker', n: 0, cause: 'prompt' })
  })

  it('names what comes first when several agents changed', async () => {
    start()
    const define = (spec: AgentSpec) => definitionOf({ ...spec, instructions: 'Rest.' })

    const verdict = await replayed(system, await record(), today(agents, { define }))

    expect(verdict).toMatchObject({ verdict: 'diverged', entry: 'coordinator_k1_0' })
  })

  it('names a changed tool schema', async () => {
    start()
    const tool = { ...echoTool, description: 'Says it once more.' }
    const define = (spec: AgentSpec) => definitionOf(spec, [tool])

    const verdict = await replayed(system, await record(), today(agents, { define }))

    expect(verdict).toMatchObject({
      verdict: 'diverged',
      n: 0,
      path: 'commands[0].input.request.tools[0].function.description',
      recorded: 'Says it again.',
      got: 'Says it once more.',
      cause: 'tool schema',
      why: 'the tools of agent "coordinator" changed: "echo" differs',
    })
  })

  it('names a tool that is gone, at the call that it is missing for', async () => {
    start()
    const define = (spec: AgentSpec) => ({ ...definitionOf(spec), tools: [] })

    const verdict = await replayed(system, await record(), today(agents, { define }))

    expect(verdict).toMatchObject({ verdict: 'diverged', cause: 'tool schema', why: expect.stringContaining('"echo" is gone') })
  })

  it('names a changed setting', async () => {
    start()
    const define = (spec: AgentSpec) => definitionOf({ ...spec, steps: 2 })

    const verdict = await replayed(system, await record(), today(agents, { define }))

    expect(verdict).toMatchObject({
      verdict: 'diverged',
      entry: 'coordinator_k1_3',
      path: 'outcome',
      recorded: '(nothing)',
      got: expect.stringContaining('step_limit'),
      cause: 'settings',
      why: 'the settings of agent "coordinator" changed: "steps" is 2 and was 10',
    })
  })

  it('names changed code', async () => {
    start()
    const original = agentMachine('variant')
    const toInput = (begun: StartInput, at: number) => original.toInput({ ...begun, input: `${begun.input}!` }, at)

    const verdict = await replayed(system, await record(), today(agents, { machine: { ...original, toInput } }))

    expect(verdict).toMatchObject({
      verdict: 'diverged',
      n: 0,
      path: 'commands[0].input.request.messages[1].content',
      recorded: 'k1',
      got: 'k1!',
      cause: 'machine',
      why: expect.stringContaining(original.id),
    })
  })

  it('names code that only the state betrays', async () => {
    start()
    const original = agentMachine()
    const toInput = (begun: StartInput, at: number) =>
      original.toInput({ ...begun, limits: { ...begun.limits, tokens: 1e6 } }, at)

    const verdict = await replayed(system, await record(), today(agents, { machine: { ...original, toInput } }))

    expect(verdict).toMatchObject({
      verdict: 'diverged',
      n: 0,
      path: 'state',
      cause: 'machine',
      why: expect.stringContaining('not a pure function'),
    })
  })

  it('finds out which of several changes did it', async () => {
    start()
    const both = { description: 'Says it once more.' }
    const define = (spec: AgentSpec) => definitionOf({ ...spec, steps: 12 }, [{ ...echoTool, ...both }])

    const verdict = await replayed(system, await record(), today(agents, { machine: agentMachine('variant'), define }))

    expect(verdict).toMatchObject({ verdict: 'diverged', cause: 'tool schema' })
  })
})

describe('a replay of what is not all there', () => {
  const messages = (verdict: Verdict) => (verdict.verdict === 'inconclusive' ? verdict.missing.map(({ message }) => message) : [])

  it('is inconclusive without a body, and names it', async () => {
    start()
    const trace = await record('x'.repeat(70 * 1024))
    const blob = subjectOf(system, 'blob', 'coordinator_k1')
    system.broker.records.delete(blob)

    const verdict = await replayed(system, trace, today(agents))

    expect(verdict).toMatchObject({ verdict: 'inconclusive', missing: [{ kind: 'body', entry: 'coordinator_k1_0' }] })
    expect(messages(verdict)[0]).toContain(blob.split('.').at(-2))
    expect(exitCodeOfVerdict(verdict)).toBe(2)
    expect(verdictLine(verdict)).toMatch(/^inconclusive: body "[0-9a-f]{64}" of entry "coordinator_k1_0" is missing$/)
  })

  for (const n of [0, 2, 5]) {
    it(`is inconclusive without entry ${n}`, async () => {
      start()
      const trace = await record()
      dropEntry(system, subjectOf(system, 'journal', 'coordinator_k1'), n)

      const verdict = await replayed(system, trace, today(agents))

      expect(verdict).toMatchObject({ verdict: 'inconclusive', missing: [{ kind: 'entry', entry: `coordinator_k1_${n}` }] })
    })
  }

  it('is inconclusive when an entry was changed', async () => {
    start()
    const trace = await record()
    const subject = subjectOf(system, 'journal', 'coordinator_k1')
    const stored = system.broker.records.get(subject)!
    const changed = stored.map((entry, n) => (n === 1 ? { ...entry, text: entry.text.replace('"k1', '"k2') } : entry))
    system.broker.records.set(subject, changed)

    const verdict = await replayed(system, trace, today(agents))

    expect(changed[1]!.text).not.toBe(stored[1]!.text)
    expect(verdict).toMatchObject({ verdict: 'inconclusive', missing: [{ kind: 'seal', entry: 'coordinator_k1_1' }] })
  })

  it("is inconclusive without a child's journal, although nothing of the parent differs", async () => {
    start()
    const trace = await record()
    system.broker.records.delete(subjectOf(system, 'journal', '.worker.'))

    const verdict = await replayed(system, trace, today(agents))

    expect(verdict).toMatchObject({ verdict: 'inconclusive', missing: [{ kind: 'journal', agent: 'worker' }] })
    expect(messages(verdict)[0]).toContain('holds its answer')
  })

  it('is inconclusive while a task is still working', async () => {
    let answer: (reply: { text: string }) => void = () => {}
    const waiting = new Promise<{ text: string }>((resolve) => {
      answer = resolve
    })
    start({ model: ({ turn }) => (turn === 0 ? echo('x') : waiting) })
    system.send('coordinator', 'k1', { 'Nats-Msg-Id': 'k1' })
    const journal = system.broker.subjects.journal('coordinator', 'coordinator_k1')
    const stored = () => system.broker.records.get(journal) ?? []
    await until(() => (stored().length === 3 ? true : undefined), 'three entries')
    const trace = subjectOf(system, 'trace', 'coordinator_k1').split('.')[3]!

    const verdict = await replayed(system, trace, today(agents))

    expect(verdict).toMatchObject({ verdict: 'inconclusive', missing: [{ kind: 'outcome', task: 'coordinator_k1' }] })
    answer({ text: 'late' })
    await system.waitForResult('coordinator', 'k1')
    expect(await replayed(system, trace, today(agents))).toMatchObject({ verdict: 'identical' })
  })

  it('is inconclusive when an agent is not declared any more', async () => {
    start()
    const define = (spec: AgentSpec) => (spec.name === 'worker' ? undefined : definitionOf(spec))

    const verdict = await replayed(system, await record(), today(agents, { define }))

    expect(verdict).toMatchObject({ verdict: 'inconclusive', missing: [{ kind: 'agent', agent: 'worker' }] })
  })

  it('is diverged when that is proven, whatever else is missing', async () => {
    start()
    const trace = await record()
    system.broker.records.delete(subjectOf(system, 'journal', '.worker.'))
    const define = (spec: AgentSpec) => definitionOf({ ...spec, instructions: 'Rest.' })

    expect(await replayed(system, trace, today(agents, { define }))).toMatchObject({ verdict: 'diverged', agent: 'coordinator' })
  })

  it('is an error when the trace is not recorded', async () => {
    start()

    await expect(replayed(system, 'f'.repeat(32), today(agents))).rejects.toMatchObject({ code: 'unknown_trace' })
  })

  it('says that journals were removed for their age, and takes those that are missing too early for damage', async () => {
    start()
    const trace = await record()
    for (const subject of [...system.broker.records.keys()])
      if (subject.includes('.journal.')) system.broker.records.delete(subject)
    const inDays = (days: number) => loadTrace(memorySource(system), trace, Date.now() + days * 86_400_000)

    const [damaged] = (await inDays(6)).actors

    expect(damaged?.missing).toMatchObject([{ kind: 'journal' }])
    await expect(inDays(30)).rejects.toMatchObject({ code: 'expired', message: expect.stringContaining('it ended on 2') })
  })
})
