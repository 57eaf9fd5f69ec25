import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { loadScript, parseScript } from '../../../actors/testing/model-script.ts'
import { offlineAnswer } from '../../../actors/testing/offline-model.ts'
import { KaosError } from '../../../bus/wire/errors.ts'

it('loads YAML and JSON', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kaos-script-'))
  try {
    await writeFile(join(folder, 'a.yaml'), 'rules:\n  - when: { turn: 0 }\n    reply: { text: hi }\n')
    await writeFile(join(folder, 'a.json'), '{"rules":[{"when":{"turn":0},"reply":{"text":"hi"}}]}')

    expect(await loadScript(join(folder, 'a.yaml'))).toEqual(await loadScript(join(folder, 'a.json')))
  } finally {
    await rm(folder, { recursive: true })
  }
})

it('names file, line, field and value of every mistake at once', () => {
  const text = [
    'rules:',
    '  - when: { turn: soon }',
    '    reply:',
    '      delayMs: -1',
    '      text: 7',
    '  - when:',
    '      text: /(/',
    '    reply: { fault: { kind: sulk } }',
    '    retries: 2',
  ].join('\n')

  const error = caught(() => parseScript(text, 'a.yaml'))

  expect(error.code).toBe('bad_script')
  expect(error.message).toContain('a.yaml:2: rules.0.when.turn: got "soon"')
  expect(error.message).toContain('a.yaml:4: rules.0.reply.delayMs: got -1')
  expect(error.message).toContain('a.yaml:5: rules.0.reply.text: got 7')
  expect(error.message).toContain('a.yaml:7: rules.1.when.text: got "/(/"')
  expect(error.message).toContain('a.yaml:8: rules.1.reply.fault.kind: got "sulk"')
  expect(error.message).toMatch(/a\.yaml:6: rules\.1: .*"retries"/)
})

it('names the line of broken YAML, and a file that cannot be read', async () => {
  expect(caught(() => parseScript('rules:\n  - reply: {\n', 'b.yaml')).message).toContain('b.yaml:')
  expect(caught(() => parseScript('', 'c.yaml')).message).toContain('c.yaml:1: the document: got null')

  await expect(loadScript('/nowhere/d.yaml')).rejects.toThrow('could not read the model script "/nowhere/d.yaml"')
})

it('of the sample is followed to an answer that reads like work and says who wrote it', async () => {
  const script = await loadScript(new URL('../../../manifests/samples/research-team.script.yaml', import.meta.url).pathname)
  const used = new Map<number, number>()
  const tools: Record<string, (input: Record<string, string>) => string> = {
    echo: ({ text }) => text!,
    calculate: ({ expression }) =>
      JSON.stringify({ result: expression!.split('*').reduce((product, factor) => product * Number(factor), 1) }),
    delegate_to_researcher: ({ task }) => run('researcher', task!).text,
    delegate_to_analyst: ({ task }) => run('analyst', task!).text,
  }

  const { text, tookMs } = run(
    'coordinator',
    'Compare NATS JetStream and Kafka for a fleet of AI agents: latency, operations, cost per month for 3 nodes at 140 USD',
  )

  expect(text).toContain('420 USD per month')
  expect(text).toContain('5040 USD per year')
  expect(text).toContain('one binary with its own Raft')
  expect(text).toContain('offline model')
  expect(text).not.toMatch(/\{\{|no result/)
  expect([...used.keys()].sort()).toEqual(script.rules.map((_, index) => index))
  expect(tookMs).toBeLessThan(6_000)

  /** What the agent's machine does, with the delays added up instead of waited: calls of one reply run side by side, here in a row. */
  function run(agent: string, task: string): { text: string; tookMs: number } {
    const messages: object[] = [
      { role: 'system', content: `You are ${agent}. Works.` },
      { role: 'user', content: task },
    ]
    let tookMs = 0
    for (let step = 0; step < 5; step++) {
      const reply = offlineAnswer({ messages }, script, used)
      expect(reply.rule).toBeDefined()
      used.set(reply.rule!, (used.get(reply.rule!) ?? 0) + 1)
      tookMs += (reply.delayMs ?? 0) + (reply.chunkMs ?? 0) * (reply.text.split(' ').length / 6)
      if (reply.toolCalls.length === 0) return { text: reply.text, tookMs }
      messages.push({
        role: 'assistant',
        content: null,
        tool_calls: reply.toolCalls.map(({ id, ...call }) => ({ id, type: 'function', function: call })),
      })
      for (const call of reply.toolCalls) {
        messages.push({ role: 'tool', tool_call_id: call.id, content: tools[call.name]!(JSON.parse(call.arguments)) })
      }
    }
    return expect.unreachable(`${agent} took more than five steps`)
  }
})

function caught(act: () => unknown): KaosError {
  try {
    act()
  } catch (error) {
    expect(error).toBeInstanceOf(KaosError)
    return error as KaosError
  }
  return expect.unreachable('nothing was thrown')
}
