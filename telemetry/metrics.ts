/**
 * Every metric: the one home of their names, units, labels and buckets, and of what a finished span counts. Labels are few and bounded, never ids;
 * `docs/telemetry.md` is generated from here.
 */
import { KEYS, MESSAGING_SYSTEM, type Naming, OPERATIONS } from './names.ts'
import type { Attributes, CountedSpan } from './span.ts'

export interface MetricDefinition {
  readonly name: string
  /** As UCUM writes it. */
  readonly unit: string
  /** A counter only grows; a gauge is read when metrics are collected. */
  readonly kind: 'counter' | 'histogram' | 'gauge'
  readonly description: string
  readonly labels: readonly string[]
  /** Upper bounds of a histogram. */
  readonly buckets?: readonly number[]
  /** Exported under this choice of names only; absent: under both. */
  readonly naming?: Naming
}

/** Up to ten minutes: an agent may wait long for others. */
const MILLISECONDS = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000]
const APPEND_MILLISECONDS = [0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000]
/** As the conventions for generative AI advise. */
const SECONDS = Array.from({ length: 14 }, (_, i) => Math.round(2 ** i) / 100)
const TOKENS = Array.from({ length: 14 }, (_, i) => 4 ** i)
/** As the conventions for messaging and for MCP advise. */
const MESSAGE_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
const MCP_SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300]

const agentLabels = [KEYS.agent, KEYS.success]
const modelLabels = [
  KEYS.genAiOperation,
  KEYS.genAiProvider,
  KEYS.genAiRequestModel,
  KEYS.genAiResponseModel,
  KEYS.serverAddress,
  KEYS.serverPort,
]
const messagingLabels = [KEYS.messagingSystem, KEYS.messagingSystemName, KEYS.messagingOperation]

