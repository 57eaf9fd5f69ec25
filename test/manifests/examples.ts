/**
 * Examples of what a manifest may say and what it may not, for whoever has to judge them: the definitions here, the API server of a cluster.
 * Those of single fields are made from the schemas of the CRDs, at both sides of every bound; those of rules are written down.
 */
import { customResourceDefinitions } from '../../manifests/crd/definitions.ts'
import type { Structural, Validation } from '../../manifests/crd/structural.ts'
import { type Kind, kinds } from '../../manifests/loading/declaration.ts'

export interface Example {
  readonly title: string
  readonly kind: Kind
  readonly object: Tree
  /** Where it is refused and in which words, if those are ours; absent when it is accepted. */
  readonly refused?: { readonly at: string; readonly message?: string }
}

type Tree = { [field: string]: unknown }
type Path = readonly (string | number)[]

export const schemas: Readonly<Record<Kind, Structural>> = Object.fromEntries(
  [...customResourceDefinitions()].map(([kind, { spec }]) => [kind, spec.versions[0].schema.openAPIV3Schema]),
) as Record<Kind, Structural>

/** The least that each kind needs; a ModelAPI is one or the other. */
const bases = {
  Agent: () => ({ modelAPI: 'models', model: 'gpt-4o' }),
  MCPServer: () => ({ runtime: 'echo' }),
  ModelAPI: (at: string) =>
    /^spec\.hostedConfig/.test(at)
      ? { mode: 'Hosted', hostedConfig: { model: 'm' } }
      : { mode: 'Proxy', proxyConfig: { models: ['m'] } },
} as const satisfies Record<Kind, (at: string) => Tree>

/** What an accepted value needs beside it, by the place of the field. */
const company: readonly (readonly [RegExp, (value: unknown) => Tree])[] = [
  [/^spec\.config\.memory\./, (value) => (value === 'local' ? {} : { config: { memory: { memoryStore: 'store' } } })],
  [/^spec\.config\.memory\.readScopes/, () => ({ config: { memory: { tools: 'read' } } })],
  [/^spec\.scaling\.minReplicas$/, () => ({ scaling: { maxReplicas: 1000 } })],
]

/** Texts for fields with a pattern, which are no business of a generator. */
const texts: readonly { readonly at: RegExp; readonly good: readonly string[]; readonly bad: readonly string[] }[] = [
  { at: /metadata\.name$/, good: ['a', 'a-1', '0', 'x'.repeat(40)], bad: ['-a', 'a-', 'A', 'a.b', 'a_b', 'x'.repeat(55)] },
  {
    at: /elemetry\.endpoint$/,
    good: ['collector:4317', '[::1]:4317', 'http://collector', 'https://collector:4318/otlp', 'grpc://collector:4317'],
    bad: ['collector', 'ftp://collector', 'http://', 'http://user:word@collector', ':4317', 'collector:4317/v1'],
  },
  { at: /timeout$/, good: ['30s', '1h30m', '0s', '500ms'], bad: ['30', '5 minutes', '1d', '1h1h1h1h1h', ''] },
  { at: /apiBase$/, good: ['http://localhost:11434', 'https://a.example/v1'], bad: ['localhost:11434', 'ftp://a', 'http://'] },
  { at: /KeyRef\.name$/, good: ['nebius-secrets', 'a.b'], bad: ['../etc', 'Upper', '-a', ''] },
  { at: /KeyRef\.key$/, good: ['api-key', 'A_b.c'], bad: ['a/b', 'a b', ''] },
]
const quantities = { good: ['100m', '128Mi', '0.5', '1e3', 2], bad: ['lots', '1 Gi', '', 0.5] }

/** Every field of the spec and the name, at its bounds and beyond; and what an object lacks or has too much. */
export function fieldExamples(): readonly Example[] {
  return (Object.keys(schemas) as Kind[]).flatMap((kind) => {
    const { metadata, spec } = schemas[kind].properties as { metadata: Structural; spec: Structural }
    return [
      ...ofSchema(kind, metadata.properties!.name!, ['metadata', 'name']),
      ...ofSchema(kind, spec, ['spec']),
      without(kind, ['spec']),
    ]
  })
}

