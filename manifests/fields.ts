/** Walks the fields of a definition: for messages here, and for whoever generates something from the definitions. */
import { z } from 'zod'

export interface Field {
  /** Dotted, from the root of the definition; `[]` stands for each element. */
  readonly path: string
  readonly name: string
  readonly schema: z.ZodType
}

/** The schema below optional, default and prefault. */
export function unwrap(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return unwrap(schema.def.innerType as z.ZodType)
  }
  return schema
}

/** The unwrapped schema of what stands at `path`; undefined where the definition is open or ends. */
export function schemaAt(root: z.ZodType, path: readonly PropertyKey[]): z.ZodType | undefined {
  let schema: z.ZodType | undefined = unwrap(root)
  for (const key of path) {
    schema = childOf(schema, key)
    if (schema === undefined) return undefined
    schema = unwrap(schema)
  }
  return schema
}

/** Names of the fields that an object may have; empty when it is not an object or is open. */
export function fieldNames(schema: z.ZodType | undefined): readonly string[] {
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : []
}

/** All fields, parents before children, in the order of the definition. */
export function* walkFields(root: z.ZodType, path = ''): Generator<Field> {
  const schema = unwrap(root)
  if (schema instanceof z.ZodArray) yield* walkFields(schema.element as z.ZodType, `${path}[]`)
  if (!(schema instanceof z.ZodObject)) return
  for (const [name, child] of Object.entries<z.ZodType>(schema.shape)) {
    const here = path === '' ? name : `${path}.${name}`
    yield { path: here, name, schema: child }
    yield* walkFields(child, here)
  }
}

/** What a value may be, in words. */
export function allowedBy(wrapped: z.ZodType | undefined): string {
  const schema = wrapped && unwrap(wrapped)
  if (schema instanceof z.ZodEnum) return listOf(schema.options.map((option) => JSON.stringify(option)))
  if (schema instanceof z.ZodLiteral) return listOf([...schema.values].map((value) => JSON.stringify(value)))
  if (schema instanceof z.ZodUnion) return listOf(schema.options.map((option) => allowedBy(option as z.ZodType)))
  if (schema instanceof z.ZodNumber) return numberRange(schema)
  if (schema instanceof z.ZodBoolean) return 'true or false'
  if (schema instanceof z.ZodArray) return isNeverEmpty(schema) ? 'a list that is not empty' : 'a list'
  if (schema instanceof z.ZodObject) return `a mapping (${fieldNames(schema).join(', ')})`
  if (schema instanceof z.ZodRecord) return 'a mapping'
  if (schema instanceof z.ZodString) return schema.minLength ? 'text that is not empty' : 'text'
  return 'another value'
}

export function listOf(words: readonly string[], last = 'or'): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} ${last} ${words.at(-1)}`
}

function childOf(schema: z.ZodType, key: PropertyKey): z.ZodType | undefined {
  if (schema instanceof z.ZodObject)
    return Object.hasOwn(schema.shape, key) ? (schema.shape[key as string] as z.ZodType) : undefined
  if (schema instanceof z.ZodArray) return schema.element as z.ZodType
  if (schema instanceof z.ZodRecord) return schema.valueType as z.ZodType
  return undefined
}

function isNeverEmpty({ def }: z.ZodArray): boolean {
  return def.checks?.some((check) => check._zod.def.check === 'min_length') ?? false
}

function numberRange(schema: z.ZodNumber): string {
  const noun = schema.isInt ? 'a whole number' : 'a number'
  const from = bound(schema.minValue)
  const to = bound(schema.maxValue)
  if (from !== undefined && to !== undefined) return `${noun} from ${from} to ${to}`
  if (from !== undefined) return `${noun} of at least ${from}`
  return to === undefined ? noun : `${noun} of at most ${to}`
}

/** Whole numbers are bounded by what a double can count; that bound is not worth a word. */
function bound(value: number | null): number | undefined {
  return value === null || Math.abs(value) >= Number.MAX_SAFE_INTEGER ? undefined : value
}