export const METRICS = {
  requests: {
    name: 'kaos.requests',
    unit: '1',
    kind: 'counter',
    description: 'Tasks that an agent ended.',
    labels: agentLabels,
  },
  requestDuration: {
    name: 'kaos.request.duration',
    unit: 'ms',
    kind: 'histogram',
    description: 'From the start of a task to its end, the time it waited for others included.',
    labels: agentLabels,
    buckets: MILLISECONDS,
  },
  modelCalls: {
    name: 'kaos.model.calls',
    unit: '1',
    kind: 'counter',
    description: 'Calls of a model, each with its retries.',
    labels: [...agentLabels, KEYS.model],
  },
  modelDuration: {
    name: 'kaos.model.duration',
    unit: 'ms',
    kind: 'histogram',
    description: 'How long a call of a model took, with its retries.',
    labels: [...agentLabels, KEYS.model],
    buckets: MILLISECONDS,
  },
  toolCalls: {
    name: 'kaos.tool.calls',
    unit: '1',
    kind: 'counter',
    description: 'Calls of a tool, counted by the agent that asked.',
    labels: [...agentLabels, KEYS.tool],
  },
  toolDuration: {
    name: 'kaos.tool.duration',
    unit: 'ms',
    kind: 'histogram',
    description: 'From the call of a tool to its answer, as the agent sees it.',
    labels: [...agentLabels, KEYS.tool],
    buckets: MILLISECONDS,
  },
  delegations: {
    name: 'kaos.delegations',
    unit: '1',
    kind: 'counter',
    description: 'Tasks that an agent gave to another one.',
    labels: [...agentLabels, KEYS.peer],
  },
  delegationDuration: {
    name: 'kaos.delegation.duration',
    unit: 'ms',
    kind: 'histogram',
    description: 'From the question to another agent to its answer.',
    labels: [...agentLabels, KEYS.peer],
    buckets: MILLISECONDS,
  },
  modelOperation: {
    name: 'gen_ai.client.operation.duration',
    unit: 's',
    kind: 'histogram',
    description: 'How long a call of a model took.',
    labels: [...modelLabels, KEYS.errorType],
    buckets: SECONDS,
    naming: 'kaos',
  },
  modelTokens: {
    name: 'gen_ai.client.token.usage',
    unit: '{token}',
    kind: 'histogram',
    description: 'Tokens that a call of a model used.',
    labels: [...modelLabels, KEYS.genAiTokenType],
    buckets: TOKENS,
    naming: 'kaos',
  },
  inference: {
    name: 'gen_ai.client.inference.duration',
    unit: 's',
    kind: 'histogram',
    description: 'How long a call of a model took.',
    labels: [...modelLabels, KEYS.errorType],
    buckets: SECONDS,
    naming: 'gen_ai',
  },
  inputTokens: {
    name: 'gen_ai.client.inference.usage.input_tokens',
    unit: '{token}',
    kind: 'counter',
    description: 'Tokens of prompts.',
    labels: modelLabels,
    naming: 'gen_ai',
  },
  outputTokens: {
    name: 'gen_ai.client.inference.usage.output_tokens',
    unit: '{token}',
    kind: 'counter',
    description: 'Tokens of answers.',
    labels: modelLabels,
    naming: 'gen_ai',
  },
  agentRun: {
    name: 'gen_ai.invoke_agent.duration',
    unit: 's',
    kind: 'histogram',
    description: 'From the start of a task to its end.',
    labels: [KEYS.genAiOperation, KEYS.genAiAgent, KEYS.errorType],
    buckets: SECONDS,
  },
  toolRun: {
    name: 'gen_ai.execute_tool.duration',
    unit: 's',
    kind: 'histogram',
    description: 'From the call of a tool to its answer, as the agent sees it.',
    labels: [KEYS.genAiOperation, KEYS.genAiTool, KEYS.errorType],
    buckets: SECONDS,
  },
  toolExecution: {
    name: 'mcp.server.operation.duration',
    unit: 's',
    kind: 'histogram',
    description: 'How long the tool itself ran, as its server sees it.',
    labels: [KEYS.mcpMethod, KEYS.genAiTool, KEYS.errorType],
    buckets: MCP_SECONDS,
  },
  sent: {
    name: 'messaging.client.sent.messages',
    unit: '{message}',
    kind: 'counter',
    description: 'Messages that were sent and stored: calls, delegations, cancels, answers, results and records of the index.',
    labels: messagingLabels,
  },
  consumed: {
    name: 'messaging.client.consumed.messages',
    unit: '{message}',
    kind: 'counter',
    description: 'Messages that came in, each time that they did.',
    labels: messagingLabels,
  },
  processed: {
    name: 'messaging.process.duration',
    unit: 's',
    kind: 'histogram',
    description: 'From a message coming in until it was acked or given back.',
    labels: messagingLabels,
    buckets: MESSAGE_SECONDS,
  },
  redeliveries: {
    name: 'kaos.mail.redeliveries',
    unit: '{message}',
    kind: 'counter',
    description: 'Messages that came in again, after a crash or because they were given back.',
    labels: [],
  },
  takeovers: {
    name: 'kaos.takeovers',
    unit: '1',
    kind: 'counter',
    description: 'Tasks that this process took over from one that had fallen silent.',
    labels: [],
  },
  append: {
    name: 'kaos.journal.append.duration',
    unit: 'ms',
    kind: 'histogram',
    description: 'How long the broker took to store an entry.',
    labels: [],
    buckets: APPEND_MILLISECONDS,
  },
  active: {
    name: 'kaos.tasks.active',
    unit: '{task}',
    kind: 'gauge',
    description: 'Tasks in hand in this process.',
    labels: [],
  },
  parked: {
    name: 'kaos.tasks.parked',
    unit: '{task}',
    kind: 'gauge',
    description: 'Tasks that this process worked on last, and that wait for mail alone.',
    labels: [],
  },
  backlog: {
    name: 'kaos.mail.backlog',
    unit: '{message}',
    kind: 'gauge',
    description: 'Messages that wait, as the broker last said; every process of an agent says the same.',
    labels: [],
  },
  dropped: {
    name: 'kaos.telemetry.dropped',
    unit: '{item}',
    kind: 'counter',
    description: 'Spans, log records and metric points that were lost.',
    labels: [KEYS.lossSignal, KEYS.lossReason],
  },
} as const satisfies { readonly [metric: string]: MetricDefinition }

export type Metric = keyof typeof METRICS

