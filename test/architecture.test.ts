import { readdirSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')

/** Which folders may be imported from which; `docs/architecture.md` shows the same as a drawing. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  telemetry: [],
  manifests: [],
  'bus/wire': [],
  bus: ['bus/wire', 'telemetry'],
  actors: ['bus', 'bus/wire', 'manifests', 'telemetry'],
  tools: ['bus', 'bus/wire', 'manifests', 'telemetry'],
  replay: ['actors', 'bus', 'bus/wire', 'telemetry'],
  operator: ['bus', 'bus/wire', 'manifests', 'telemetry'],
  gateway: ['bus', 'bus/wire', 'manifests', 'telemetry'],
  cli: ['actors', 'bus', 'bus/wire', 'gateway', 'manifests', 'operator', 'replay', 'telemetry', 'tools'],
  public: ['actors', 'bus', 'bus/wire', 'cli', 'manifests', 'replay', 'telemetry', 'tools'],
}

/** Which folders may use a package: replacing it then touches one folder. Packages that are not listed are free. */
const OWNED: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^@nats-io\//, ['bus', 'cli']],
  [/^xstate$/, ['actors', 'public']],
  [/^@modelcontextprotocol\//, ['tools']],
  [/^pino/, ['telemetry']],
  [/^@opentelemetry\//, ['telemetry']],
  [/^@kubernetes\//, ['operator']],
  [/^undici$/, ['actors', 'bus', 'operator', 'tools']],
  [/^commander$/, ['cli']],
  [/^(hono$|@hono\/)/, ['gateway']],
]
const PURE = [
  'actors/machine.ts',
  'actors/outbox.ts',
  'actors/spans.ts',
  'tools/spans.ts',
  'telemetry/names.ts',
  'telemetry/span.ts',
]
const WIRE_PACKAGES = ['zod', 'canonicalize']
const WEAK_NAMES = /(^|\/)(utils?|helpers?|common|misc|types|shared)(\.ts$|\/)/

const folderOf = (file: string) => (file.startsWith('bus/wire/') ? 'bus/wire' : file.split('/')[0]!)

function sources(): string[] {
  return Object.keys(MAY_IMPORT)
    .map((folder) => folder.split('/')[0]!)
    .filter((folder, i, all) => all.indexOf(folder) === i)
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => `${folder}/${file}`),
    )
    .filter((file) => file.endsWith('.ts'))
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8')
  const from = [
    ...text.matchAll(/^(?:import|export)\b[^'"]*?from '([^']+)'/gm),
    ...text.matchAll(/^import '([^']+)'/gm),
    ...text.matchAll(/\bimport\('([^']+)'\)/g),
  ]
  return from.map((match) => match[1]!)
}

describe('the architecture', () => {
  const files = sources()

  it('has imports that point down and never across', () => {
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((name) => name.startsWith('.'))
        .map((name) => normalize(join(dirname(file), name)))
        .filter((target) => folderOf(target) !== folderOf(file) && !MAY_IMPORT[folderOf(file)]!.includes(folderOf(target)))
        .map((target) => `${file} imports ${target}`),
    )

    expect(files.length).toBeGreaterThan(50)
    expect(wrong).toEqual([])
  })

  it('keeps each large dependency in one folder', () => {
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((name) => !name.startsWith('.') && !name.startsWith('node:'))
        .filter((name) => {
          if (folderOf(file) === 'bus/wire') return !WIRE_PACKAGES.includes(name)
          return OWNED.some(([pattern, folders]) => pattern.test(name) && !folders.includes(folderOf(file)))
        })
        .map((name) => `${file} imports ${name}`),
    )

    expect(wrong).toEqual([])
  })

  it('keeps the OpenTelemetry SDK behind telemetry/sdk.ts, so that a process without telemetry loads none of it', () => {
    const isBehind = (name: string) => /^telemetry\/(sdk\.ts$|export\/|recording\/)/.test(name)
    const wrong = files
      .filter((file) => !isBehind(file))
      .flatMap((file) => {
        const text = readFileSync(join(root, file), 'utf8')
        const names = [...text.matchAll(/^(?:import|export) (?!type )[^'"]*?from '([^']+)'/gm)].map((match) => match[1]!)
        return names
          .map((name) => (name.startsWith('.') ? normalize(join(dirname(file), name)) : name))
          .filter((name) => name.startsWith('@opentelemetry/') || isBehind(name))
          .map((name) => `${file} imports ${name}`)
      })

    expect(files.filter(isBehind).length).toBeGreaterThan(10)
    expect(wrong).toEqual([])
  })

  it('does no I/O where formats and decisions live', () => {
    const pure = files.filter((file) => file.startsWith('bus/wire/') || PURE.includes(file))
    const io = builtinModules.filter((name) => /^(fs|net|http|https|child_process|dgram|tls|dns)/.test(name))
    const wrong = pure.flatMap((file) =>
      importsOf(file)
        .filter((name) => io.includes(name.replace('node:', '')))
        .map((name) => `${file} imports ${name}`),
    )

    expect(wrong).toEqual([])
  })

  it('has no import cycles between files', () => {
    const graph = new Map(
      files.map((file) => {
        const targets = importsOf(file)
          .filter((name) => name.startsWith('.'))
          .map((name) => normalize(join(dirname(file), name)))
        return [file, targets] as const
      }),
    )
    const cycles: string[] = []
    const done = new Set<string>()
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) {
        cycles.push([...path.slice(path.indexOf(file)), file].join(' → '))
        return
      }
      if (done.has(file)) return
      for (const target of graph.get(file) ?? []) visit(target, [...path, file])
      done.add(file)
    }
    for (const file of files) visit(file, [])

    expect(cycles).toEqual([])
  })

  it('has names that say something', () => {
    expect(files.filter((file) => WEAK_NAMES.test(file))).toEqual([])
  })

  it('installs exact versions, without download hosts in the lockfile', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, Record<string, string>>
    const versions = ['dependencies', 'devDependencies', 'optionalDependencies'].flatMap((kind) =>
      Object.entries(manifest[kind] ?? {}),
    )
    const lock = readFileSync(join(root, 'package-lock.json'), 'utf8')

    expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version) && version !== 'file:.')).toEqual([])
    expect(lock).not.toMatch(/"resolved": "https?:/)
  })

  it('locks the packages of every platform, or npm ci refuses on a fresh machine', () => {
    const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { optionalDependencies?: Record<string, string> }>
    }
    const names = Object.keys(packages)
    const missing = Object.entries(packages).flatMap(([name, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies)
        .filter((optional) => !names.some((locked) => locked.endsWith(`node_modules/${optional}`)))
        .map((optional) => `${name} → ${optional}`),
    )

    expect(missing).toEqual([])
  })
})
