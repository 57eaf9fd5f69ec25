/**
 * Every name and key that is exported: the one home of them. Span names are KAOS's; keys follow the OpenTelemetry conventions for generative AI
 * and for messaging as they stood on 2026-11-22 (semantic-conventions-genai is still "development"; the histogram names are those of v1.41, which
 * backends know). NATS is in no registry: its values are ours, after the Java agent and NATS .NET. `docs/telemetry.md` is generated from this file.
 */

/** What a span stands for, as `kaos.op` says. The name of a span is this, or begins with it. */
export const OPERATIONS = {
  agent: 'agent.process_message',
  activation: 'agent.activate',
  model: 'model.inference',
  tool: 'tool',
  peer: 'target',
  lossSignal: 'signal',
  lossReason: 'reason',
  execute: 'tool.execute',
  delegate: 'delegate',
  local: 'local',
  user: 'user',
  send: 'task.send',
} as const
export type Operation = (typeof OPERATIONS)[keyof typeof OPERATIONS]

/** Attribute keys. */
export const KEYS = {
  op: 'kaos.op',
  task: 'kaos.task.id',
  rootTask: 'kaos.task.root',
  taskState: 'kaos.task.state',
  /** From the start of the task to its end, also where no span lasts that long. */
  taskMs: 'kaos.task.duration_ms',
  effect: 'kaos.effect.id',
  delegation: 'kaos.delegation.id',
  journalRef: 'kaos.journal.ref',
  attempts: 'kaos.attempts',
  namespace: 'kaos.namespace',
  host: 'kaos.host.id',
  hostBefore: 'kaos.host.before',
  signal: 'kaos.signal.name',
  server: 'mcp.server',
  agent: 'agent.name',
  target: 'agent.delegation.target',
  model: 'model',
  toolName: 'tool.name',
  tool: 'tool',
  peer: 'target',
  lossSignal: 'signal',
  lossReason: 'reason',
  success: 'success',
  errorType: 'error.type',

  genAiOperation: 'gen_ai.operation.name',
  genAiAgent: 'gen_ai.agent.name',
  genAiConversation: 'gen_ai.conversation.id',
  genAiProvider: 'gen_ai.provider.name',
  genAiRequestModel: 'gen_ai.request.model',
  genAiTemperature: 'gen_ai.request.temperature',
  genAiMaxTokens: 'gen_ai.request.max_tokens',
  genAiSeed: 'gen_ai.request.seed',
  genAiResponseModel: 'gen_ai.response.model',
  genAiResponseId: 'gen_ai.response.id',
  genAiFinishReasons: 'gen_ai.response.finish_reasons',
  genAiFirstChunk: 'gen_ai.response.time_to_first_chunk',
  genAiInputTokens: 'gen_ai.usage.input_tokens',
  genAiOutputTokens: 'gen_ai.usage.output_tokens',
  genAiTokenType: 'gen_ai.token.type',
  genAiTool: 'gen_ai.tool.name',
  genAiToolType: 'gen_ai.tool.type',
  genAiToolCall: 'gen_ai.tool.call.id',
  genAiCallerType: 'gen_ai.caller.type',
  genAiCaller: 'gen_ai.caller.name',
  genAiInput: 'gen_ai.input.messages',
  genAiOutput: 'gen_ai.output.messages',
  genAiArguments: 'gen_ai.tool.call.arguments',
  genAiResult: 'gen_ai.tool.call.result',

  mcpMethod: 'mcp.method.name',

  /** Renamed in semantic conventions 1.45: both are sent. */
  messagingSystem: 'messaging.system',
  messagingSystemName: 'messaging.system.name',
  messagingOperation: 'messaging.operation.name',
  messagingOperationType: 'messaging.operation.type',
  messagingDestination: 'messaging.destination.name',
  messagingTemplate: 'messaging.destination.template',
  messagingMessage: 'messaging.message.id',
  messagingConversation: 'messaging.message.conversation_id',
  messagingConsumer: 'messaging.consumer.group.name',

  serverAddress: 'server.address',
  serverPort: 'server.port',
  transport: 'network.transport',
  /** Of links: read by Jaeger. */
  referenceKind: 'opentracing.ref_type',
  exceptionType: 'exception.type',
  exceptionMessage: 'exception.message',
  exceptionStack: 'exception.stacktrace',
} as const

/** Names of events on spans. */
export const EVENTS = {
  exception: 'exception',
  /** Another host went on where the one before fell silent. */
  takeover: 'kaos.takeover',
  /** A delegation of this agent came back as a failure. */
  delegationFailed: 'kaos.delegation.failed',
  signal: 'kaos.signal',
} as const

export const MESSAGING_SYSTEM = 'nats'

/** Values of `gen_ai.operation.name`. */
export const GEN_AI_OPERATIONS = { agent: 'invoke_agent', model: 'chat', tool: 'execute_tool' } as const

/** How spans are named: KAOS's way, or as the conventions for generative AI have it (OTEL_SEMCONV_STABILITY_OPT_IN). */
export type Naming = 'kaos' | 'gen_ai'

/** The name of a span. `of` is the agent, model, tool or function that it is about; for a span of the user's, its name. */
export function spanName(operation: Operation, of: string, naming: Naming): string {
  switch (operation) {
    case OPERATIONS.agent:
      return naming === 'kaos' ? operation : `${GEN_AI_OPERATIONS.agent} ${of}`
    case OPERATIONS.model:
      return naming === 'kaos' ? operation : `${GEN_AI_OPERATIONS.model} ${of}`
    case OPERATIONS.tool:
      return naming === 'kaos' ? `tool.${of}` : `${GEN_AI_OPERATIONS.tool} ${of}`
    case OPERATIONS.execute:
      return naming === 'kaos' ? operation : `tools/call ${of}`
    case OPERATIONS.delegate:
      return naming === 'kaos' ? `delegate.${of}` : `${GEN_AI_OPERATIONS.agent} ${of}`
    case OPERATIONS.local:
      return `local.${of}`
    case OPERATIONS.send:
      return `send ${of}`
    case OPERATIONS.user:
      return of
    default:
      return operation
  }
}
