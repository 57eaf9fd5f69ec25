/** The three kinds as CustomResourceDefinitions: their names, what `kubectl get` shows, and their schemas. */
import { z } from 'zod'
import { agentSchema } from '../kinds/agent.ts'
import { mcpServerSchema } from '../kinds/mcp-server.ts'
import { modelApiSchema } from '../kinds/model-api.ts'
import { apiVersion } from '../metadata.ts'
import { agentStatusSchema, mcpServerStatusSchema, modelApiStatusSchema } from './status.ts'
import { type Structural, structuralSchema } from './structural.ts'

interface Column {
  readonly name: string
  readonly type: 'string' | 'integer' | 'date'
  readonly jsonPath: string
  readonly description: string
  /** 1: only with `-o wide`. */
  readonly priority?: 1
}

interface Definition {
  readonly names: { readonly plural: string; readonly singular: string; readonly shortNames: readonly string[] }
  readonly description: string
  readonly schema: z.ZodObject
  readonly status: z.ZodObject
  readonly columns: readonly Column[]
  /** Fields of the spec, without a default, that `--field-selector` can ask for. */
  readonly selectable: readonly string[]
  readonly isScaled?: true
}

const [GROUP, VERSION] = apiVersion.split('/') as [string, string]

const ready = (about: string): readonly Column[] => [
  {
    name: 'Ready',
    type: 'string',
    jsonPath: '.status.conditions[?(@.type=="Ready")].status',
    description: `Whether ${about} can be used.`,
  },
  { name: 'Reason', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].reason', description: 'Why, or why not.' },
]
const replicas: Column = {
  name: 'Replicas',
  type: 'integer',
  jsonPath: '.status.replicas',
  description: 'Pods that there are.',
}
const backlog: Column = {
  name: 'Backlog',
  type: 'integer',
  jsonPath: '.status.backlog',
  description: 'Messages that wait or are in hand.',
}
const age: Column = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
  description: 'How long it has been there.',
}
const wide: readonly Column[] = [
  { name: 'Phase', type: 'string', jsonPath: '.status.phase', description: 'Where it is, in one word.', priority: 1 },
  { name: 'Message', type: 'string', jsonPath: '.status.message', description: 'What there is to say.', priority: 1 },
]

const definitions = {
  Agent: {
    names: { plural: 'agents', singular: 'agent', shortNames: ['ag'] },
    description: 'An agent: who does the work, with which model, tools and peers. A task that is sent to it becomes an actor.',
    schema: agentSchema,
    status: agentStatusSchema,
    columns: [
      ...ready('tasks that are sent to it'),
      { name: 'Model', type: 'string', jsonPath: '.spec.model', description: 'The model that it asks.' },
      replicas,
      backlog,
      age,
      { name: 'ModelAPI', type: 'string', jsonPath: '.spec.modelAPI', description: 'Where its model answers.', priority: 1 },
      {
        name: 'Desired',
        type: 'integer',
        jsonPath: '.status.desiredReplicas',
        description: 'Pods that there should be.',
        priority: 1,
      },
      ...wide,
    ],
    selectable: ['modelAPI'],
    isScaled: true,
  },
  MCPServer: {
    names: { plural: 'mcpservers', singular: 'mcpserver', shortNames: ['mcp', 'mcps'] },
    description: 'Tools that agents may call, and what runs them.',
    schema: mcpServerSchema,
    status: mcpServerStatusSchema,
    columns: [
      ...ready('its tools'),
      { name: 'Runtime', type: 'string', jsonPath: '.spec.runtime', description: 'What runs the tools.' },
      replicas,
      backlog,
      age,
      ...wide,
    ],
    selectable: ['runtime'],
  },
  ModelAPI: {
    names: { plural: 'modelapis', singular: 'modelapi', shortNames: ['api', 'apis', 'mapi'] },
    description: 'Where models answer: an API elsewhere, or one of our own.',
    schema: modelApiSchema,
    status: modelApiStatusSchema,
    columns: [
      ...ready('its models'),
      { name: 'Mode', type: 'string', jsonPath: '.spec.mode', description: 'Proxy or Hosted.' },
      replicas,
      age,
      ...wide,
    ],
    selectable: ['mode'],
  },
} as const satisfies Record<string, Definition>

export interface CustomResourceDefinition {
  readonly apiVersion: 'apiextensions.k8s.io/v1'
  readonly kind: 'CustomResourceDefinition'
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly group: string
    readonly scope: 'Namespaced'
    readonly names: Readonly<Record<string, string | readonly string[]>>
    readonly versions: readonly [{ readonly schema: { readonly openAPIV3Schema: Structural }; readonly [field: string]: unknown }]
  }
}

/** By kind. Pure and made anew: the same definitions give the same text. */
export function customResourceDefinitions(): ReadonlyMap<string, CustomResourceDefinition> {
  return new Map(Object.entries<Definition>(definitions).map(([kind, definition]) => [kind, definitionOf(kind, definition)]))
}

function definitionOf(kind: string, definition: Definition): CustomResourceDefinition {
  const { names, columns, selectable, isScaled } = definition
  const scale = {
    specReplicasPath: '.spec.replicas',
    statusReplicasPath: '.status.replicas',
    labelSelectorPath: '.status.selector',
  }
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${names.plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: 'Namespaced',
      names: { kind, listKind: `${kind}List`, ...names, categories: ['kaos'] },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {}, ...(isScaled && { scale }) },
          selectableFields: selectable.map((field) => ({ jsonPath: `.spec.${field}` })),
          additionalPrinterColumns: columns,
          schema: { openAPIV3Schema: rootSchema(definition) },
        },
      ],
    },
  }
}

/** Of the metadata a CRD may bound the name alone; the server has its own definition of the rest. */
function rootSchema({ schema, status, description }: Definition): Structural {
  const { apiVersion: version, kind, metadata, spec } = schema.shape as Readonly<Record<string, z.ZodType>>
  const { name } = (metadata as z.ZodObject).shape as Readonly<Record<string, z.ZodType>>
  const asText = ({ description = '' }: z.ZodType): Structural => ({ description, type: 'string' })
  const { properties } = structuralSchema(
    z.strictObject({ name: name!, spec: spec!, status: status.prefault({}).describe(STATUS) }),
  )
  const rules = schema.meta()?.['x-kubernetes-validations'] as Structural['x-kubernetes-validations']
  return {
    description,
    type: 'object',
    required: ['spec'],
    properties: {
      apiVersion: asText(version!),
      kind: asText(kind!),
      metadata: { type: 'object', properties: { name: properties!.name! } },
      spec: properties!.spec!,
      status: properties!.status!,
    },
    ...(rules?.length && { 'x-kubernetes-validations': rules }),
  }
}

const STATUS = 'What there is: written by the operator.'
