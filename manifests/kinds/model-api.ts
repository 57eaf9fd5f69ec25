/** The kind ModelAPI: where models answer. The one definition of its fields, defaults and bounds. */
import { z } from 'zod'
import { modelNameCharsMax, modelsMax, name, setOf, text, textCharsMax, urlCharsMax } from '../bounds.ts'
import { type Declared, type DeepReadonly, modelApiNameCharsMax, resourceSchema } from '../metadata.ts'
import { type Rule, withRules } from '../rules.ts'
import { containerSchema, gatewayRouteSchema, keyRefSchema, podSpecSchema } from './container.ts'
import { telemetrySchema } from './telemetry.ts'

const apiKeySchema = withRules(
  z.strictObject({
    value: name(textCharsMax).optional().describe('The key itself. It stands in the manifest for all to read: prefer valueFrom.'),
    valueFrom: withRules(
      z.strictObject({
        secretKeyRef: keyRefSchema.optional().describe('A key in a Secret.'),
        configMapKeyRef: keyRefSchema.optional().describe('A key in a ConfigMap.'),
      }),
      [exactlyOne('secretKeyRef', 'configMapKeyRef')],
    )
      .optional()
      .describe('Where the key is kept.'),
  }),
  [exactlyOne('value', 'valueFrom')],
)

const proxyConfigSchema = z.strictObject({
  models: setOf(name(modelNameCharsMax), modelsMax)
    .min(1)
    .describe('Models that agents may ask for: a name, a prefix such as "gemini/*", or "*" for any.'),
  provider: name()
    .optional()
    .describe(
      'Provider of the models, such as openai, nebius or ollama. Unset: the part of the model name before the first "/".',
    ),
  apiBase: text(urlCharsMax)
    .regex(/^https?:\/\/[^\s/]+/, { error: 'a URL that begins with http:// or https://' })
    .optional()
    .describe('Base URL of an API that speaks the OpenAI protocol. Unset: the one of the provider.'),
  apiKey: apiKeySchema.optional().describe('Key for that API.'),
  configYaml: withRules(
    z.strictObject({
      fromString: text().optional().describe('The configuration itself.'),
      fromSecretKeyRef: keyRefSchema.optional().describe('A key in a Secret that holds it.'),
    }),
    [exactlyOne('fromString', 'fromSecretKeyRef')],
  )
    .optional()
    .describe('A LiteLLM configuration that is used as it is; models still says what agents may ask for.'),
})

const hostedConfigSchema = z.strictObject({
  model: name(modelNameCharsMax).describe('Ollama model to serve, such as "smollm2:135m".'),
})

export const modelApiSpecSchema = withRules(
  z.strictObject({
    mode: z.enum(['Proxy', 'Hosted']).describe('Proxy: an API elsewhere answers. Hosted: an Ollama of our own does.'),
    proxyConfig: proxyConfigSchema.optional().describe('The API elsewhere; with mode Proxy.'),
    hostedConfig: hostedConfigSchema.optional().describe('The model of our own; with mode Hosted.'),
    telemetry: telemetrySchema.optional().describe('What is exported about its work.'),
    gatewayRoute: gatewayRouteSchema.optional().describe('Its HTTP route.'),
    container: containerSchema.optional().describe('Changes to its container.'),
    podSpec: podSpecSchema.optional().describe('Changes to its pod: a PodSpec that is merged over the generated one.'),
  }),
  [...onlyWithMode('proxyConfig', 'Proxy'), ...onlyWithMode('hostedConfig', 'Hosted')],
)

export const modelApiSchema = resourceSchema('ModelAPI', modelApiNameCharsMax, modelApiSpecSchema)

export type ModelApiSpec = DeepReadonly<z.output<typeof modelApiSpecSchema>>
export type ModelApi = Declared<z.output<typeof modelApiSchema>>

/**
 * Whether a ModelAPI with these models lets an agent ask for `model`: by name, by `*`, or by a prefix such as `gemini/*`.
 * A hosted model may also be asked for as `ollama/<model>`.
 */
export function offersModel(offered: readonly string[], model: string): boolean {
  return offered.some((name) => name === '*' || name === model || (name.endsWith('/*') && model.startsWith(name.slice(0, -1))))
}

/** What the ModelAPI offers, as `offersModel` reads it. */
export function offeredModels(spec: ModelApiSpec): readonly string[] {
  if (spec.mode === 'Hosted') return spec.hostedConfig ? [spec.hostedConfig.model, `ollama/${spec.hostedConfig.model}`] : []
  return spec.proxyConfig?.models ?? []
}

function onlyWithMode(field: 'proxyConfig' | 'hostedConfig', wanted: 'Proxy' | 'Hosted') {
  type Spec = { readonly mode: string } & { readonly [name in typeof field]?: unknown }
  return [
    {
      fields: [field, 'mode'],
      allowed: `${field}, which mode ${wanted} needs`,
      holds: (spec) => spec.mode !== wanted || spec[field] !== undefined,
      cel: `self.mode != '${wanted}' || has(self.${field})`,
      reason: 'FieldValueRequired',
    },
    {
      fields: [field, 'mode'],
      allowed: `${field} only with mode ${wanted}`,
      holds: (spec) => spec.mode === wanted || spec[field] === undefined,
      cel: `self.mode == '${wanted}' || !has(self.${field})`,
      reason: 'FieldValueForbidden',
    },
  ] as const satisfies readonly Rule<Spec>[]
}

function exactlyOne<A extends string, B extends string>(first: A, second: B): Rule<{ readonly [key in A | B]?: unknown }> {
  return {
    fields: [first, second],
    allowed: `exactly one of ${first} and ${second}`,
    holds: (value) => (value[first] === undefined) !== (value[second] === undefined),
    cel: `has(self.${first}) != has(self.${second})`,
  }
}
