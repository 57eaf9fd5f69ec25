/** A zod definition as the structural schema that the Kubernetes API server wants: what it lacks is dropped, what it refuses is an error. */
import { z } from 'zod'

export interface Structural {
  readonly description?: string
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean'
  readonly format?: string
  readonly default?: unknown
  readonly enum?: readonly string[]
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly pattern?: string
  readonly minItems?: number
  readonly maxItems?: number
  readonly items?: Structural
  readonly properties?: Readonly<Record<string, Structural>>
  readonly required?: readonly string[]
  readonly additionalProperties?: Structural
  readonly anyOf?: readonly { readonly type: 'integer' | 'string' }[]
  readonly 'x-kubernetes-int-or-string'?: true
  readonly 'x-kubernetes-preserve-unknown-fields'?: true
  readonly 'x-kubernetes-list-type'?: 'set' | 'map' | 'atomic'
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
  readonly 'x-kubernetes-validations'?: readonly Validation[]
}

export interface Validation {
  readonly rule: string
  readonly message: string
  readonly fieldPath: string
  readonly reason: string
}

type Json = Readonly<Record<string, unknown>>

/** Copied as they are. */
const VALUES = [
  'description',
  'type',
  'format',
  'default',
  'enum',
  'minimum',
  'maximum',
  'minLength',
  'maxLength',
  'pattern',
  'minItems',
  'maxItems',
  'required',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
] as const
/** Read here, and told in another way. */
const READ = ['properties', 'items', 'additionalProperties', 'anyOf', 'x-kubernetes-validations']

/** Throws for what no structural schema can say, with the path of the field. */
export function structuralSchema(schema: z.ZodType): Structural {
  return convert(z.toJSONSchema(schema, { target: 'openapi-3.0', io: 'input' }) as Json, 'the root')
}

function convert(json: Json, path: string): Structural {
  if (json.anyOf) return intOrString(json, path)
  const unknown = Object.keys(json).filter((key) => !(VALUES as readonly string[]).includes(key) && !READ.includes(key))
  if (unknown.length > 0) throw new Error(`could not make a structural schema of ${path}: it has no "${unknown.join('", "')}"`)
  if (json.type === undefined) throw new Error(`could not make a structural schema of ${path}: it has no type`)
  const { properties, items, additionalProperties: others } = json as { [name: string]: Json | undefined }
  const rules = json['x-kubernetes-validations'] as readonly Validation[] | undefined
  const fields = properties && convertAll(properties, path)
  return {
    ...Object.fromEntries(VALUES.filter((key) => json[key] !== undefined).map((key) => [key, json[key]])),
    ...(json.type === 'object' && json.default !== undefined && { default: defaultsOf(fields) }),
    ...format(json),
    ...(items && { items: convert(items, `${path}[]`) }),
    ...(fields && { properties: fields }),
    ...(isOpen(others) && { 'x-kubernetes-preserve-unknown-fields': true }),
    ...(others && !isOpen(others) && { additionalProperties: convert(others, `${path}.*`) }),
    ...(rules?.length && { 'x-kubernetes-validations': rules }),
  }
}

function convertAll(properties: Json, path: string): Record<string, Structural> {
  return Object.fromEntries(
    Object.entries(properties).map(([name, property]) => [name, convert(property as Json, `${path}.${name}`)]),
  )
}

/** `{}` takes anything; `false` is what a structural schema does by itself: it prunes, or refuses when asked to be strict. */
function isOpen(others: unknown): boolean {
  return typeof others === 'object' && others !== null && Object.keys(others).length === 0
}

/** The server checks the rules of an object against its default as it stands, before the defaults of the fields are filled in. */
function defaultsOf(fields: Readonly<Record<string, Structural>> = {}): Json {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, field]) => ('default' in field ? [[name, field.default]] : [])),
  )
}

/** Whole numbers beyond 32 bits have to say so, or some clients cut them. */
function format({ type, maximum }: Json): { readonly format?: string } {
  if (type !== 'integer') return {}
  return { format: typeof maximum === 'number' && maximum < 2 ** 31 ? 'int32' : 'int64' }
}

/** The one union there is: a quantity. */
function intOrString({ anyOf, description }: Json, path: string): Structural {
  const parts = anyOf as readonly Structural[]
  const types = parts.map(({ type }) => type).toSorted()
  if (types.join() !== 'integer,string') throw new Error(`could not make a structural schema of ${path}: it is a union`)
  const pattern = parts.find(({ type }) => type === 'string')?.pattern
  return {
    ...(description !== undefined && { description: String(description) }),
    anyOf: [{ type: 'integer' }, { type: 'string' }],
    ...(pattern !== undefined && { pattern }),
    'x-kubernetes-int-or-string': true,
  }
}