function ofSchema(kind: Kind, schema: Structural, path: Path): readonly Example[] {
  const accept = (value: unknown) => example(kind, path, value, schema)
  const refuse = (value: unknown, at: Path = path) => ({ ...example(kind, path, value, schema), refused: { at: dotted(at) } })
  if (schema['x-kubernetes-int-or-string'])
    return [...quantities.good.map(accept), ...quantities.bad.map((value) => refuse(value))]
  switch (schema.type) {
    case 'boolean':
      return [accept(true), accept(false), refuse('yes')]
    case 'integer':
    case 'number':
      return numbers(schema, accept, refuse)
    case 'string':
      return strings(schema, path, accept, refuse)
    case 'array':
      return lists(kind, schema, path, accept, refuse)
    default:
      return objects(kind, schema, path, refuse)
  }
}

type Accept = (value: unknown) => Example
type Refuse = (value: unknown, at?: Path) => Example

function numbers({ type, minimum, maximum }: Structural, accept: Accept, refuse: Refuse): readonly Example[] {
  const inside = [minimum, maximum].filter((bound) => bound !== undefined)
  const outside = [minimum! - 1, maximum! + 1].filter(Number.isSafeInteger)
  return [...inside.map(accept), ...[...outside, 'one', ...(type === 'integer' ? [1.5] : [])].map((value) => refuse(value))]
}

function strings(schema: Structural, path: Path, accept: Accept, refuse: Refuse): readonly Example[] {
  const { enum: options, pattern, minLength = 0, maxLength } = schema
  if (options) return [...options.map(accept), refuse('nonsense'), refuse('')]
  const beyond = [...(maxLength === undefined ? [] : ['x'.repeat(maxLength + 1)]), 3, ...(minLength > 0 ? [''] : [])]
  const { good, bad } = pattern === undefined ? { good: ['some', ...atLength(maxLength)], bad: [] } : textsAt(path)
  return [...good.map(accept), ...[...beyond, ...bad].map((value) => refuse(value))]
}

function atLength(chars: number | undefined): readonly string[] {
  return chars === undefined ? [] : ['x'.repeat(chars)]
}

function textsAt(path: Path): { readonly good: readonly string[]; readonly bad: readonly string[] } {
  const found = texts.find(({ at }) => at.test(dotted(path)))
  if (!found)
    throw new Error(`could not make examples of "${dotted(path)}": it has a pattern, and no texts are written down for it`)
  return found
}

function lists(kind: Kind, schema: Structural, path: Path, accept: Accept, refuse: Refuse): readonly Example[] {
  const { items = {}, minItems = 0, maxItems, 'x-kubernetes-list-map-keys': keys } = schema
  const type = schema['x-kubernetes-list-type']
  const element = (index: number) =>
    items.enum?.[index % items.enum.length] ?? (items.type === 'object' ? filled(items, `n${index}`) : `n${index}`)
  const many = (count: number) => Array.from({ length: count }, (_, index) => element(index))
  return [
    ...(minItems > 0 ? [refuse([])] : [accept([])]),
    accept(many(Math.min(2, maxItems ?? 2))),
    refuse('text'),
    refuse(many(maxItems! + 1)),
    ...(type === 'set' || type === 'map' ? [refuse([element(0), element(0)], [...path, 1, ...(keys ?? [])])] : []),
    ...ofSchema(kind, items, [...path, 0]),
  ]
}

function objects(kind: Kind, schema: Structural, path: Path, refuse: Refuse): readonly Example[] {
  const { properties = {}, required = [], additionalProperties } = schema
  const isOpen = schema['x-kubernetes-preserve-unknown-fields'] === true
  return [
    ...Object.entries(properties).flatMap(([name, field]) => ofSchema(kind, field, [...path, name])),
    ...(additionalProperties ? ofSchema(kind, additionalProperties, [...path, 'cpu']) : []),
    ...required.map((name) => without(kind, [...path, name])),
    refuse('text'),
    ...(isOpen || additionalProperties ? [] : [unknownAt(kind, path)]),
  ]
}

