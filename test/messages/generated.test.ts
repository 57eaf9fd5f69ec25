/** What is generated is what is committed, and the tables that it comes from say what the source does. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, expectTypeOf, it } from 'vitest'
import type { z } from 'zod'
import type { ResultRecord, TraceRecord } from '../../actors/outbox.ts'
import { parseDoorBody } from '../../bus/wire/message.ts'
import type { recordShapes } from '../../bus/wire/shapes.ts'
import { VARIABLES } from '../../cli/process/variables.ts'
import type { ProgressEvent } from '../../cli/view/live.ts'
import { staleFiles } from '../../scripts/generate.ts'
import { schemaFiles, shapes } from '../../scripts/messages.ts'
import { TELEMETRY_VARIABLES } from '../../telemetry/settings.ts'

const root = join(import.meta.dirname, '..', '..')

it('has a shape for every field of a record', () => {
  // The compiler checks these.
  expectTypeOf<ResultRecord>().toExtend<z.input<typeof recordShapes.result>>()
  expectTypeOf<keyof TraceRecord>().toEqualTypeOf<keyof z.input<typeof recordShapes.trace>>()
  expectTypeOf<TraceRecord>().toExtend<z.input<typeof recordShapes.trace>>()
  expectTypeOf<keyof Extract<z.input<typeof recordShapes.progress>, { kind: 'entry' }>>().toExtend<keyof ProgressEvent>()
})

it('commits what "npm run generate" writes', () => {
  expect(staleFiles()).toEqual([])
})

it('forbids no field in a schema, because readers ignore what they do not know', () => {
  expect([...schemaFiles()].filter(([, text]) => text.includes('"additionalProperties": false')).map(([file]) => file)).toEqual(
    [],
  )
})

describe('docs/messages.md', () => {
  const page = readFileSync(join(root, 'docs', 'messages.md'), 'utf8')
  const examples = [...page.matchAll(/^### (\S+)\n(?:(?!^#)[\s\S])*?```json\n([\s\S]*?)```/gm)].map(
    ([, name = '', text = '']) => ({ name, text }),
  )

  it('has an example of each message', () => {
    expect(examples.map(({ name }) => name).sort()).toEqual(Object.keys(shapes).sort())
  })

  it.each(examples)('shows a $name as its schema has it', ({ name, text }) => {
    const check = new Ajv2020({ strictTypes: false }).compile(JSON.parse(schemaFiles().get(`${name}.json`)!))

    check(JSON.parse(text))

    expect(check.errors).toBeNull()
    if (name === 'task') expect(parseDoorBody(text)).toMatchObject({ input: expect.anything() })
  })
})

describe('the table of environment variables', () => {
  const folders = ['actors', 'bus', 'cli', 'gateway', 'manifests', 'operator', 'public', 'replay', 'telemetry', 'tools']
  const files = folders
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file)))
    .filter((file) => /\.(ts|js)$/.test(file) && file !== join('cli', 'process', 'variables.ts'))
  /** As `env.NAME`, `env['NAME']`, or a name that is handed on as text. */
  const READ = /\benv\??\.([A-Z][A-Z0-9_]*|[a-z]+_proxy)\b|\benv\??\.?\[['"](\w+)['"]\]|'((?:NATS|KAOS|MODEL|OPENAI)_[A-Z_]+)'/g
  const read = new Map(
    files.flatMap((file) =>
      [...readFileSync(join(root, file), 'utf8').matchAll(READ)].map(
        (match) => [match[1] ?? match[2] ?? match[3]!, file] as const,
      ),
    ),
  )
  const listed = new Set(VARIABLES.map(({ name }) => name))
  /** These have a table of their own, with a test for each. */
  const standard = new Set(TELEMETRY_VARIABLES.map(({ name }) => name))

  it('has every variable that the source reads', () => {
    const missing = [...read].filter(
      ([name]) => !listed.has(name.endsWith('_proxy') ? name.toUpperCase() : name) && !standard.has(name),
    )

    expect(read.size).toBeGreaterThan(15)
    expect(missing.map(([name, file]) => `${name} in ${file}`)).toEqual([])
  })

  it('names what is standard as OpenTelemetry does, and nothing of it in a way of our own', () => {
    const sources = [...files, join('cli', 'process', 'variables.ts')].map((file) => readFileSync(join(root, file), 'utf8'))

    expect(sources.filter((text) => /KAOS_OTEL|KAOS_OTLP/i.test(text))).toEqual([])
    expect([...listed].filter((name) => name.includes('OTEL'))).toEqual([])
  })

  it('has no variable that nothing reads', () => {
    expect([...listed].filter((name) => !name.includes('<') && !read.has(name))).toEqual([])
  })
})
