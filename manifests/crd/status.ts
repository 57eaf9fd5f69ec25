/** What the operator writes into the status of each kind: types for it, and part of the CRDs. Files that are loaded may carry it; it is ignored there. */
import { z } from 'zod'
import type { DeepReadonly } from '../metadata.ts'

const messageCharsMax = 32_768
const textCharsMax = 2_048
const toolsMax = 10_000

/** Of a resource that the operator has not seen yet. Without it, what waits for a resource would find nothing wrong with a new one. */
export const UNSEEN_GENERATION = -1

const count = (meaning: string) => z.int().min(0).describe(meaning)

const conditionSchema = z.strictObject({
  type: z
    .string()
    .min(1)
    .max(316)
    .describe('What is said to be so or not, such as Ready, Paused, DependenciesReady, WorkloadAvailable or ScalingActive.'),
  status: z.enum(['True', 'False', 'Unknown']).describe('Whether it is so.'),
  observedGeneration: z.int().min(0).optional().describe('The generation of the spec that it was said of.'),
  lastTransitionTime: z
    .string()
    .meta({ format: 'date-time' })
    .describe('Since when it is so: status changed then; a new reason or message alone moves nothing.'),
  reason: z
    .string()
    .min(1)
    .max(1024)
    .regex(/^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/)
    .describe('Why, in one word that programs may compare.'),
  message: z.string().max(messageCharsMax).describe('Why, for people.'),
})

/** Merged by the type of condition, so that somebody else may add conditions of his own. */
const conditionsSchema = z
  .array(conditionSchema)
  .max(64)
  .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] })

const deploymentSchema = z.strictObject({
  replicas: count('Pods of the Deployment.').optional(),
  readyReplicas: count('Those that are ready.').optional(),
  availableReplicas: count('Those that have been ready for long enough.').optional(),
  updatedReplicas: count('Those that are made as the Deployment is now.').optional(),
  conditions: z
    .array(z.looseObject({ type: z.string().describe('Which condition.'), status: z.string().describe('Whether it holds.') }))
    .max(64)
    .optional()
    .describe('Conditions of the Deployment, as it has them.')
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] }),
})

const telemetrySource = z.enum(['Resource', 'Installation', 'Default'])

const telemetryStatusSchema = z.strictObject({
  enabled: z.boolean().describe('Whether anything is exported.'),
  enabledFrom: telemetrySource.describe(
    'Who said so: the spec (Resource), the values of the installation (Installation), or nobody, which is off (Default).',
  ),
  endpoint: z.string().max(textCharsMax).optional().describe('Where it is exported to. Unset: nobody named an endpoint.'),
  endpointFrom: telemetrySource.optional().describe('Who named the endpoint: Resource or Installation.'),
})

const shared = {
  observedGeneration: z
    .int()
    .min(UNSEEN_GENERATION)
    .default(UNSEEN_GENERATION)
    .describe('The generation of the spec that this status was made of. Default -1: it was not looked at yet.'),
  ready: z.boolean().optional().describe('Whether it can be used: the same as the condition Ready.'),
  message: z.string().max(messageCharsMax).optional().describe('What there is to say, for people.'),
  endpoint: z.string().max(textCharsMax).optional().describe('Address of its Service within the cluster.'),
  deployment: deploymentSchema.optional().describe('Its Deployment, in figures.'),
  telemetry: telemetryStatusSchema.optional().describe('What is exported in effect, and who said so.'),
  conditions: conditionsSchema.optional().describe('What is so, since when and why.'),
  replicas: count('Pods that there are.').optional(),
  selector: z.string().max(textCharsMax).optional().describe('Label selector of its pods, for an autoscaler.'),
}

const phase = z
  .enum(['Pending', 'Ready', 'Failed'])
  .optional()
  .describe('Where it is: Pending, Ready or Failed; computed from the conditions.')

export const agentStatusSchema = z.strictObject({
  ...shared,
  phase: z
    .enum(['Pending', 'Waiting', 'Ready', 'Failed'])
    .optional()
    .describe('Where it is: Pending, Waiting (for what it depends on), Ready or Failed; computed from the conditions.'),
  linkedResources: z
    .record(z.string(), z.string())
    .optional()
    .describe('Names of what it uses, by kind in lower case, such as modelapi.'),
  desiredReplicas: count('Pods that there should be, as scaling decided last.').optional(),
  backlog: count('Messages that wait for it or are in hand. Unset: not known.').optional(),
})

export const mcpServerStatusSchema = z.strictObject({
  ...shared,
  phase,
  availableTools: z.array(z.string()).max(toolsMax).optional().describe('Names of its tools, as it announced them.'),
  backlog: count('Calls that wait for it or are in hand. Unset: not known.').optional(),
})

export const modelApiStatusSchema = z.strictObject({ ...shared, phase })

export type Condition = DeepReadonly<z.output<typeof conditionSchema>>
export type AgentStatus = DeepReadonly<z.output<typeof agentStatusSchema>>
export type McpServerStatus = DeepReadonly<z.output<typeof mcpServerStatusSchema>>
export type ModelApiStatus = DeepReadonly<z.output<typeof modelApiStatusSchema>>
