/** The kind Agent: who does the work, with which model, tools and peers. The one definition of its fields, defaults and bounds. */
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { containerSchema, gatewayRouteSchema, podSpecSchema } from './container.ts'
import { type Declared, type DeepReadonly, nameCharsMax, resourceSchema } from './metadata.ts'
import { withRules } from './rules.ts'
import { agentTelemetrySchema } from './telemetry.ts'

const memoryScope = z.enum(['agent', 'user', 'group', 'session'])

const memorySchema = withRules(
  z.strictObject({
    enabled: z.boolean().default(true).describe('Whether a conversation is remembered. Default true.'),
    type: z
      .enum(['local', 'redis', 'remote'])
      .optional()
      .describe('Where it is kept. Unset: remote when memoryStore is set, else local.'),
    contextLimit: z
      .int()
      .min(1)
      .max(100)
      .default(6)
      .describe('How many messages of the conversation the model is shown, and a peer is given with a delegation. Default 6.'),
    maxSessions: z
      .int()
      .min(1)
      .max(100_000)
      .default(1000)
      .describe('How many sessions are kept; the oldest go first. Default 1000.'),
    maxSessionEvents: z
      .int()
      .min(1)
      .max(10_000)
      .default(500)
      .describe('How many events of one session are kept; the oldest go first. Default 500.'),
    memoryStore: z.string().min(1).optional().describe('Name of the MemoryStore that keeps what outlives a conversation.'),
    scope: memoryScope.default('agent').describe('Whose memory is written. Default "agent".'),
    defaultReadScope: memoryScope.optional().describe('Whose memory is recalled with every task. Unset: the same as scope.'),
    readScopes: z.array(memoryScope).optional().describe('Whose memory the search tool may read. Unset: only defaultReadScope.'),
    clientParams: z
      .strictObject({
        tokenBudget: z.int().min(0).optional().describe('How much of the conversation is given word for word, in tokens.'),
        rollingSummary: z.boolean().optional().describe('Whether what no longer fits is summed up. Unset: true.'),
      })
      .optional()
      .describe('How the memory is used by this agent.'),
    tools: z
      .enum(['all', 'read', 'write'])
      .optional()
      .describe('Memory tools offered to the model: search (read), save (write) or both (all). Unset: none.'),
    failureMode: z
      .enum(['soft', 'strict'])
      .optional()
      .describe('Whether a failed write is noted (soft) or fails the task (strict). Unset: as the MemoryStore says.'),
  }),
  [
    {
      fields: ['type', 'memoryStore'],
      check: (it) => (it.type === 'remote' && !it.memoryStore ? '"remote" only with memoryStore' : undefined),
    },
    {
      fields: ['memoryStore', 'type'],
      check: (it) => (it.type === 'local' && it.memoryStore ? 'no memoryStore with type "local"' : undefined),
    },
    {
      fields: ['scope', 'memoryStore'],
      check: (it) =>
        /^(user|group)$/.test(it.scope) && !it.memoryStore ? '"user" and "group" only with memoryStore' : undefined,
    },
    {
      fields: ['tools', 'memoryStore'],
      check: (it) => (it.tools && !it.memoryStore ? 'memory tools only with memoryStore' : undefined),
    },
    {
      fields: ['defaultReadScope', 'memoryStore'],
      check: (it) =>
        it.defaultReadScope && it.defaultReadScope !== 'session' && !it.memoryStore
          ? 'only "session" without memoryStore'
          : undefined,
    },
    {
      fields: ['readScopes', 'memoryStore'],
      check: (it) =>
        it.readScopes?.some((scope) => scope !== 'session') && !it.memoryStore ? 'only "session" without memoryStore' : undefined,
    },
    {
      fields: ['defaultReadScope', 'readScopes'],
      check: (it) =>
        it.defaultReadScope && it.readScopes && !it.readScopes.includes(it.defaultReadScope)
          ? `one of readScopes: ${it.readScopes.join(', ')}`
          : undefined,
    },
    {
      fields: ['readScopes', 'tools'],
      check: (it) =>
        (it.readScopes?.length ?? 0) > 1 && it.tools !== 'read' && it.tools !== 'all'
          ? 'one scope, unless tools is "read" or "all"'
          : undefined,
    },
  ],
)

const autonomousSchema = z.strictObject({
  goal: z.string().optional().describe('What the agent works towards on its own. Setting it switches the mode on.'),
  intervalSeconds: z.int().min(0).max(3600).default(0).describe('Pause between two iterations, in seconds. Default 0.'),
  maxIterRuntimeSeconds: z
    .int()
    .min(0)
    .max(86_400)
    .default(60)
    .describe('Longest time for one iteration, in seconds; 0 is unlimited. Default 60.'),
})

const taskConfigSchema = z.strictObject({
  maxIterations: z.int().min(0).max(1000).default(10).describe('Most iterations of one task; 0 is unlimited. Default 10.'),
  maxRuntimeSeconds: z
    .int()
    .min(0)
    .max(86_400)
    .default(300)
    .describe('Longest time for one task, in seconds; 0 is unlimited. Default 300.'),
  maxToolCalls: z.int().min(0).max(10_000).default(50).describe('Most tool calls of one task; 0 is unlimited. Default 50.'),
})

