/** The CRDs beside the definitions that they are made of. That an API server reads them alike is shown in test/cluster/crd.test.ts. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { customResourceDefinitions } from '../../manifests/crd/definitions.ts'
import { type Structural, structuralSchema } from '../../manifests/crd/structural.ts'
import { type Kind, kinds } from '../../manifests/loading/declaration.ts'
import { crdFiles } from '../../scripts/crds.ts'
import { givenManifests } from './documents.ts'
import { type Example, fieldExamples, kindNames, rulesOf, schemas } from './examples.ts'
import { examplesOfRules, ruleExamples } from './rule-examples.ts'

/** Client-side `kubectl apply` keeps the whole object in one annotation of at most so many bytes. */
const ANNOTATION_BYTES_MAX = 262_144
const folder = join(import.meta.dirname, '..', '..', 'manifests', 'crds')

describe('the CRDs', () => {
  it('are in the repository as the definitions make them', () => {
    for (const [file, text] of crdFiles())
      expect(readFileSync(join(folder, file), 'utf8'), `${file}: npm run generate`).toBe(text)
  })

  it('read back from YAML as they were made', () => {
    const made = [...customResourceDefinitions().values()]

    expect([...crdFiles().values()].map((text) => parse(text))).toEqual(JSON.parse(JSON.stringify(made)))
  })

  it('are small enough for kubectl apply', () => {
    for (const definition of customResourceDefinitions().values())
      expect(JSON.stringify(definition).length).toBeLessThan(ANNOTATION_BYTES_MAX / 4)
  })

  it('say of every field what it means, of which type it is and where its list or text ends', () => {
    const silent = places().flatMap(({ at, schema }) => {
      const isElement = /(\[\]|\.\*)$/.test(at)
      return [
        ...(isElement || at.endsWith('.metadata') || /^[A-Z].*\.$/.test(schema.description ?? '') ? [] : [`${at}: description`]),
        ...(schema.type || schema['x-kubernetes-int-or-string'] ? [] : [`${at}: type`]),
        ...(!at.includes('.spec') || schema.type !== 'array' || schema.maxItems ? [] : [`${at}: maxItems`]),
        ...(!at.includes('.spec') || schema.type !== 'string' || schema.enum || schema.maxLength ? [] : [`${at}: maxLength`]),
      ]
    })

    expect(silent).toEqual([])
  })

  it('are structural: fields or others, and keys of a map that are required', () => {
    const wrong = places().flatMap(({ at, schema }) => {
      const keys = schema['x-kubernetes-list-map-keys'] ?? []
      return [
        ...(schema.properties && schema.additionalProperties ? [`${at}: both properties and additionalProperties`] : []),
        ...keys.filter((key) => !schema.items?.required?.includes(key)).map((key) => `${at}: key ${key} is not required`),
        ...(schema['x-kubernetes-list-type'] === 'set' && schema.items?.type !== 'string' ? [`${at}: a set of objects`] : []),
      ]
    })

    expect(wrong).toEqual([])
  })

  it('have a default that no installation decides', () => {
    const decided = places().filter(
      ({ at, schema }) => /telemetry\.(enabled|endpoint)$|image$|timeout$/.test(at) && 'default' in schema,
    )

    expect(decided).toEqual([])
  })

  it.each(kindNames)('show a status that has what kubectl prints: %s', (kind) => {
    const { spec } = customResourceDefinitions().get(kind)!
    const [{ additionalPrinterColumns, subresources, schema }] = spec.versions as unknown as [
      {
        additionalPrinterColumns: readonly { jsonPath: string }[]
        subresources: { scale?: Readonly<Record<string, string>> }
        schema: { openAPIV3Schema: Structural }
      },
    ]
    const paths = [...additionalPrinterColumns.map(({ jsonPath }) => jsonPath), ...Object.values(subresources.scale ?? {})]

    const missing = paths.filter((path) => !path.startsWith('.metadata.') && !fieldAt(schema.openAPIV3Schema, path))

    expect(missing).toEqual([])
  })
})

