/** The kind MCPServer: tools that agents may call. The one definition of its fields, defaults and bounds. */
import { z } from 'zod'
import { name, textCharsMax } from '../bounds.ts'
import { type Declared, nameCharsMax, resourceSchema } from '../metadata.ts'
import { withRules } from '../rules.ts'
import { containerSchema, gatewayRouteSchema, podSpecSchema } from './container.ts'
import { telemetrySchema } from './telemetry.ts'
import { checkParams, runtimesWithParams } from './tool-runtime.ts'

export const mcpServerSpecSchema = withRules(
  z.strictObject({
    runtime: name().describe(
      'What runs the tools: calculator or echo (built in), typescript (a file of yours), files (one folder), http-fetch (text from hosts that you list), stdio (a command line), url (an MCP server elsewhere), custom (container.image), or another runtime of the installation.',
    ),
    params: z
      .string({
        error: (issue) => (issue.input === undefined ? undefined : 'text; write a mapping as text too, below "params: |"'),
      })
      .max(textCharsMax, { error: `text of at most ${textCharsMax} characters` })
      .optional()
      .describe(
        'What the runtime needs. typescript: path of the file. files: path of the folder, or YAML with root and writable. http-fetch: YAML with hosts and allowPrivate. stdio: a command line, or YAML with command, args, env and passEnv. url: the URL, or YAML with url and headersFromEnv.',
      ),
    serviceAccountName: name().optional().describe('ServiceAccount of its pod. Unset: the one of the namespace.'),
    telemetry: telemetrySchema.optional().describe('What is exported about its work.'),
    gatewayRoute: gatewayRouteSchema.optional().describe('Its HTTP route.'),
    container: containerSchema.optional().describe('Changes to its container.'),
    podSpec: podSpecSchema.optional().describe('Changes to its pod: a PodSpec that is merged over the generated one.'),
  }),
  [
    { fields: ['params', 'runtime'], check: ({ runtime, params }) => checkParams(runtime, params) },
    {
      fields: ['params', 'runtime'],
      allowed: 'params, which this runtime cannot do without',
      holds: ({ runtime, params = '' }) => !runtimesWithParams.some((needy) => needy === runtime) || /\S/.test(params),
      cel: String.raw`!(self.runtime in ${JSON.stringify(runtimesWithParams)}) || (has(self.params) && self.params.matches('\\S'))`,
      reason: 'FieldValueRequired',
    },
  ],
)

export const mcpServerSchema = resourceSchema('MCPServer', nameCharsMax, mcpServerSpecSchema)

export type McpServer = Declared<z.output<typeof mcpServerSchema>>