/** By the names of labels; what is undefined is left out. */
export type Labels = { readonly [label: string]: string | number | undefined }

/** Adds to a counter or records in a histogram. */
export type Count = (metric: Metric, value: number, labels: Labels) => void

/** Labels of what is counted about messages. */
export function messagingLabelsOf(operation: 'send' | 'receive' | 'process'): Labels {
  return {
    [KEYS.messagingSystem]: MESSAGING_SYSTEM,
    [KEYS.messagingSystemName]: MESSAGING_SYSTEM,
    [KEYS.messagingOperation]: operation,
  }
}

/**
 * Counts what a span stands for. A task counts when it ends, whatever spans it was cut into; a tool call counts where it was asked for, and
 * where it ran under a name of its own.
 */
export function countSpan(span: CountedSpan, naming: Naming, count: Count): void {
  const { attributes, failure } = span
  const ms = Math.max(0, span.endMs - span.startMs)
  const own = { [KEYS.agent]: label(attributes, KEYS.agent), [KEYS.success]: failure ? 'false' : 'true' }
  const errorType = { [KEYS.errorType]: failure?.code }
  switch (attributes[KEYS.op]) {
    case OPERATIONS.agent:
    case OPERATIONS.activation: {
      if (attributes[KEYS.taskState] === undefined) return
      const taskMs = amount(attributes, KEYS.taskMs) ?? ms
      count('requests', 1, own)
      count('requestDuration', taskMs, own)
      count('agentRun', taskMs / 1_000, { ...pick(attributes, [KEYS.genAiOperation, KEYS.genAiAgent]), ...errorType })
      return
    }
    case OPERATIONS.model: {
      const labels = { ...own, [KEYS.model]: label(attributes, KEYS.genAiRequestModel) }
      count('modelCalls', 1, labels)
      count('modelDuration', ms, labels)
      countModel(span, ms / 1_000, naming, count)
      return
    }
    case OPERATIONS.tool: {
      const labels = { ...own, [KEYS.tool]: label(attributes, KEYS.genAiTool) }
      count('toolCalls', 1, labels)
      count('toolDuration', ms, labels)
      count('toolRun', ms / 1_000, { ...pick(attributes, [KEYS.genAiOperation, KEYS.genAiTool]), ...errorType })
      return
    }
    case OPERATIONS.delegate: {
      const labels = { ...own, [KEYS.peer]: label(attributes, KEYS.target) }
      count('delegations', 1, labels)
      count('delegationDuration', ms, labels)
      return
    }
    case OPERATIONS.execute:
      count('toolExecution', ms / 1_000, { ...pick(attributes, [KEYS.mcpMethod, KEYS.genAiTool]), ...errorType })
  }
}

function countModel({ attributes, failure }: CountedSpan, seconds: number, naming: Naming, count: Count): void {
  const labels = pick(attributes, modelLabels)
  const input = amount(attributes, KEYS.genAiInputTokens)
  const output = amount(attributes, KEYS.genAiOutputTokens)
  if (naming === 'gen_ai') {
    count('inference', seconds, { ...labels, [KEYS.errorType]: failure?.code })
    if (input !== undefined) count('inputTokens', input, labels)
    if (output !== undefined) count('outputTokens', output, labels)
  } else {
    count('modelOperation', seconds, { ...labels, [KEYS.errorType]: failure?.code })
    if (input !== undefined) count('modelTokens', input, { ...labels, [KEYS.genAiTokenType]: 'input' })
    if (output !== undefined) count('modelTokens', output, { ...labels, [KEYS.genAiTokenType]: 'output' })
  }
}

function pick(attributes: Attributes, keys: readonly string[]): Labels {
  const labels: { [key: string]: string | number | undefined } = {}
  for (const key of keys) labels[key] = label(attributes, key)
  return labels
}

function label(attributes: Attributes, key: string): string | number | undefined {
  const value = attributes[key]
  return typeof value === 'string' || typeof value === 'number' ? value : undefined
}

function amount(attributes: Attributes, key: string): number | undefined {
  const value = attributes[key]
  return typeof value === 'number' ? value : undefined
}
