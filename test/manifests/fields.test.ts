import { expect, test } from 'vitest'
import { z } from 'zod'
import { type Field, unwrap, walkFields } from '../../manifests/fields.ts'
import { agentSchema } from '../../manifests/kinds/agent.ts'
import { mcpServerSchema } from '../../manifests/kinds/mcp-server.ts'
import { modelApiSchema } from '../../manifests/kinds/model-api.ts'

const kinds = { Agent: agentSchema, MCPServer: mcpServerSchema, ModelAPI: modelApiSchema }
const fields = Object.entries(kinds).flatMap(([kind, schema]) => [...walkFields(schema)].map((field) => ({ kind, ...field })))

test('describes every field in words', () => {
  const undescribed = fields.filter(({ schema }) => !schema.description?.match(/^[A-Z].*\.$/))

  expect(undescribed.map(({ kind, path }) => `${kind} ${path}`)).toEqual([])
})

test('names the default in the description', () => {
  const silent = fields.filter((field) => {
    const value = defaultOf(field)
    return value !== undefined && !field.schema.description?.includes(`Default ${JSON.stringify(value)}.`)
  })

  expect(silent.map(({ kind, path }) => `${kind} ${path}`)).toEqual([])
})

test('says what the absence of a field without a default means, or that it is only a part', () => {
  const silent = fields.filter(({ path, schema }) => {
    const isLeaf = unwrap(schema) instanceof z.ZodNumber
    return (
      path.startsWith('spec.') &&
      isLeaf &&
      defaultOf({ schema }) === undefined &&
      !/Unset: |tokens/.test(schema.description ?? '')
    )
  })

  expect(silent.map(({ kind, path }) => `${kind} ${path}`)).toEqual([])
})

test('turns into JSON Schema in which every default stands, so that CRDs and docs can be generated', () => {
  const schema = z.toJSONSchema(agentSchema, { io: 'input' })

  expect(schema).toMatchObject({
    additionalProperties: false,
    required: ['apiVersion', 'kind', 'metadata', 'spec'],
    properties: {
      spec: {
        properties: {
          config: {
            default: {},
            properties: { reasoningLoopMaxSteps: { type: 'integer', minimum: 1, maximum: 20, default: 5 } },
          },
        },
      },
    },
  })
})

/** KAOS's own fields, as the API server of a cluster knows them. */
test.each([
  [
    'Agent',
    `modelAPI model mcpServers agentNetwork.expose agentNetwork.access config.description config.instructions config.systemPrompt
     config.reasoningLoopMaxSteps config.toolCallMode config.memory.enabled config.memory.type config.memory.contextLimit
     config.memory.maxSessions config.memory.maxSessionEvents config.memory.memoryStore config.memory.scope
     config.memory.defaultReadScope config.memory.readScopes config.memory.clientParams.tokenBudget
     config.memory.clientParams.rollingSummary config.memory.tools config.memory.failureMode config.telemetry.enabled
     config.telemetry.endpoint config.autonomous.goal config.autonomous.intervalSeconds config.autonomous.maxIterRuntimeSeconds
     config.taskConfig.maxIterations config.taskConfig.maxRuntimeSeconds config.taskConfig.maxToolCalls waitForDependencies
     gatewayRoute.timeout container.image container.command container.args container.resources container.env
     container.securityContext container.workingDir container.volumeMounts podSpec`,
  ],
  ['MCPServer', 'runtime params serviceAccountName telemetry.enabled gatewayRoute.timeout container.image podSpec'],
  [
    'ModelAPI',
    `mode proxyConfig.models proxyConfig.provider proxyConfig.apiBase proxyConfig.apiKey.value
     proxyConfig.apiKey.valueFrom.secretKeyRef proxyConfig.apiKey.valueFrom.configMapKeyRef proxyConfig.configYaml.fromString
     proxyConfig.configYaml.fromSecretKeyRef hostedConfig.model gatewayRoute.timeout telemetry.endpoint container.env podSpec`,
  ],
])('knows every spec field that KAOS has: %s', (kind, list) => {
  const known = new Set(fields.filter((field) => field.kind === kind).map(({ path }) => path))

  expect(list.split(/\s+/).filter((path) => !known.has(`spec.${path}`))).toEqual([])
})

function defaultOf({ schema }: Pick<Field, 'schema'>): unknown {
  return schema instanceof z.ZodDefault ? schema.def.defaultValue : undefined
}
