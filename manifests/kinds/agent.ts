/** The kind Agent: who does the work, with which model, tools and peers. The one definition of its fields, defaults and bounds. */
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { modelNameCharsMax, name, pathCharsMax, referencesMax, setOf, text } from '../bounds.ts'
import { type Declared, type DeepReadonly, modelApiNameCharsMax, nameCharsMax, resourceSchema } from '../metadata.ts'
import { equalInCel, withRules } from '../rules.ts'
import { containerSchema, gatewayRouteSchema, podSpecSchema } from './container.ts'
import { replicasMax, scalingSchema } from './scaling.ts'
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
    memoryStore: name().optional().describe('Name of the MemoryStore that keeps what outlives a conversation.'),
    scope: memoryScope.default('agent').describe('Whose memory is written. Default "agent".'),
    defaultReadScope: memoryScope.optional().describe('Whose memory is recalled with every task. Unset: the same as scope.'),
    readScopes: setOf(memoryScope, memoryScope.options.length)
      .optional()
      .describe('Whose memory the search tool may read. Unset: only defaultReadScope.'),
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
      allowed: '"remote" only with memoryStore',
      holds: ({ type, memoryStore }) => type !== 'remote' || memoryStore !== undefined,
      cel: "!has(self.type) || self.type != 'remote' || has(self.memoryStore)",
    },
    {
      fields: ['memoryStore', 'type'],
      allowed: 'no memoryStore with type "local"',
      holds: ({ type, memoryStore }) => type !== 'local' || memoryStore === undefined,
      cel: "!has(self.type) || self.type != 'local' || !has(self.memoryStore)",
      reason: 'FieldValueForbidden',
    },
    {
      fields: ['scope', 'memoryStore'],
      allowed: '"user" and "group" only with memoryStore',
      holds: ({ scope, memoryStore }) => (scope !== 'user' && scope !== 'group') || memoryStore !== undefined,
      cel: "!(self.scope in ['user', 'group']) || has(self.memoryStore)",
    },
    {
      fields: ['tools', 'memoryStore'],
      allowed: 'memory tools only with memoryStore',
      holds: ({ tools, memoryStore }) => tools === undefined || memoryStore !== undefined,
      cel: '!has(self.tools) || has(self.memoryStore)',
    },
    {
      fields: ['defaultReadScope', 'memoryStore'],
      allowed: 'only "session" without memoryStore',
      holds: ({ defaultReadScope: scope, memoryStore }) =>
        scope === undefined || scope === 'session' || memoryStore !== undefined,
      cel: "!has(self.defaultReadScope) || self.defaultReadScope == 'session' || has(self.memoryStore)",
    },
    {
      fields: ['readScopes', 'memoryStore'],
      allowed: 'only "session" without memoryStore',
      holds: ({ readScopes = [], memoryStore }) => readScopes.every((scope) => scope === 'session') || memoryStore !== undefined,
      cel: "!has(self.readScopes) || self.readScopes.all(scope, scope == 'session') || has(self.memoryStore)",
    },
    {
      fields: ['defaultReadScope', 'readScopes'],
      allowed: 'one of readScopes',
      holds: ({ defaultReadScope: scope, readScopes }) =>
        scope === undefined || readScopes === undefined || readScopes.includes(scope),
      cel: '!has(self.defaultReadScope) || !has(self.readScopes) || self.defaultReadScope in self.readScopes',
    },
    {
      fields: ['readScopes', 'tools'],
      allowed: 'one scope, unless tools is "read" or "all"',
      holds: ({ readScopes = [], tools }) => readScopes.length <= 1 || tools === 'read' || tools === 'all',
      cel: "!has(self.readScopes) || size(self.readScopes) <= 1 || (has(self.tools) && self.tools in ['read', 'all'])",
    },
  ],
)

