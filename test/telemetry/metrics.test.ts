import { describe, expect, it } from 'vitest'
import { countSpan, type Labels, METRICS, type Metric, type MetricDefinition } from '../../telemetry/metrics.ts'
import { KEYS, type Naming, OPERATIONS } from '../../telemetry/names.ts'
import type { FinishedSpan } from '../../telemetry/span.ts'

interface Counted {
  readonly metric: string
  readonly value: number
  readonly labels: Labels
}

function spanOf(attributes: FinishedSpan['attributes'], more: Partial<FinishedSpan> = {}): FinishedSpan {
  const place = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), flags: 1, startMs: 1_000, endMs: 1_250 }
  return { name: 'any', kind: 'client', ...place, attributes: { [KEYS.agent]: 'planner', ...attributes }, ...more }
}

function counted(span: FinishedSpan, naming: Naming = 'kaos'): readonly Counted[] {
  const all: Counted[] = []
  countSpan(span, naming, (metric: Metric, value, labels) => {
    const { name, labels: known }: MetricDefinition = METRICS[metric]
    const given = Object.entries(labels).filter(([, label]) => label !== undefined)
    expect(given.filter(([label]) => !known.includes(label))).toEqual([])
    all.push({ metric: name, value, labels: Object.fromEntries(given) })
  })
  return all
}

describe('the table of metrics', () => {
  it('has histograms with rising buckets, and names that come once', () => {
    const all: readonly MetricDefinition[] = Object.values(METRICS)
    const names = all.map(({ name }) => name)
    const unsorted = all.filter(({ buckets = [] }) => buckets.some((bound, i) => i > 0 && bound <= buckets[i - 1]!))

    expect(unsorted).toEqual([])
    expect(all.filter(({ kind, buckets }) => (kind === 'histogram') !== (buckets !== undefined))).toEqual([])
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([])
  })

  it('has no label that holds an id', () => {
    const all: readonly MetricDefinition[] = Object.values(METRICS)
    const ids: readonly string[] = [KEYS.task, KEYS.rootTask, KEYS.effect, KEYS.delegation, KEYS.host, KEYS.messagingMessage]

    expect(all.flatMap(({ labels }) => labels).filter((label) => ids.includes(label))).toEqual([])
  })

  it('has the bounds that the conventions for generative AI advise', () => {
    expect(METRICS.modelOperation.buckets.at(0)).toBe(0.01)
    expect(METRICS.modelOperation.buckets.at(-1)).toBe(81.92)
    expect(METRICS.modelTokens.buckets.at(-1)).toBe(67_108_864)
  })
})

describe('what a span counts', () => {
  it.each([OPERATIONS.agent, OPERATIONS.activation])('is a request for %s when the task ended, as long as the task', (op) => {
    const span = spanOf({ [KEYS.op]: op, [KEYS.taskState]: 'completed', [KEYS.taskMs]: 9_000, [KEYS.genAiAgent]: 'planner' })

    expect(counted(span)).toEqual([
      { metric: 'kaos.requests', value: 1, labels: { 'agent.name': 'planner', success: 'true' } },
      { metric: 'kaos.request.duration', value: 9_000, labels: { 'agent.name': 'planner', success: 'true' } },
      { metric: 'gen_ai.invoke_agent.duration', value: 9, labels: { 'gen_ai.agent.name': 'planner' } },
    ])
  })

  it('is nothing while the task goes on', () => {
    expect(counted(spanOf({ [KEYS.op]: OPERATIONS.agent }))).toEqual([])
  })

  it('is a model call with its tokens', () => {
    const span = spanOf({
      [KEYS.op]: OPERATIONS.model,
      [KEYS.genAiOperation]: 'chat',
      [KEYS.genAiRequestModel]: 'gpt',
      [KEYS.genAiInputTokens]: 500,
      [KEYS.genAiOutputTokens]: 20,
    })
    const labels = { 'agent.name': 'planner', success: 'true', model: 'gpt' }
    const model = { 'gen_ai.operation.name': 'chat', 'gen_ai.request.model': 'gpt' }

    expect(counted(span)).toEqual([
      { metric: 'kaos.model.calls', value: 1, labels },
      { metric: 'kaos.model.duration', value: 250, labels },
      { metric: 'gen_ai.client.operation.duration', value: 0.25, labels: model },
      { metric: 'gen_ai.client.token.usage', value: 500, labels: { ...model, 'gen_ai.token.type': 'input' } },
      { metric: 'gen_ai.client.token.usage', value: 20, labels: { ...model, 'gen_ai.token.type': 'output' } },
    ])
  })

  it('has the newer names where they are asked for', () => {
    const span = spanOf({ [KEYS.op]: OPERATIONS.model, [KEYS.genAiInputTokens]: 1, [KEYS.genAiOutputTokens]: 2 })

    expect(counted(span, 'gen_ai').map(({ metric }) => metric)).toEqual([
      'kaos.model.calls',
      'kaos.model.duration',
      'gen_ai.client.inference.duration',
      'gen_ai.client.inference.usage.input_tokens',
      'gen_ai.client.inference.usage.output_tokens',
    ])
  })

  it('is one tool call for the agent, and none of those for the server', () => {
    const atAgent = spanOf({ [KEYS.op]: OPERATIONS.tool, [KEYS.genAiTool]: 'weather' })
    const atServer = spanOf({ [KEYS.op]: OPERATIONS.execute, [KEYS.genAiTool]: 'weather', [KEYS.mcpMethod]: 'tools/call' })

    expect(counted(atAgent).map(({ metric }) => metric)).toEqual([
      'kaos.tool.calls',
      'kaos.tool.duration',
      'gen_ai.execute_tool.duration',
    ])
    expect(counted(atServer)).toEqual([
      {
        metric: 'mcp.server.operation.duration',
        value: 0.25,
        labels: { 'mcp.method.name': 'tools/call', 'gen_ai.tool.name': 'weather' },
      },
    ])
  })

  it('is a delegation, with its failure', () => {
    const failure = { code: 'model_failed', message: 'gone' }
    const labels = { 'agent.name': 'planner', success: 'false', target: 'writer' }

    expect(counted(spanOf({ [KEYS.op]: OPERATIONS.delegate, [KEYS.target]: 'writer' }, { failure }))).toEqual([
      { metric: 'kaos.delegations', value: 1, labels },
      { metric: 'kaos.delegation.duration', value: 250, labels },
    ])
  })

  it('says why it failed where the conventions want it', () => {
    const failure = { code: 'tool_error', message: 'no' }
    const span = spanOf({ [KEYS.op]: OPERATIONS.tool, [KEYS.genAiTool]: 'weather' }, { failure })

    expect(counted(span).at(-1)?.labels).toEqual({ 'gen_ai.tool.name': 'weather', 'error.type': 'tool_error' })
  })

  it('lasts no less than nothing, whatever the clocks of two hosts say', () => {
    const span = spanOf({ [KEYS.op]: OPERATIONS.delegate }, { endMs: 900 })

    expect(counted(span).at(-1)?.value).toBe(0)
  })
})