describe('a definition that no structural schema can tell', () => {
  it.each([
    ['a union', z.strictObject({ a: z.union([z.string(), z.boolean()]) }), 'the root.a: it is a union'],
    ['anything', z.strictObject({ a: z.unknown() }), 'the root.a: it has no type'],
    ['a number by steps', z.strictObject({ a: z.array(z.number().multipleOf(5)) }), 'the root.a[]: it has no "multipleOf"'],
  ])('is an error that names the field: %s', (_title, schema, message) => {
    expect(() => structuralSchema(schema)).toThrow(message)
  })
})

describe('every rule', () => {
  it('has examples that break it and examples that do not', () => {
    const named = ruleExamples.map(({ kind, at, allowed }) => `${kind} ${at}: ${allowed}`)

    expect(
      kindNames
        .flatMap((kind) => rulesOf(kind).map(({ at, message }) => `${kind} ${at}: ${message.replace('allowed: ', '')}`))
        .toSorted(),
    ).toEqual(named.toSorted())
    expect(ruleExamples.filter(({ broken, sound }) => broken.length === 0 || sound.length === 0)).toEqual([])
  })
})

describe('the definitions here', () => {
  it.each(cases([...fieldExamples(), ...examplesOfRules]))('%s', (_title, { kind, object, refused }) => {
    const found = mistakesOf(kind, object)

    if (!refused) expect(found).toEqual([])
    else if (refused.message) expect(found).toContain(`${refused.at}: ${refused.message}`)
    else expect(found.filter((mistake) => mistake.startsWith(refused.at))).not.toEqual([])
  })
})

describe('defaults', () => {
  it.each(givenManifests().map((given) => [given.where, given] as const))('are those of the definition: %s', (_where, given) => {
    const { kind, object } = given

    const parsed = kinds[kind].parse(object) as { readonly spec: unknown }

    expect(filledIn(schemas[kind].properties!.spec!, object.spec)).toEqual(parsed.spec)
  })
})

/** As an API server fills in defaults: from the outside in. */
function filledIn(schema: Structural, value: unknown): unknown {
  if (value === undefined || value === null)
    return 'default' in schema ? filledIn(schema, structuredClone(schema.default)) : value
  if (Array.isArray(value)) return value.map((item) => filledIn(schema.items ?? {}, item))
  if (typeof value !== 'object' || !schema.properties) return value
  const fields = Object.entries(schema.properties).map(
    ([name, field]) => [name, filledIn(field, (value as Record<string, unknown>)[name])] as const,
  )
  return { ...value, ...Object.fromEntries(fields.filter(([, field]) => field !== undefined)) }
}

function mistakesOf(kind: Kind, object: unknown): readonly string[] {
  const issues = kinds[kind].safeParse(object).error?.issues ?? []
  return issues.flatMap(({ path, message, ...issue }) => {
    const names = 'keys' in issue ? issue.keys.map((key) => [...path, key]) : [path]
    // CEL can name no element of a list, so that a rule is reported at the list.
    return names.flatMap((place) => [dotted(place), dotted(place).replace(/\[\d+\]$/, '')].map((at) => `${at}: ${message}`))
  })
}

function dotted(path: readonly PropertyKey[]): string {
  return path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`))
    .join('')
    .slice(1)
}

function cases(examples: readonly Example[]): readonly (readonly [string, Example])[] {
  return examples.map((example) => [`${example.refused ? 'refuse' : 'accept'} ${example.title}`, example] as const)
}

/** Every schema within the CRDs, by its path. */
function places(): readonly { readonly at: string; readonly schema: Structural }[] {
  return kindNames.flatMap((kind) => [...placesBelow(schemas[kind], kind)])
}

function* placesBelow(schema: Structural, at: string): Generator<{ readonly at: string; readonly schema: Structural }> {
  yield { at, schema }
  for (const [name, field] of Object.entries(schema.properties ?? {})) yield* placesBelow(field, `${at}.${name}`)
  if (schema.items) yield* placesBelow(schema.items, `${at}[]`)
  if (schema.additionalProperties) yield* placesBelow(schema.additionalProperties, `${at}.*`)
}

/** What a JSONPath of a column or subresource leads to. */
function fieldAt(root: Structural, path: string): Structural | undefined {
  return path
    .replace(/\[[^\]]*\]/g, '.[]')
    .slice(1)
    .split('.')
    .reduce<Structural | undefined>((schema, name) => (name === '[]' ? schema?.items : schema?.properties?.[name]), root)
}