const autonomousSchema = z.strictObject({
  goal: text().optional().describe('What the agent works towards on its own. Setting it switches the mode on.'),
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
  description: text().optional().describe('What the agent is good for, in a sentence; peers choose by it.'),
  instructions: text().optional().describe('What the model is told with every task; not kept in the conversation.'),
  systemPrompt: text().optional().describe('A system prompt that is kept in the conversation.'),
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
    modelAPI: name(modelApiNameCharsMax)
      .optional()
      .describe('Name of the ModelAPI that answers for the model. Unset: only with machineRef or external.'),
    model: name(modelNameCharsMax).optional().describe('Name of the model; the ModelAPI has to offer it. Unset: as modelAPI.'),
    machineRef: z
      .strictObject({
        path: name(pathCharsMax).describe(
          'A file whose default export is an XState machine that is the agent; relative to the manifest.',
        ),
      })
      .optional()
      .describe('The machine that is the agent. Unset: the one that asks the model and calls its tools.'),
    external: z
      .boolean()
      .optional()
      .describe('Whether its mail is answered by a program of yours; nobody here runs it. Unset: it runs here.'),
    mcpServers: setOf(name(nameCharsMax), referencesMax)
      .default([])
      .describe('Names of the MCPServers whose tools the agent may use. Default [].'),
    agentNetwork: z
      .strictObject({
        expose: z.boolean().default(true).describe('Whether the agent gets a Service. Default true.'),
        access: setOf(name(nameCharsMax), referencesMax)
          .default([])
          .describe('Names of the agents that this one may delegate to. Default [].'),
      })
      .prefault({})
      .describe('Who can be reached.'),
    config: configSchema.prefault({}).describe('How the agent behaves.'),
    telemetry: agentTelemetrySchema.optional().describe('What is exported about its work.'),
    scaling: scalingSchema.prefault({}).describe('How many pods it has.'),
    replicas: z
      .int()
      .min(0)
      .max(replicasMax)
      .optional()
      .describe(
        'How many pods it has, whatever scaling says: what "kubectl scale" writes. With scaler External an HPA or KEDA writes it. Unset: as scaling decides; null takes back what was written.',
      ),
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
      allowed: 'no external with machineRef: a machine runs here',
      holds: ({ external, machineRef }) => external !== true || machineRef === undefined,
      cel: '!has(self.external) || !self.external || !has(self.machineRef)',
      reason: 'FieldValueForbidden',
    },
    {
      fields: ['model', 'modelAPI'],
      allowed: 'text that is not empty: the name of a model of modelAPI',
      holds: ({ model, modelAPI }) => modelAPI === undefined || model !== undefined,
      cel: '!has(self.modelAPI) || has(self.model)',
      reason: 'FieldValueRequired',
    },
    {
      fields: ['modelAPI', 'model'],
      allowed: 'the name of a ModelAPI that offers the model',
      holds: ({ model, modelAPI }) => model === undefined || modelAPI !== undefined,
      cel: '!has(self.model) || has(self.modelAPI)',
      reason: 'FieldValueRequired',
    },
    {
      fields: ['modelAPI', 'model', 'machineRef', 'external'],
      allowed: 'modelAPI and model, unless machineRef or external is set',
      holds: ({ modelAPI, model, machineRef, external }) =>
        modelAPI !== undefined || model !== undefined || machineRef !== undefined || external === true,
      cel: 'has(self.modelAPI) || has(self.model) || has(self.machineRef) || (has(self.external) && self.external)',
      reason: 'FieldValueRequired',
    },
    {
      fields: ['telemetry', 'config.telemetry'],
      allowed: 'one of spec.telemetry and spec.config.telemetry, or the same in both; they differ',
      holds: ({ telemetry, config }) =>
        telemetry === undefined || config.telemetry === undefined || isDeepStrictEqual(telemetry, config.telemetry),
      cel: `!has(self.telemetry) || !has(self.config.telemetry) || (${equalInCel('self.telemetry', 'self.config.telemetry', Object.keys(agentTelemetrySchema.shape))})`,
    },
  ],
)

export const agentSchema = withRules(resourceSchema('Agent', nameCharsMax, agentSpecSchema), [
  {
    fields: ['spec.agentNetwork.access', 'metadata.name'],
    allowed: 'names of other agents, not its own',
    holds: ({ spec, metadata }) => !spec.agentNetwork.access.includes(metadata.name),
    cel: '!(self.metadata.name in self.spec.agentNetwork.access)',
    place: ({ spec, metadata }) => ['spec', 'agentNetwork', 'access', spec.agentNetwork.access.indexOf(metadata.name)],
  },
])

export type AgentSpec = DeepReadonly<z.output<typeof agentSpecSchema>>
export type Agent = Declared<z.output<typeof agentSchema>>