const modelSettingsSchema = z.strictObject({
  temperature: z.number().min(0).max(2).optional().describe('Sampling temperature. Unset: not sent, the model decides.'),
  seed: z.int().optional().describe('Seed for sampling. Unset: not sent.'),
  maxTokens: z.int().min(1).optional().describe('Most tokens of one reply. Unset: not sent, the model decides.'),
  timeoutSeconds: z
    .int()
    .min(1)
    .max(3600)
    .optional()
    .describe('Longest time for one reply of the model, in seconds. Unset: 60, and 120 with toolCallMode string.'),
})

const configSchema = z.strictObject({
  description: z.string().optional().describe('What the agent is good for, in a sentence; peers choose by it.'),
  instructions: z.string().optional().describe('What the model is told with every task; not kept in the conversation.'),
  systemPrompt: z.string().optional().describe('A system prompt that is kept in the conversation.'),
  reasoningLoopMaxSteps: z.int().min(1).max(20).default(5).describe('Most model calls of one task. Default 5.'),
  toolCallMode: z
    .enum(['auto', 'native', 'string'])
    .default('auto')
    .describe(
      'How the model calls tools: native function calls, JSON in its text (string), or native until refused (auto). Default "auto".',
    ),
  modelSettings: modelSettingsSchema.prefault({}).describe('How the model is asked.'),
  taskConfig: taskConfigSchema.prefault({}).describe('Limits of one task.'),
  memory: memorySchema.prefault({}).describe('What is remembered.'),
  autonomous: autonomousSchema.optional().describe('Work without being asked.'),
  telemetry: agentTelemetrySchema.optional().describe('The same as spec.telemetry, where earlier versions have it.'),
})

export const agentSpecSchema = withRules(
  z.strictObject({
    modelAPI: z
      .string()
      .min(1)
      .optional()
      .describe('Name of the ModelAPI that answers for the model. Unset: only with machineRef or external.'),
    model: z.string().min(1).optional().describe('Name of the model; the ModelAPI has to offer it. Unset: as modelAPI.'),
    machineRef: z
      .strictObject({
        path: z
          .string()
          .min(1)
          .describe('A file whose default export is an XState machine that is the agent; relative to the manifest.'),
      })
      .optional()
      .describe('The machine that is the agent. Unset: the one that asks the model and calls its tools.'),
    external: z
      .boolean()
      .optional()
      .describe('Whether its mail is answered by a program of yours; nobody here runs it. Unset: it runs here.'),
    mcpServers: z
      .array(z.string().min(1))
      .default([])
      .describe('Names of the MCPServers whose tools the agent may use. Default [].'),
    agentNetwork: z
      .strictObject({
        expose: z.boolean().default(true).describe('Whether the agent gets a Service. Default true.'),
        access: z.array(z.string().min(1)).default([]).describe('Names of the agents that this one may delegate to. Default [].'),
      })
      .prefault({})
      .describe('Who can be reached.'),
    config: configSchema.prefault({}).describe('How the agent behaves.'),
    telemetry: agentTelemetrySchema.optional().describe('What is exported about its work.'),
    waitForDependencies: z
      .boolean()
      .default(true)
      .describe('Whether its pod waits until the ModelAPI and the MCPServers are ready. Default true.'),
    gatewayRoute: gatewayRouteSchema.optional().describe('Its HTTP route.'),
    container: containerSchema.optional().describe('Changes to its container.'),
    podSpec: podSpecSchema.optional().describe('Changes to its pod: a PodSpec that is merged over the generated one.'),
  }),
  [
    {
      fields: ['external', 'machineRef'],
      check: (it) => (it.external && it.machineRef ? 'no external with machineRef: a machine runs here' : undefined),
    },
    {
      fields: ['model', 'modelAPI'],
      check: (it) => (it.modelAPI && !it.model ? 'text that is not empty: the name of a model of modelAPI' : undefined),
    },
    {
      fields: ['modelAPI', 'model', 'machineRef', 'external'],
      check: (it) => {
        if (it.modelAPI) return undefined
        if (it.model) return 'the name of a ModelAPI that offers the model'
        return it.machineRef || it.external ? undefined : 'modelAPI and model, unless machineRef or external is set'
      },
    },
    {
      fields: ['telemetry', 'config.telemetry'],
      check: ({ telemetry, config }) =>
        telemetry && config.telemetry && !isDeepStrictEqual(telemetry, config.telemetry)
          ? 'one of spec.telemetry and spec.config.telemetry, or the same in both; they differ'
          : undefined,
    },
  ],
)

export const agentSchema = resourceSchema('Agent', nameCharsMax, agentSpecSchema)

export type AgentSpec = DeepReadonly<z.output<typeof agentSpecSchema>>
export type Agent = Declared<z.output<typeof agentSchema>>
