/**
 * What holds for a whole installation: the Helm values as the operator reads them. The one definition of its fields and defaults.
 */
import { z } from 'zod'
import { KaosError } from '../../bus/wire/errors.ts'
import { isRetentionDays, RETENTION_DAYS, RETENTION_LIMITS } from '../../bus/wire/limits.ts'

export const logLevels = ['TRACE', 'DEBUG', 'INFO', 'WARNING', 'ERROR'] as const
export type LogLevel = (typeof logLevels)[number]

/** What `podSpec`, `container` and `serviceAccountName` of a resource may be forbidden to set. */
export const prohibitions = ['serviceAccountName', 'hostPath', 'hostNamespaces', 'privileged'] as const
export type Prohibition = (typeof prohibitions)[number]

const openObject = z.record(z.string(), z.unknown())
const dnsLabel = z.string().regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, { error: 'lower-case letters, digits and "-"' })

const brokerSchema = z.strictObject({
  url: z
    .string()
    .regex(/^((nats|tls):\/\/)?[^\s,/@]+(,((nats|tls):\/\/)?[^\s,/@]+)*$/, {
      error: 'nats://HOST:PORT, several with commas between, without user and password: credentials are taken from a Secret',
    })
    .describe('Addresses of the broker as pods reach it.'),
  credentials: z
    .strictObject({
      secretName: z.string().min(1).describe('Secret in the namespace of each resource.'),
      form: z
        .enum(['creds', 'user', 'token'])
        .default('creds')
        .describe('Its keys: nats.creds (creds), username and password (user), or token. Default "creds".'),
    })
    .optional()
    .describe('As whom pods connect. Unset: without credentials.'),
  ca: z
    .strictObject({
      configMapName: z.string().min(1).describe('ConfigMap in the namespace of each resource.'),
      key: z.string().min(1).default('ca.crt').describe('Key within it. Default "ca.crt".'),
    })
    .optional()
    .describe("Authorities that sign the broker's certificate. Unset: those of the image."),
})

const networkPolicySchema = z.strictObject({
  enabled: z.boolean().default(false).describe('Whether each agent gets a NetworkPolicy. Default false.'),
  ingressFrom: z
    .array(openObject)
    .optional()
    .describe(
      'Who may reach the HTTP door of agents, as NetworkPolicy peers. Unset: pods of the same namespace and of this one.',
    ),
  egress: z
    .array(openObject)
    .default([])
    .describe('What agents may reach beside what they need, as egress rules of a NetworkPolicy. Default [].'),
})

/** Of nobody in particular; not root. */
const USER = 65_532

export const installationSchema = z.strictObject({
  namespace: dnsLabel.describe('Namespace of the operator.'),
  clusterDomain: z.string().min(1).default('cluster.local').describe('DNS domain of the cluster. Default "cluster.local".'),
  images: z
    .strictObject({
      host: z.string().min(1).describe('Image of agents and of tool servers.'),
      litellm: z.string().min(1).describe('Image of model proxies; with the OpenTelemetry packages.'),
      ollama: z.string().min(1).describe('Image of hosted models.'),
    })
    .describe('Images, with tag or digest.'),
  imagePullPolicy: z.enum(['Always', 'IfNotPresent', 'Never']).default('IfNotPresent').describe('Default "IfNotPresent".'),
  imagePullSecrets: z.array(z.string().min(1)).default([]).describe('Secrets for pulling, in each namespace. Default [].'),
  hostCommand: z
    .array(z.string())
    .min(1)
    .default(['kaos'])
    .describe('What runs the kaos command in that image. Default ["kaos"].'),
  workingDir: z
    .string()
    .startsWith('/')
    .default('/app')
    .describe('Folder that relative paths of manifests count from, in images without workingDir. Default "/app".'),
  broker: brokerSchema.describe('The NATS server.'),
  telemetry: z
    .strictObject({
      enabled: z.boolean().optional().describe('Unset: on for what has an endpoint.'),
      endpoint: z.string().optional().describe('URL or host:port of the OTLP receiver. Unset or empty: none.'),
    })
    .default({})
    .describe('What holds where a resource does not say it, field by field.'),
  retention: z
    .strictObject({
      days: z
        .number()
        .refine(isRetentionDays, { error: RETENTION_DAYS })
        .default(RETENTION_LIMITS.daysDefault)
        .describe(`How long traces are kept after they ended: ${RETENTION_DAYS}. Default ${RETENTION_LIMITS.daysDefault}.`),
    })
    .prefault({})
    .describe('When what was recorded goes.'),
  logLevel: z.enum(logLevels).default('INFO').describe('Log level of all pods. Default "INFO".'),
  resources: z
    .strictObject({
      agent: openObject.default({ requests: { cpu: '50m', memory: '128Mi' }, limits: { memory: '512Mi' } }),
      toolServer: openObject.default({ requests: { cpu: '25m', memory: '96Mi' }, limits: { memory: '512Mi' } }),
      toolRuntime: openObject.default({}).describe('Of images that speak MCP. Default {}: none.'),
      modelProxy: openObject.default({}).describe('Of LiteLLM. Default {}: none.'),
      hostedModel: openObject.default({}).describe('Of Ollama, also while it pulls. Default {}: none.'),
    })
    .prefault({})
    .describe('CPU and memory of containers whose resource does not say it.'),
  podSecurityContext: openObject
    .default({
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      seccompProfile: { type: 'RuntimeDefault' },
    })
    .describe('securityContext of all pods, as a whole. Default: what Pod Security "restricted" asks for, user 65532.'),
  networkPolicy: networkPolicySchema.prefault({}).describe('Network policies of agents.'),
  forbidden: z
    .array(z.enum(prohibitions))
    .default([])
    .describe('What resources may not set for their pods. Default []: all that the namespace admits.'),
})

export type Installation = Readonly<z.output<typeof installationSchema>>

/** Throws `bad_setting` with every mistake. Values are not repeated: an address may hold a password by mistake. */
export function readInstallation(settings: unknown): Installation {
  const result = installationSchema.safeParse(settings)
  if (result.success) return result.data
  const mistakes = result.error.issues.map(({ path, message }) => `${path.join('.') || 'the whole'}: ${message}`)
  throw new KaosError('bad_setting', `could not read the configuration of the installation: ${mistakes.join('; ')}`)
}