function example(kind: Kind, path: Path, value: unknown, schema: Structural): Example {
  const at = dotted(path)
  const object = objectOf(kind, at)
  for (const [place, make] of company) if (place.test(at)) merge(object.spec as Tree, make(value))
  put(object, schemas[kind], path, value)
  // Of two that exclude each other the example keeps its own.
  if (at === 'spec.mode') object.spec = bases.ModelAPI(value === 'Hosted' ? 'spec.hostedConfig' : '')
  if (at === 'spec.mode' && !['Proxy', 'Hosted'].includes(String(value))) (object.spec as Tree).mode = value
  const shown = typeof value === 'string' && value.length > 60 ? `${value.length} characters` : shorten(value)
  return { title: `${kind} ${at} ${schema.type === 'object' ? 'as ' : ''}${shown}`, kind, object }
}

function without(kind: Kind, path: Path): Example {
  const at = dotted(path)
  const object = objectOf(kind, at)
  put(object, schemas[kind], path, undefined)
  return { title: `${kind} without ${at}`, kind, object: JSON.parse(JSON.stringify(object)) as Tree, refused: { at } }
}

function unknownAt(kind: Kind, path: Path): Example {
  const at = dotted([...path, 'unknown'])
  const object = objectOf(kind, at)
  put(object, schemas[kind], [...path, 'unknown'], 1)
  return { title: `${kind} with ${at}`, kind, object, refused: { at } }
}

export function objectOf(kind: Kind, at = '', spec: Tree = {}, name = 'example'): Tree {
  return { apiVersion: 'kaos.tools/v1alpha1', kind, metadata: { name }, spec: merge(structuredClone(bases[kind](at)), spec) }
}

/** Writes a value, and what each object on the way to it cannot do without. */
function put(object: Tree, root: Structural, path: Path, value: unknown): void {
  let schema: Structural | undefined = root
  let at: unknown = object
  for (const [depth, key] of path.entries()) {
    const parent = at as Record<string | number, unknown>
    schema = typeof key === 'number' ? schema?.items : (schema?.properties?.[key] ?? schema?.additionalProperties)
    if (depth === path.length - 1) parent[key] = value
    else parent[key] ??= schema?.type === 'array' ? [] : filled(schema ?? {}, 'some')
    at = parent[key]
  }
}

/** An object with its required fields. */
function filled({ properties = {}, required = [] }: Structural, text: string): Tree {
  return Object.fromEntries(required.map((name) => [name, properties[name]?.type === 'array' ? [text] : text]))
}

function merge(target: Tree, source: Tree): Tree {
  for (const [name, value] of Object.entries(source)) {
    const isTree = typeof value === 'object' && value !== null && !Array.isArray(value)
    target[name] = isTree ? merge((target[name] ?? {}) as Tree, value as Tree) : value
  }
  return target
}

export function dotted(path: Path): string {
  return path.reduce<string>((text, key) => (typeof key === 'number' ? `${text}[${key}]` : text ? `${text}.${key}` : key), '')
}

function shorten(value: unknown): string {
  const text = JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

/** All rules of the CRDs, with the path of the field that each is reported at. */
export function rulesOf(kind: Kind): readonly (Validation & { readonly at: string })[] {
  return [...rulesBelow(schemas[kind], '')]
}

function* rulesBelow(schema: Structural, path: string): Generator<Validation & { readonly at: string }> {
  for (const rule of schema['x-kubernetes-validations'] ?? [])
    yield { ...rule, at: `${path}${rule.fieldPath}`.replace(/^\./, '') }
  for (const [name, field] of Object.entries(schema.properties ?? {})) yield* rulesBelow(field, `${path}.${name}`)
}

export const kindNames = Object.keys(kinds) as readonly Kind[]
